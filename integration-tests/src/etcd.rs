//! What the scenarios ask of etcd itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::wait::wait_for;
use serde_json::Value;

/// Ports of etcd: clients, peers.
pub const PORTS: [u16; 2] = [2379, 2380];

/// One member's answer to a status request.
#[derive(Debug, Clone)]
pub struct EtcdMember {
    /// The host it runs on.
    pub host: String,
    /// Its id.
    pub id: u64,
    /// Whom it believes to be etcd's leader.
    pub leader: u64,
    /// Newest revision of the store.
    pub revision: u64,
}

/// Runs `etcdctl` on a host, with that host's certificate, against the members on `endpoints`.
fn etcdctl(lab: &Lab, host: &str, endpoints: &[&str], arguments: &[&str]) -> Result<String> {
    let urls: Result<Vec<String>> =
        endpoints.iter().map(|name| Ok(format!("https://{}:2379", lab.address(name)?))).collect();
    let endpoints = format!("--endpoints={}", urls?.join(","));
    let mut argv = vec![
        "env",
        "ETCDCTL_API=3",
        "etcdctl",
        "--cacert=/etc/matriarch/tls/ca.crt",
        "--cert=/etc/matriarch/tls/host.crt",
        "--key=/etc/matriarch/tls/host.key",
        &endpoints,
    ];
    argv.extend(arguments);
    let output = lab.exec(host, &argv)?;
    ensure!(output.code == Some(0), "etcdctl {arguments:?} on {host}: {}", output.stderr.trim());
    Ok(output.stdout)
}

/// The status of one member.
///
/// # Errors
/// It does not answer.
pub fn status(lab: &Lab, host: &str) -> Result<EtcdMember> {
    let text = etcdctl(lab, host, &[host], &["endpoint", "status", "--write-out=json"])?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("status {text:?}"))?;
    let status = &value[0]["Status"];
    let number = |value: &Value, what: &str| value.as_u64().with_context(|| format!("{what} in {text}"));
    Ok(EtcdMember {
        host: host.to_owned(),
        id: number(&status["header"]["member_id"], "member_id")?,
        leader: number(&status["leader"], "leader")?,
        revision: number(&status["header"]["revision"], "revision")?,
    })
}

/// The host of etcd's leader.
///
/// # Errors
/// There is none, or a host does not answer.
pub fn leader(lab: &Lab) -> Result<String> {
    let members: Vec<EtcdMember> =
        lab.databases().iter().map(|host| status(lab, host)).collect::<Result<_>>()?;
    let leader = members.iter().find(|member| member.id == member.leader).context("etcd has no leader")?;
    Ok(leader.host.clone())
}

/// Moves etcd's leadership to a host and waits until it is there.
///
/// # Errors
/// It is not after 10 s.
pub fn move_leader(lab: &Lab, to: &str) -> Result<()> {
    let from = leader(lab)?;
    if from != to {
        let target = format!("{:x}", status(lab, to)?.id);
        etcdctl(lab, &from, &[&from], &["move-leader", &target])?;
    }
    wait_for(&format!("etcd's leader on {to}"), Duration::from_secs(10), || match leader(lab) {
        Ok(host) if host == to => Ok(()),
        Ok(host) => Err(format!("on {host}")),
        Err(error) => Err(format!("{error:#}")),
    })
}

/// Ends etcd on these hosts at once, and does not start it again.
///
/// # Errors
/// A host is off.
pub fn kill(lab: &Lab, hosts: &[&str]) -> Result<Duration> {
    let mut at = ha_lab::clock::now();
    for host in hosts {
        lab.mask(host, "etcd")?;
        at = lab.signal(host, "etcd", "SIGKILL")?;
    }
    Ok(at)
}

/// Starts etcd on these hosts.
///
/// # Errors
/// A host is off.
pub fn start(lab: &Lab, hosts: &[&str]) -> Result<()> {
    hosts.iter().try_for_each(|host| lab.start_unit(host, "etcd"))
}
