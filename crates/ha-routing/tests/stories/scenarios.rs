//! What happens to sessions when something happens to members, one story each.

use crate::samples::{leader, name, none, setup, standby};
use crate::world::World;
use ha_core::Lsn;
use ha_routing::{AdminState, Check, Claim, Event};

/// Three members, pg1 leads epoch 6, all agents push.
fn healthy() -> World {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    world.pushes(leader("pg1", 6));
    world.pushes(standby("pg2", 6, "pg1"));
    world.pushes(standby("pg3", 6, "pg1"));
    assert_eq!(world.writes(), "open pg1 @6");
    assert_eq!(world.reads(), "open pg2 pg3 @6");
    world.passes(2_000);
    world.story();
    world
}

/// Three members of a plain Patroni cluster: only REST answers, pg1 is primary.
fn patroni() -> World {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    world.answers("pg1", Check::Primary);
    world.answers("pg2", Check::Standby);
    world.answers("pg3", Check::Standby);
    world.passes(1_000);
    assert_eq!(world.writes(), "open pg1");
    assert_eq!(world.reads(), "open pg2 pg3");
    world.story();
    world
}

/// The diary without confirmations.
fn without_confirmations(story: Vec<String>) -> Vec<String> {
    story.into_iter().filter(|line| !line.starts_with("confirm")).collect()
}

#[test]
fn before_anybody_is_heard_everybody_waits_and_then_is_refused() {
    let mut world = World::new(setup(&["pg1", "pg2"]));
    assert_eq!(world.writes(), "holding: no agent has been heard yet");
    assert_eq!(world.reads(), "holding: no agent has been heard yet");
    world.passes(9_999);
    assert_eq!(world.writes(), "holding: no agent has been heard yet");
    world.passes(1);
    assert_eq!(world.writes(), "refusing: no agent has been heard yet (for more than 10 s)");
    world.pushes(leader("pg1", 1));
    assert_eq!(world.writes(), "open pg1 @1");
}

#[test]
fn planned_switchover_holds_new_sessions_and_loses_none() {
    let mut world = healthy();
    world.pushes(Claim { holding: true, successor: Some(name("pg2")), ..leader("pg1", 6) });
    assert_eq!(
        world.story(),
        ["in force: writes holding: planned change of leader from pg1 to pg2", "confirm pg1"],
        "the agent learns that new sessions wait only after they do, and nobody is cut"
    );
    world.passes(200);
    world.pushes(none("pg1", 6, "stopping"));
    assert_eq!(
        without_confirmations(world.story()),
        [
            "in force: writes holding: no member leads now: pg1 leads no more: stopping",
            "cut Writes of pg1: pg1 leads no more: stopping"
        ]
    );
    world.pushes(Claim { takes_writes: false, reason: "promoting".to_owned(), ..leader("pg2", 7) });
    assert_eq!(world.writes(), "holding: pg2 leads epoch 7, but takes no writes: promoting");
    world.story();
    world.pushes(leader("pg2", 7));
    assert_eq!(world.story(), ["in force: writes open pg2 @7", "confirm pg2"]);
    world.pushes(standby("pg1", 7, "pg2"));
    world.pushes(standby("pg3", 7, "pg2"));
    assert_eq!(world.reads(), "open pg1 pg3 @7");
}

#[test]
fn a_switchover_that_is_called_off_lets_the_waiting_go_on() {
    let mut world = healthy();
    world.pushes(Claim { holding: true, ..leader("pg1", 6) });
    assert_eq!(world.writes(), "holding: planned change of leader from pg1");
    world.pushes(leader("pg1", 6));
    assert_eq!(world.writes(), "open pg1 @6");
    assert!(!world.story().iter().any(|line| line.starts_with("cut")));
}

#[test]
fn a_crash_is_over_when_the_next_leader_opens() {
    let mut world = healthy();
    // Power is lost: no end of the stream, nothing answers, connects time out.
    world.falls_silent("pg1");
    world.passes(1_600);
    assert!(world.writes().starts_with("open pg1 @6"), "silence alone changes nothing: {}", world.writes());
    world.happens(Event::ConnectFailed { member: name("pg1"), why: "timed out".to_owned() });
    assert_eq!(world.writes(), "holding: pg1 leads, but cannot be connected: timed out");
    // A standby learns of the new epoch before its leader is open: the old one is over.
    world.story();
    world.pushes(standby("pg3", 7, "pg2"));
    let story = world.story();
    assert!(story.contains(&"cut Writes of pg1: pg1 led epoch 6; epoch 7 is newer".to_owned()), "{story:?}");
    assert!(world.writes().starts_with("holding: no member leads now"), "{}", world.writes());
    world.pushes(leader("pg2", 7));
    assert_eq!(world.writes(), "open pg2 @7");
}

#[test]
fn a_killed_agent_costs_nobody_anything_until_it_is_gone_for_too_long() {
    let mut world = healthy();
    world.stream_ends("pg1");
    assert_eq!(world.writes(), "open pg1 @6");
    world.passes(5_000);
    assert_eq!(world.writes(), "open pg1 @6", "REST is silent too, but PostgreSQL lives");
    // It comes back and knows nothing at first.
    let starting = Claim { epoch: ha_core::Epoch(0), revision: ha_core::Revision(0), ..none("pg1", 0, "") };
    world.pushes(starting);
    assert_eq!(world.writes(), "open pg1 @6");
    world.pushes(leader("pg1", 6));
    world.passes(20_000);
    // It dies again, for good.
    world.stream_ends("pg1");
    world.passes(9_000);
    assert_eq!(world.writes(), "open pg1 @6");
    world.passes(1_001);
    let silent = "pg1 was the last known leader, but gave no sign of life for 10 s";
    assert_eq!(world.writes(), format!("holding: {silent}"));
    world.passes(10_000);
    assert_eq!(world.writes(), format!("refusing: {silent} (for more than 10 s)"));
    let story = world.story();
    assert!(!story.iter().any(|line| line.starts_with("cut")), "running sessions are kept: {story:?}");
}

#[test]
fn when_claims_stop_checks_take_over() {
    let mut world = healthy();
    world.answers("pg1", Check::Primary);
    world.answers("pg2", Check::Standby);
    world.answers("pg3", Check::Standby);
    for member in ["pg1", "pg2", "pg3"] {
        world.falls_silent(member);
    }
    world.passes(60_000);
    assert_eq!(world.writes(), "open pg1 @6");
    assert_eq!(world.reads(), "open pg2 pg3 @6");
    assert!(!world.story().iter().any(|line| line.contains("holding") || line.starts_with("cut")));
    // A failover in that time: pg2 leads, by the word of its REST interface only.
    world.answers("pg1", Check::Neither);
    world.passes(500);
    assert!(world.writes().starts_with("holding: no member leads now: pg1 leads no more"));
    world.answers("pg2", Check::Primary);
    world.passes(1_000);
    assert_eq!(world.writes(), "open pg2");
    // Claims again: the epoch is known, nothing else changes.
    world.story();
    world.pushes(leader("pg2", 7));
    assert_eq!(world.writes(), "open pg2 @7");
    assert!(!world.story().iter().any(|line| line.starts_with("cut")));
}

#[test]
fn an_old_primary_that_returns_gets_nothing() {
    let mut world = healthy();
    world.falls_silent("pg1");
    world.pushes(leader("pg2", 7));
    world.pushes(standby("pg3", 7, "pg2"));
    world.passes(30_000);
    world.story();
    world.pushes(leader("pg1", 6));
    assert_eq!(world.writes(), "open pg2 @7");
    // Not even when the new leader falls silent and the old one is all that answers.
    for member in ["pg1", "pg2", "pg3"] {
        world.falls_silent(member);
    }
    world.answers("pg1", Check::Primary);
    world.passes(60_000);
    assert!(world.writes().starts_with("refusing: pg2 was the last known leader"), "{}", world.writes());
    assert!(!world.story().iter().any(|line| line.contains("open pg1")));
}

#[test]
fn two_members_with_the_same_epoch_stop_writes_until_a_higher_one() {
    let mut world = healthy();
    world.pushes(leader("pg2", 6));
    let story = without_confirmations(world.story());
    assert!(world.writes().starts_with("refusing: both pg1 and pg2 claim to lead epoch 6"));
    assert!(
        story.iter().any(|line| line.starts_with("alarm: writes: refusing: both pg1 and pg2")),
        "{story:?}"
    );
    assert!(
        !story.iter().any(|line| line.starts_with("cut")),
        "who of them is right is not known: {story:?}"
    );
    world.pushes(leader("pg3", 7));
    assert_eq!(world.writes(), "open pg3 @7");
}

#[test]
fn plain_patroni_through_a_switchover() {
    let mut world = patroni();
    world.answers("pg1", Check::Neither);
    world.passes(500);
    let story = world.story();
    assert_eq!(story[1], "cut Writes of pg1: pg1 leads no more: its REST interface says so");
    world.answers("pg2", Check::Primary);
    world.answers("pg1", Check::Standby);
    world.passes(1_500);
    assert_eq!(world.writes(), "open pg2");
    assert_eq!(world.reads(), "open pg1 pg3");
}

#[test]
fn plain_patroni_through_a_failover() {
    let mut world = patroni();
    world.answers_no_more("pg1");
    world.passes(8_000);
    assert_eq!(world.writes(), "open pg1", "an agent that does not answer is no proof");
    world.answers("pg2", Check::Primary);
    world.passes(1_000);
    assert_eq!(world.writes(), "open pg2");
    let story = world.story();
    assert!(story.contains(&"cut Writes of pg1: pg2 leads instead of pg1".to_owned()), "{story:?}");
}

#[test]
fn two_that_answer_as_primary_hold_writes_until_one_is_left() {
    let mut world = patroni();
    world.answers("pg2", Check::Primary);
    world.passes(1_500);
    assert_eq!(
        world.writes(),
        "holding: pg1, pg2 all answer health checks as primary: waiting until one is left"
    );
    world.answers("pg1", Check::Neither);
    world.passes(500);
    assert_eq!(world.writes(), "open pg2");
}

#[test]
fn a_leader_that_refuses_connects_is_waited_for_and_tried_again() {
    let mut world = healthy();
    let refused = || Event::ConnectFailed { member: name("pg1"), why: "connection refused".to_owned() };
    world.happens(refused());
    assert_eq!(world.writes(), "holding: pg1 leads, but cannot be connected: connection refused");
    world.passes(250);
    assert_eq!(world.writes(), "open pg1 @6");
    world.happens(refused());
    world.passes(499);
    assert!(world.writes().starts_with("holding"));
    world.passes(1);
    world.happens(Event::Connected { member: name("pg1") });
    assert_eq!(world.writes(), "open pg1 @6");
}

#[test]
fn reads_avoid_a_standby_that_refuses_connects_while_there_are_others() {
    let mut world = healthy();
    let refused =
        |member| Event::ConnectFailed { member: name(member), why: "connection refused".to_owned() };
    world.happens(refused("pg2"));
    assert_eq!(world.reads(), "open pg3 @6");
    world.happens(refused("pg3"));
    assert_eq!(world.reads(), "open pg2 pg3 @6", "where all refuse, trying is better than nothing");
    world.happens(Event::Connected { member: name("pg2") });
    assert_eq!(world.reads(), "open pg2 @6");
    world.passes(250);
    assert_eq!(world.reads(), "open pg2 pg3 @6");
}

#[test]
fn a_standby_that_becomes_leader_keeps_its_read_sessions() {
    let mut world = healthy();
    world.pushes(none("pg1", 6, "stopping"));
    world.pushes(leader("pg3", 7));
    let story = world.story();
    assert!(!story.iter().any(|line| line.contains("of pg3")), "{story:?}");
    assert_eq!(world.reads(), "open pg2 @7");
}

#[test]
fn a_member_without_postgresql_loses_all_its_sessions_once() {
    let mut world = healthy();
    let down = Claim { timeline: None, position: None, ..none("pg2", 6, "PostgreSQL is being restarted") };
    world.pushes(down);
    world.passes(5_000);
    let cuts: Vec<String> = world.story().into_iter().filter(|line| line.starts_with("cut")).collect();
    assert_eq!(cuts, ["cut All of pg2: PostgreSQL of pg2 does not run: PostgreSQL is being restarted"]);
    assert_eq!(world.reads(), "open pg3 @6");
}

#[test]
fn a_standby_host_without_power_loses_its_read_sessions_when_nothing_of_it_answers() {
    let mut world = healthy();
    world.answers_no_more("pg2");
    world.falls_silent("pg2");
    world.passes(1_400);
    world.happens(Event::ConnectFailed { member: name("pg2"), why: "timed out".to_owned() });
    world.passes(3_000);
    let cuts: Vec<String> = world.story().into_iter().filter(|line| line.starts_with("cut")).collect();
    assert_eq!(cuts.len(), 1, "{cuts:?}");
    assert!(cuts[0].starts_with("cut Reads of pg2: pg2 is gone"), "{cuts:?}");
    assert_eq!(world.reads(), "open pg3 @6");
}

#[test]
fn reads_without_a_standby_go_to_the_leader_only_where_configured() {
    let mut world = World::new(setup(&["pg1", "pg2"]));
    world.pushes(leader("pg1", 6));
    assert_eq!(world.reads(), "holding: no standby takes reads now");
    let mut allowed = setup(&["pg1", "pg2"]);
    allowed.read_from_leader = true;
    let mut world = World::new(allowed);
    world.pushes(leader("pg1", 6));
    assert_eq!(world.reads(), "open pg1 @6");
    world.pushes(standby("pg2", 6, "pg1"));
    assert_eq!(world.reads(), "open pg2 @6");
}

#[test]
fn a_standby_that_is_too_far_behind_gets_reads_again_when_it_is_well_within() {
    let mut bounded = setup(&["pg1", "pg2", "pg3"]);
    bounded.maximum_read_lag = Some(1000);
    let mut world = World::new(bounded);
    let behind = |bytes| Claim { lag_bytes: Some(bytes), ..standby("pg2", 6, "pg1") };
    world.pushes(leader("pg1", 6));
    world.pushes(standby("pg3", 6, "pg1"));
    world.pushes(behind(1000));
    assert_eq!(world.reads(), "open pg2 pg3 @6");
    world.pushes(behind(1001));
    assert_eq!(world.reads(), "open pg3 @6");
    world.pushes(behind(501));
    assert_eq!(world.reads(), "open pg3 @6", "it would come and go with every claim");
    world.pushes(Claim { lag_bytes: None, ..standby("pg2", 6, "pg1") });
    assert_eq!(world.reads(), "open pg3 @6", "nothing says that it has come back");
    world.pushes(behind(500));
    assert_eq!(world.reads(), "open pg2 pg3 @6");
}

#[test]
fn a_drained_member_gets_no_new_sessions_and_loses_none() {
    let mut world = healthy();
    world.story();
    world.happens(Event::Administered { member: name("pg2"), state: AdminState::Drain });
    assert_eq!(world.reads(), "open pg3 @6");
    world.happens(Event::Administered { member: name("pg1"), state: AdminState::Drain });
    assert_eq!(world.writes(), "holding: an operator has taken pg1 out: drain");
    let cuts: Vec<String> = world.story().into_iter().filter(|line| line.starts_with("cut")).collect();
    assert!(cuts.is_empty(), "{cuts:?}");
    world.happens(Event::Administered { member: name("pg1"), state: AdminState::Ready });
    assert_eq!(world.writes(), "open pg1 @6");
    world.pushes(standby("pg2", 6, "pg1"));
    assert_eq!(world.reads(), "open pg3 @6", "claims do not end what an operator wants");
}

#[test]
fn a_member_in_maintenance_loses_its_sessions_once() {
    let mut world = healthy();
    world.story();
    world.happens(Event::Administered { member: name("pg2"), state: AdminState::Maintenance });
    world.happens(Event::Administered { member: name("pg2"), state: AdminState::Maintenance });
    world.pushes(standby("pg2", 6, "pg1"));
    let cuts: Vec<String> = world.story().into_iter().filter(|line| line.starts_with("cut")).collect();
    assert_eq!(cuts, ["cut All of pg2: an operator has taken pg2 out: maintenance"]);
    assert_eq!(world.reads(), "open pg3 @6");
}

#[test]
fn maintenance_mode_is_known_by_the_last_word_of_whoever_is_heard() {
    let told = |world: &World| world.table().maintenance;
    assert_eq!(told(&World::new(setup(&["pg1", "pg2", "pg3"]))), None, "nobody was heard");
    let mut world = healthy();
    assert_eq!(told(&world), Some(false));
    world.pushes(Claim { maintenance: true, ..standby("pg2", 6, "pg1") });
    assert_eq!(told(&world), Some(true), "one who knows of it is enough");
    assert_eq!((world.writes().as_str(), world.reads().as_str()), ("open pg1 @6", "open pg2 pg3 @6"));
    for member in ["pg1", "pg2", "pg3"] {
        world.stream_ends(member);
    }
    world.passes(600_000);
    assert_eq!(told(&world), Some(true), "silence is no end of it");
    world.pushes(standby("pg3", 6, "pg1"));
    assert_eq!(told(&world), Some(false));
}

#[test]
fn a_leader_seen_by_checks_only_is_known_by_the_word_of_others() {
    let mut world = World::new(setup(&["pg1", "pg2", "pg3"]));
    // The stream of pg1 is blocked for this proxy only; pg3 is an old primary whose agent is just as silent.
    world.answers("pg1", Check::Primary);
    world.answers("pg3", Check::Primary);
    world.pushes(Claim { position: Some(Lsn(9)), ..standby("pg2", 6, "pg1") });
    world.passes(1_500);
    assert_eq!(world.writes(), "open pg1 @6");
}

#[test]
fn a_stream_that_ends_in_the_middle_of_a_switchover_opens_nothing() {
    let mut world = healthy();
    world.answers("pg1", Check::Primary);
    world.pushes(Claim { holding: true, successor: Some(name("pg2")), ..leader("pg1", 6) });
    world.stream_ends("pg1");
    world.passes(3_000);
    assert_eq!(world.writes(), "holding: planned change of leader from pg1 to pg2");
    world.pushes(leader("pg2", 7));
    assert_eq!(world.writes(), "open pg2 @7");
}

#[test]
fn words_about_strangers_change_nothing() {
    let mut world = healthy();
    world.pushes(leader("pg9", 99));
    world.happens(Event::Checked { member: name("pg8"), check: Check::Primary });
    assert_eq!(world.writes(), "open pg1 @6");
    assert!(world.story().is_empty(), "not even a confirmation");
}

#[test]
fn other_limits_act_on_what_is_under_way() {
    let mut world = World::new(setup(&["pg1", "pg2"]));
    world.pushes(leader("pg1", 6));
    let mut behind = standby("pg2", 6, "pg1");
    behind.lag_bytes = Some(5_000);
    world.pushes(behind);
    assert_eq!(world.reads(), "open pg2 @6");
    let mut other = setup(&["pg1", "pg2"]);
    other.maximum_read_lag = Some(1_000);
    world.happens(Event::Reconfigured(Box::new(other.clone())));
    assert_eq!(world.reads(), "holding: no standby takes reads now");
    other.read_from_leader = true;
    world.happens(Event::Reconfigured(Box::new(other.clone())));
    assert_eq!(world.reads(), "open pg1 @6");
    // Members are those of the start.
    other.members.clear();
    other.maximum_read_lag = None;
    world.happens(Event::Reconfigured(Box::new(other.clone())));
    assert_eq!(world.reads(), "open pg2 @6");
    // A wait that is under way is over when the new limit is.
    world.passes(1_000);
    world.pushes(standby("pg1", 7, "pg9"));
    assert!(world.writes().starts_with("holding: "), "{}", world.writes());
    world.passes(3_000);
    other.hold_timeout = std::time::Duration::from_secs(2);
    world.happens(Event::Reconfigured(Box::new(other)));
    assert!(world.writes().starts_with("refusing: "), "{}", world.writes());
}
