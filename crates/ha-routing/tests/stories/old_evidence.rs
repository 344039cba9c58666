//! Evidence that is old, late, contradictory or second-hand opens nothing it should not.

use crate::samples::{leader, name, setup, standby};
use crate::world::World;
use ha_routing::{Check, Claim, Event};

/// Three members, pg1 leads epoch 6, all agents push.
fn healthy() -> World {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    world.pushes(leader("pg1", 6));
    world.pushes(standby("pg2", 6, "pg1"));
    world.pushes(standby("pg3", 6, "pg1"));
    world.passes(2_000);
    world.story();
    world
}

#[test]
fn nobody_takes_over_from_a_silent_leader_whom_others_still_name() {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    world.pushes(leader("pg1", 6));
    world.pushes(standby("pg2", 6, "pg1"));
    // The agent of pg3 was never heard here; its REST interface says that it leads.
    world.answers("pg3", Check::Primary);
    world.stream_ends("pg1");
    world.passes(5_000);
    assert_eq!(world.writes(), "open pg1 @6");
    // The others learn of a new epoch: now it is true.
    world.pushes(standby("pg2", 7, "pg3"));
    assert_eq!(world.writes(), "open pg3 @7");
    assert!(world.story().iter().any(|line| line.starts_with("cut Writes of pg1")));
}

#[test]
fn the_word_of_others_for_a_leader_that_is_gone_does_not_last() {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    world.pushes(leader("pg1", 6));
    // This agent cannot reach the store and goes on naming pg1.
    world.pushes(standby("pg2", 6, "pg1"));
    world.answers("pg3", Check::Primary);
    world.stream_ends("pg1");
    world.passes(10_500);
    assert_eq!(world.writes(), "open pg3");
}

#[test]
fn a_late_answer_to_a_check_does_not_count_against_a_claim() {
    let mut world = healthy();
    for check in [Check::Standby, Check::Neither, Check::NoAnswer { why: "timed out".to_owned() }] {
        world.happens(Event::Checked { member: name("pg1"), check });
        assert_eq!(world.writes(), "open pg1 @6");
    }
    assert!(world.story().is_empty());
}

#[test]
fn a_late_answer_does_not_make_an_old_claim_new() {
    let mut world = healthy();
    world.pushes(leader("pg2", 7));
    world.pushes(leader("pg1", 6));
    world.happens(Event::Checked { member: name("pg1"), check: Check::Neither });
    for member in ["pg1", "pg2", "pg3"] {
        world.stream_ends(member);
    }
    world.answers("pg1", Check::Primary);
    world.passes(30_000);
    assert!(!world.story().iter().any(|line| line.contains("open pg1")));
}

#[test]
fn a_member_that_denied_may_lead_again_by_checks() {
    let mut world = healthy();
    world.pushes(leader("pg2", 7));
    for member in ["pg1", "pg2", "pg3"] {
        world.stream_ends(member);
    }
    world.answers("pg1", Check::Standby);
    world.answers("pg2", Check::Primary);
    world.passes(2_000);
    assert_eq!(world.writes(), "open pg2 @7");
    world.answers("pg2", Check::Neither);
    world.answers("pg1", Check::Primary);
    world.passes(1_500);
    assert_eq!(world.writes(), "open pg1");
}

#[test]
fn after_a_suspension_old_claims_are_no_evidence() {
    let mut world = healthy();
    world.is_suspended(60_000);
    // The first thing that the woken host sees comes before its own timers.
    world.happens(Event::Claimed(standby("pg2", 6, "pg1")));
    let silent = "holding: pg1 was the last known leader, but gave no sign of life for 10 s";
    assert_eq!(world.writes(), silent);
    world.pushes(leader("pg1", 6));
    assert_eq!(world.writes(), "open pg1 @6");
}

#[test]
fn checks_that_never_end_are_no_evidence() {
    let mut world = World::new(setup(&["pg1", "pg2"]));
    world.answers("pg1", Check::Primary);
    world.answers("pg2", Check::Standby);
    world.passes(1_000);
    assert_eq!((world.writes(), world.reads()), ("open pg1".to_owned(), "open pg2".to_owned()));
    world.checks_hang();
    world.passes(10_500);
    let silent = "holding: pg1 was the last known leader, but gave no sign of life for 10 s";
    assert_eq!(world.writes(), silent);
    assert_eq!(world.reads(), "holding: no standby takes reads now");
}

#[test]
fn a_check_is_newer_than_the_claim_before_it() {
    let mut world = healthy();
    world.pushes(Claim { takes_writes: false, reason: "starting".to_owned(), ..leader("pg1", 6) });
    world.stream_ends("pg1");
    assert_eq!(world.writes(), "holding: pg1 leads epoch 6, but takes no writes: starting");
    world.answers("pg1", Check::Primary);
    world.passes(500);
    assert_eq!(world.writes(), "open pg1 @6");
    world.answers_no_more("pg1");
    world.passes(5_000);
    assert_eq!(world.writes(), "open pg1 @6");
}

#[test]
fn a_leader_that_begins_a_new_epoch_keeps_its_sessions() {
    let mut world = healthy();
    world.pushes(standby("pg2", 7, "pg1"));
    let story = world.story();
    assert!(!story.iter().any(|line| line.starts_with("cut")), "it is the same member: {story:?}");
    world.pushes(leader("pg1", 7));
    assert_eq!(world.writes(), "open pg1 @7");
}

#[test]
fn after_a_standstill_nobody_is_known_and_an_epoch_that_is_over_stays_over() {
    let mut world = healthy();
    world.happens(Event::StoodStill);
    assert!(world.writes().starts_with("holding"), "{}", world.writes());
    assert!(
        !world.story().iter().any(|line| line.starts_with("cut")),
        "a standstill is nobody's loss of role"
    );
    world.pushes(leader("pg1", 6));
    assert_eq!(world.writes(), "open pg1 @6");
    world.pushes(leader("pg2", 7));
    world.happens(Event::StoodStill);
    // What the old leader said before it died waits in its socket.
    world.pushes(leader("pg1", 6));
    assert!(world.writes().starts_with("holding"), "{}", world.writes());
    world.pushes(leader("pg2", 7));
    assert_eq!(world.writes(), "open pg2 @7");
}
