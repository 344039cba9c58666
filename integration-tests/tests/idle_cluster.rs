//! An idle cluster writes nothing to etcd in a minute, and its daemons are small.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::{SETTLE, etcd, scenario, with_proxies};

const MINUTE: Duration = Duration::from_secs(60);
/// Resident memory of the shipped binaries, in KiB. Guard and vrrpd hold the whole of their code and of the C library, which
/// is 2 MiB of it, in memory.
const AGENT_KB: u64 = 12 * 1024;
const GUARD_KB: u64 = 5 * 1024;
const VRRPD_KB: u64 = 8 * 1024;
/// A development build carries unoptimised code and is not what is promised.
const DEVELOPMENT: u64 = if cfg!(debug_assertions) { 5 } else { 1 };

#[test]
fn idle_cluster() {
    scenario("idle_cluster", with_proxies, &[], |lab| {
        let host = lab.wait_healthy(SETTLE)?;
        let settled = wait_for("the store to come to rest", SETTLE, || {
            let before = revision(lab, &host)?;
            match holds_for("same revision", Duration::from_secs(5), || same_revision(lab, &host, before)) {
                Ok(()) => Ok(before),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        holds_for("an idle cluster writes nothing to etcd", MINUTE, || {
            std::thread::sleep(Duration::from_secs(1));
            same_revision(lab, &host, settled)
        })?;
        for host in lab.databases() {
            small(lab, host, "pg-agent", AGENT_KB * DEVELOPMENT)?;
            small(lab, host, "pg-guard", GUARD_KB * DEVELOPMENT)?;
        }
        for host in lab.proxies() {
            small(lab, host, "vrrpd", VRRPD_KB * DEVELOPMENT)?;
        }
        Ok(())
    });
}

fn revision(lab: &Lab, host: &str) -> Result<u64, String> {
    etcd::status(lab, host).map(|member| member.revision).map_err(|error| format!("{error:#}"))
}

fn same_revision(lab: &Lab, host: &str, expected: u64) -> Result<(), String> {
    let now = revision(lab, host)?;
    if now == expected { Ok(()) } else { Err(format!("revision {now} after {expected}")) }
}

fn small(lab: &Lab, host: &str, unit: &str, limit_kb: u64) -> Result<()> {
    let status = lab.host_status(host)?;
    let pid = status.units.iter().find(|other| other.name == unit).and_then(|unit| unit.pid);
    let path = format!("/proc/{}/status", pid.with_context(|| format!("{unit} does not run on {host}"))?);
    let text = lab.exec(host, &["cat", &path])?.stdout;
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident: u64 = resident.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    ensure!(resident <= limit_kb, "{unit} on {host} holds {resident} KiB, at most {limit_kb} expected");
    Ok(())
}
