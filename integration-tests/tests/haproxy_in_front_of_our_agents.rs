//! The usual HAProxy configuration, unaltered, asks our agents which host is the primary, through a switchover and a power
//! loss: who migrates may keep it.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::classic;
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::wait::wait_for;
use ha_lab::{Lab, LabOptions, clock};
use integration_tests::front::own_front_scenario;
use integration_tests::proof::{SOME_ROWS, outage_below, prove};
use integration_tests::{SETTLE, TAKEOVER};

/// Checks every 3 s, three failures until a server is down, two successes until it is up.
const CHECKS: Duration = Duration::from_secs(16);

#[test]
fn haproxy_in_front_of_our_agents() {
    own_front_scenario("haproxy_in_front_of_our_agents", configure, &[], |lab| {
        for proxy in lab.proxies() {
            classic::configure_haproxy(lab, proxy)?;
        }
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let leader = lab.wait_healthy(SETTLE)?;
        Load::prepare(lab, &leader)?;
        let proxy = lab.address("ha1")?;
        leads_to(lab, &leader)?;
        lab.wait_route_open(proxy, READ_PORT, CHECKS)?;
        let load = Load::start(lab, LoadOptions::through("ha1", proxy))?;
        load.wait_for_acks(SOME_ROWS, CHECKS)?;

        let candidate = lab.databases_except(&[&leader])[0];
        let switchover = clock::now();
        let output = lab.hactl(&["switchover", "--candidate", candidate, "--yes"])?;
        ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        leads_to(lab, candidate)?;
        ensure!(lab.wait_healthy(SETTLE)? == candidate, "another leader");

        let power_loss = lab.power_off(&[candidate])?;
        let successor = lab.wait_leader_among(&lab.databases_except(&[candidate]), TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        leads_to(lab, &successor)?;
        lab.power_on(&[candidate])?;
        lab.wait_healthy(SETTLE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        let attempts = prove(lab, load)?;
        let first: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < power_loss).cloned().collect();
        outage_below(&first, "switchover behind HAProxy", switchover, CHECKS)?;
        outage_below(&attempts, "power loss behind HAProxy", power_loss, TAKEOVER).map(drop)
    });
}

fn configure(options: LabOptions) -> LabOptions {
    options.classic_front(&["haproxy"])
}

/// Waits until both proxies lead writes to this host.
fn leads_to(lab: &Lab, leader: &str) -> Result<()> {
    for proxy in lab.proxies() {
        let address = lab.address(proxy)?;
        wait_for(&format!("{proxy} to lead to {leader}"), CHECKS, || {
            match lab.wait_route_open(address, WRITE_PORT, Duration::ZERO) {
                Ok(host) if host == leader => Ok(()),
                Ok(host) => Err(format!("it leads to {host}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
    }
    Ok(())
}
