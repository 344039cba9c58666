//! A setup and claims as agents make them.

use std::net::SocketAddr;
use std::time::Duration;

use ha_core::{Epoch, Lsn, MemberName, Revision, Timeline};
use ha_routing::{Claim, ClaimedRole, Setup};

pub(crate) fn name(member: &str) -> MemberName {
    member.parse().expect("a member name of a test")
}

pub(crate) fn setup(members: &[&str]) -> Setup {
    let address = |i: usize| SocketAddr::from(([10, 0, 1, 11 + u8::try_from(i).expect("few members")], 5432));
    Setup {
        members: members.iter().enumerate().map(|(i, member)| (name(member), address(i))).collect(),
        check_interval: Duration::from_millis(500),
        check_rise: 2,
        check_fall: 3,
        hold_timeout: Duration::from_secs(10),
        maximum_read_lag: None,
        read_from_leader: false,
        silence: Duration::from_millis(1_500),
        stale_limit: Duration::from_secs(10),
    }
}

fn claim(member: &str, role: ClaimedRole, epoch: u64) -> Claim {
    Claim {
        member: name(member),
        sequence: 0,
        role,
        epoch: Epoch(epoch),
        revision: Revision(100 + epoch),
        established: false,
        takes_writes: false,
        holding: false,
        successor: None,
        takes_reads: false,
        timeline: Some(Timeline(1)),
        position: Some(Lsn(1)),
        lag_bytes: None,
        leader: None,
        reason: String::new(),
        synchronous: false,
        maintenance: false,
    }
}

pub(crate) fn leader(member: &str, epoch: u64) -> Claim {
    let claim = claim(member, ClaimedRole::Leader, epoch);
    Claim { established: true, takes_writes: true, leader: Some(name(member)), ..claim }
}

pub(crate) fn standby(member: &str, epoch: u64, leader: &str) -> Claim {
    let claim = claim(member, ClaimedRole::Standby, epoch);
    Claim { takes_reads: true, lag_bytes: Some(0), leader: Some(name(leader)), ..claim }
}

pub(crate) fn none(member: &str, epoch: u64, reason: &str) -> Claim {
    Claim { reason: reason.to_owned(), ..claim(member, ClaimedRole::None, epoch) }
}
