//! All agents are restarted, one after the other, under load: no outage, no new leader, no restart of PostgreSQL.

use anyhow::ensure;
use ha_lab::clock;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

#[test]
fn rolling_agent_restart() {
    scenario("rolling_agent_restart", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let fault = clock::now();
        for host in lab.databases() {
            let postmaster = lab.host_status(host)?.postmaster;
            lab.stop_unit(host, "pg-agent")?;
            lab.start_unit(host, "pg-agent")?;
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
            ensure!(
                lab.wait_healthy(SETTLE)? == primary,
                "the leader changed when the agent of {host} was restarted"
            );
            ensure!(lab.host_status(host)?.postmaster == postmaster, "PostgreSQL of {host} was restarted");
        }
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "rolling restart of all agents", fault, NO_OUTAGE).map(drop)
    });
}
