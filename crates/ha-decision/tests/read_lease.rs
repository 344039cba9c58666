//! Read leases: a member that answers a beat refuses promises for a while, and the leader counts on nothing else.

mod member;

use std::time::Duration;

use ha_core::node_state::{NodeState, Seen};
use ha_core::peer_message::{Beat, Echo, HandOver, PeerMessage, PromiseRefusal, PromiseRequest, Trigger};
use ha_core::record::{FailoverTimes, PolicyKind};
use ha_core::{Epoch, Generation, Lsn, MonoTime, ReplicationMode, Timeline};
use ha_decision::{Action, Event, Job, JobOutput, Request, RequestId};
use member::{Member, id, name};

const DETECTION: Duration = Duration::from_secs(1);

/// The answer of a member that binds itself for the detection time.
fn answer(pg1: &Member, from: &str, sent_at: MonoTime) -> PeerMessage {
    PeerMessage::Echo(Echo {
        epoch: pg1.sync().epoch,
        generation: pg1.sync().generation,
        sent_at,
        member: id(from),
        revoked: false,
        refuses_ms: Some(1000),
    })
}

fn lease(pg1: &Member) -> Option<MonoTime> {
    pg1.decider.status().read_lease.map(|lease| lease.until)
}

fn share(sent_at: MonoTime) -> Option<MonoTime> {
    Some(sent_at + Duration::from_millis(950))
}

#[test]
fn a_lease_counts_from_the_sending_of_the_beat_that_was_answered() {
    let mut pg1 = Member::leading_with_read_leases();
    assert_eq!(lease(&pg1), None, "nobody has answered");
    let sent_at = pg1.now;
    pg1.wait(200);
    let message = answer(&pg1, "pg2", sent_at);
    pg1.hear("pg2", message);
    assert_eq!(lease(&pg1), share(sent_at));
    assert_eq!(pg1.decider.status().read_lease.map(|lease| lease.epoch), Some(Epoch(1)));
    let older = answer(&pg1, "pg2", sent_at.minus(DETECTION));
    pg1.hear("pg2", older);
    assert_eq!(lease(&pg1), share(sent_at), "an older answer takes nothing back");
}

#[test]
fn answers_that_bind_nobody_give_no_lease() {
    let mut pg1 = Member::leading_with_read_leases();
    let PeerMessage::Echo(good) = answer(&pg1, "pg2", pg1.now) else { unreachable!() };
    for echo in [
        Echo { refuses_ms: None, ..good.clone() },
        Echo { revoked: true, ..good.clone() },
        Echo { generation: Generation(good.generation.0 - 1), ..good.clone() },
        Echo { sent_at: pg1.now + DETECTION, ..good.clone() },
        Echo { member: id("pg9"), ..good },
    ] {
        pg1.hear("pg2", PeerMessage::Echo(echo.clone()));
        assert_eq!(lease(&pg1), None, "{echo:?}");
    }
}

#[test]
fn a_leader_whose_agent_has_just_started_has_no_lease_before_new_answers() {
    let mut pg1 = Member::leading_with_read_leases();
    let message = answer(&pg1, "pg2", pg1.now);
    pg1.hear("pg2", message);
    assert!(lease(&pg1).is_some());
    pg1.see_stopped_primary();
    assert_eq!(lease(&pg1), None, "nobody reads from a server that is down");
}

/// A standby without a stream, of a leader without a lease, whom only people may replace.
fn at_rest(durable: NodeState) -> Member {
    let mut pg2 = Member::with_node_state("pg2", &["pg2", "pg3"], durable);
    pg2.let_people_decide();
    pg2.see_store();
    pg2.see_standby(100);
    while let Some(output) = pg2.running_job() {
        pg2.end_job(output);
        pg2.see_standby(100);
    }
    pg2
}

/// pg2 follows pg1 and has just answered a beat of it; then everything that pg1 was heard by is gone.
fn bound() -> Member {
    let mut pg2 = at_rest(NodeState::default());
    pg2.pass(3000);
    pg2.actions.clear();
    let beat =
        Beat { epoch: Epoch(1), generation: Generation(4), sent_at: MonoTime(5), asks_to_refuse: true };
    pg2.hear("pg1", PeerMessage::Beat(beat));
    pg2.event(Event::PeerLost { from: name("pg1") });
    pg2
}

fn ask(pg2: &mut Member, trigger: Trigger, accepts_loss: bool) -> Option<PromiseRefusal> {
    let revision = pg2.view.sync_revision();
    let candidate = id("pg3");
    let request = PromiseRequest { epoch: Epoch(1), revision, candidate, trigger, accepts_loss };
    pg2.actions.clear();
    pg2.hear("pg3", PeerMessage::PromiseRequest(request));
    pg2.actions.iter().find_map(|action| match action {
        Action::Send { message: PeerMessage::PromiseRefused(refused), .. } => Some(refused.refusal),
        _ => None,
    })
}

fn revokes(pg2: &Member) -> bool {
    pg2.jobs().iter().any(|(_, job)| matches!(job, Job::Revoke { .. }))
}

#[test]
fn who_answered_says_for_how_long_it_refuses_and_remembers_it_first() {
    let pg2 = bound();
    let remembered = pg2
        .actions
        .iter()
        .position(|action| matches!(action, Action::Persist(node) if node.refused_for_ms == 1000));
    let said = pg2.actions.iter().position(|action| {
        matches!(action, Action::Send { message: PeerMessage::Echo(echo), .. } if echo.refuses_ms == Some(1000))
    });
    assert!(remembered.is_some() && remembered < said, "{:?}", pg2.actions);
}

#[test]
fn who_answered_promises_nothing_for_the_detection_time_though_it_hears_nobody() {
    for trigger in [Trigger::LeaseExpired, Trigger::LeaderSilent, Trigger::Operator] {
        let mut pg2 = bound();
        assert_eq!(ask(&mut pg2, trigger, false), Some(PromiseRefusal::HearsLeader), "{trigger:?}");
        pg2.pass(990);
        assert_eq!(ask(&mut pg2, trigger, false), Some(PromiseRefusal::HearsLeader), "{trigger:?}");
        assert!(!revokes(&pg2));
        pg2.pass(20);
        assert_eq!(ask(&mut pg2, trigger, false), None, "{trigger:?}");
        assert!(revokes(&pg2));
    }
}

#[test]
fn a_human_who_accepts_loss_and_the_leader_itself_are_not_waited_for() {
    let mut pg2 = bound();
    assert_eq!(ask(&mut pg2, Trigger::Operator, true), None);
    assert!(revokes(&pg2));
    let mut pg2 = bound();
    let revision = pg2.view.sync_revision();
    pg2.hear(
        "pg1",
        PeerMessage::HandOver(HandOver {
            epoch: Epoch(1),
            revision,
            candidate: Some(name("pg3")),
            final_lsn: None,
            steps: Default::default(),
        }),
    );
    assert_eq!(ask(&mut pg2, Trigger::LeaderAsked, false), None);
    assert!(revokes(&pg2));
}

/// pg2 promised pg3, whom a human let accept loss, and never heard of it again; now people want pg2 itself, without loss.
#[test]
fn a_promise_for_a_human_who_accepts_loss_frees_nobody_for_a_takeover_of_its_own() {
    let mut pg2 = bound();
    assert_eq!(ask(&mut pg2, Trigger::Operator, true), None);
    pg2.end_job(JobOutput::Revoked { timeline: Timeline(1), flush: Lsn(100) });
    pg2.see_standby(100);
    pg2.event(Event::Request { id: RequestId(1), request: Request::Failover { accept_data_loss: false } });
    let theirs = pg2.promised_by("pg3", 100);
    pg2.hear("pg3", theirs);
    pg2.pass(900);
    assert_eq!(pg2.wanted_sync(), None, "proxies may still pass on what pg1 shows");
    pg2.pass(500);
    assert_eq!(pg2.wanted_sync().map(|record| record.leader.id()), Some(id("pg2")));
}

#[test]
fn shorter_times_do_not_shorten_what_was_said() {
    let mut pg2 = bound();
    pg2.set_times(FailoverTimes { detection_ms: 300, promise_timeout_ms: 100, abort_after_ms: 300 });
    pg2.see_store();
    pg2.pass(900);
    assert_eq!(ask(&mut pg2, Trigger::Operator, false), Some(PromiseRefusal::HearsLeader));
    pg2.pass(150);
    assert_eq!(ask(&mut pg2, Trigger::Operator, false), None);
}

#[test]
fn a_restarted_member_refuses_for_as_long_as_it_may_have_said() {
    let durable = NodeState { refused_for_ms: 1500, ..NodeState::default() };
    let mut pg2 = at_rest(durable);
    pg2.pass(1450);
    assert_eq!(ask(&mut pg2, Trigger::Operator, false), Some(PromiseRefusal::JustStarted));
    pg2.pass(100);
    assert_eq!(ask(&mut pg2, Trigger::Operator, false), None);
}

#[test]
fn a_list_that_does_not_justify_what_was_told_waits() {
    let mut pg1 = Member::leading_with_read_leases();
    pg1.pass(2000);
    pg1.come_to_serve(100);
    let sent_at = pg1.now;
    let message = answer(&pg1, "pg2", sent_at);
    pg1.hear("pg2", message);
    assert_eq!(lease(&pg1), share(sent_at));
    pg1.actions.clear();
    pg1.set_mode(ReplicationMode::Asynchronous);
    pg1.see_store();
    assert!(pg1.wanted_sync().is_none(), "the proxies believe in the lease");
    assert_eq!(lease(&pg1), None, "nothing more is told that the next list does not justify");
    pg1.pass(900);
    assert!(pg1.wanted_sync().is_none());
    pg1.hear_both();
    pg1.pass(60);
    let next = pg1.wanted_sync().expect("the lease has run out");
    assert_eq!(next.policy.kind, PolicyKind::Asynchronous);
}

/// It promised, another leads, and its agent was restarted: what it kept for the old leader is over.
#[test]
fn who_has_seen_the_next_epoch_answers_nothing_for_the_one_before_though_the_store_is_silent() {
    let seen = Seen { epoch: Epoch(2), ..Seen::default() };
    let mut pg2 = Member::with_node_state("pg2", &["pg2", "pg3"], NodeState { seen, ..NodeState::default() });
    let beat = |epoch| {
        let generation = Generation(4);
        PeerMessage::Beat(Beat { epoch, generation, sent_at: MonoTime(5), asks_to_refuse: true })
    };
    for (epoch, refuses_ms) in [(Epoch(1), None), (Epoch(2), Some(1000))] {
        pg2.actions.clear();
        pg2.hear("pg1", beat(epoch));
        let echo = pg2.actions.iter().find_map(|action| match action {
            Action::Send { message: PeerMessage::Echo(echo), .. } => Some(echo.clone()),
            _ => None,
        });
        let echo = echo.expect("an answer");
        assert_eq!((echo.refuses_ms, echo.revoked), (refuses_ms, refuses_ms.is_none()), "{epoch}");
    }
}
