//! A planned change of leader: the proxies hold new sessions before PostgreSQL stops, and are let go when it is called
//! off.

mod member;

use ha_core::Lsn;
use ha_core::cluster_view::StoreKey;
use ha_core::peer_message::{Echo, PeerMessage};
use ha_core::record::Versioned;
use ha_decision::{
    Access, Action, Event, Job, JobFailure, JobOutput, OpId, Refusal, Request, RequestId, StopMode,
    SwitchoverMethod, TxnOutcome,
};
use member::{Member, id, name};

const ASKED: RequestId = RequestId(7);

fn switchover(to: &str, method: SwitchoverMethod) -> Request {
    Request::Switchover { candidate: Some(name(to)), method }
}

/// Up to the moment at which the announcement is in the store.
fn announced() -> Member {
    announced_by(SwitchoverMethod::CleanStop)
}

fn announced_by(method: SwitchoverMethod) -> Member {
    announced_of(Member::leading(), method)
}

fn announced_of(mut pg1: Member, method: SwitchoverMethod) -> Member {
    pg1.event(Event::Request { id: ASKED, request: switchover("pg2", method) });
    pg1.end_job(JobOutput::Done);
    pg1.wait(1);
    pg1.hear_both();
    let (_, txn) = pg1.txns().pop().expect("it announces the switchover");
    let (_, value, _) = txn.puts.iter().find(|(key, ..)| *key == StoreKey::Switchover).expect("the record");
    let record = serde_json::from_slice(value).expect("readable");
    assert!(!pg1.decider.status().holding);
    pg1.view.revision = pg1.view.revision.next();
    pg1.view.switchover = Some(Versioned { record, revision: pg1.view.revision });
    pg1.see_store();
    pg1.end_txn(TxnOutcome::Won { revision: pg1.view.revision });
    pg1
}

/// The hold that the driver was asked for.
fn hold(pg1: &Member) -> OpId {
    let mut holds = pg1.actions.iter().filter_map(|action| match action {
        Action::HoldSessions { id } => Some(*id),
        _ => None,
    });
    let id = holds.next_back().expect("the proxies are asked to hold");
    assert_eq!(holds.next(), None, "asked once");
    id
}

fn stops(pg1: &Member) -> bool {
    pg1.jobs().iter().any(|(_, job)| matches!(job, Job::Stop { mode: StopMode::Fast }))
}

#[test]
fn nothing_is_stopped_while_the_proxies_are_waited_for() {
    let mut pg1 = announced();
    hold(&pg1);
    let status = pg1.decider.status();
    assert!(status.holding && status.serves_writes, "sessions that run go on: {status:?}");
    assert_eq!(status.successor, Some(name("pg2")));
    pg1.wait(249);
    assert!(!stops(&pg1));
    assert!(pg1.decider.poll_timeout().is_some_and(|at| at.since(pg1.now).as_millis() <= 1));
}

#[test]
fn the_stop_follows_when_every_proxy_holds_and_the_last_logins_are_over() {
    let mut pg1 = announced();
    let id = hold(&pg1);
    pg1.event(Event::SessionsHeld { id: OpId(id.0 + 1), proxies: 2 });
    pg1.wait(100);
    pg1.event(Event::SessionsHeld { id, proxies: 2 });
    pg1.wait(149);
    assert!(!stops(&pg1), "sessions that were let through just before still log in");
    assert!(pg1.decider.poll_timeout().is_some_and(|at| at.since(pg1.now).as_millis() <= 1));
    pg1.wait(1);
    assert!(stops(&pg1));
    let status = pg1.decider.status();
    assert!(status.holding && !status.serves_writes, "{status:?}");
}

#[test]
fn nobody_logs_in_through_proxies_that_are_not_there() {
    let mut pg1 = announced();
    let id = hold(&pg1);
    pg1.event(Event::SessionsHeld { id: OpId(id.0 + 1), proxies: 0 });
    assert!(!stops(&pg1), "that was another hold");
    pg1.event(Event::SessionsHeld { id, proxies: 0 });
    assert!(stops(&pg1));
}

#[test]
fn the_successor_is_told_how_long_each_step_took() {
    let mut pg1 = announced();
    let asked = pg1.now;
    pg1.wait(250);
    pg1.wait(30);
    pg1.end_job(JobOutput::Stopped { final_lsn: Some(Lsn(100)) });
    pg1.see_stopped_primary();
    let steps = pg1.actions.iter().find_map(|action| match action {
        Action::Send { message: PeerMessage::HandOver(handover), .. } => Some(handover.steps),
        _ => None,
    });
    let steps = steps.expect("it asks to be replaced");
    let stop = u64::try_from((pg1.now - asked).as_millis()).unwrap() - 250;
    // The checkpoint took a millisecond, and another one passed before the candidate gave a sign of life.
    assert_eq!((steps.checkpoint_ms, steps.hold_ms), (Some(1), Some(251)));
    assert!(steps.stop_ms.is_some_and(|ms| (30..=stop).contains(&ms)), "{steps:?}");
}

#[test]
fn a_proxy_that_does_not_answer_delays_the_stop_by_a_quarter_of_a_second() {
    let mut pg1 = announced();
    let id = hold(&pg1);
    pg1.wait(250);
    assert!(stops(&pg1));
    let jobs = pg1.jobs().len();
    pg1.event(Event::SessionsHeld { id, proxies: 1 });
    assert_eq!(pg1.jobs().len(), jobs, "too late to matter");
}

#[test]
fn the_hold_ends_when_somebody_else_leads() {
    let mut pg1 = announced();
    pg1.wait(250);
    pg1.end_job(JobOutput::Stopped { final_lsn: Some(Lsn(100)) });
    pg1.see_stopped_primary();
    assert!(pg1.decider.status().holding, "nobody leads yet");
    let mut record = pg1.sync();
    record.epoch = record.epoch.next();
    record.leader = id("pg2").into();
    pg1.set_sync(record);
    pg1.see_store();
    let status = pg1.decider.status();
    assert!(!status.holding && status.successor.is_none());
}

#[test]
fn a_switchover_that_is_called_off_releases_at_once() {
    let mut pg1 = announced();
    pg1.wait(250);
    pg1.end_job(JobOutput::Stopped { final_lsn: Some(Lsn(100)) });
    pg1.see_stopped_primary();
    pg1.wait(20_000);
    let refused = pg1
        .actions
        .iter()
        .any(|a| matches!(a, Action::Reply { id: ASKED, answer: Err(Refusal::CalledOff { .. }) }));
    assert!(refused);
    let status = pg1.decider.status();
    assert!(!status.holding && !status.switching_over && status.successor.is_none());
}

#[test]
fn a_candidate_that_dies_before_the_hold_is_not_waited_for() {
    let mut pg1 = Member::leading();
    pg1.event(Event::Request { id: ASKED, request: switchover("pg2", SwitchoverMethod::CleanStop) });
    pg1.end_job(JobOutput::Done);
    pg1.event(Event::PeerLost { from: name("pg2") });
    pg1.wait(2500);
    assert!(!pg1.actions.iter().any(|action| matches!(action, Action::HoldSessions { .. })));
    assert!(!pg1.decider.status().switching_over && pg1.decider.status().serves_writes);
}

#[test]
fn a_candidate_that_dies_during_the_hold_costs_no_stop() {
    let mut pg1 = announced();
    let id = hold(&pg1);
    pg1.event(Event::PeerLost { from: name("pg2") });
    pg1.event(Event::SessionsHeld { id, proxies: 0 });
    assert!(!stops(&pg1));
    let refused = pg1
        .actions
        .iter()
        .any(|a| matches!(a, Action::Reply { id: ASKED, answer: Err(Refusal::AgentSilent { .. }) }));
    let status = pg1.decider.status();
    assert!(refused && !status.holding && status.serves_writes, "{status:?}");
}

#[test]
fn what_an_earlier_attempt_announced_does_not_replace_an_announcement() {
    let mut pg1 = announced();
    let id = hold(&pg1);
    pg1.event(Event::PeerLost { from: name("pg2") });
    pg1.event(Event::SessionsHeld { id, proxies: 0 });
    pg1.actions.clear();
    pg1.event(Event::Request { id: ASKED, request: switchover("pg3", SwitchoverMethod::CleanStop) });
    pg1.end_job(JobOutput::Done);
    pg1.wait(1);
    pg1.hear_both();
    assert!(!pg1.actions.iter().any(|action| matches!(action, Action::HoldSessions { .. })));
    let (_, txn) = pg1.txns().pop().expect("it announces anew");
    assert_eq!(txn.purpose, "announce the switchover");
}

#[test]
fn a_restarted_agent_is_undecided_until_it_serves_again() {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    pg1.put_leader("pg1", 1);
    assert!(pg1.decider.status().undecided, "it has not looked yet");
    pg1.see_primary(100);
    pg1.see_store();
    assert!(pg1.decider.status().undecided, "the leadership is not taken up yet");
    pg1.wait(10_000);
    assert!(!pg1.decider.status().undecided, "no longer than a lease");

    let led = Member::leading().decider.status();
    assert!(!led.undecided && led.serves_writes);

    let mut standby = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    standby.see_standby(100);
    assert!(!standby.decider.status().undecided, "a standby is one");

    let mut deposed = Member::of_leaderless_cluster("pg2", &["pg3"]);
    deposed.see_store();
    deposed.see_primary(100);
    assert!(!deposed.decider.status().undecided, "pg1 leads, so this primary is wrong");
}

#[test]
fn a_primary_that_is_being_stopped_takes_no_writes_although_it_still_answers() {
    let mut pg1 = Member::leading();
    let deadline = pg1.decider.status().deadline.expect("it leads by a deadline");
    let mut stopped = None;
    // Nothing is renewed any more.
    while pg1.now < deadline && stopped.is_none() {
        pg1.pass(100);
        pg1.see_primary(100);
        stopped = pg1.jobs().into_iter().find(|(_, job)| matches!(job, Job::Stop { .. }));
    }
    assert!(stopped.is_some() && pg1.now < deadline, "it is stopped before its deadline");
    assert!(!pg1.decider.status().serves_writes);
}

/// The job that shuts clients out is under way.
fn shutting_out() -> Member {
    shutting_out_of(Member::leading())
}

fn shutting_out_of(pg1: Member) -> Member {
    let mut pg1 = announced_of(pg1, SwitchoverMethod::ShutOut);
    pg1.wait(250);
    let (_, job) = pg1.jobs().pop().expect("clients are shut out");
    let Job::ShutOut { settings, successor } = job else { panic!("{job:?}") };
    assert_eq!((settings.access, &successor.member), (Access::Closed, &id("pg2")));
    assert!(!stops(&pg1));
    pg1
}

#[test]
fn a_leader_that_has_shut_clients_out_asks_to_be_replaced_while_it_runs() {
    let mut pg1 = shutting_out();
    pg1.end_job(JobOutput::Flushed { lsn: Lsn(140) });
    pg1.see_primary(140);
    assert!(!stops(&pg1));
    let end = pg1.actions.iter().find_map(|action| match action {
        Action::Send { message: PeerMessage::HandOver(handover), .. } => handover.final_lsn,
        _ => None,
    });
    assert_eq!(end, Some(Lsn(140)), "the successor must have all that clients wrote");
    assert!(!pg1.decider.status().serves_writes);
}

#[test]
fn a_leader_that_runs_on_asks_to_be_replaced_only_when_its_read_lease_is_over() {
    let mut pg1 = shutting_out_of(Member::leading_with_read_leases());
    pg1.hear(
        "pg2",
        PeerMessage::Echo(Echo {
            epoch: pg1.sync().epoch,
            generation: pg1.sync().generation,
            sent_at: pg1.now,
            member: id("pg2"),
            revoked: false,
            refuses_ms: Some(5000),
        }),
    );
    let until = pg1.decider.status().read_lease.expect("the proxies are told so").until;
    pg1.end_job(JobOutput::Flushed { lsn: Lsn(140) });
    pg1.see_primary(140);
    assert_eq!(pg1.decider.status().read_lease, None);
    let asks = |pg1: &Member| {
        let is_asked =
            |action: &Action| matches!(action, Action::Send { message: PeerMessage::HandOver(_), .. });
        pg1.actions.iter().any(is_asked)
    };
    while pg1.now < until {
        assert!(!asks(&pg1), "a client that was just logging in may still read");
        pg1.pass(50);
    }
    pg1.pass(50);
    assert!(asks(&pg1));
}

#[test]
fn clients_that_cannot_be_shut_out_are_stopped() {
    let mut pg1 = shutting_out();
    let (job, _) = pg1.jobs().pop().expect("the job");
    let failure = JobFailure { message: "a session stays".to_owned(), needs_clone: false, storage: false };
    pg1.event(Event::JobDone { id: job, result: Err(failure) });
    assert!(stops(&pg1));
}

#[test]
fn a_switchover_without_a_stop_that_nobody_takes_up_is_called_off_by_a_transaction() {
    let mut pg1 = shutting_out();
    pg1.end_job(JobOutput::Flushed { lsn: Lsn(140) });
    pg1.see_primary(140);
    let before = pg1.txns().len();
    for _ in 0..70 {
        pg1.hear_both();
        pg1.see_primary(140);
        pg1.renew_lease();
        pg1.wait(1000);
    }
    let txns = pg1.txns();
    let (_, txn) = txns.get(before).expect("it takes leadership up again before it lets anybody in");
    assert!(txn.puts.iter().any(|(key, ..)| *key == StoreKey::Sync), "{txn:?}");
    assert!(
        !pg1.jobs()
            .iter()
            .any(|(_, job)| matches!(job, Job::Configure { settings } if settings.access == Access::Open)),
        "nobody is let in before that transaction is won"
    );
}

#[test]
fn a_stop_is_needed_where_commits_would_wait_for_the_old_leader() {
    let mut pg1 = Member::leading();
    let mut record = pg1.sync();
    record.policy.members.retain(|member| *member == id("pg2"));
    pg1.set_sync(record);
    pg1.see_store();
    pg1.event(Event::Request { id: ASKED, request: switchover("pg2", SwitchoverMethod::ShutOut) });
    let answer = pg1.actions.iter().find_map(|action| match action {
        Action::Reply { id: ASKED, answer } => Some(answer.clone()),
        _ => None,
    });
    assert_eq!(answer, Some(Err(Refusal::NeedsCleanStop)));
}
