//! What the router is told at its start, and again when limits change.

use std::net::SocketAddr;
use std::time::Duration;

use ha_core::MemberName;

/// Members and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Members with the address of their PostgreSQL, in the order of the file.
    pub members: Vec<(MemberName, SocketAddr)>,
    /// Time between two health checks of a member that pushes nothing.
    pub check_interval: Duration,
    /// Positive answers in a row until a member that only answers checks is used; at least 1.
    pub check_rise: u32,
    /// Missing answers in a row until it is used no more; at least 1.
    pub check_fall: u32,
    /// How long new sessions wait for an upstream until they are refused at once.
    pub hold_timeout: Duration,
    /// A standby that is further behind its leader gets no new reads until it has come back to half of this, bytes.
    pub maximum_read_lag: Option<u64>,
    /// Whether reads go to the leader while no standby takes them.
    pub read_from_leader: bool,
    /// Claims older than this are no evidence any more. Agents push at least every 500 ms; 1500 ms allows two losses.
    pub silence: Duration,
    /// How long the last known leader is used after its last sign of life while nobody else leads.
    pub stale_limit: Duration,
}
