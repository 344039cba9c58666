//! What does not change about this member's PostgreSQL while the agent runs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_config::{Cluster, DatabaseHost, PostgresPaths, Secrets, Tls};
use ha_core::{ClusterName, MemberName};

/// Name of the agent's include file in the data directory.
pub(crate) const INCLUDE_FILE: &str = "matriarch.conf";
/// Name of the file with the incarnation in the data directory.
pub(crate) const INCARNATION_FILE: &str = "matriarch.incarnation";

/// Where the server lives, who may reach it, and with which programs it is run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// This member.
    pub me: MemberName,
    /// The only address that it listens on.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// Directory of the unix socket.
    pub socket_dir: PathBuf,
    /// Programs, data directory, log.
    pub paths: PostgresPaths,
    /// Directory of the agent's own state; pass files stand below it.
    pub state_dir: PathBuf,
    /// Role of the agent.
    pub superuser: String,
    /// Role of standbys.
    pub replication_user: String,
    /// Role of pg_rewind.
    pub rewind_user: String,
    /// Passwords of these roles.
    pub secrets: Secrets,
    /// Addresses of all members: from where replication and rewind may come.
    pub member_addresses: Vec<IpAddr>,
    /// The host's certificate; none = connections between servers are not encrypted.
    pub tls: Option<Tls>,
    /// Further arguments of initdb.
    pub initdb: Vec<String>,
    /// Whether members stream through slots.
    pub slots: bool,
    /// `max_slot_wal_keep_size` in bytes; none = unlimited.
    pub max_slot_wal_keep_size: Option<u64>,
    /// `wal_receiver_timeout`. A standby asks for a sign of life after half of it, so that a leader without work is still
    /// seen to live within the time of detection.
    pub wal_receiver_timeout: Duration,
}

impl Place {
    /// Puts together what the configuration says about this host. Connections between servers are encrypted when the
    /// host has a certificate.
    pub fn new(
        cluster: &Cluster,
        host: &DatabaseHost,
        paths: PostgresPaths,
        secrets: Secrets,
        state_dir: PathBuf,
    ) -> Self {
        let postgres = &host.postgres;
        Self {
            cluster: cluster.name.clone(),
            me: host.name.clone(),
            address: host.address,
            port: postgres.port,
            socket_dir: postgres.socket_dir.clone(),
            paths,
            state_dir,
            superuser: postgres.superuser.clone(),
            replication_user: postgres.replication_user.clone(),
            rewind_user: postgres.rewind_user.clone(),
            secrets,
            member_addresses: cluster.databases.iter().map(|database| database.address).collect(),
            tls: cluster.tls.cert.exists().then(|| cluster.tls.clone()),
            initdb: postgres.initdb.clone(),
            slots: cluster.replication.slots,
            max_slot_wal_keep_size: cluster.replication.max_slot_wal_keep_size,
            wal_receiver_timeout: Self::wal_receiver_timeout_for(cluster.failover.detection),
        }
    }

    /// What makes an idle stream of WAL show life in time. A walreceiver looks at its clock every 100 ms at worst.
    pub fn wal_receiver_timeout_for(detection: Duration) -> Duration {
        detection * 3 / 2
    }

    /// A path in the data directory.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.paths.data_dir.join(name)
    }

    /// A program of PostgreSQL.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.paths.bin_dir.join(name)
    }

    /// Directory of the pass files.
    pub(crate) fn pass_dir(&self) -> PathBuf {
        self.state_dir.join("pass")
    }
}
