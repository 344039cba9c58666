//! What a decider is told at the start.

use std::time::Duration;

use ha_core::node_state::NodeState;
use ha_core::record::ClusterSettings;
use ha_core::{BootId, MemberName};

/// Everything that does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This member.
    pub me: MemberName,
    /// All members of the file, this one included.
    pub members: Vec<MemberSetup>,
    /// Timings.
    pub timings: Timings,
    /// Policy for a cluster that does not exist yet.
    pub initial_settings: ClusterSettings,
    /// Whether promotion needs the guard's acknowledgement, asks for it, or never asks.
    pub guard: GuardNeed,
    /// Whether a leader gives out read leases: it asks those who answer its beats to refuse promises for a while.
    pub read_leases: bool,
    /// Whether a diverged member may be rewound; otherwise it is cloned.
    pub rewind: bool,
    /// What this member must not forget, as read at the start.
    pub node_state: NodeState,
    /// Seed for new incarnations and identifiers; drawn by the driver.
    pub entropy: u64,
    /// This boot of the machine.
    pub boot: BootId,
    /// Version of the program, for the member record.
    pub version: String,
    /// Digest of the cluster file, for the member record.
    pub file_digest: String,
}

/// One member of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSetup {
    /// Its name.
    pub name: MemberName,
    /// Address for PostgreSQL connections.
    pub address: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// Never promoted.
    pub nofailover: bool,
    /// Never listed as a synchronous standby.
    pub nosync: bool,
    /// Preference among equal candidates; higher is preferred.
    pub priority: u32,
}

/// How much the guard is needed for leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardNeed {
    /// No promotion without its acknowledgement.
    Required,
    /// Used when it answers.
    Automatic,
    /// Never asked.
    Off,
}

/// Timings, all checked against each other by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// TTL of the leader's lease.
    pub lease_ttl: Duration,
    /// Taken off the TTL for clock drift.
    pub drift: Duration,
    /// Taken off the TTL for delays on the way.
    pub net_margin: Duration,
    /// So long before the deadline the agent itself ends a primary whose lease it cannot renew; the guard follows.
    pub demote_lead: Duration,
    /// How often a leader renews.
    pub renew_interval: Duration,
    /// Silence of the leader after which it is suspected.
    pub detection: Duration,
    /// The longest time for which an idle stream of WAL shows no sign of life.
    pub stream_sign: Duration,
    /// How long a candidate waits for promises before it asks again.
    pub promise_timeout: Duration,
    /// After so long without a takeover a promise is aborted.
    pub abort_after: Duration,
    /// How long bootstrap waits for members that have not reported.
    pub bootstrap_grace: Duration,
    /// How long a planned switchover may take before it is called off.
    pub switchover_limit: Duration,
}
