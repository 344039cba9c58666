//! `[failover]`: when and how fast leadership moves.

use std::time::Duration;

use crate::reader::Table;
use crate::units::show_duration;

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
    /// How long a small durable write may take before the member counts as unfit to lead.
    pub storage_timeout: Duration,
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
            storage_timeout: Duration::from_secs(10),
        }
    }
}

impl Failover {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        const S: fn(u64) -> Duration = Duration::from_secs;
        let default = Self::default();
        let time = |name, range, otherwise| table.duration(name, range).unwrap_or(otherwise);
        let read = Self {
            automatic: table.boolean("automatic").unwrap_or(default.automatic),
            unfenced: table.boolean("unfenced").unwrap_or(default.unfenced),
            lease_ttl: time("lease_ttl", S(2)..=S(600), default.lease_ttl),
            renew_interval: time("renew_interval", MS(100)..=S(300), default.renew_interval),
            call_deadline: time("call_deadline", MS(50)..=S(60), default.call_deadline),
            member_ttl: time("member_ttl", S(2)..=S(3600), default.member_ttl),
            // Three heartbeats of 100 ms: one lost datagram is no silence.
            detection: time("detection", MS(300)..=S(60), default.detection),
            promise_timeout: time("promise_timeout", MS(50)..=S(60), default.promise_timeout),
            abort_after: time("abort_after", MS(100)..=S(600), default.abort_after),
            storage_timeout: time("storage_timeout", S(1)..=S(3600), default.storage_timeout),
        };
        for (name, ttl) in [("lease_ttl", read.lease_ttl), ("member_ttl", read.member_ttl)] {
            if ttl.subsec_nanos() != 0 {
                table.refuse(
                    name,
                    format!("{:?}", show_duration(ttl)),
                    "whole seconds: etcd's leases have no finer unit",
                );
            }
        }
        read
    }
}
