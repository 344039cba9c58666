//! Who may take over, on what evidence, and in which order things are said and done.

mod member;

use ha_core::cluster_view::StoreKey;
use ha_core::node_state::NodeState;
use ha_core::peer_message::{
    HandOver, HandOverSteps, PeerMessage, PeerPhase, PromiseRefusal, PromiseRefused, PromiseRequest, Trigger,
};
use ha_core::record::HistoryRecord;
use ha_core::{Epoch, Lsn, Revision, Timeline};
use ha_decision::{
    Action, Event, Job, JobOutput, LeaseNews, Request, RequestDone, RequestId, StopMode, TxnOutcome,
};
use member::{Member, id, name};

#[test]
fn one_promise_of_two_is_not_enough() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    pg2.wait(5000);
    assert!(pg2.txns().is_empty(), "took over without the promise of pg3: {:?}", pg2.txns());
    let blocked = pg2.decider.status().blocked.expect("it says why it is blocked");
    assert!(blocked.contains("needs 2 promises") && blocked.contains("pg3"), "{blocked}");
}

#[test]
fn a_loss_that_a_human_accepts_is_written_into_the_history() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    pg2.event(Event::Request { id: RequestId(1), request: Request::Failover { accept_data_loss: true } });
    pg2.pass(4000);
    let (_, txn) = pg2.txns().pop().expect("it goes on without pg3");
    let history =
        txn.puts.iter().find(|(key, ..)| matches!(key, StoreKey::History(_))).expect("a history record");
    let history: HistoryRecord = serde_json::from_slice(&history.1).expect("readable");
    assert!(
        history.reason.contains("accepted") && history.reason.ends_with("not heard: pg3"),
        "{}",
        history.reason
    );
}

#[test]
fn a_failover_that_another_member_carries_out_has_happened() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    pg2.event(Event::Request { id: RequestId(1), request: Request::Failover { accept_data_loss: false } });
    let promised = pg2.promised_by("pg3", 101);
    pg2.hear("pg3", promised);
    let mut record = pg2.sync();
    record.epoch = Epoch(2);
    record.leader = id("pg3").into();
    pg2.set_sync(record);
    pg2.see_store();
    pg2.wait(2000);
    let answer = pg2.actions.iter().find_map(|action| match action {
        Action::Reply { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    assert_eq!(answer, Some(Ok(RequestDone::Leads { member: name("pg3") })));
}

#[test]
fn all_promises_decide_in_one_transaction_on_the_revision_of_the_promises() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", promised);
    let (_, txn) = pg2.txns().pop().expect("it takes over");
    assert!(txn.compares.contains(&(StoreKey::Sync, pg2.view.sync_revision())));
    assert!(txn.compares.contains(&(StoreKey::Leader, Revision(0))));
    let wanted = pg2.wanted_sync().expect("it writes the sync record");
    assert_eq!((wanted.epoch, wanted.leader.id()), (Epoch(2), id("pg2")));
    assert!(
        wanted.is_established() && wanted.policy.lists(&id("pg3")),
        "pg3 holds as much: it may confirm at once"
    );
}

#[test]
fn a_member_that_holds_less_is_not_listed_at_once_and_the_winner_is_unestablished() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 90);
    pg2.hear("pg3", promised);
    let wanted = pg2.wanted_sync().expect("it takes over");
    assert!(!wanted.is_established());
    assert_eq!(wanted.policy, pg2.sync().policy, "the old policy stays until a follower has everything");
}

#[test]
fn who_holds_more_gets_the_promises() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 101);
    pg2.hear("pg3", promised);
    assert!(pg2.txns().is_empty());
    let handed = pg2.actions.iter().any(|a| {
        matches!(a, Action::Send { to, message: PeerMessage::TakeOver(t) } if to.as_str() == "pg3" && t.promises.len() == 2)
    });
    assert!(handed, "pg3 does not learn that it should lead");
}

#[test]
fn a_member_that_has_not_heard_of_the_hand_over_yet_is_asked_again_at_once() {
    let asked = |member: &Member| {
        let asked = |a: &&Action| matches!(a, Action::Send { message: PeerMessage::PromiseRequest(r), .. } if r.trigger == Trigger::LeaderAsked);
        member.actions.iter().filter(asked).count()
    };
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.put_leader("pg1", 1);
    pg2.see_store();
    pg2.see_streaming(100);
    let (epoch, revision) = (Epoch(1), pg2.view.sync_revision());
    let steps = HandOverSteps::default();
    let handover =
        HandOver { epoch, revision, candidate: Some(name("pg2")), final_lsn: Some(Lsn(100)), steps };
    pg2.hear("pg1", PeerMessage::HandOver(handover));
    assert_eq!(asked(&pg2), 1);
    let refused = |refusal| PromiseRefused { epoch, revision, member: name("pg3"), refusal };
    pg2.hear("pg3", PeerMessage::PromiseRefused(refused(PromiseRefusal::HearsLeader)));
    pg2.wait(19);
    assert_eq!(asked(&pg2), 1);
    pg2.wait(1);
    assert_eq!(asked(&pg2), 2);
    pg2.hear("pg3", PeerMessage::PromiseRefused(refused(PromiseRefusal::Busy)));
    pg2.wait(100);
    assert_eq!(asked(&pg2), 2, "other refusals may last");
}

#[test]
fn a_promise_is_durable_before_the_walreceiver_is_stopped() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let persisted = pg2
        .actions
        .iter()
        .position(|a| matches!(a, Action::Persist(state) if state.promise.is_some()))
        .expect("the promise is made durable");
    let revoked = pg2
        .actions
        .iter()
        .position(|a| matches!(a, Action::Job { job: Job::Revoke { .. }, .. }))
        .expect("the walreceiver is stopped");
    assert!(persisted < revoked);
}

#[test]
fn nobody_promises_while_the_leader_is_heard() {
    let mut pg3 = Member::of_leaderless_cluster("pg3", &["pg2", "pg3"]);
    pg3.see_store();
    pg3.see_standby(100);
    pg3.end_job(JobOutput::Done);
    pg3.wait(900);
    pg3.hear_state("pg1", PeerPhase::Primary);
    pg3.wait(900);
    let request = PromiseRequest {
        epoch: Epoch(1),
        revision: pg3.view.sync_revision(),
        candidate: id("pg2"),
        trigger: Trigger::LeaseExpired,
        accepts_loss: false,
    };
    pg3.hear("pg2", PeerMessage::PromiseRequest(request));
    let refused = pg3.actions.iter().any(|a| {
        matches!(a, Action::Send { message: PeerMessage::PromiseRefused(r), .. } if r.refusal == PromiseRefusal::HearsLeader)
    });
    assert!(refused && pg3.jobs().iter().all(|(_, job)| !matches!(job, Job::Revoke { .. })));
}

#[test]
fn an_unknown_outcome_is_followed_by_nothing_but_a_bump() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", promised);
    pg2.end_txn(TxnOutcome::Unknown);
    pg2.wait(1000);
    let wanted = pg2.wanted_sync().expect("it moves the revision on");
    assert_eq!((wanted.epoch, wanted.leader.id()), (Epoch(1), id("pg1")), "not a second attempt");
    assert_eq!(wanted.generation, pg2.sync().generation.next());
    assert!(!pg2.jobs().iter().any(|(_, job)| matches!(job, Job::Promote { .. })));
}

/// Between the end of recovery and the first write a server is still in recovery and shows its new timeline.
#[test]
fn a_promotion_that_is_seen_half_way_needs_no_other_timeline() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.revoke_own(100);
    let promised = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", promised);
    let won = pg2.wanted_sync().expect("it takes over");
    let mut history = pg2.view.history[&Timeline(1)].clone();
    history.epoch = won.epoch;
    history.parent = Timeline(1);
    pg2.view.history.insert(Timeline(2), history);
    pg2.set_sync(won);
    pg2.put_leader("pg2", 2);
    pg2.see_store();
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    pg2.event(Event::Lease(LeaseNews::Renewed { sent_at: pg2.now, leads: Some(Epoch(2)) }));
    let promotes = |pg2: &Member| matches!(pg2.jobs().last(), Some((_, Job::Promote { timeline, .. })) if *timeline == Timeline(2));
    for _ in 0..5 {
        pg2.see_standby(100);
        if promotes(&pg2) {
            break;
        }
        if let Some(output) = pg2.running_job() {
            pg2.end_job(output);
        }
    }
    assert!(promotes(&pg2), "{:?}\n{:?}", pg2.decider.status(), pg2.jobs());

    let transactions = pg2.txns().len();
    pg2.timeline = Timeline(2);
    pg2.see_standby(100);
    pg2.wait(100);
    assert_eq!(pg2.txns().len(), transactions, "a second epoch while it is being promoted: {:?}", pg2.txns());
    pg2.end_job(JobOutput::Done);
    assert_eq!(pg2.txns().len(), transactions, "what was seen before the end of the promotion is old");
}

#[test]
fn a_deposed_primary_is_ended_at_once() {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    let mut record = pg1.sync();
    record.epoch = Epoch(2);
    record.leader = id("pg2").into();
    pg1.set_sync(record);
    pg1.see_store();
    pg1.see_primary(100);
    assert_eq!(pg1.jobs().len(), 1);
    assert!(matches!(pg1.jobs()[0].1, Job::Stop { mode: StopMode::Immediate }));
}

/// pg1 led epoch 1; pg2 took over without anybody that held as much, and is gone before it was established.
fn old_leader_of_an_unestablished_one(led: Option<Epoch>) -> Member {
    let durable = NodeState { led, ..NodeState::default() };
    let mut pg1 = Member::with_node_state("pg1", &["pg2", "pg3"], durable);
    let mut record = pg1.sync();
    record.epoch = Epoch(2);
    record.leader = id("pg2").into();
    pg1.set_sync(record);
    pg1.see_store();
    pg1.see_stopped_primary();
    pg1
}

#[test]
fn the_leader_before_an_unestablished_one_needs_nobody() {
    let mut pg1 = old_leader_of_an_unestablished_one(Some(Epoch(1)));
    assert!(
        matches!(pg1.jobs()[0].1, Job::Start { standby: true, ref settings } if settings.upstream.is_none())
    );
    pg1.end_job(JobOutput::Done);
    pg1.see_standby(100);
    // Until the silence is long enough it is to follow the leader that the record names.
    pg1.end_job(JobOutput::Done);
    pg1.see_standby(100);
    pg1.wait(3000);
    pg1.see_store();
    pg1.see_standby(100);
    pg1.wait(1000);
    assert!(matches!(pg1.jobs().pop(), Some((_, Job::Revoke { .. }))));
    pg1.end_job(JobOutput::Revoked { timeline: Timeline(1), flush: Lsn(100) });
    pg1.see_standby(100);
    pg1.wait(400);
    let wanted = pg1.wanted_sync().expect("it takes over alone");
    assert_eq!((wanted.epoch, wanted.leader.id()), (Epoch(3), id("pg1")));
    assert_eq!(wanted.policy, pg1.sync().policy, "and is unestablished itself");
}

#[test]
fn an_old_leader_whose_data_was_replaced_needs_promises_as_everybody() {
    let mut pg1 = old_leader_of_an_unestablished_one(None);
    pg1.wait(5000);
    assert!(pg1.jobs().is_empty() && pg1.txns().is_empty());
}

#[test]
fn a_restarted_agent_changes_nothing_before_it_has_won_its_leadership_again() {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    pg1.put_leader("pg1", 1);
    pg1.see_store();
    pg1.see_primary(100);
    assert!(pg1.jobs().is_empty(), "{:?}", pg1.jobs());
    let wanted = pg1.wanted_sync().expect("a compare-and-swap, although the record says so already");
    assert_eq!(wanted.generation, pg1.sync().generation.next());
    assert_eq!(wanted.epoch, Epoch(1));
}

#[test]
fn a_store_that_went_back_in_time_decides_nothing() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    let restored = pg2.view.clone();
    let mut record = pg2.sync();
    record.epoch = Epoch(5);
    pg2.set_sync(record);
    pg2.see_store();
    pg2.see_standby(100);
    pg2.view = restored;
    pg2.see_store();
    pg2.wait(20_000);
    assert!(pg2.txns().is_empty() && pg2.decider.status().blocked.is_some());
}

#[test]
fn a_restored_store_is_recognised_by_the_generation_although_its_leader_and_revisions_look_new() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.see_store();
    pg2.see_standby(100);
    let old = pg2.sync();
    pg2.set_sync(old.bumped());
    pg2.see_store();
    assert!(pg2.decider.status().alarms.iter().all(|alarm| !alarm.contains("older state")));
    // A snapshot from before that change, restored into a new etcd cluster whose revisions are higher.
    pg2.view.cluster_id = 2;
    pg2.set_sync(old);
    pg2.see_store();
    pg2.wait(20_000);
    let status = pg2.decider.status();
    assert!(status.alarms.iter().any(|alarm| alarm.contains("older state")), "{:?}", status.alarms);
    assert!(pg2.txns().is_empty() && status.blocked.is_some(), "it decides by an old list");
}
