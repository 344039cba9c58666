//! The primary's agent is frozen and nobody wakes it: the guard ends PostgreSQL, another member leads, and a client that
//! talks to the old primary directly gets no acknowledgement that the new one does not know.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::wait::wait_for;
use integration_tests::proof::{SOME_ROWS, outage_below, prove_attempts, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, reference, scenario};

#[test]
fn agent_stopped_for_ever() {
    scenario("agent_stopped_for_ever", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let mut direct = LoadOptions::hosts(lab, &[&primary])?;
        direct.first_id = 1_000_000_000;
        direct.workers = 2;
        let direct = Load::start(lab, direct)?;
        direct.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        lab.mask(&primary, "pg-agent")?;
        let fault = lab.signal(&primary, "pg-agent", "SIGSTOP")?;
        lab.wait_postgres_ended(&primary, Duration::from_secs(30))?;
        lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        lab.signal(&primary, "pg-agent", "SIGKILL")?;
        wait_for("end of the frozen agent", Duration::from_secs(10), || {
            let status = lab.host_status(&primary).map_err(|error| format!("{error:#}"))?;
            let agent = status.units.iter().find(|unit| unit.name == "pg-agent").and_then(|unit| unit.pid);
            agent.map_or(Ok(()), |pid| Err(format!("process {pid}")))
        })?;
        lab.start_unit(&primary, "pg-agent")?;
        ensure!(lab.wait_healthy(SETTLE)? != primary, "the frozen agent's host leads again");
        let mut attempts = load.finish()?;
        let outage = outage_below(&attempts, "agent stopped for ever", fault, TAKEOVER_OUTAGE);
        attempts.extend(direct.finish()?);
        prove_attempts(lab, attempts)?;
        outage.map(drop)
    });
}
