//! The front side as the client sees it: who holds the floating address, and where the proxies' ports lead.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::Lab;
use crate::wait::wait_for;

/// The proxies' port for writes.
pub const WRITE_PORT: u16 = 5000;
/// The proxies' port for reads.
pub const READ_PORT: u16 = 5001;
/// The proxies' port of the status page.
pub const STATUS_PORT: u16 = 7000;

/// Limit of one trial session. A proxy without a primary holds it longer: that is one look, not the end of the wait.
const TRIAL: Duration = Duration::from_secs(2);

impl Lab {
    /// Proxy hosts on which the floating address is, as their kernels say.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn vip_holders(&self) -> Result<Vec<String>> {
        let vip = self.vip()?;
        let status = self.status()?;
        let holders = status.hosts.into_iter().filter(|state| {
            state.init.is_some_and(|init| {
                let table = format!("/proc/{}/net/fib_trie", init.pid);
                fs::read_to_string(table).is_ok_and(|table| is_local(&table, vip))
            })
        });
        Ok(holders.map(|state| state.host.name).collect())
    }

    /// Waits until exactly one host holds the floating address. Returns its name.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_vip_holder(&self, limit: Duration) -> Result<String> {
        wait_for("one host with the floating address", limit, || {
            let holders = self.vip_holders().map_err(|error| format!("{error:#}"))?;
            match holders.as_slice() {
                [holder] => Ok(holder.clone()),
                _ => Err(format!("it is on {holders:?}")),
            }
        })
    }

    /// Waits until only `host` holds the floating address.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_vip_on(&self, host: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("the floating address on {host}"), limit, || {
            let holders = self.vip_holders().map_err(|error| format!("{error:#}"))?;
            if holders == [host] { Ok(()) } else { Err(format!("it is on {holders:?}")) }
        })
    }

    /// Waits until a session through an address and port is answered by a server of the port's kind. Returns the server's
    /// host.
    ///
    /// # Errors
    /// None was within `limit`; the message is what the last was told.
    pub fn wait_route_open(&self, address: Ipv4Addr, port: u16, limit: Duration) -> Result<String> {
        wait_for(&format!("an open route through {address}:{port}"), limit, || {
            let answer = self.session_through(address, port, TRIAL).map_err(|error| format!("{error:#}"))?;
            if answer.in_recovery != (port == READ_PORT) {
                return Err(format!("{answer:?}"));
            }
            let server = self.hosts().iter().find(|host| host.address == answer.server);
            server.map(|host| host.name.clone()).ok_or_else(|| format!("an unknown server: {answer:?}"))
        })
    }

    /// Waits until every proxy host is up and leads writes to the same server, reads to a standby, and the floating address
    /// is on one of them. Returns the server of writes and the holder of the address.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_front(&self, limit: Duration) -> Result<(String, String)> {
        let holder = self.wait_vip_holder(limit)?;
        let server = self.wait_route_open(self.vip()?, WRITE_PORT, limit)?;
        for proxy in self.proxies() {
            let address = self.address(proxy)?;
            wait_for(&format!("writes through {proxy} to {server}"), limit, || {
                match self.wait_route_open(address, WRITE_PORT, Duration::ZERO) {
                    Ok(other) if other == server => Ok(()),
                    Ok(other) => Err(format!("they go to {other}")),
                    Err(error) => Err(format!("{error:#}")),
                }
            })?;
            self.wait_route_open(address, READ_PORT, limit)?;
        }
        Ok((server, holder))
    }

    /// What a proxy says about itself.
    ///
    /// # Errors
    /// No answer within 2 s, or one that is no JSON.
    pub fn proxy_status(&self, proxy: &str) -> Result<Value> {
        self.http("GET", proxy, STATUS_PORT, "/status.json")?
            .json()
            .with_context(|| format!("status of proxy {proxy}"))
    }
}

/// Whether a dump of a routing trie has the address among the local ones.
fn is_local(table: &str, address: Ipv4Addr) -> bool {
    let leaf = format!("|-- {address}");
    let mut lines = table.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == leaf && lines.clone().next().is_some_and(|next| next == "/32 host LOCAL") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_local_only_where_the_kernel_says_so() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.1.0\n        /24 link UNICAST\nLocal:\n     |-- 10.0.1.10\n        \
                     /32 host LOCAL\n     |-- 10.0.1.100\n        /32 link BROADCAST\n";
        assert!(is_local(table, Ipv4Addr::new(10, 0, 1, 10)));
        assert!(!is_local(table, Ipv4Addr::new(10, 0, 1, 1)));
        assert!(!is_local(table, Ipv4Addr::new(10, 0, 1, 100)));
    }
}
