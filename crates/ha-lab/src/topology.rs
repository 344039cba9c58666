//! Which hosts a lab has and where they live on its network.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Name of the host that runs clients and the admin's commands.
pub const CLIENT: &str = "client";

/// Address of the client host, in the subnet of the reference cluster.
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 100);

/// What runs on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// etcd, pg-guard, pg-agent and PostgreSQL.
    Database,
    /// pg-proxy and vrrpd.
    Proxy,
    /// Nothing by itself: write clients and hactl are started here.
    Client,
}

/// One host of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabHost {
    /// Host name, the same as in `cluster.toml`.
    pub name: String,
    /// Its only address.
    pub address: Ipv4Addr,
    /// What runs there.
    pub role: Role,
    /// The daemons that start with the host, in order.
    pub units: Vec<String>,
}

impl LabHost {
    /// The hardware address: derived from the IP address, so that a host that comes back keeps it. With a new one, its
    /// peers' neighbour entries are stale and pending connections still fail after 25 s.
    pub fn mac(&self) -> String {
        let [a, b, c, d] = self.address.octets();
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// Name of the switch port (the other end of the host's cable). Interface names end at 15 bytes.
    pub fn port(&self) -> String {
        let mut name = format!("h-{}", self.name);
        name.truncate(15);
        name
    }
}

impl Role {
    /// The daemons of such a host, in the order in which they start.
    pub fn units(self) -> &'static [&'static str] {
        match self {
            Self::Database => &["etcd", "pg-guard", "pg-agent"],
            Self::Proxy => &["pg-proxy", "vrrpd"],
            Self::Client => &[],
        }
    }

    fn host(self, name: &str, address: Ipv4Addr) -> LabHost {
        let units = self.units().iter().map(|&unit| unit.to_owned()).collect();
        LabHost { name: name.to_owned(), address, role: self, units }
    }
}

/// The hosts of a cluster, and a client beside them. A host in both lists of the file runs the daemons of both roles.
///
/// # Errors
/// A host has no IPv4 address: labs know no other.
pub(crate) fn hosts_of(cluster: &ha_config::Cluster, with_proxies: bool) -> anyhow::Result<Vec<LabHost>> {
    let mut hosts: Vec<LabHost> = Vec::new();
    for database in &cluster.databases {
        let name = database.name.as_str();
        hosts.push(Role::Database.host(name, ipv4(name, database.address)?));
    }
    for proxy in cluster.proxies.iter().filter(|_| with_proxies) {
        let host = Role::Proxy.host(proxy.name.as_str(), ipv4(proxy.name.as_str(), proxy.address)?);
        match hosts.iter_mut().find(|other| other.name == host.name) {
            Some(both) => both.units.extend(host.units),
            None => hosts.push(host),
        }
    }
    hosts.push(Role::Client.host(CLIENT, CLIENT_ADDRESS));
    Ok(hosts)
}

fn ipv4(name: &str, address: IpAddr) -> anyhow::Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => anyhow::bail!("lab host {name}: found {address}, expected an IPv4 address"),
    }
}
