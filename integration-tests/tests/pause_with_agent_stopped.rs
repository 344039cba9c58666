//! Maintenance mode holds the guard: with the primary's agent stopped for longer than a lease, PostgreSQL runs on.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::clock;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

/// Two leases long.
const STOPPED: Duration = Duration::from_secs(22);

#[test]
fn pause_with_agent_stopped() {
    scenario("pause_with_agent_stopped", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let postmaster = lab.host_status(&primary)?.postmaster;
        let fault = clock::now();
        let output = lab.hactl(&["pause", "--for", "10m"])?;
        ensure!(output.code == Some(0), "hactl pause: {}{}", output.stdout, output.stderr);
        lab.wait_cluster("all agents to be paused", &lab.databases(), Duration::from_secs(15), |seen| {
            if seen.paused { Ok(()) } else { Err("not paused".to_owned()) }
        })?;
        lab.stop_unit(&primary, "pg-agent")?;
        let stopped = clock::now();
        while clock::now() < stopped + STOPPED {
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        }
        ensure!(lab.host_status(&primary)?.postmaster == postmaster, "PostgreSQL ended while paused");
        for host in lab.databases_except(&[&primary]) {
            ensure!(lab.rest(host, "/primary")?.status == 503, "{host} was promoted while paused");
        }
        lab.start_unit(&primary, "pg-agent")?;
        lab.wait_leader_among(&[&primary], SETTLE)?;
        let output = lab.hactl(&["resume"])?;
        ensure!(output.code == Some(0), "hactl resume: {}{}", output.stdout, output.stderr);
        ensure!(lab.wait_healthy(SETTLE)? == primary, "the leader changed");
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "pause with the agent stopped", fault, NO_OUTAGE).map(drop)
    });
}
