//! `[etcd]`: where the consensus store is.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::cluster::DatabaseHost;
use crate::reader::Table;
use crate::tls::Tls;

/// Client side of etcd. The server's own configuration is written by `hactl init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// `https://ip:port` (or `http://` when `tls` is off); default: port 2379 on every database host.
    pub endpoints: Vec<String>,
    /// Certificate of the authority that signed the servers' certificates.
    pub ca: PathBuf,
    /// This host's client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether the store is reached by TLS.
    pub tls: bool,
}

/// etcd's client port.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd's port for its peers.
pub const ETCD_PEER_PORT: u16 = 2380;

impl Etcd {
    pub(crate) fn read(table: &Table<'_>, databases: &[DatabaseHost], host: &Tls) -> Self {
        let tls = table.boolean("tls").unwrap_or(true);
        let scheme = if tls { "https://" } else { "http://" };
        let expected = format!("{scheme}ADDRESS:PORT, such as \"{scheme}10.0.1.11:{ETCD_CLIENT_PORT}\"");
        let given = table.list("endpoints", &expected);
        if given.as_ref().is_some_and(Vec::is_empty) && !table.report.refused(&table.key("endpoints")) {
            table.refuse("endpoints", "an empty list", "at least one endpoint, or no such key");
        }
        for (index, endpoint) in given.iter().flatten().enumerate() {
            let usable = endpoint.value.strip_prefix(scheme).is_some_and(is_host_and_port);
            if !usable {
                table.report.push(endpoint.line, &*endpoint.key, format!("{:?}", endpoint.value), &*expected);
            } else if given.iter().flatten().take(index).any(|other| other.value == endpoint.value) {
                let found = format!("{:?} a second time", endpoint.value);
                table.report.push(endpoint.line, &*endpoint.key, found, "each endpoint once");
            }
        }
        let endpoints = match given {
            Some(given) => given.into_iter().map(|endpoint| endpoint.value).collect(),
            None => databases
                .iter()
                .map(|host| format!("{scheme}{}", SocketAddr::new(host.address, ETCD_CLIENT_PORT)))
                .collect(),
        };
        Self {
            endpoints,
            ca: table.path("ca").unwrap_or_else(|| host.ca.clone()),
            cert: table.path("cert").unwrap_or_else(|| host.cert.clone()),
            key: table.path("key").unwrap_or_else(|| host.key.clone()),
            tls,
        }
    }
}

/// `10.0.1.11:2379`, `[fd00::1]:2379` or `name:2379`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let named =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    let six = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let six = six.is_some_and(|inside| inside.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()));
    (named || six) && port.parse::<u16>().is_ok_and(|port| port > 0)
}
