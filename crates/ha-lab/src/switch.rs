//! The lab's network: a bridge in a namespace that has no way out, one port per host, and what is cut.
//!
//! Cuts are rules of the bridge itself, as if the switch lost the frames: no host sees anything but silence, every set
//! of cuts takes force in one transaction, and each direction can be cut alone.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::topology::LabHost;

/// Name of the bridge.
const BRIDGE: &str = "lab0";

/// Traffic from some hosts to others that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Senders.
    pub from: Vec<String>,
    /// Receivers.
    pub to: Vec<String>,
    /// Only these TCP and UDP ports, whichever side listens; every frame when empty.
    pub ports: Vec<u16>,
}

impl Cut {
    /// Everything between two groups of hosts, in both directions.
    pub fn between(one: &[&str], other: &[&str]) -> Vec<Self> {
        Self::ports_between(one, other, &[])
    }

    /// Some TCP and UDP ports between two groups of hosts, in both directions.
    pub fn ports_between(one: &[&str], other: &[&str], ports: &[u16]) -> Vec<Self> {
        vec![Self::one_way(one, other, ports), Self::one_way(other, one, ports)]
    }

    /// Only what `from` sends to `to`.
    pub fn one_way(from: &[&str], to: &[&str], ports: &[u16]) -> Self {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { from: own(from), to: own(to), ports: ports.to_vec() }
    }
}

/// Builds the bridge in the calling process's network namespace.
pub(crate) fn build() -> Result<()> {
    ip(&format!(
        "link set lo up\nlink add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set {BRIDGE} up\n"
    ))
}

/// Plugs a host in: a cable from its `eth0` to a port of the bridge.
pub(crate) fn plug_in(host: &LabHost, init: i32) -> Result<()> {
    let port = host.port();
    let mac = host.mac();
    ip(&format!(
        "link add {port} type veth peer name eth0 address {mac} netns {init}\nlink set {port} master {BRIDGE}\nlink set {port} up\n"
    ))
}

/// Takes the link of all these hosts down, in the given order, within a millisecond or two of each other.
pub(crate) fn cut_links<'a>(hosts: impl Iterator<Item = &'a LabHost>) -> Result<()> {
    ip(&hosts.map(|host| format!("link set {} down\n", host.port())).collect::<String>())
}

/// Takes the link of all these hosts up again.
pub(crate) fn restore_links<'a>(hosts: impl Iterator<Item = &'a LabHost>) -> Result<()> {
    ip(&hosts.map(|host| format!("link set {} up\n", host.port())).collect::<String>())
}

/// Removes a host's port; its namespace may hold the cable alive for a second after the last process has gone.
pub(crate) fn unplug(host: &LabHost) -> Result<()> {
    let port = host.port();
    let Err(error) = ip(&format!("link del {port}\n")) else { return Ok(()) };
    let shown =
        Command::new("ip").args(["link", "show", "dev", &port]).output().context("look for a port")?;
    // Gone already, with its other end.
    if shown.status.success() { Err(error) } else { Ok(()) }
}

/// Gives the calling host its address. Runs inside the host.
pub(crate) fn configure_host(host: &LabHost) -> Result<()> {
    let address = host.address;
    ip(&format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"))
}

/// Puts exactly these cuts in force, in one transaction.
pub(crate) fn apply_cuts(cuts: &[Cut], hosts: &[LabHost]) -> Result<()> {
    let rules = rules(cuts, hosts)?;
    feed(Command::new("nft").args(["-f", "-"]), &rules)
}

/// The ruleset for these cuts.
fn rules(cuts: &[Cut], hosts: &[LabHost]) -> Result<String> {
    let find = |name: &str| {
        hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("cut: the lab has no host {name:?}"))
    };
    // Adding a table that exists changes nothing, deleting one that does not fails: so add, delete, add.
    let mut text = String::from(
        "add table bridge cuts\ndelete table bridge cuts\nadd table bridge cuts\n\
         add chain bridge cuts forward { type filter hook forward priority 0; policy accept; }\n",
    );
    for cut in cuts {
        for from in &cut.from {
            for to in &cut.to {
                // By port of the switch: broadcasts and multicasts have no receiver's hardware address.
                let pair = format!(
                    "add rule bridge cuts forward iifname \"{}\" oifname \"{}\"",
                    find(from)?.port(),
                    find(to)?.port()
                );
                if cut.ports.is_empty() {
                    text.push_str(&format!("{pair} drop\n"));
                }
                for (port, protocol) in cut.ports.iter().flat_map(|port| [(port, "tcp"), (port, "udp")]) {
                    text.push_str(&format!(
                        "{pair} {protocol} sport {port} drop\n{pair} {protocol} dport {port} drop\n"
                    ));
                }
            }
        }
    }
    Ok(text)
}

/// Runs a batch of `ip` commands.
fn ip(batch: &str) -> Result<()> {
    feed(Command::new("ip").args(["-batch", "-"]), batch)
}

/// Runs a command with text as its input.
fn feed(command: &mut Command, input: &str) -> Result<()> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("write to {name}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {name}"))?;
    if !output.status.success() {
        bail!(
            "{name}: {}: {}\ninput:\n{input}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::topology::Role;

    #[test]
    fn a_cut_by_port_loses_both_requests_and_answers() {
        let host = |name: &str, last| LabHost {
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 0, 1, last),
            role: Role::Database,
            units: Vec::new(),
        };
        let hosts = [host("pg1", 11), host("pg2", 12)];
        let text = rules(&[Cut::one_way(&["pg1"], &["pg2"], &[2379])], &hosts).unwrap();
        assert!(text.contains("iifname \"h-pg1\" oifname \"h-pg2\" tcp dport 2379 drop"));
        assert!(text.contains("tcp sport 2379 drop") && text.contains("udp dport 2379 drop"));
        assert!(rules(&Cut::between(&["pg1"], &["pg9"]), &hosts).is_err());
    }
}
