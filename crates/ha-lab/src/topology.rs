//! Which hosts a lab has and where they live on its network.

use std::net::Ipv4Addr;

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

    /// The daemons that start with the host, in order.
    pub fn units(&self) -> &'static [&'static str] {
        match self.role {
            Role::Database => &["etcd", "pg-guard", "pg-agent"],
            Role::Client => &[],
        }
    }
}

/// The hosts of a cluster, and a client beside them.
///
/// # Errors
/// A database host has no IPv4 address: labs know no other.
pub(crate) fn hosts_of(cluster: &ha_config::Cluster) -> anyhow::Result<Vec<LabHost>> {
    let mut hosts = Vec::new();
    for database in &cluster.databases {
        let std::net::IpAddr::V4(address) = database.address else {
            anyhow::bail!("lab host {}: found {}, expected an IPv4 address", database.name, database.address);
        };
        hosts.push(LabHost { name: database.name.to_string(), address, role: Role::Database });
    }
    hosts.push(LabHost { name: CLIENT.to_owned(), address: CLIENT_ADDRESS, role: Role::Client });
    Ok(hosts)
}
