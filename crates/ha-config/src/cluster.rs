//! The checked description of one cluster: who is in it and how it is to behave.

use std::net::IpAddr;
use std::path::Path;

use ha_core::{ClusterName, MemberName};

use crate::etcd::Etcd;
use crate::failover::Failover;
use crate::guard::Guard;
use crate::hooks::Hooks;
use crate::postgres::Postgres;
use crate::problem::{Problem, Problems};
use crate::replication::Replication;
use crate::routing::Routing;
use crate::tls::Tls;
use crate::vip::Vip;
use crate::vrrp::Vrrp;

/// TCP port of the agent's REST interface.
pub const REST_PORT: u16 = 8008;
/// TCP port of the agent's gRPC interface (mutual TLS).
pub const GRPC_PORT: u16 = 8009;
/// UDP port of the heartbeats between agents.
pub const HEARTBEAT_PORT: u16 = 8010;
/// TCP port of vrrpd's gRPC interface (mutual TLS).
pub const VRRPD_GRPC_PORT: u16 = 7002;
/// TCP port of vrrpd's metrics.
pub const VRRPD_METRICS_PORT: u16 = 7003;

/// Everything that `cluster.toml` says, checked. Built by [`crate::load`] or [`crate::parse`] only from a file
/// without problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Name of the cluster: key prefix in etcd, directory names, certificates.
    pub name: ClusterName,
    /// The hosts with PostgreSQL, in the order of the file; at least one.
    pub databases: Vec<DatabaseHost>,
    /// The hosts with pg-proxy and vrrpd, in the order of the file. A host may stand in both lists.
    pub proxies: Vec<ProxyHost>,
    /// Floating addresses.
    pub vips: Vec<Vip>,
    /// What they have in common.
    pub vrrp: Vrrp,
    /// Cluster-wide PostgreSQL settings. Use [`DatabaseHost::postgres`] for one host.
    pub postgres: Postgres,
    /// The consensus store.
    pub etcd: Etcd,
    /// What commits wait for.
    pub replication: Replication,
    /// When and how fast leadership moves.
    pub failover: Failover,
    /// How the guard fences.
    pub guard: Guard,
    /// The proxies' settings.
    pub routing: Routing,
    /// This host's certificate, the same paths on every host.
    pub tls: Tls,
    /// Programs that are told about changes.
    pub hooks: Hooks,
    /// Digest of the file's bytes (16 hexadecimal digits): members publish it, a difference between hosts is shown.
    pub digest: String,
}

/// One host with PostgreSQL, pg-agent and pg-guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseHost {
    /// Name of the host and of the member.
    pub name: MemberName,
    /// The only address on which this host's daemons and PostgreSQL listen.
    pub address: IpAddr,
    /// What this member may be used for.
    pub tags: Tags,
    /// PostgreSQL settings with this host's overrides applied.
    pub postgres: Postgres,
}

/// One host with pg-proxy and vrrpd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHost {
    /// Name of the host.
    pub name: MemberName,
    /// Its own address.
    pub address: IpAddr,
    /// Where it stands; its reads go to standbys of the same zone first.
    pub zone: Option<String>,
}

/// What a member may be used for (`[database.tags]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Never promoted.
    pub nofailover: bool,
    /// Gets no reads from the proxies.
    pub noloadbalance: bool,
    /// Never in the synchronous list.
    pub nosync: bool,
    /// Preferred source of base backups.
    pub clonefrom: bool,
    /// Streams from this member instead of the primary.
    pub replicatefrom: Option<MemberName>,
    /// Among equals the highest wins; 0 means the same as `nofailover`.
    pub failover_priority: u32,
    /// How many of the reads it takes compared with others, 1 to 256.
    pub weight: u32,
    /// Where it stands: proxies of the same zone prefer it for reads.
    pub zone: Option<String>,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            nofailover: false,
            noloadbalance: false,
            nosync: false,
            clonefrom: false,
            replicatefrom: None,
            failover_priority: 1,
            weight: 1,
            zone: None,
        }
    }
}

impl Tags {
    /// Whether this member may ever be promoted.
    pub fn may_lead(&self) -> bool {
        !self.nofailover && self.failover_priority > 0
    }
}

impl Cluster {
    /// The database host of this name.
    pub fn database(&self, name: &str) -> Option<&DatabaseHost> {
        self.databases.iter().find(|host| host.name.as_str() == name)
    }

    /// The proxy host of this name.
    pub fn proxy(&self, name: &str) -> Option<&ProxyHost> {
        self.proxies.iter().find(|host| host.name.as_str() == name)
    }

    /// The database host on which this process runs: `node`, or the kernel's host name (also without its domain).
    ///
    /// # Errors
    /// When no `[[database]]` has that name; the message lists the names there are.
    pub fn this_node(&self, node: Option<&str>) -> Result<&DatabaseHost, Problems> {
        find_node(&self.databases, node, "database", |host| host.name.as_str())
    }

    /// The proxy host on which this process runs, likewise.
    ///
    /// # Errors
    /// When no `[[proxy]]` has that name; the message lists the names there are.
    pub fn this_proxy(&self, node: Option<&str>) -> Result<&ProxyHost, Problems> {
        find_node(&self.proxies, node, "proxy", |host| host.name.as_str())
    }
}

fn find_node<'a, H>(
    hosts: &'a [H],
    node: Option<&str>,
    table: &str,
    name_of: impl Fn(&H) -> &str,
) -> Result<&'a H, Problems> {
    let (wanted, origin) = match node {
        Some(name) => (name.to_owned(), "given by --node"),
        None => (host_name(), "the host name; --node NAME gives another"),
    };
    let short = wanted.split('.').next().unwrap_or_default();
    let find = |name: &str| hosts.iter().find(|host| name_of(host) == name);
    find(&wanted).or_else(|| find(short)).ok_or_else(|| {
        let names: Vec<&str> = hosts.iter().map(&name_of).collect();
        let expected = if names.is_empty() {
            format!("a [[{table}]] of this name: the file has none at all")
        } else {
            format!("one of {}", names.join(", "))
        };
        let found = format!("no [[{table}]] {wanted:?} ({origin})");
        Problems::one(Problem::new(Path::new(""), None, format!("{table}.name"), found, expected))
    })
}

/// The kernel's host name; empty when it cannot be read, which then names no host.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
