//! `hactl reinit`: whose data is never thrown away, and in which order it happens where it may.

mod member;

use ha_core::node_state::JobKind;
use ha_core::peer_message::PeerPhase;
use ha_decision::{Action, Event, Job, JobOutput, Refusal, Request, RequestId};
use member::{Member, id};

fn refusal(member: &Member) -> Option<Refusal> {
    member.actions.iter().find_map(|action| match action {
        Action::Reply { answer: Err(refusal), .. } => Some(refusal.clone()),
        _ => None,
    })
}

fn ask(member: &mut Member) {
    member.event(Event::Request { id: RequestId(1), request: Request::Reinitialize });
}

fn throws_data_away(member: &Member) -> bool {
    let marked = |a: &Action| matches!(a, Action::Persist(state) if state.job.as_ref().is_some_and(|job| job.kind == JobKind::Clone));
    member.actions.iter().any(marked) || member.jobs().iter().any(|(_, job)| matches!(job, Job::Clone { .. }))
}

#[test]
fn the_leader_is_refused() {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg2", "pg3"]);
    pg1.see_store();
    pg1.see_primary(100);
    ask(&mut pg1);
    assert!(matches!(refusal(&pg1), Some(Refusal::Protected { .. })), "{:?}", refusal(&pg1));
    assert!(!throws_data_away(&pg1));
}

#[test]
fn without_the_store_nobody_knows_whether_it_is_counted_on() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg3"]);
    pg2.see_store();
    pg2.see_standby(100);
    pg2.event(Event::StoreLost);
    ask(&mut pg2);
    assert!(matches!(refusal(&pg2), Some(Refusal::StoreUnreachable)), "{:?}", refusal(&pg2));
    assert!(!throws_data_away(&pg2));
}

#[test]
fn a_listed_member_keeps_its_data_until_the_leader_has_taken_it_out() {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &["pg2", "pg3"]);
    pg2.put_leader("pg1", 1);
    pg2.see_store();
    pg2.see_streaming(100);
    // The settings with which it follows the leader.
    pg2.end_job(JobOutput::Done);
    pg2.see_streaming(100);
    pg2.hear_state("pg1", PeerPhase::Primary);
    ask(&mut pg2);
    for _ in 0..40 {
        pg2.hear_state("pg1", PeerPhase::Primary);
        pg2.see_streaming(100);
        pg2.wait(500);
        assert!(!throws_data_away(&pg2), "its confirmations still count");
    }
    assert!(matches!(refusal(&pg2), Some(Refusal::CalledOff { .. })), "{:?}", refusal(&pg2));
    assert!(pg2.sync().policy.lists(&id("pg2")));
}
