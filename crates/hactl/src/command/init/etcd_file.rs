//! `etcd.yaml` for a database host: an existing etcd, set up for our use of it.

use std::net::{IpAddr, SocketAddr};

use ha_config::{Cluster, DatabaseHost, ETCD_CLIENT_PORT, ETCD_PEER_PORT};

/// Where the file stands.
pub(super) const PATH: &str = "/etc/matriarch/etcd.yaml";
/// etcd's certificate, for clients and peers.
pub(super) const CERT: &str = "/etc/matriarch/tls/etcd.crt";
/// Its key.
pub(super) const KEY: &str = "/etc/matriarch/tls/etcd.key";

/// The file for `host`; `None` when the cluster uses an etcd that does not run on this host.
pub(super) fn for_host(cluster: &Cluster, host: &DatabaseHost) -> Option<String> {
    let runs_etcd =
        |address: IpAddr| cluster.etcd.endpoints.contains(&url(cluster, address, ETCD_CLIENT_PORT));
    if !runs_etcd(host.address) {
        return None;
    }
    let peers: Vec<String> = cluster
        .databases
        .iter()
        .filter(|peer| runs_etcd(peer.address))
        .map(|peer| format!("{}={}", peer.name, url(cluster, peer.address, ETCD_PEER_PORT)))
        .collect();
    Some(compose(cluster, host, &peers.join(",")))
}

fn url(cluster: &Cluster, address: IpAddr, port: u16) -> String {
    let scheme = if cluster.etcd.tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(address, port))
}

fn compose(cluster: &Cluster, host: &DatabaseHost, peers: &str) -> String {
    let client = url(cluster, host.address, ETCD_CLIENT_PORT);
    let peer = url(cluster, host.address, ETCD_PEER_PORT);
    let (cluster_name, name) = (&cluster.name, &host.name);
    let mut text = format!(
        r#"# etcd 3.4 or newer on {name}: etcd --config-file {PATH}
name: "{name}"
data-dir: "/var/lib/etcd/matriarch-{cluster_name}"

# Only the host's own address, never every address.
listen-client-urls: "{client}"
advertise-client-urls: "{client}"
listen-peer-urls: "{peer}"
initial-advertise-peer-urls: "{peer}"

initial-cluster: "{peers}"
initial-cluster-token: "matriarch-{cluster_name}"
initial-cluster-state: "new"
strict-reconfig-check: true

# Milliseconds, the same on every member. The election timeout must exceed the slowest fsync.
heartbeat-interval: 100
election-timeout: 1000
# A member that comes back does not depose a working leader (off by default in 3.4).
pre-vote: true

# Our data is a few kilobytes; old revisions must still be thrown away (off by default).
quota-backend-bytes: 2147483648
auto-compaction-mode: "periodic"
auto-compaction-retention: "1h"
snapshot-count: 10000

# Nanoseconds. The first is a floor: a client that pings more often is disconnected.
grpc-keepalive-min-time: 500000000
grpc-keepalive-interval: 2000000000
grpc-keepalive-timeout: 2000000000

logger: "zap"
log-level: "info"
log-outputs: ["stderr"]
"#
    );
    if cluster.etcd.tls {
        let ca = cluster.tls.ca.display();
        for section in ["client-transport-security", "peer-transport-security"] {
            text.push_str(&format!(
                "\n{section}:\n  cert-file: \"{CERT}\"\n  key-file: \"{KEY}\"\n  client-cert-auth: true\n  trusted-ca-file: \"{ca}\"\n"
            ));
        }
    }
    text
}
