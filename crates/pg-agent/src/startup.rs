//! From the checked configuration to what the decider is told at the start.

use std::io;
use std::time::Duration;

use ha_config::{Cluster, DatabaseHost, LayerMode, ReadConsistency};
use ha_core::BootId;
use ha_core::node_state::NodeState;
use ha_core::record::{ClusterSettings, FailoverTimes};
use ha_decision::{GuardNeed, MemberSetup, Setup, Timings};

use crate::postgres::Place;

/// How long bootstrap waits for members that do not report: agents that are started together see each other well
/// within it, and a host that is down for longer must not keep a new cluster from coming up.
const BOOTSTRAP_GRACE: Duration = Duration::from_secs(5);
/// A walreceiver looks at its clock every 100 ms (`NAPTIME_PER_CYCLE` of PostgreSQL 14 and 15; newer ones sleep exactly),
/// and the answer takes a moment.
const WALRECEIVER_NAP: Duration = Duration::from_millis(150);
/// How long a planned switchover may take from the clean stop on.
const SWITCHOVER_LIMIT: Duration = Duration::from_secs(20);

/// Puts the decider's setup together.
///
/// # Errors
/// When the kernel gives no random seed.
pub fn setup(
    cluster: &Cluster,
    host: &DatabaseHost,
    node_state: NodeState,
    boot: BootId,
) -> Result<Setup, io::Error> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Setup {
        me: host.name.clone(),
        members: cluster.databases.iter().map(|d| member(cluster, d)).collect(),
        timings: timings(cluster),
        initial_settings: settings(cluster, host),
        guard: match cluster.guard.mode {
            LayerMode::Required => GuardNeed::Required,
            LayerMode::Automatic => GuardNeed::Automatic,
            LayerMode::Off => GuardNeed::Off,
        },
        read_leases: cluster.routing.reads == ReadConsistency::Linearizable,
        rewind: cluster.replication.rewind,
        node_state,
        entropy: u64::from_le_bytes(seed),
        boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        file_digest: cluster.digest.clone(),
    })
}

fn member(cluster: &Cluster, host: &DatabaseHost) -> MemberSetup {
    let left_out = cluster.replication.members.as_ref().is_some_and(|listed| !listed.contains(&host.name));
    MemberSetup {
        name: host.name.clone(),
        address: host.address.to_string(),
        port: host.postgres.port,
        nofailover: !host.tags.may_lead(),
        nosync: host.tags.nosync || left_out,
        priority: host.tags.failover_priority,
    }
}

fn timings(cluster: &Cluster) -> Timings {
    let (failover, guard) = (&cluster.failover, &cluster.guard);
    Timings {
        lease_ttl: failover.lease_ttl,
        drift: guard.drift_of(failover.lease_ttl),
        net_margin: guard.net_margin,
        demote_lead: guard.kill_lead + guard.soft_lead,
        renew_interval: failover.renew_interval,
        detection: failover.detection,
        stream_sign: Place::wal_receiver_timeout_for(failover.detection) / 2 + WALRECEIVER_NAP,
        promise_timeout: failover.promise_timeout,
        abort_after: failover.abort_after,
        bootstrap_grace: BOOTSTRAP_GRACE,
        switchover_limit: SWITCHOVER_LIMIT,
    }
}

fn settings(cluster: &Cluster, host: &DatabaseHost) -> ClusterSettings {
    let replication = &cluster.replication;
    ClusterSettings {
        mode: replication.mode,
        acks: replication.acks,
        strict_k: false,
        degrade_after_ms: milliseconds(replication.degrade_after),
        maximum_lag_bytes: replication.maximum_lag_bytes,
        times: Some(FailoverTimes {
            detection_ms: milliseconds(cluster.failover.detection),
            promise_timeout_ms: milliseconds(cluster.failover.promise_timeout),
            abort_after_ms: milliseconds(cluster.failover.abort_after),
        }),
        automatic: cluster.failover.automatic,
        unfenced: cluster.failover.unfenced,
        parameters: host.postgres.parameters.clone(),
        hba: host.postgres.hba.clone(),
        extra: Default::default(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
