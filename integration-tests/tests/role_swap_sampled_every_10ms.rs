//! Through both proxies a new session is opened every 10 ms while the leader changes, planned and not: no 10 ms in which
//! two members were given write sessions, and never one that a standby answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::sessions::{Sample, SampleOptions, Sampler, write_samples};
use ha_lab::wait::wait_for;
use integration_tests::front::{Front, front_scenario};
use integration_tests::proof::note;
use integration_tests::{SETTLE, TAKEOVER};

/// Width of a sample.
const SAMPLE: Duration = Duration::from_millis(10);
/// From the new leader's first own answer to the first one through a proxy. What the proxy adds is milliseconds; all the
/// sessions that it held begin at once, and PostgreSQL starts a process for each on two cores.
const BEHIND: Duration = Duration::from_secs(2);

#[test]
fn role_swap_sampled_every_10ms() {
    front_scenario("role_swap_sampled_every_10ms", &[], |front| {
        let lab = front.lab;
        let candidate = lab.databases_except(&[&front.leader])[0].to_owned();
        let planned = sampled(front, &candidate, || {
            let output = lab.hactl(&["switchover", "--candidate", &candidate, "--yes"])?;
            ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
            Ok(())
        })?;
        judge("switchover", &planned, lab.address(&candidate)?)?;
        lab.wait_healthy(SETTLE)?;

        let rest = lab.databases_except(&[&candidate]);
        let mut successor = String::new();
        let unplanned = sampled(front, "", || {
            lab.power_off(&[&candidate])?;
            successor = lab.wait_leader_among(&rest, TAKEOVER)?;
            Ok(())
        })?;
        judge("power loss", &unplanned, lab.address(&successor)?)
    });
}

/// Samples both proxies while `swap` is done and until both have led to another server than before. `direct` names a host
/// that is sampled without a proxy.
fn sampled(front: &Front<'_>, direct: &str, swap: impl FnOnce() -> Result<()>) -> Result<Vec<Sample>> {
    let lab = front.lab;
    let mut through = Vec::new();
    for proxy in lab.proxies() {
        through.push((proxy.to_owned(), SocketAddrV4::new(lab.address(proxy)?, WRITE_PORT)));
    }
    if !direct.is_empty() {
        through.push(("direct".to_owned(), SocketAddrV4::new(lab.address(direct)?, 5432)));
    }
    let before = lab.session_through(lab.address(&front.holder)?, WRITE_PORT, SETTLE)?.server;
    let sampler =
        Sampler::start(lab, SampleOptions { through, interval: SAMPLE, limit: Duration::from_secs(12) })?;
    swap()?;
    for proxy in lab.proxies() {
        let address = lab.address(proxy)?;
        wait_for(&format!("{proxy} to lead elsewhere"), TAKEOVER, || {
            match lab.session_through(address, WRITE_PORT, Duration::from_secs(2)) {
                Ok(answer) if answer.server != before => Ok(()),
                Ok(answer) => Err(format!("{answer:?}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
    }
    let samples = sampler.finish()?;
    write_samples(&samples, &lab.dir().path().join("samples.log"))?;
    Ok(samples)
}

fn judge(what: &str, samples: &[Sample], successor: Ipv4Addr) -> Result<()> {
    let mut given: BTreeMap<u128, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let mut first_own = None;
    let mut first_through: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut answers = 0;
    for sample in samples {
        let Ok(answer) = &sample.answer else { continue };
        if sample.through == "direct" {
            if !answer.in_recovery {
                first_own = Some(first_own.map_or(answer.at, |first: Duration| first.min(answer.at)));
            }
            continue;
        }
        answers += 1;
        ensure!(!answer.in_recovery, "{what}: a standby answered a session for writes: {sample:?}");
        given.entry(answer.at.as_nanos() / SAMPLE.as_nanos()).or_default().insert(answer.server);
        if answer.server == successor {
            let first = first_through.entry(&sample.through).or_insert(answer.at);
            *first = answer.at.min(*first);
        }
    }
    ensure!(answers > 50, "{what}: only {answers} samples were answered");
    let both: Vec<_> = given.iter().filter(|(_, servers)| servers.len() > 1).collect();
    ensure!(both.is_empty(), "{what}: two members were given write sessions within 10 ms: {both:?}");
    for (proxy, first) in first_through {
        let Some(own) = first_own else { break };
        let behind = first.saturating_sub(own);
        note(&format!("{what}: first session through {proxy} after the leader's own first"), behind)?;
        ensure!(behind < BEHIND, "{what}: {proxy} was {behind:.2?} behind the new leader");
    }
    Ok(())
}
