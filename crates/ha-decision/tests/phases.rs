//! What a change of leader tells about itself: that its phases add up, that it is told once, and that it is written until
//! it stands in the store.

mod member;

use std::time::Duration;

use ha_core::cluster_view::StoreKey;
use ha_core::peer_message::{HandOver, HandOverSteps, PeerMessage, PeerPhase};
use ha_core::phases::Phases;
use ha_core::postgres_view::WalSender;
use ha_core::record::HistoryRecord;
use ha_core::standby_names::StandbyName;
use ha_core::{Epoch, Lsn, MonoTime, Timeline};
use ha_decision::{Action, Event, HistoryCompletion, Job, JobOutput, OpId, Reason, TxnOutcome};
use member::{Member, id, name};

/// pg2 follows pg1, whose lease runs; pg2 and pg3 are listed, and everybody is heard.
fn follower() -> Member {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.put_leader("pg1", 1);
    pg2.see_store();
    for _ in 0..4 {
        pg2.hear_state("pg1", PeerPhase::Primary);
        pg2.hear_about_leader("pg3", PeerPhase::Standby, true);
        pg2.see_streaming(100);
        while let Some(output) = pg2.running_job() {
            pg2.end_job(output);
            pg2.see_streaming(100);
        }
        pg2.pass(500);
    }
    pg2.actions.clear();
    pg2
}

fn later(member: &mut Member, milliseconds: u64) {
    member.now = member.now + Duration::from_millis(milliseconds);
}

/// Until pg2 asks for promises; when that was.
fn falls_silent(pg2: &mut Member) -> MonoTime {
    for round in 0..8000 {
        if round % 400 == 0 {
            pg2.hear_state("pg3", PeerPhase::Standby);
        }
        pg2.pass(1);
        if pg2
            .actions
            .iter()
            .any(|a| matches!(a, Action::Send { message: PeerMessage::PromiseRequest(_), .. }))
        {
            return pg2.now;
        }
    }
    panic!("it never asks for promises");
}

/// Both promise; the transaction stands in the store as it was submitted.
fn all_promise(pg2: &mut Member) {
    later(pg2, 20);
    let (revocation, _) =
        pg2.jobs().into_iter().rfind(|(_, j)| matches!(j, Job::Revoke { .. })).expect("revokes");
    let revoked = JobOutput::Revoked { timeline: Timeline(1), flush: Lsn(100) };
    pg2.receiver = None;
    pg2.event(Event::JobDone { id: revocation, result: Ok(revoked) });
    pg2.see_standby(100);
    later(pg2, 10);
    let promised = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", promised);
    later(pg2, 15);
    let (_, txn) = pg2.txns().pop().expect("it takes over");
    for (key, value, _) in &txn.puts {
        if let StoreKey::History(timeline) = key {
            let record: HistoryRecord = serde_json::from_slice(value).expect("a readable record");
            assert!(record.at().is_none() && record.phases().is_none(), "written when it is over");
            pg2.view.history.insert(*timeline, record);
        }
    }
    let wanted = pg2.wanted_sync().expect("a sync record");
    pg2.set_sync(wanted);
    pg2.put_leader("pg2", 2);
    pg2.see_store();
}

/// PostgreSQL is promoted; when that was, and the wait for the proxies.
fn promotes(pg2: &mut Member) -> (MonoTime, OpId) {
    for _ in 0..10 {
        pg2.see_standby(100);
        let promotes = pg2.jobs().pop().is_some_and(|(_, job)| matches!(job, Job::Promote { .. }));
        later(pg2, 30);
        let output = pg2.running_job().expect("a step towards the promotion");
        pg2.end_job(output);
        if promotes {
            let mut waits = pg2.actions.iter().filter_map(|a| match a {
                Action::AwaitRouting { id } => Some(*id),
                _ => None,
            });
            let id = waits.next().expect("the proxies are waited for");
            assert_eq!(waits.next(), None, "once");
            let promoted = pg2.now;
            pg2.timeline = Timeline(2);
            return (promoted, id);
        }
    }
    panic!("never promoted: {:?}", pg2.jobs());
}

fn pg3_streams(pg2: &mut Member) {
    pg3_is_attached(pg2);
    pg2.see_primary(100);
}

fn pg3_is_attached(pg2: &mut Member) {
    let name = StandbyName { member: id("pg3"), epoch: Epoch(2) };
    pg2.senders = vec![WalSender {
        pid: 3,
        name: Some(name),
        streaming: true,
        flush: Lsn(100),
        sync_priority: 1,
        reply_mark: 0,
    }];
}

fn told(pg2: &Member) -> Vec<Phases> {
    let notes = pg2.actions.iter().filter_map(|action| match action {
        Action::Note(Reason::LeadershipTold { phases, epoch: Epoch(2), timeline: Timeline(2) }) => {
            Some((**phases).clone())
        }
        _ => None,
    });
    notes.collect()
}

fn completions(pg2: &Member) -> Vec<HistoryCompletion> {
    let all = pg2.actions.iter().filter_map(|action| match action {
        Action::CompleteHistory(completion) => Some((**completion).clone()),
        _ => None,
    });
    all.collect()
}

/// The completed record comes back from the store.
fn written(pg2: &mut Member) {
    let completion = completions(pg2).pop().expect("it is written");
    let record = pg2.view.history.get_mut(&completion.timeline).expect("the record");
    record.complete("2026-11-29T00:26:53Z", &completion.phases);
    pg2.view.revision = pg2.view.revision.next();
    pg2.see_store();
}

fn ms(duration: Duration) -> Option<u64> {
    Some(u64::try_from(duration.as_millis()).expect("a short time"))
}

#[test]
fn a_takeover_by_silence_adds_up_from_the_last_sign_to_the_last_proxy() {
    let mut pg2 = follower();
    pg2.hear_state("pg1", PeerPhase::Primary);
    let agent = pg2.now;
    later(&mut pg2, 40);
    pg2.see_streaming(100);
    let wal = pg2.now;
    let began = falls_silent(&mut pg2);
    pg2.hear(
        "pg3",
        PeerMessage::PromiseRefused(ha_core::peer_message::PromiseRefused {
            epoch: Epoch(1),
            revision: pg2.view.sync_revision(),
            member: name("pg3"),
            refusal: ha_core::peer_message::PromiseRefusal::HearsLeader,
        }),
    );
    all_promise(&mut pg2);
    later(&mut pg2, 5);
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    let decided = pg2.now;
    let (promoted, routing) = promotes(&mut pg2);
    later(&mut pg2, 25);
    pg2.event(Event::Rerouted { id: OpId(routing.0 + 1), proxies: 2 });
    later(&mut pg2, 25);
    pg2.event(Event::Rerouted { id: routing, proxies: 2 });
    let rerouted = pg2.now;
    later(&mut pg2, 30);
    assert!(told(&pg2).is_empty(), "no standby yet");
    pg3_streams(&mut pg2);
    let reattached = pg2.now;

    let [phases] = &told(&pg2)[..] else { panic!("told once: {:?}", told(&pg2)) };
    assert_eq!(phases.trigger, "leader_silent");
    assert_eq!(phases.detect_ms, ms(began - wal));
    assert_eq!((phases.agent_silent_ms, phases.wal_silent_ms), (ms(began - agent), ms(began - wal)));
    assert_eq!(phases.decide_ms, ms(decided - began));
    assert_eq!(phases.promote_ms, ms(promoted - decided));
    assert_eq!(phases.reattach_ms, ms(reattached - promoted));
    assert_eq!(phases.reroute_ms, ms(rerouted - promoted));
    let last = phases.reattach_ms.max(phases.reroute_ms);
    let parts = [phases.detect_ms, phases.decide_ms, phases.promote_ms, last];
    assert_eq!(phases.total_ms, parts.into_iter().sum(), "{phases:?}");
    assert_eq!(phases.total_ms, ms(reattached - wal));
    let promises: Vec<_> = phases.promises.iter().map(|(who, at)| (who.as_str(), *at)).collect();
    assert_eq!(promises, [("pg2", 20), ("pg3", 31)]);
    assert_eq!(phases.refusals[&name("pg3")], "it still hears the leader");
    assert_eq!((phases.proxies, phases.steps), (Some(2), HandOverSteps::default()));

    let [completion] = &completions(&pg2)[..] else { panic!("written once") };
    assert_eq!((completion.timeline, completion.decided, &completion.phases), (Timeline(2), decided, phases));
    let counts = pg2.decider.status().counts;
    assert_eq!((counts.won["leader_silent"], counts.told, counts.elections["leader_silent"]), (1, 1, 1));
    assert_eq!(Some(counts.phases["total"].sum_ms), phases.total_ms);
    assert_eq!(counts.promises, 1);
}

#[test]
fn it_is_written_until_it_is_seen_and_then_never_again() {
    let mut pg2 = follower();
    falls_silent(&mut pg2);
    all_promise(&mut pg2);
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    let (_, id) = promotes(&mut pg2);
    pg2.event(Event::Rerouted { id, proxies: 0 });
    pg3_streams(&mut pg2);
    let [phases] = &told(&pg2)[..] else { panic!("without proxies nobody is waited for") };
    assert!(phases.reroute_ms.is_none() && phases.proxies == Some(0) && phases.total_ms.is_some());
    pg2.pass(4900);
    assert_eq!(completions(&pg2).len(), 1);
    pg2.pass(200);
    assert_eq!(completions(&pg2).len(), 2, "the first may be lost");
    written(&mut pg2);
    pg2.pass(60_000);
    assert_eq!((completions(&pg2).len(), told(&pg2).len()), (2, 1));
}

#[test]
fn what_is_not_over_in_time_is_left_out_and_the_rest_is_told() {
    let mut pg2 = follower();
    falls_silent(&mut pg2);
    all_promise(&mut pg2);
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    promotes(&mut pg2);
    pg2.see_primary(100);
    pg2.pass(4900);
    assert!(told(&pg2).is_empty());
    pg2.pass(200);
    let [phases] = &told(&pg2)[..] else { panic!("told after five seconds") };
    assert!(phases.promote_ms.is_some(), "{phases:?}");
    assert_eq!((phases.reattach_ms, phases.reroute_ms, phases.total_ms), (None, None, None));
}

#[test]
fn a_leader_that_hands_over_tells_what_it_did_and_its_stop_counts() {
    let mut pg2 = follower();
    let steps = HandOverSteps { checkpoint_ms: Some(40), hold_ms: Some(160), stop_ms: Some(210) };
    let handover = |member: &Member, steps| {
        PeerMessage::HandOver(HandOver {
            epoch: Epoch(1),
            revision: member.view.sync_revision(),
            candidate: Some(name("pg2")),
            final_lsn: Some(Lsn(100)),
            steps,
        })
    };
    let asked = pg2.now;
    pg2.hear("pg1", handover(&pg2, steps));
    later(&mut pg2, 12);
    let again = HandOverSteps { stop_ms: Some(460), ..steps };
    pg2.hear("pg1", handover(&pg2, again));
    all_promise(&mut pg2);
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    let (_, routing) = promotes(&mut pg2);
    pg3_streams(&mut pg2);
    later(&mut pg2, 70);
    pg2.event(Event::Rerouted { id: routing, proxies: 1 });
    let [phases] = &told(&pg2)[..] else { panic!("told once: {:?}", told(&pg2)) };
    assert_eq!((phases.trigger.as_str(), phases.steps), ("leader_asked", steps));
    assert_eq!((phases.agent_silent_ms, phases.wal_silent_ms), (None, None), "it was not silent");
    let last = phases.reattach_ms.max(phases.reroute_ms);
    let parts = [phases.steps.stop_ms, phases.detect_ms, phases.decide_ms, phases.promote_ms, last];
    assert_eq!(phases.total_ms, parts.into_iter().sum(), "{phases:?}");
    assert_eq!(phases.total_ms, ms(pg2.now - asked).map(|seen| seen + 210));
}

#[test]
fn a_standby_that_streamed_before_the_promotion_has_to_come_back_after_it() {
    let mut pg2 = follower();
    falls_silent(&mut pg2);
    all_promise(&mut pg2);
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    pg3_is_attached(&mut pg2);
    let (promoted, routing) = promotes(&mut pg2);
    pg2.event(Event::Rerouted { id: routing, proxies: 1 });
    assert!(told(&pg2).is_empty(), "what was seen before the promotion says nothing");
    pg2.senders.clear();
    later(&mut pg2, 40);
    pg2.see_primary(100);
    assert!(told(&pg2).is_empty());
    later(&mut pg2, 60);
    pg3_streams(&mut pg2);
    let [phases] = &told(&pg2)[..] else { panic!("told once: {:?}", told(&pg2)) };
    assert_eq!(phases.reattach_ms, ms(pg2.now - promoted));
    assert!(phases.reattach_ms >= Some(100), "{phases:?}");
}

#[test]
fn an_outcome_that_was_not_known_at_first_is_told_all_the_same() {
    let mut pg2 = follower();
    falls_silent(&mut pg2);
    all_promise(&mut pg2);
    pg2.end_txn(TxnOutcome::Unknown);
    pg2.pass(300);
    let bumped = pg2.wanted_sync().expect("it moves the record on");
    assert_eq!((bumped.epoch, bumped.leader.id()), (Epoch(2), id("pg2")));
    pg2.set_sync(bumped);
    pg2.put_leader("pg2", 2);
    pg2.see_store();
    pg2.end_txn(TxnOutcome::Won { revision: pg2.view.sync_revision() });
    let (_, routing) = promotes(&mut pg2);
    pg2.event(Event::Rerouted { id: routing, proxies: 1 });
    pg3_streams(&mut pg2);
    let [phases] = &told(&pg2)[..] else { panic!("told once: {:?}", told(&pg2)) };
    assert!(phases.trigger == "leader_silent" && phases.decide_ms >= Some(300), "{phases:?}");
}

#[test]
fn an_agent_that_only_takes_its_leadership_up_again_has_no_story() {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    pg1.put_leader("pg1", 1);
    pg1.see_store();
    pg1.see_primary(100);
    let taken_up = pg1.wanted_sync().expect("it takes its leadership up again");
    pg1.set_sync(taken_up);
    pg1.put_leader("pg1", 1);
    pg1.see_store();
    pg1.end_txn(TxnOutcome::Won { revision: pg1.view.sync_revision() });
    pg1.see_primary(100);
    pg1.pass(10_000);
    assert!(completions(&pg1).is_empty() && pg1.decider.status().counts.won.is_empty());
}
