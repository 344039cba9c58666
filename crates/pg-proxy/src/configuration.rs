//! What the parts are told of the cluster file: at the start, and again of a changed one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ha_config::{Balance, Cluster, Doubtful, Problems, ProxyHost, ReadConsistency};
use ha_core::MemberName;
use ha_routing::Setup;
use ha_routing::balance::Share;
use ha_rpc::TlsFiles;

use crate::data_path::{Port, Settings};
use crate::drain;
use crate::read_lease::ReadLeases;

/// A claim that is older is no evidence. Agents speak at least every 500 ms; two may be lost.
const SILENCE: Duration = Duration::from_millis(1500);

/// Reads the file for the proxy host `node` (default: the host name).
///
/// # Errors
/// All problems at once.
pub fn read(path: &Path, node: Option<&str>) -> Result<(Cluster, ProxyHost), Problems> {
    let cluster = ha_config::load(path)?;
    let host = cluster.this_proxy(node)?.clone();
    Ok((cluster, host))
}

/// For the router.
pub fn setup(cluster: &Cluster) -> Setup {
    let routing = &cluster.routing;
    Setup {
        members: upstreams(cluster),
        check_interval: routing.check_interval,
        check_rise: routing.check_rise,
        check_fall: routing.check_fall,
        hold_timeout: routing.hold_timeout,
        maximum_read_lag: routing.maximum_read_lag_bytes,
        read_from_leader: routing.read_from_leader,
        silence: SILENCE,
        stale_limit: routing.stale_limit,
    }
}

/// For the data path.
pub fn settings(cluster: &Cluster) -> Settings {
    let routing = &cluster.routing;
    Settings {
        max_connections: routing.max_connections,
        upstream_connections: routing.upstream_connections,
        queue_timeout: routing.queue_timeout,
        hold_timeout: routing.hold_timeout,
        connect_timeout: routing.connect_timeout,
        client_timeout: routing.client_timeout,
        server_timeout: routing.server_timeout,
        refuse_cancelled_commits: routing.cancelled_commits == Doubtful::Refuse,
        refuse_lowered_commits: routing.lowered_commits == Doubtful::Refuse,
        require_tls: routing.require_tls,
        name_clients: routing.name_clients,
        balance: match routing.balance {
            Balance::RoundRobin => ha_routing::balance::Balance::RoundRobin,
            Balance::LeastConnections => ha_routing::balance::Balance::LeastConnections,
            Balance::Random => ha_routing::balance::Balance::Random,
        },
        log_sessions: routing.log_sessions,
    }
}

/// Where leaders are asked for read leases, if answers need one.
pub fn read_leases(cluster: &Cluster) -> Option<Arc<ReadLeases>> {
    let wanted = cluster.routing.reads == ReadConsistency::Linearizable;
    wanted.then(|| Arc::new(ReadLeases::new(cluster.databases.len(), cluster.failover.detection)))
}

/// For the leave-taking.
pub fn drain_limits(cluster: &Cluster) -> drain::Limits {
    drain::Limits {
        announce: if cluster.vips.is_empty() { Duration::ZERO } else { drain::ANNOUNCE },
        drain: cluster.routing.drain_timeout,
        upgrade: cluster.routing.upgrade_timeout,
    }
}

/// Where clients are listened for. Floating addresses come and go; the port is there before the address.
pub fn listeners(cluster: &Cluster, host: &ProxyHost) -> Vec<(Port, SocketAddr)> {
    let routing = &cluster.routing;
    let addresses = std::iter::once(host.address).chain(cluster.vips.iter().map(|vip| vip.address));
    let both = |address| {
        [(Port::Writes, routing.write_port), (Port::Reads, routing.read_port)]
            .map(|(kind, port)| (kind, SocketAddr::new(address, port)))
    };
    addresses.flat_map(both).collect()
}

/// What each of [`upstreams`] is to this proxy. A host without a zone is near to everybody.
pub fn shares(cluster: &Cluster, proxy: &ProxyHost) -> Vec<Share> {
    let near = |zone: &Option<String>| proxy.zone.is_none() || zone.is_none() || *zone == proxy.zone;
    let tags = cluster.databases.iter().map(|host| &host.tags);
    tags.map(|tags| Share { weight: tags.weight, near: near(&tags.zone) }).collect()
}

/// The PostgreSQL of every member, in the order of the file.
pub fn upstreams(cluster: &Cluster) -> Vec<(MemberName, SocketAddr)> {
    let hosts = cluster.databases.iter();
    hosts.map(|host| (host.name.clone(), SocketAddr::new(host.address, host.postgres.port))).collect()
}

/// Every member's host, on this port.
pub fn on_port(cluster: &Cluster, port: u16) -> Vec<(MemberName, SocketAddr)> {
    let hosts = cluster.databases.iter();
    hosts.map(|host| (host.name.clone(), SocketAddr::new(host.address, port))).collect()
}

/// This host's certificate.
pub fn tls_files(cluster: &Cluster) -> TlsFiles {
    let tls = &cluster.tls;
    TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() }
}
