//! One test per situation, and that REST says the same in each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ha_core::Epoch;
use ha_core::postgres_view::{DataDirectory, PostgresProcess};
use ha_core::record::Policy;

use super::*;
use crate::rest::fixture::{END, NOW, leader, standby};
use crate::rest::rest_answers;

/// The claim; REST must agree.
fn claim_at(picture: &AgentSnapshot, now: MonoTime) -> RoleClaim {
    let claim = make(picture, now).expect("this agent knows what it is");
    let rest = rest_answers(picture, now);
    assert_eq!((claim.takes_writes, claim.takes_reads), rest, "REST says something else: {claim:?}");
    claim
}

fn claim(picture: &AgentSnapshot) -> RoleClaim {
    claim_at(picture, NOW)
}

fn process(picture: &mut AgentSnapshot, process: PostgresProcess) {
    picture.postgres.process = process;
}

fn noloadbalance(picture: &mut AgentSnapshot) {
    let me = picture.me.clone();
    let mut members = picture.members.to_vec();
    for member in members.iter_mut().filter(|member| member.name == me) {
        member.tags.noloadbalance = true;
    }
    picture.members = Arc::from(members);
}

#[test]
fn an_established_leader_takes_writes() {
    let told = claim(&leader());
    let expected = RoleClaim {
        sequence: 0,
        member: "pg1".to_owned(),
        role: ClaimedRole::Leader.into(),
        epoch: 3,
        revision: 40,
        established: true,
        takes_writes: true,
        holding: false,
        successor: None,
        takes_reads: false,
        timeline: 3,
        position: END.0,
        lag_bytes: None,
        leader: "pg1".to_owned(),
        reason: "nothing".to_owned(),
        synchronous: false,
        maintenance: false,
    };
    assert_eq!(told, expected);
    assert_eq!(holds_until(&leader(), &told), leader().status.deadline);
}

#[test]
fn maintenance_mode_is_told_by_whoever_knows_of_it() {
    for mut picture in [leader(), standby(MemberRole::SyncStandby, 0)] {
        assert!(!claim(&picture).maintenance);
        picture.status.paused = Some("the disks are changed".to_owned());
        assert!(claim(&picture).maintenance);
    }
}

#[test]
fn an_unestablished_leader_says_so() {
    let mut picture = leader();
    picture.status.established = false;
    picture.status.serves_writes = false;
    picture.status.doing = "waits for a follower".to_owned();
    let told = claim(&picture);
    assert_eq!(told.role(), ClaimedRole::Leader);
    assert!(!told.established && !told.takes_writes);
    assert_eq!(told.reason, "waits for a follower");
}

#[test]
fn a_leader_whose_deadline_has_passed_takes_no_writes() {
    let picture = leader();
    let deadline = picture.status.deadline.unwrap();
    assert!(claim_at(&picture, MonoTime(deadline.0 - 1)).takes_writes);
    let told = claim_at(&picture, deadline);
    assert_eq!((told.role(), told.takes_writes), (ClaimedRole::Leader, false));
    assert_eq!(holds_until(&picture, &told), None);
}

#[test]
fn a_fenced_leader_takes_no_writes() {
    let mut picture = leader();
    picture.status.serves_writes = false;
    picture.status.deadline = None;
    picture.status.blocked = Some("the guard ended PostgreSQL".to_owned());
    process(&mut picture, PostgresProcess::Stopped);
    let told = claim(&picture);
    assert_eq!((told.role(), told.takes_writes), (ClaimedRole::Leader, false));
    assert_eq!(told.reason, "PostgreSQL is stopped: the guard ended PostgreSQL");
    assert_eq!((told.timeline, told.position), (0, 0));
}

#[test]
fn a_loop_that_hangs_takes_no_writes() {
    let mut picture = leader();
    picture.status.deadline = None;
    let now = picture.at + picture.lease_ttl;
    assert!(!claim_at(&picture, now).takes_writes);
    assert!(claim_at(&picture, MonoTime(now.0 - 1)).takes_writes);
}

#[test]
fn a_leader_that_hands_over_asks_to_hold_while_it_serves_and_while_it_stops() {
    let mut picture = leader();
    picture.status.holding = true;
    picture.status.successor = Some("pg2".parse().unwrap());
    let told = claim(&picture);
    assert!(told.takes_writes && told.holding);
    assert_eq!(told.successor.as_deref(), Some("pg2"));
    picture.status.serves_writes = false;
    process(&mut picture, PostgresProcess::Starting);
    let told = claim(&picture);
    assert!(!told.takes_writes && told.holding);
    assert_eq!(told.role(), ClaimedRole::Leader);
}

#[test]
fn a_standby_says_whether_the_record_lists_it() {
    let mut picture = standby(MemberRole::SyncStandby, 0);
    let id = picture.status.id.clone().expect("it has data");
    picture.status.policy = Some(Policy::quorum(Epoch(3), BTreeSet::from([id]), 1));
    assert!(claim(&picture).synchronous);
    picture.status.policy = Some(Policy::pinned(Epoch(3)));
    assert!(!claim(&picture).synchronous);
}

#[test]
fn a_standby_takes_reads_whether_it_streams_or_not() {
    let mut picture = standby(MemberRole::SyncStandby, 512);
    let told = claim(&picture);
    assert_eq!((told.role(), told.takes_writes, told.takes_reads), (ClaimedRole::Standby, false, true));
    assert_eq!((told.epoch, told.leader.as_str(), told.established), (3, "pg1", false));
    assert_eq!((told.position, told.lag_bytes), (END.0 - 512, Some(512)));
    if let PostgresProcess::Running(instance) = &mut picture.postgres.process {
        instance.receiver = None;
    }
    assert!(claim(&picture).takes_reads);
}

#[test]
fn a_standby_tagged_noloadbalance_takes_no_reads_and_says_why() {
    let mut picture = standby(MemberRole::Replica, 0);
    noloadbalance(&mut picture);
    let told = claim(&picture);
    assert_eq!((told.role(), told.takes_reads), (ClaimedRole::Standby, false));
    assert_eq!(told.reason, "tagged noloadbalance: nothing");
}

#[test]
fn a_member_without_data_or_without_an_answer_is_of_no_use() {
    for (state, why) in [
        (PostgresProcess::Stopped, "PostgreSQL is stopped: nothing"),
        (PostgresProcess::Starting, "PostgreSQL does not accept connections: nothing"),
        (PostgresProcess::Silent, "PostgreSQL does not answer: nothing"),
    ] {
        let mut picture = standby(MemberRole::Uninitialized, 0);
        picture.postgres.data = DataDirectory::Empty;
        process(&mut picture, state);
        let told = claim(&picture);
        assert_eq!((told.role(), told.takes_reads), (ClaimedRole::None, false));
        assert_eq!(told.reason, why);
        // Proxies take zeros for a server that does not run, and end all its sessions.
        let silent = picture.postgres.process == PostgresProcess::Silent;
        assert_eq!(told.timeline != 0 && told.position != 0, silent, "{told:?}");
    }
}

#[test]
fn a_primary_that_does_not_lead_is_of_no_use() {
    let mut picture = leader();
    picture.status.role = MemberRole::Replica;
    picture.status.serves_writes = false;
    let told = claim(&picture);
    assert_eq!((told.role(), told.takes_writes, told.takes_reads), (ClaimedRole::None, false, false));
}

#[test]
fn an_agent_that_has_just_found_a_primary_says_nothing_yet() {
    let mut picture = leader();
    picture.status.serves_writes = false;
    picture.status.undecided = true;
    assert_eq!(make(&picture, NOW), None);
    picture.status.undecided = false;
    assert!(make(&picture, NOW).is_some());
}

#[test]
fn only_positions_are_no_news() {
    let near = claim(&standby(MemberRole::SyncStandby, 0));
    let far = RoleClaim { sequence: 7, ..claim(&standby(MemberRole::SyncStandby, 900)) };
    assert_ne!(near, far);
    assert!(says_the_same(&near, &far));
    let mut picture = leader();
    let before = claim(&picture);
    picture.status.holding = true;
    assert!(!says_the_same(&before, &claim(&picture)));
    let later = claim_at(&leader(), NOW + Duration::from_secs(6));
    assert!(!says_the_same(&before, &later), "the deadline has passed");
}
