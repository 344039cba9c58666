//! Whom a failover should make the leader, and what that may lose.

use ha_core::Lsn;

use crate::overview::{Member, Overview, Role};

/// The member that should lead: it answers, may lead, is listed unless loss is accepted, and holds most.
///
/// The agents decide whether it may; this only picks whom to ask.
pub(super) fn best(overview: &Overview, accept_data_loss: bool) -> Result<String, String> {
    let may = |member: &&Member| {
        let Ok(reply) = &member.answer else { return false };
        let tagged = reply.tags.get("nofailover").is_some_and(|value| value == "true")
            || reply.tags.get("failover_priority").is_some_and(|value| value == "0");
        !tagged && member.flush.is_some() && member.role != Role::Leader && member.role != Role::Uninitialized
    };
    let listed =
        |member: &&Member| accept_data_loss || quorumless(overview) || member.role == Role::SyncStandby;
    let best = overview.members.iter().filter(may).filter(listed);
    let best = best.max_by_key(|member| (member.timeline, member.flush)).map(|member| member.name.clone());
    best.ok_or_else(|| {
        let silent = overview.silent();
        let silent = if silent.is_empty() { "none".to_owned() } else { silent.join(", ") };
        let advice = if accept_data_loss {
            "bring a member with data back"
        } else {
            "bring a listed member back, or see what --accept-data-loss would lose"
        };
        format!("no member that answers qualifies (not reached: {silent}): {advice}")
    })
}

/// Nothing is promised about standbys, so that any of them may be asked.
fn quorumless(overview: &Overview) -> bool {
    overview.sync.as_ref().is_some_and(|sync| sync.policy() == ha_rpc::proto::PolicyKind::Asynchronous)
}

/// What is known about the loss, before it is accepted.
pub(super) fn loss(overview: &Overview, candidate: &str) -> String {
    let mut text = String::new();
    let silent = overview.silent();
    if silent.is_empty() {
        text += "All members answered.\n";
    } else {
        text += &format!("Not heard: {}. They may hold commits that nobody else has.\n", silent.join(", "));
    }
    let own = overview.member(candidate).and_then(|member| member.flush);
    let Some(own) = own else { return text + &format!("The position of {candidate} is not known.\n") };
    match overview.furthest() {
        Some((member, lsn)) if member.name != candidate && lsn > own => {
            text += &format!(
                "{candidate} is at {own}; {} was at {lsn} when it was last heard: at least {} bytes of the log would \
                 be lost.\n",
                member.name,
                lsn.bytes_since(own)
            );
        }
        _ => text += &known_end(overview, candidate, own),
    }
    text
}

fn known_end(overview: &Overview, candidate: &str, own: Lsn) -> String {
    let unknown = overview.leader().filter(|leader| leader.name != candidate && leader.answer.is_err());
    match unknown {
        Some(leader) => format!(
            "{candidate} is at {own}, which is the furthest position known; how far {} got after it was last heard is \
             not known.\n",
            leader.name
        ),
        None => format!("{candidate} is at {own}, which is the furthest position known.\n"),
    }
}

#[cfg(test)]
mod tests {
    use ha_rpc::proto::{OtherMember, PeerState};

    use super::*;
    use crate::overview::tests::{MIB, answers, cluster, healthy};

    /// The leader is gone; pg2 heard it at 11 MiB.
    fn leader_gone() -> Overview {
        let mut replies = healthy();
        replies.remove(0);
        let said = PeerState { timeline: 3, flush: 11 * MIB, ..PeerState::default() };
        replies[0].others = vec![OtherMember {
            name: "pg1".to_owned(),
            heard_ms_ago: Some(900),
            state: Some(said),
            ..OtherMember::default()
        }];
        Overview::new(&cluster(), answers(replies))
    }

    #[test]
    fn the_listed_member_that_holds_most_is_asked() {
        assert_eq!(best(&leader_gone(), false).unwrap(), "pg2");
        let mut replies = healthy();
        replies.remove(0);
        replies[0].tags = [("nofailover".to_owned(), "true".to_owned())].into();
        assert_eq!(best(&Overview::new(&cluster(), answers(replies)), false).unwrap(), "pg3");
    }

    #[test]
    fn a_member_that_is_not_listed_is_asked_only_when_loss_is_accepted() {
        let mut replies = healthy();
        let mut third = replies.remove(2);
        third.sync.as_mut().unwrap().members.pop();
        let overview = Overview::new(&cluster(), answers(vec![third]));
        let refusal = best(&overview, false).unwrap_err();
        assert!(
            refusal.contains("not reached: pg1, pg2") && refusal.contains("--accept-data-loss"),
            "{refusal}"
        );
        assert_eq!(best(&overview, true).unwrap(), "pg3");
    }

    #[test]
    fn the_loss_is_stated_with_numbers_and_names() {
        let text = loss(&leader_gone(), "pg2");
        for part in ["Not heard: pg1", "pg2 is at 0/A00000", "pg1 was at 0/B00000", "at least 1048576 bytes"]
        {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}
