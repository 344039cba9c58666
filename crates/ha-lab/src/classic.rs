//! The usual stack, as the distribution packages it, on hosts of a lab: Patroni with etcd on the database hosts, HAProxy
//! and keepalived on the proxy hosts. Beside our parts in scenarios, and in place of them in [`crate::bench`].
//!
//! Configuration files lie in a host's `/lab`, so that nothing of them meets ours in `/etc/matriarch`.

mod keepalived;
mod patroni;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use keepalived::{CHECK, WORKING_CHECK};
pub use patroni::{EtcdAccess, PatroniTimes};

use crate::lab::Lab;
use crate::options::LabOptions;
use crate::wait::wait_for;

/// HAProxy's usual configuration in front of Patroni: who leads is asked of port 8008.
pub const HAPROXY_CFG: &str = include_str!("classic/haproxy.cfg");

/// Services as the distribution describes them, except where their files lie.
const UNITS: [(&str, &str); 3] = [
    (
        "patroni",
        "[Service]\nUser=postgres\nExecStart=/usr/bin/patroni /lab/patroni.yml\nRestart=on-failure\n\
         KillMode=process\nTimeoutStopSec=30\n",
    ),
    (
        "haproxy",
        "[Service]\nExecStart=/usr/sbin/haproxy -db -f /lab/haproxy.cfg\nRestart=always\nLimitNOFILE=8192\n",
    ),
    (
        "keepalived",
        "[Service]\nExecStart=/usr/sbin/keepalived --dont-fork --log-console --dump-conf --use-file /lab/keepalived.conf\n\
         Restart=no\nTimeoutStopSec=10\n",
    ),
];

/// The database hosts of the reference cluster.
const DATABASES: [&str; 3] = ["pg1", "pg2", "pg3"];
/// Its proxy hosts.
const PROXIES: [&str; 2] = ["ha1", "ha2"];

impl LabOptions {
    /// The same with the services of the usual stack described, and some of them on a host in place of its own.
    #[must_use]
    pub fn classic_units(mut self, host: &str, units: &[&str]) -> Self {
        for (name, text) in UNITS {
            if units.contains(&name) && !self.unit_files.iter().any(|(known, _)| known == name) {
                self.unit_files.push((name.to_owned(), text.to_owned()));
            }
        }
        self.units_of(host, units)
    }

    /// The same with Patroni on every database host.
    #[must_use]
    pub fn with_patroni(self) -> Self {
        DATABASES.into_iter().fold(self, |options, host| options.classic_units(host, &["etcd", "patroni"]))
    }

    /// The same with these services on both proxy hosts.
    #[must_use]
    pub fn classic_front(self, units: &[&str]) -> Self {
        PROXIES.into_iter().fold(self, |options, host| options.classic_units(host, units))
    }

    /// The whole usual stack in place of ours.
    #[must_use]
    pub fn all_classic(self) -> Self {
        self.with_patroni().classic_front(&["haproxy", "keepalived"])
    }
}

/// Configures Patroni on every database host, and etcd for it. Before the hosts are powered on.
///
/// # Errors
/// A file cannot be written.
pub fn configure_patroni(lab: &Lab, times: PatroniTimes, access: EtcdAccess) -> Result<()> {
    for host in lab.databases() {
        write(lab, host, "patroni.yml", 0o644, &patroni::configuration(lab, host, times, access)?)?;
        patroni::configure_etcd(lab, host, access)?;
    }
    Ok(())
}

/// Configures HAProxy on a host.
///
/// # Errors
/// A file cannot be written.
pub fn configure_haproxy(lab: &Lab, host: &str) -> Result<()> {
    configure_haproxy_as(lab, host, HAPROXY_CFG)
}

/// Configures HAProxy on a host by this file.
///
/// # Errors
/// It cannot be written.
pub fn configure_haproxy_as(lab: &Lab, host: &str, text: &str) -> Result<()> {
    write(lab, host, "haproxy.cfg", 0o644, text)
}

/// Configures keepalived on a host, in VRRP version 2 or 3, with this check of HAProxy.
///
/// # Errors
/// A file cannot be written.
pub fn configure_keepalived(lab: &Lab, host: &str, version: u8, check: &str) -> Result<()> {
    // keepalived refuses to trust a file that others can write to or execute.
    write(lab, host, "keepalived.conf", 0o600, &keepalived::configuration(host, version, check))
}

/// Configures everything of [`LabOptions::all_classic`], with the usual values; the check of the proxy in the form that
/// works.
///
/// # Errors
/// A file cannot be written.
pub fn configure_all(lab: &Lab) -> Result<()> {
    configure_patroni(lab, PatroniTimes::USUAL, EtcdAccess::Plain)?;
    for proxy in lab.proxies() {
        configure_haproxy(lab, proxy)?;
        configure_keepalived(lab, proxy, 2, WORKING_CHECK)?;
    }
    Ok(())
}

fn write(lab: &Lab, host: &str, name: &str, mode: u32, text: &str) -> Result<()> {
    let path = lab.dir().host(host).join("work").join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// Waits until one member of Patroni's leads, all others stream, one of them synchronously. Returns the leader.
///
/// # Errors
/// Not within `limit`.
pub fn wait_healthy(lab: &Lab, limit: Duration) -> Result<String> {
    let members = lab.databases();
    wait_for(&format!("a leader and replicas among {members:?}"), limit, || {
        let mut leader = None;
        for host in &members {
            let answers = |path: &str| lab.rest(host, path).is_ok_and(|answer| answer.status == 200);
            if answers("/primary") {
                leader = Some((*host).to_owned());
            } else if !answers("/replica") {
                return Err(format!("{host} is neither"));
            }
        }
        let leader = leader.ok_or_else(|| "no leader".to_owned())?;
        synchronous(lab).map_err(|error| format!("{error:#}"))?;
        Ok(leader)
    })
}

/// The standby that Patroni may promote.
///
/// # Errors
/// There is none.
pub fn synchronous(lab: &Lab) -> Result<String> {
    let members = lab.databases();
    let found =
        members.iter().find(|host| lab.rest(host, "/synchronous").is_ok_and(|answer| answer.status == 200));
    Ok((*found.context("no synchronous standby")?).to_owned())
}

/// A planned switchover, with Patroni's own command, on the leader's host. Returns when that has ended.
///
/// # Errors
/// It was refused.
pub fn switchover(lab: &Lab, leader: &str, candidate: &str) -> Result<()> {
    let argv = ["patronictl", "-c", "/lab/patroni.yml", "switchover", "--master", leader, "--candidate"];
    let argv: Vec<&str> = argv.into_iter().chain([candidate, "--force"]).collect();
    let output = lab.exec_as(leader, "postgres", &argv)?;
    anyhow::ensure!(output.code == Some(0), "patronictl switchover: {}{}", output.stdout, output.stderr);
    Ok(())
}
