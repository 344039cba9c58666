//! The routing table: immutable, swapped as a whole, so that at every instant there is at most one write upstream.

use std::net::SocketAddr;

use ha_core::{Epoch, MemberName, MonoTime, Timeline};

/// Where new sessions go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Grows with each table that is put in force, from 1.
    pub generation: u64,
    /// The write port.
    pub writes: Route,
    /// The read port.
    pub reads: Route,
    /// All members, in the order of the file; routes point into this.
    pub upstreams: Vec<UpstreamView>,
    /// Whether maintenance mode is on, as an agent that is heard claims, or claimed when the last of them was heard; `None`
    /// before the first claim. Routes do not depend on it.
    pub maintenance: Option<bool>,
}

/// What a port does with a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteState {
    /// It goes to an upstream.
    Open,
    /// It waits until there is one.
    Holding,
    /// It is refused at once.
    Refusing,
}

/// Where a port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What happens to a new session.
    pub state: RouteState,
    /// Indexes into [`Table::upstreams`]; empty unless open. The write route has at most one.
    pub upstreams: Vec<usize>,
    /// Writes: epoch of the leadership that the decision rests on; 0 without one, or when only a health check vouches
    /// for the leader. Reads: the highest epoch seen.
    pub epoch: Epoch,
    /// Why, in words; fit for a client to read.
    pub reason: String,
    /// Since when it has this state, these upstreams and this epoch.
    pub since: MonoTime,
}

/// What a member is seen as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenRole {
    /// No evidence, or none that is recent enough.
    Unknown,
    /// It says that it is of no use to clients.
    None,
    /// Leader.
    Leader,
    /// Standby.
    Standby,
}

impl SeenRole {
    /// The word that people and scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Leader => "leader",
            Self::Standby => "standby",
        }
    }
}

/// Where the knowledge about a member comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// There is none yet.
    None,
    /// Its agent's claims.
    Push,
    /// Health checks.
    Poll,
}

/// What an operator wants of a member, whatever the evidence says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AdminState {
    /// Used as the evidence allows.
    #[default]
    Ready,
    /// No new sessions; running ones go on.
    Drain,
    /// No new sessions; running ones were cut.
    Maintenance,
}

impl AdminState {
    /// The word that people and scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }
}

/// One member as the router sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamView {
    /// Name.
    pub member: MemberName,
    /// Where its PostgreSQL listens.
    pub address: SocketAddr,
    /// What it is seen as.
    pub role: SeenRole,
    /// By what.
    pub source: Source,
    /// When its agent or its REST interface was heard last.
    pub heard_at: Option<MonoTime>,
    /// Epoch that it claimed last; 0 if never.
    pub epoch: Epoch,
    /// Timeline that it claimed last; none if never.
    pub timeline: Option<Timeline>,
    /// It confirms commits, as it claimed last.
    pub synchronous: bool,
    /// It takes writes by this evidence. Whether it gets them is for the route to say.
    pub takes_writes: bool,
    /// It takes reads by this evidence.
    pub takes_reads: bool,
    /// Bytes behind the leader, as it claimed last.
    pub lag_bytes: Option<u64>,
    /// What an operator wants of it.
    pub admin: AdminState,
    /// Why it is used or not, in words.
    pub reason: String,
}
