//! `[guard]`: how pg-guard bounds a leader's time.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of pg-guard. Its deadline is the send time of the newest evidence + TTL - [`Guard::margin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Whether a leader needs an armed guard.
    pub mode: GuardMode,
    /// Allowance for what is still on the way when the lease ends.
    pub net_margin: Duration,
    /// How long before the lease ends the processes are killed.
    pub kill_lead: Duration,
    /// How long before the kill PostgreSQL is asked to stop.
    pub soft_lead: Duration,
    /// Largest difference between two hosts' clock rates, in parts per thousand of the TTL.
    pub drift: u32,
    /// The guard's socket (SOCK_SEQPACKET).
    pub socket: PathBuf,
    /// Directory of the cgroup v2 group that holds PostgreSQL.
    pub cgroup: PathBuf,
}

/// Whether a leader needs an armed guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardMode {
    /// No promotion without it.
    Required,
    /// Used where it answers; the leader's record says whether it was armed.
    Automatic,
    /// Never used: for tests and hosts that are fenced by other means.
    Off,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: GuardMode::Required,
            net_margin: Duration::from_millis(500),
            kill_lead: Duration::from_secs(1),
            soft_lead: Duration::from_secs(1),
            drift: 10,
            socket: PathBuf::from("/run/matriarch/guard.sock"),
            cgroup: PathBuf::from("/sys/fs/cgroup/matriarch"),
        }
    }
}

impl Guard {
    /// The part of a time to live that two clocks may disagree about.
    pub fn drift_of(&self, ttl: Duration) -> Duration {
        ttl.saturating_mul(self.drift) / 1000
    }

    /// How long before the lease's end the kill comes: drift + net_margin + kill_lead.
    pub fn margin(&self, ttl: Duration) -> Duration {
        self.drift_of(ttl) + self.net_margin + self.kill_lead
    }
}
