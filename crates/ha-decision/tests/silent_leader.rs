//! A leader that falls silent long before its lease runs out: what counts as silence, and what never does.

mod member;

use ha_core::peer_message::{PeerMessage, PeerPhase, PromiseRefusal, PromiseRequest, Trigger};
use ha_core::record::Policy;
use ha_core::{Epoch, Revision};
use ha_decision::{Action, Job};
use member::{Member, id};

/// pg2 follows pg1, whose lease runs; pg2 and pg3 are listed, and everybody is heard.
fn follower() -> Member {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.put_leader("pg1", 1);
    pg2.see_store();
    pg2.see_streaming(100);
    while let Some(output) = pg2.running_job() {
        pg2.end_job(output);
        pg2.see_streaming(100);
    }
    for _ in 0..4 {
        pg2.hear_state("pg1", PeerPhase::Primary);
        pg2.hear_about_leader("pg3", PeerPhase::Standby, true);
        pg2.see_streaming(100);
        pg2.pass(500);
    }
    pg2.actions.clear();
    pg2
}

/// What pg3 says while pg1 is silent for it too.
fn others_hear_nothing(pg2: &mut Member, seconds: u64) {
    for _ in 0..seconds * 2 {
        pg2.hear_state("pg3", PeerPhase::Standby);
        pg2.pass(500);
    }
}

fn revokes(member: &Member) -> bool {
    member.jobs().iter().any(|(_, job)| matches!(job, Job::Revoke { epoch: Epoch(1), .. }))
}

fn asks_for_promises(member: &Member) -> bool {
    member.actions.iter().any(|action| {
        matches!(action, Action::Send { message: PeerMessage::PromiseRequest(r), .. } if r.trigger == Trigger::LeaderSilent)
    })
}

#[test]
fn a_leader_that_is_silent_in_every_way_is_replaced_before_its_lease_is_over() {
    let mut pg2 = follower();
    others_hear_nothing(&mut pg2, 1);
    assert!(!revokes(&pg2), "a second is not enough");
    others_hear_nothing(&mut pg2, 2);
    assert!(revokes(&pg2) && asks_for_promises(&pg2));
}

#[test]
fn a_silent_agent_is_nothing_while_the_wal_streams() {
    let mut pg2 = follower();
    for _ in 0..20 {
        pg2.hear_state("pg3", PeerPhase::Standby);
        pg2.see_streaming(100);
        pg2.pass(500);
    }
    assert!(!revokes(&pg2));
}

#[test]
fn an_agent_that_speaks_decides_itself_about_its_postgres() {
    let mut pg2 = follower();
    for _ in 0..12 {
        pg2.hear_state("pg1", PeerPhase::Stopped);
        pg2.hear_state("pg3", PeerPhase::Standby);
        pg2.pass(500);
    }
    assert!(!revokes(&pg2));
}

#[test]
fn who_stood_still_has_heard_nothing_and_knows_nothing() {
    let mut pg2 = follower();
    pg2.wait(6000);
    pg2.hear_state("pg3", PeerPhase::Standby);
    pg2.pass(900);
    assert!(!revokes(&pg2), "the silence was its own");
    others_hear_nothing(&mut pg2, 1);
    assert!(revokes(&pg2));
}

#[test]
fn a_member_that_hears_the_leader_vetoes() {
    let mut pg2 = follower();
    for _ in 0..12 {
        pg2.hear_about_leader("pg3", PeerPhase::Standby, true);
        pg2.pass(500);
    }
    assert!(!revokes(&pg2));
    others_hear_nothing(&mut pg2, 1);
    assert!(revokes(&pg2), "the veto lasts no longer than it is said");
}

#[test]
fn silence_replaces_nobody_whose_commits_rest_on_no_list() {
    let unestablished = Policy { epoch: Epoch(0), ..follower().sync().policy };
    for policy in [Policy::asynchronous(Epoch(1)), Policy::pinned(Epoch(1)), unestablished] {
        let mut pg2 = follower();
        let mut record = pg2.sync();
        record.policy = policy.clone();
        pg2.set_sync(record);
        pg2.see_store();
        pg2.see_streaming(100);
        others_hear_nothing(&mut pg2, 5);
        assert!(!revokes(&pg2) && !asks_for_promises(&pg2), "{policy:?}");
    }
}

fn asked_by_pg3(revision: Revision) -> PeerMessage {
    PeerMessage::PromiseRequest(PromiseRequest {
        epoch: Epoch(1),
        revision,
        candidate: id("pg3"),
        trigger: Trigger::LeaderSilent,
    })
}

#[test]
fn a_promise_is_refused_until_the_leader_is_silent_here_too() {
    let mut pg2 = follower();
    let request = asked_by_pg3(pg2.view.sync_revision());
    pg2.hear("pg3", request.clone());
    let refused = pg2.actions.iter().any(|action| {
        matches!(action, Action::Send { message: PeerMessage::PromiseRefused(r), .. } if r.refusal == PromiseRefusal::HearsLeader)
    });
    assert!(refused && !revokes(&pg2));
    others_hear_nothing(&mut pg2, 2);
    pg2.hear("pg3", request);
    assert!(revokes(&pg2));
}

#[test]
fn nobody_is_replaced_when_people_decide() {
    let mut pg2 = follower();
    pg2.let_people_decide();
    pg2.see_store();
    pg2.see_streaming(100);
    others_hear_nothing(&mut pg2, 5);
    assert!(!revokes(&pg2));
    assert!(pg2.decider.status().blocked.is_some(), "it says who must decide");
}
