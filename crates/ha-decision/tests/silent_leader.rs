//! A leader that falls silent long before its lease runs out: what counts as silence, and what never does.

mod member;

use ha_core::peer_message::{PeerMessage, PeerPhase, PromiseRefusal, PromiseRequest, Trigger};
use ha_core::record::{FailoverTimes, Policy};
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
    pg2.hear_state("pg3", PeerPhase::Standby);
    pg2.pass(700);
    assert!(!revokes(&pg2), "messages come twice a second: 1.2 s without any is not enough");
    others_hear_nothing(&mut pg2, 2);
    assert!(revokes(&pg2) && asks_for_promises(&pg2));
}

/// Lets the time pass in which the leader's heartbeats come, and the others'.
fn hear_heartbeats(pg2: &mut Member, rounds: u32) {
    for _ in 0..rounds {
        pg2.hear_heartbeats(&[("pg1", Some(Epoch(1))), ("pg3", None)]);
        pg2.pass(100);
    }
}

#[test]
fn where_heartbeats_get_through_the_time_of_detection_is_enough() {
    let mut pg2 = follower();
    hear_heartbeats(&mut pg2, 3);
    pg2.see_streaming(100);
    pg2.hear_state("pg1", PeerPhase::Primary);
    hear_heartbeats(&mut pg2, 1);
    pg2.hear_state("pg3", PeerPhase::Standby);
    pg2.pass(880);
    assert!(!revokes(&pg2), "980 ms");
    pg2.pass(30);
    assert!(revokes(&pg2) && asks_for_promises(&pg2));
}

#[test]
fn heartbeats_alone_keep_a_leader() {
    let mut pg2 = follower();
    for _ in 0..50 {
        pg2.hear_state("pg3", PeerPhase::Standby);
        hear_heartbeats(&mut pg2, 1);
    }
    assert!(!revokes(&pg2));
    let request = asked_by_pg3(pg2.view.sync_revision());
    pg2.hear("pg3", request);
    assert!(!revokes(&pg2), "nothing is promised either");
}

#[test]
fn while_times_change_the_longer_one_counts() {
    let mut pg2 = follower();
    pg2.announced_detection_ms = 3000;
    hear_heartbeats(&mut pg2, 3);
    for _ in 0..5 {
        pg2.hear_state("pg3", PeerPhase::Standby);
        pg2.pass(500);
    }
    assert!(!revokes(&pg2), "the leader relies on three seconds");
    others_hear_nothing(&mut pg2, 1);
    assert!(revokes(&pg2));
}

#[test]
fn the_times_of_the_cluster_go_before_those_of_the_file() {
    let times = |detection_ms| FailoverTimes { detection_ms, promise_timeout_ms: 300, abort_after_ms: 500 };
    let mut pg2 = follower();
    pg2.set_times(times(3000));
    pg2.see_store();
    pg2.see_streaming(100);
    others_hear_nothing(&mut pg2, 2);
    assert!(!revokes(&pg2));
    others_hear_nothing(&mut pg2, 2);
    assert!(revokes(&pg2));
    // Longer than a leader without standbys waits before it pins itself: the file's are used, and people are told.
    let mut pg2 = follower();
    pg2.set_times(times(4500));
    pg2.see_store();
    pg2.see_streaming(100);
    let alarms = pg2.decider.status().alarms;
    assert!(alarms.iter().any(|alarm| alarm.contains("degrade_after_ms 5000")), "{alarms:?}");
    others_hear_nothing(&mut pg2, 3);
    assert!(revokes(&pg2));
}

#[test]
fn what_was_not_heard_while_the_receiving_thread_stood_still_proves_nothing() {
    let mut pg2 = follower();
    hear_heartbeats(&mut pg2, 3);
    pg2.hear_state("pg3", PeerPhase::Standby);
    pg2.pass(800);
    pg2.heartbeats_stalled();
    pg2.hear_state("pg3", PeerPhase::Standby);
    pg2.pass(900);
    assert!(!revokes(&pg2));
    others_hear_nothing(&mut pg2, 1);
    assert!(revokes(&pg2));
}

/// pg3 took over because pg1 was silent, and so on: the store shows the next epoch.
fn taken_over_by_silence(pg2: &mut Member, leader: &str) {
    let mut record = pg2.sync();
    record.epoch = record.epoch.next();
    record.leader = id(leader).into();
    record.policy.epoch = record.epoch;
    pg2.won_by(&record, "the leader fell silent: neither its agent nor its WAL is heard");
    pg2.set_sync(record.clone());
    pg2.put_leader(leader, record.epoch.0);
    pg2.see_store();
    pg2.see_streaming(100);
    while let Some(output) = pg2.running_job() {
        pg2.end_job(output);
        pg2.see_streaming(100);
    }
    pg2.actions.clear();
}

#[test]
fn silence_replaces_a_new_leader_only_after_ten_seconds() {
    let mut pg2 = follower();
    taken_over_by_silence(&mut pg2, "pg1");
    others_hear_nothing(&mut pg2, 5);
    assert!(!asks_for_promises(&pg2));
    let blocked = pg2.decider.status().blocked.unwrap_or_default();
    assert!(blocked.contains("1 leaders were replaced"), "{blocked}");
    others_hear_nothing(&mut pg2, 6);
    assert!(asks_for_promises(&pg2));
}

#[test]
fn after_three_takeovers_by_silence_the_end_of_the_lease_is_waited_for() {
    let mut pg2 = follower();
    for _ in 0..3 {
        taken_over_by_silence(&mut pg2, "pg1");
        pg2.see_streaming(100);
        others_hear_nothing(&mut pg2, 12);
    }
    pg2.actions.clear();
    others_hear_nothing(&mut pg2, 60);
    assert!(!asks_for_promises(&pg2), "a fourth within ten minutes");
    pg2.view.leader = None;
    pg2.see_store();
    pg2.pass(1000);
    let begun = pg2.actions.iter().any(|action| {
        matches!(action, Action::Send { message: PeerMessage::PromiseRequest(r), .. } if r.trigger == Trigger::LeaseExpired)
    });
    assert!(begun, "{:?}", pg2.decider.status());
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
        accepts_loss: false,
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
