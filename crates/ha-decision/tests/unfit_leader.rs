//! A leader that looks well and should not lead: its storage does not answer, or its guard refuses it.

mod member;

use std::time::Duration;

use ha_core::Epoch;
use ha_core::peer_message::{HandOver, PeerMessage};
use ha_decision::{Action, Event, GuardNews, Job, StorageNews};
use member::Member;

fn asked_to_be_replaced(member: &Member) -> Option<HandOver> {
    member.actions.iter().find_map(|action| match action {
        Action::Send { message: PeerMessage::HandOver(asked), .. } => Some(asked.clone()),
        _ => None,
    })
}

fn is_candidate(member: &Member) -> bool {
    let told = member.actions.iter().rev().find_map(|action| match action {
        Action::Send { message: PeerMessage::State(state), .. } => Some(state.candidate),
        _ => None,
    });
    told.expect("it says how it is")
}

fn hang(member: &mut Member) {
    member
        .event(Event::Storage(StorageNews::Hangs { what: "a write in /data has not ended for 10 s".into() }));
}

#[test]
fn a_leader_whose_storage_hangs_hands_over_while_its_server_runs() {
    let mut pg1 = Member::leading();
    pg1.hear_both();
    hang(&mut pg1);
    let asked = asked_to_be_replaced(&pg1).expect("the others are asked");
    assert!(asked.candidate.is_none() && asked.final_lsn.is_none());
    let status = pg1.decider.status();
    assert!(!status.serves_writes && status.switching_over, "{status:?}");
    assert!(status.doing.contains("storage does not answer"), "{}", status.doing);
    assert!(status.alarms.iter().any(|alarm| alarm.contains("/data")), "{:?}", status.alarms);
    assert!(
        !pg1.jobs().iter().any(|(_, job)| matches!(job, Job::Stop { .. })),
        "what hangs cannot be stopped"
    );
    assert!(!is_candidate(&pg1));
}

#[test]
fn one_that_nobody_can_replace_leads_on_and_says_so() {
    let mut pg1 = Member::leading();
    pg1.now = pg1.now + Duration::from_secs(3);
    pg1.renew_lease();
    pg1.see_primary(100);
    hang(&mut pg1);
    assert!(asked_to_be_replaced(&pg1).is_none(), "nobody is heard");
    let status = pg1.decider.status();
    assert!(
        status.alarms.iter().any(|alarm| alarm.contains("storage does not answer")),
        "{:?}",
        status.alarms
    );
}

#[test]
fn one_that_asked_in_vain_does_not_ask_again_at_once() {
    let mut pg1 = Member::leading();
    pg1.hear_both();
    hang(&mut pg1);
    for _ in 0..60 {
        pg1.hear_both();
        pg1.renew_lease();
        pg1.see_primary(100);
        pg1.pass(100);
    }
    assert!(!pg1.decider.status().switching_over, "called off: {:?}", pg1.decider.status().doing);
    pg1.take_up_again();
    assert!(pg1.decider.status().serves_writes, "{:?}", pg1.decider.status());
    pg1.actions.clear();
    for _ in 0..100 {
        pg1.hear_both();
        pg1.renew_lease();
        pg1.see_primary(100);
        pg1.pass(100);
    }
    assert!(asked_to_be_replaced(&pg1).is_none(), "not within half a minute");
}

#[test]
fn storage_that_answers_again_is_trusted_after_a_while() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.put_leader("pg1", 1);
    pg2.see_store();
    pg2.see_streaming(100);
    hang(&mut pg2);
    assert!(!is_candidate(&pg2));
    pg2.event(Event::Storage(StorageNews::Answers));
    pg2.pass(20_000);
    assert!(!is_candidate(&pg2), "too early");
    hang(&mut pg2);
    pg2.event(Event::Storage(StorageNews::Answers));
    pg2.pass(20_000);
    assert!(!is_candidate(&pg2), "counted from the relapse on");
    pg2.pass(11_000);
    assert!(is_candidate(&pg2));
    assert!(pg2.decider.status().alarms.iter().all(|alarm| !alarm.contains("storage")));
}

#[test]
fn a_leader_that_its_guard_refuses_for_long_hands_over() {
    let mut pg1 = Member::leading();
    let refused = || GuardNews::Refused { epoch: Epoch(1), reason: "no watchdog".into() };
    pg1.event(Event::Guard(refused()));
    for _ in 0..28 {
        pg1.hear_both();
        pg1.renew_lease();
        pg1.see_primary(100);
        pg1.pass(100);
    }
    assert!(asked_to_be_replaced(&pg1).is_none(), "a refusal may answer an outdated request");
    pg1.hear_both();
    pg1.event(Event::Guard(refused()));
    pg1.hear_both();
    pg1.pass(500);
    pg1.hear_both();
    assert!(asked_to_be_replaced(&pg1).is_some(), "{:?}", pg1.decider.status());
    assert!(pg1.decider.status().doing.contains("no watchdog"), "{}", pg1.decider.status().doing);
    assert!(!is_candidate(&pg1));
}
