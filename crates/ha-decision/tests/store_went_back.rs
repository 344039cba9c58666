//! A store that was restored from a backup: who has seen more decides nothing by it, and lets nobody else decide by it.

mod member;

use ha_core::node_state::{NodeState, Seen};
use ha_core::peer_message::{
    PeerMessage, PeerPhase, PromiseRefusal, PromiseRefused, PromiseRequest, Trigger,
};
use ha_core::record::Policy;
use ha_core::{Epoch, Generation, Revision};
use ha_decision::{Action, Event, Job, TxnOutcome};
use member::{Member, id, name};

/// pg2, which is listed with pg3, and has seen this of an etcd cluster with another id than the present one.
fn member_that_saw(generation: u64) -> Member {
    let seen = Seen { revision: Revision(90), epoch: Epoch(1), generation: Generation(generation) };
    let durable = NodeState { store_cluster_id: 99, seen, ..NodeState::default() };
    Member::with_node_state("pg2", &["pg2", "pg3"], durable)
}

fn refusals(member: &Member) -> Vec<PromiseRefusal> {
    let refusals = member.actions.iter().filter_map(|action| match action {
        Action::Send { message: PeerMessage::PromiseRefused(refused), .. } => Some(refused.refusal),
        _ => None,
    });
    refusals.collect()
}

#[test]
fn an_older_generation_in_another_etcd_cluster_is_a_step_back() {
    let mut pg2 = member_that_saw(5);
    pg2.see_store();
    pg2.see_standby(100);
    pg2.wait(5000);
    pg2.see_standby(100);
    assert!(pg2.jobs().is_empty(), "it acted on an old record: {:?}", pg2.jobs());
    assert!(pg2.txns().is_empty(), "it decided by an old record: {:?}", pg2.txns());
    let blocked = pg2.decider.status().blocked.expect("it says why it is blocked");
    assert!(blocked.contains("older state"), "{blocked}");
}

#[test]
fn the_same_generation_in_another_etcd_cluster_is_no_step_back() {
    let mut pg2 = member_that_saw(4);
    pg2.see_store();
    pg2.see_standby(100);
    assert_eq!(pg2.decider.status().blocked, None);
}

#[test]
fn who_knows_that_the_store_went_back_promises_nothing_by_it() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.see_store();
    pg2.see_standby(100);
    pg2.end_job(ha_decision::JobOutput::Done);
    pg2.see_standby(100);
    pg2.wait(3000);
    pg2.see_standby(100);
    pg2.event(Event::StoreRolledBack);
    pg2.see_store();
    pg2.hear_state("pg3", PeerPhase::Standby);
    let request = PromiseRequest {
        epoch: Epoch(1),
        revision: pg2.view.sync_revision(),
        candidate: id("pg3"),
        trigger: Trigger::LeaseExpired,
        accepts_loss: false,
    };
    pg2.actions.clear();
    pg2.hear("pg3", PeerMessage::PromiseRequest(request));
    assert_eq!(refusals(&pg2), [PromiseRefusal::NewerRecord]);
}

#[test]
fn a_candidate_that_hears_of_a_newer_record_decides_nothing() {
    // k = 2 of 2: its own promise would be enough.
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    let mut record = pg2.sync();
    record.policy = Policy { k: 2, ..record.policy };
    pg2.set_sync(record);
    pg2.revoke_own(100);
    let refused = PromiseRefused {
        epoch: Epoch(1),
        revision: pg2.view.sync_revision(),
        member: name("pg3"),
        refusal: PromiseRefusal::NewerRecord,
    };
    pg2.hear("pg3", PeerMessage::PromiseRefused(refused));
    pg2.wait(1000);
    pg2.wait(4000);
    assert!(pg2.txns().is_empty(), "it decided by a record that is not the newest: {:?}", pg2.txns());
    let blocked = pg2.decider.status().blocked.expect("it says why it is blocked");
    assert!(blocked.contains("pg3 acted on a newer state"), "{blocked}");
    assert!(!blocked.contains("accept-data-loss"), "what is missing is not a promise: {blocked}");
}

#[test]
fn without_such_news_its_own_promise_is_enough() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    let mut record = pg2.sync();
    record.policy = Policy { k: 2, ..record.policy };
    pg2.set_sync(record);
    pg2.revoke_own(100);
    pg2.wait(1000);
    assert_eq!(pg2.wanted_sync().map(|r| r.leader.id()), Some(id("pg2")));
}

#[test]
fn a_success_without_a_view_that_shows_it_is_no_success() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", promised);
    assert!(pg2.wanted_sync().is_some(), "it takes over");
    pg2.end_txn(TxnOutcome::Won { revision: Revision(99) });
    pg2.see_standby(100);
    pg2.wait(200);
    assert!(!pg2.jobs().iter().any(|(_, job)| matches!(job, Job::Promote { .. })));
    let (_, last) = pg2.txns().pop().expect("it finds out");
    assert!(last.purpose.contains("move the sync record on"), "{}", last.purpose);
}
