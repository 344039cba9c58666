//! The primary's agent is killed. Its supervisor restarts it; PostgreSQL never notices.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::wait::wait_for;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

#[test]
fn agent_killed() {
    scenario("agent_killed", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let postmaster = lab.host_status(&primary)?.postmaster;
        let fault = lab.signal(&primary, "pg-agent", "SIGKILL")?;
        wait_for("a new agent that reports itself primary", Duration::from_secs(20), || {
            let answer = lab.rest(&primary, "/primary").map_err(|error| format!("{error:#}"))?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        ensure!(
            lab.wait_healthy(SETTLE)? == primary,
            "the leader changed although only its agent was restarted"
        );
        ensure!(
            lab.host_status(&primary)?.postmaster == postmaster,
            "PostgreSQL was restarted with its agent"
        );
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "agent killed", fault, NO_OUTAGE).map(drop)
    });
}
