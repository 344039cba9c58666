//! What this member is to clients, as proxies hear it. The same judgement as REST's `/primary` and `/replica`, so that
//! a proxy that has to fall back to polling sees nothing else.

use ha_core::MonoTime;
use ha_core::postgres_view::{Instance, PostgresProcess};
use ha_decision::MemberRole;
use ha_rpc::proto::{ClaimedRole, RoleClaim};

use crate::rest::{self, Facts};
use crate::snapshot::AgentSnapshot;

/// The claim, without a sequence. None while this agent has just started and cannot know yet: a claim that it does not
/// lead would cut off the clients of a primary that works.
pub fn make(picture: &AgentSnapshot, now: MonoTime) -> Option<RoleClaim> {
    let status = &picture.status;
    let facts = Facts::new(picture, now);
    let takes_writes = facts.serves_writes();
    if status.undecided && !takes_writes {
        return None;
    }
    let takes_reads = rest::takes_reads(&facts);
    let role = role(&facts, takes_writes);
    let leads = role == ClaimedRole::Leader;
    // While it does not answer it may still serve what it has: zeros would say that PostgreSQL does not run.
    let instance = facts.instance().or_else(|| silent(picture));
    Some(RoleClaim {
        sequence: 0,
        member: picture.me.to_string(),
        role: role.into(),
        epoch: status.epoch.0,
        revision: status.revision.0,
        established: leads && status.established,
        takes_writes,
        holding: leads && status.holding,
        successor: status.successor.as_ref().filter(|_| leads).map(ToString::to_string),
        takes_reads,
        timeline: instance.map_or(0, |instance| instance.timeline.0),
        position: instance.map_or(0, |instance| instance.replay.0),
        lag_bytes: if role == ClaimedRole::Standby { facts.lag(false) } else { None },
        leader: status.leader.as_ref().map(|leader| leader.name.to_string()).unwrap_or_default(),
        reason: reason(&facts, takes_writes || takes_reads),
        synchronous: status
            .policy
            .as_ref()
            .zip(status.id.as_ref())
            .is_some_and(|(policy, me)| policy.lists(me)),
        maintenance: status.paused.is_some(),
    })
}

/// The same but for what moves all the time: sequence and positions.
pub fn says_the_same(a: &RoleClaim, b: &RoleClaim) -> bool {
    let still = |claim: &RoleClaim| RoleClaim { sequence: 0, position: 0, lag_bytes: None, ..claim.clone() };
    still(a) == still(b)
}

/// The server as it last answered, while its process lives and gives no answer.
fn silent(picture: &AgentSnapshot) -> Option<&Instance> {
    picture.last_instance.as_ref().filter(|_| picture.postgres.process == PostgresProcess::Silent)
}

/// When the claim changes although nothing happens: the deadline of a leader passes.
pub fn holds_until(picture: &AgentSnapshot, claim: &RoleClaim) -> Option<MonoTime> {
    picture.status.deadline.filter(|_| claim.takes_writes)
}

fn role(facts: &Facts<'_>, takes_writes: bool) -> ClaimedRole {
    if takes_writes || facts.picture.status.role == MemberRole::Leader {
        ClaimedRole::Leader
    } else if facts.is_running_replica() {
        ClaimedRole::Standby
    } else {
        ClaimedRole::None
    }
}

/// The decider's words; before them what keeps clients away and the decider does not speak of.
fn reason(facts: &Facts<'_>, useful: bool) -> String {
    let status = &facts.picture.status;
    let word = status.blocked.as_ref().unwrap_or(&status.doing);
    let obstacle = match &facts.picture.postgres.process {
        _ if useful => None,
        PostgresProcess::Stopped => Some("PostgreSQL is stopped"),
        PostgresProcess::Starting => Some("PostgreSQL does not accept connections"),
        PostgresProcess::Silent => Some("PostgreSQL does not answer"),
        PostgresProcess::Running(i) if i.in_recovery && facts.tags().contains_key("noloadbalance") => {
            Some("tagged noloadbalance")
        }
        PostgresProcess::Running(_) => None,
    };
    match obstacle {
        Some(obstacle) if word.is_empty() => obstacle.to_owned(),
        Some(obstacle) => format!("{obstacle}: {word}"),
        None => word.clone(),
    }
}

#[cfg(test)]
mod tests;
