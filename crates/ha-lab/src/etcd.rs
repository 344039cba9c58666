//! What is asked of etcd itself, by its own command on a host.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::clock;
use crate::lab::Lab;
use crate::wait::wait_for;

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

/// The host's own certificate.
const TLS: [&str; 3] = [
    "--cacert=/etc/matriarch/tls/ca.crt",
    "--cert=/etc/matriarch/tls/host.crt",
    "--key=/etc/matriarch/tls/host.key",
];

/// What etcd's own file says about how it is reached.
fn speaks_tls(lab: &Lab, host: &str) -> Result<bool> {
    let path = lab.dir().host(host).join("etc/etcd.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.contains("https://"))
}

/// Runs `etcdctl` on a host, with that host's certificate, against the members on `endpoints`.
fn etcdctl(lab: &Lab, host: &str, endpoints: &[&str], arguments: &[&str]) -> Result<String> {
    let tls = speaks_tls(lab, host)?;
    let scheme = if tls { "https" } else { "http" };
    let urls: Result<Vec<String>> =
        endpoints.iter().map(|name| Ok(format!("{scheme}://{}:2379", lab.address(name)?))).collect();
    let endpoints = format!("--endpoints={}", urls?.join(","));
    let mut argv = vec!["env", "ETCDCTL_API=3", "etcdctl", &endpoints];
    if tls {
        argv.extend(TLS);
    }
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
    let mut at = clock::now();
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

/// The value of one key, read from the member on `host`; nothing when there is no such key.
///
/// # Errors
/// It does not answer.
pub fn get(lab: &Lab, host: &str, key: &str) -> Result<Option<String>> {
    let text = etcdctl(lab, host, &[host], &["get", "--print-value-only", key])?;
    let text = text.trim_end();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
