//! One picture of this agent for everybody who shows it: REST, metrics, gRPC. The driver makes a new one whenever
//! something happened; nobody else computes roles or states of their own.

use std::sync::Arc;
use std::time::SystemTime;

use ha_config::{Cluster, DatabaseHost, Tags};
use ha_core::cluster_view::StoreView;
use ha_core::guard_link::GuardStatus;
use ha_core::postgres_view::{Instance, PostgresProcess, PostgresView};
use ha_core::{ClusterName, MemberName, MonoTime};
use ha_decision::Status;
use tokio::sync::watch;

use crate::advice::AdviceList;
use crate::guard_client::GuardShown;
use crate::heartbeat::HeartbeatFigures;
use crate::postgres::{Postgres, ServerDetails};

/// A member of the file, as status pages show it.
#[derive(Debug, Clone)]
pub struct MemberPlace {
    /// Its name.
    pub name: MemberName,
    /// Its address.
    pub address: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// Its tags.
    pub tags: Tags,
}

/// The picture.
#[derive(Debug, Clone)]
pub struct AgentSnapshot {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// This member.
    pub me: MemberName,
    /// All members of the file.
    pub members: Arc<[MemberPlace]>,
    /// The store as last seen; none before its first answer.
    pub view: Option<StoreView>,
    /// PostgreSQL as last observed.
    pub postgres: PostgresView,
    /// The server as it last answered, kept while it is silent.
    pub last_instance: Option<Instance>,
    /// More about the server than the decider needs.
    pub details: ServerDetails,
    /// What the decider says.
    pub status: Status,
    /// When the driver's loop turned last.
    pub at: MonoTime,
    /// The same on the wall clock; for display only.
    pub wall: SystemTime,
    /// When the store last answered, on the wall clock.
    pub store_seen: Option<SystemTime>,
    /// Version of this program.
    pub version: &'static str,
    /// Digest of this member's cluster file.
    pub file_digest: String,
    /// Heartbeats of the other members.
    pub heartbeats: Vec<HeartbeatFigures>,
    /// TTL of the leader's lease, for judging whether the loop still turns.
    pub lease_ttl: std::time::Duration,
    /// What a human should mend in time.
    pub advice: AdviceList,
    /// What the guard says of itself; none while it does not answer, or there is none.
    pub guard: Option<Arc<GuardStatus>>,
}

impl AgentSnapshot {
    /// The server, if it answers.
    pub fn instance(&self) -> Option<&Instance> {
        match &self.postgres.process {
            PostgresProcess::Running(instance) => Some(instance),
            _ => None,
        }
    }
}

/// Makes pictures and hands them out.
#[derive(Debug)]
pub struct SnapshotSource {
    current: watch::Sender<Option<Arc<AgentSnapshot>>>,
    cluster: ClusterName,
    me: MemberName,
    members: Arc<[MemberPlace]>,
    file_digest: String,
    lease_ttl: std::time::Duration,
    postgres: Arc<Postgres>,
    advice: watch::Receiver<AdviceList>,
    guard: GuardShown,
}

impl SnapshotSource {
    /// A source without a picture yet.
    pub fn new(
        cluster: &Cluster,
        host: &DatabaseHost,
        postgres: Arc<Postgres>,
        advice: watch::Receiver<AdviceList>,
        guard: GuardShown,
    ) -> Self {
        let members = cluster.databases.iter().map(|d| MemberPlace {
            name: d.name.clone(),
            address: d.address.to_string(),
            port: d.postgres.port,
            tags: d.tags.clone(),
        });
        Self {
            current: watch::Sender::new(None),
            cluster: cluster.name.clone(),
            me: host.name.clone(),
            members: members.collect(),
            file_digest: cluster.digest.clone(),
            lease_ttl: cluster.failover.lease_ttl,
            postgres,
            advice,
            guard,
        }
    }

    /// Follows the pictures; `None` until the first one.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<AgentSnapshot>>> {
        self.current.subscribe()
    }

    /// Makes the next picture.
    pub fn show(
        &self,
        view: Option<&StoreView>,
        postgres: &PostgresView,
        status: Status,
        heartbeats: Vec<HeartbeatFigures>,
        at: MonoTime,
    ) {
        let wall = SystemTime::now();
        let (kept, seen) = match &*self.current.borrow() {
            Some(last) => (last.last_instance.clone(), last.store_seen),
            None => (None, None),
        };
        let last_instance = match &postgres.process {
            PostgresProcess::Running(instance) => Some((**instance).clone()),
            PostgresProcess::Silent => kept,
            PostgresProcess::Stopped | PostgresProcess::Starting => None,
        };
        self.current.send_replace(Some(Arc::new(AgentSnapshot {
            cluster: self.cluster.clone(),
            me: self.me.clone(),
            members: Arc::clone(&self.members),
            view: view.cloned(),
            postgres: postgres.clone(),
            last_instance,
            details: self.postgres.details(),
            store_seen: if status.store_connected { Some(wall) } else { seen },
            status,
            at,
            wall,
            version: env!("CARGO_PKG_VERSION"),
            file_digest: self.file_digest.clone(),
            heartbeats,
            lease_ttl: self.lease_ttl,
            advice: Arc::clone(&self.advice.borrow()),
            guard: self.guard.borrow().clone(),
        })));
    }
}
