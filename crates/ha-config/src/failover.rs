//! `[failover]`: when and how fast leadership moves.

use std::time::Duration;

/// Times of the lease and of detection. The relations between them are checked when the file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// Whether the cluster replaces a lost leader by itself.
    pub automatic: bool,
    /// Whether an asynchronous leader whose guard was not armed may be replaced automatically.
    pub unfenced: bool,
    /// Time to live of the leader's lease in etcd (whole seconds).
    pub lease_ttl: Duration,
    /// How often the leader renews.
    pub renew_interval: Duration,
    /// Deadline of one call to etcd.
    pub call_deadline: Duration,
    /// Time to live of a member's own record in etcd (whole seconds).
    pub member_ttl: Duration,
    /// Silence after which a leader is suspected.
    pub detection: Duration,
    /// How long a candidate waits for promises.
    pub promise_timeout: Duration,
    /// After how long a takeover that cannot finish is given up.
    pub abort_after: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            automatic: true,
            unfenced: false,
            lease_ttl: Duration::from_secs(10),
            renew_interval: Duration::from_secs(2),
            call_deadline: Duration::from_secs(1),
            member_ttl: Duration::from_secs(30),
            detection: Duration::from_secs(1),
            promise_timeout: Duration::from_millis(300),
            abort_after: Duration::from_secs(2),
        }
    }
}
