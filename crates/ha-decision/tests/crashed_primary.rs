//! The leader's PostgreSQL dies while its agent lives: when it is started again here, and when somebody else takes over.

mod member;

use std::time::Duration;

use ha_core::Epoch;
use ha_core::peer_message::{HandOver, PeerMessage};
use ha_core::record::{Policy, PolicyKind, SyncRecord};
use ha_decision::{Access, Action, Event, Job, TxnOutcome};
use member::{Member, standbys_with};

const MEGABYTE: u64 = 1 << 20;

fn starts(member: &Member) -> bool {
    member.jobs().iter().any(|(_, job)| matches!(job, Job::Start { standby: false, .. }))
}

fn asked_to_be_replaced(member: &Member) -> Option<HandOver> {
    member.actions.iter().find_map(|action| match action {
        Action::Send { message: PeerMessage::HandOver(asked), .. } => Some(asked.clone()),
        _ => None,
    })
}

/// It crashes, is started again and serves.
fn crash_and_recover(pg1: &mut Member) {
    pg1.hear_both();
    pg1.see_stopped_primary();
    assert!(starts(pg1), "{:?}", pg1.decider.status());
    pg1.come_to_serve(100);
    assert!(pg1.decider.status().serves_writes, "{:?}", pg1.decider.status());
    pg1.actions.clear();
}

#[test]
fn a_first_crash_with_little_to_replay_is_started_again_here() {
    let mut pg1 = Member::leading();
    pg1.see_stopped_primary();
    assert!(starts(&pg1) && asked_to_be_replaced(&pg1).is_none());
}

#[test]
fn much_to_replay_is_handed_over() {
    let mut pg1 = Member::leading();
    pg1.come_to_serve(250 * MEGABYTE);
    pg1.actions.clear();
    pg1.see_stopped_primary();
    let asked = asked_to_be_replaced(&pg1).expect("the others are asked");
    assert!(asked.candidate.is_none() && asked.final_lsn.is_none(), "nobody knows where its WAL ended");
    assert!(!starts(&pg1));
}

#[test]
fn a_second_crash_within_ten_minutes_is_handed_over() {
    let mut pg1 = Member::leading();
    crash_and_recover(&mut pg1);
    pg1.hear_both();
    pg1.see_stopped_primary();
    assert!(asked_to_be_replaced(&pg1).is_some() && !starts(&pg1));
}

#[test]
fn a_second_crash_after_ten_minutes_counts_as_a_first() {
    let mut pg1 = Member::leading();
    crash_and_recover(&mut pg1);
    for _ in 0..620 {
        pg1.hear_both();
        pg1.renew_lease();
        pg1.see_primary(100);
        pg1.pass(1000);
    }
    crash_and_recover(&mut pg1);
}

#[test]
fn storage_that_failed_is_not_started_on_again() {
    let mut pg1 = Member::leading();
    pg1.storage_failed = true;
    pg1.see_stopped_primary();
    assert!(asked_to_be_replaced(&pg1).is_some() && !starts(&pg1));
}

#[test]
fn without_anybody_who_could_take_over_it_starts_again_with_pauses() {
    let mut pg1 = Member::leading();
    for _ in 0..2 {
        // Nobody is heard.
        pg1.now = pg1.now + Duration::from_secs(3);
        pg1.renew_lease();
        pg1.see_stopped_primary();
        assert!(starts(&pg1), "{:?}", pg1.decider.status());
        pg1.come_to_serve(100);
        pg1.actions.clear();
    }
    pg1.now = pg1.now + Duration::from_secs(3);
    pg1.renew_lease();
    pg1.see_stopped_primary();
    assert!(
        !starts(&pg1) && asked_to_be_replaced(&pg1).is_none(),
        "{:?}\n{:?}",
        pg1.actions,
        pg1.decider.status()
    );
    let blocked = pg1.decider.status().blocked.unwrap_or_default();
    assert!(blocked.contains("crashed 3 times"), "{blocked}");
    pg1.pass(2100);
    assert!(starts(&pg1), "{:?}", pg1.decider.status());
}

#[test]
fn who_asked_in_vain_starts_again_here() {
    let mut pg1 = Member::leading();
    pg1.come_to_serve(250 * MEGABYTE);
    pg1.actions.clear();
    pg1.see_stopped_primary();
    assert!(asked_to_be_replaced(&pg1).is_some());
    for _ in 0..60 {
        pg1.hear_both();
        pg1.renew_lease();
        pg1.see_stopped_primary();
        pg1.pass(100);
    }
    let taken_up = pg1.wanted_sync().expect("it wins its leadership again first");
    pg1.actions.retain(|action| !matches!(action, Action::Send { .. }));
    pg1.set_sync(taken_up);
    pg1.see_store();
    pg1.end_txn(TxnOutcome::Won { revision: pg1.view.sync_revision() });
    pg1.see_stopped_primary();
    assert!(starts(&pg1), "{:?}", pg1.decider.status());
    assert!(asked_to_be_replaced(&pg1).is_none(), "who did not answer is not asked again at once");
}

fn ends(member: &Member) -> bool {
    member.jobs().iter().any(|(_, job)| matches!(job, Job::Stop { .. }))
}

#[test]
fn a_primary_that_answers_nothing_is_ended_after_five_seconds() {
    let mut pg1 = Member::leading();
    for _ in 0..9 {
        pg1.see_silent(false);
        pg1.hear_both();
        pg1.renew_lease();
        pg1.pass(500);
    }
    assert!(!ends(&pg1), "it may be busy");
    pg1.see_silent(false);
    pg1.pass(1000);
    assert!(ends(&pg1));
}

#[test]
fn a_primary_whose_sessions_are_all_taken_is_left_alone() {
    let mut pg1 = Member::leading();
    for _ in 0..40 {
        pg1.see_silent(true);
        pg1.hear_both();
        pg1.renew_lease();
        pg1.pass(500);
    }
    assert!(!ends(&pg1), "it lives and serves those who are in");
}

/// It leads alone, for nobody confirmed any more.
fn pinned() -> Member {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    let pinned = SyncRecord { policy: Policy::pinned(Epoch(1)), ..pg1.sync() };
    pg1.set_sync(pinned);
    pg1.put_leader("pg1", 1);
    pg1.see_store();
    pg1.see_primary(100);
    pg1.take_up_again();
    assert!(pg1.decider.status().serves_writes, "{:?}", pg1.decider.status());
    pg1
}

fn crash(member: &mut Member) {
    member.actions.clear();
    member.life += 1;
    member.hear_both();
    member.see_stopped_primary();
    assert!(starts(member), "{:?}", member.decider.status());
    member.come_to_serve(200);
}

fn opens(member: &Member) -> bool {
    let opens = |job: &Job| match job {
        Job::Configure { settings } | Job::Start { settings, .. } => settings.access == Access::Open,
        _ => false,
    };
    member.jobs().iter().any(|(_, job)| opens(job))
}

#[test]
fn it_opens_after_a_crash_when_pinned_for_certain() {
    let mut pg1 = pinned();
    crash(&mut pg1);
    assert!(opens(&pg1) && pg1.decider.status().serves_writes, "{:?}", pg1.decider.status());
}

#[test]
fn it_stays_closed_after_a_crash_when_nobody_knows_whether_a_list_is_back() {
    let mut pg1 = pinned();
    pg1.senders = standbys_with(100);
    pg1.come_to_serve(100);
    let wanted = pg1.wanted_sync().expect("its standbys are back, so it asks for a list");
    assert_eq!(wanted.policy.kind, PolicyKind::Quorum);
    pg1.end_txn(TxnOutcome::Unknown);
    pg1.event(Event::StoreLost);
    crash(&mut pg1);
    let status = pg1.decider.status();
    assert!(!opens(&pg1) && !status.serves_writes, "{status:?}");
    assert!(status.doing.contains("has not said"), "{}", status.doing);
}
