//! What a virtual router is, and how it looks from outside.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ha_core::MonoTime;

use crate::alarm::Alarm;
use crate::reason::Cause;
use crate::statistics::Counters;
use crate::tracking::ProxyHealth;

/// State of the virtual router (RFC 9568 section 6.4, and Fault, which is keepalived's word).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not started, or stopped.
    Initialize,
    /// Listens to the Active.
    Backup,
    /// Holds the address and advertises.
    Active,
    /// Cannot take part: no link or no source address.
    Fault,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
            Self::Fault => "fault",
        })
    }
}

/// An Active that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveSeen {
    /// Its own address.
    pub source: IpAddr,
    /// What it advertised last; 0 when it said that it leaves.
    pub priority: u8,
    /// When its last advertisement came.
    pub heard_at: MonoTime,
}

/// What of a virtual router's status others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headline {
    /// Its state.
    pub state: State,
    /// What it advertises, or would.
    pub priority: u8,
    /// Number of the newest holding that is known.
    pub epoch: u64,
}

impl Status {
    /// What of it others wait for.
    pub fn headline(&self) -> Headline {
        Headline { state: self.state, priority: self.priority, epoch: self.epoch }
    }
}

/// One look at a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// When it came into this state.
    pub since: MonoTime,
    /// Why it is in this state.
    pub reason: Cause,
    /// Effective priority, 10 to 189.
    pub priority: u8,
    /// The local proxy, which gives the priority its tier.
    pub proxy: ProxyHealth,
    /// Number of the newest holding that is known. Each begins with a higher number than all that its host has heard of, by
    /// whatever host; while the hosts hear each other over the peer channel no two have the same.
    pub epoch: u64,
    /// The newest holding that was this host's own; 0 = none.
    pub held_epoch: u64,
    /// Changes of the holder that were seen within the last ten minutes. From three on, taking the address back takes
    /// longer and longer.
    pub moves: usize,
    /// Who advertised last while this router was Backup, if anybody did.
    pub active: Option<ActiveSeen>,
    /// Whether the address should be on this host now.
    pub holds_address: bool,
    /// Without an advertisement for this long, a Backup takes over.
    pub down_interval: Duration,
    /// By how much a timer was late at most.
    pub latest_tick: Duration,
    /// Counted since the router was made.
    pub counters: Counters,
    /// What a human must see, while it goes on.
    pub alarms: Vec<Alarm>,
}
