//! The primary's agent and its guard are frozen and nobody wakes them: the kernel ends PostgreSQL, another member leads, and
//! a client that talks to the old primary directly gets no acknowledgement that the new one does not know.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::wait::wait_for;
use integration_tests::proof::{SOME_ROWS, outage_below, prove_attempts, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, reference, scenario};

const UNITS: [&str; 2] = ["pg-agent", "pg-guard"];

#[test]
fn guard_stopped_too() {
    scenario("guard_stopped_too", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let names = lab.exec(&primary, &["sh", "-c", "cat /proc/[0-9]*/comm"])?.stdout;
        ensure!(names.lines().any(|name| name == "pg-guard-fuse"), "no fuse on {primary}: {names}");
        let load = writing(lab, &primary)?;
        let mut direct = LoadOptions::hosts(lab, &[&primary])?;
        direct.first_id = 1_000_000_000;
        direct.workers = 2;
        let direct = Load::start(lab, direct)?;
        direct.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        for unit in UNITS {
            lab.mask(&primary, unit)?;
        }
        lab.signal(&primary, "pg-guard", "SIGSTOP")?;
        let fault = lab.signal(&primary, "pg-agent", "SIGSTOP")?;
        lab.wait_postgres_ended(&primary, Duration::from_secs(30))?;
        lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        for unit in UNITS {
            lab.signal(&primary, unit, "SIGKILL")?;
        }
        wait_for("end of the frozen", Duration::from_secs(10), || {
            let status = lab.host_status(&primary).map_err(|error| format!("{error:#}"))?;
            let frozen = status.units.iter().filter(|unit| UNITS.contains(&unit.name.as_str()));
            let left: Vec<i32> = frozen.filter_map(|unit| unit.pid).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("processes {left:?}")) }
        })?;
        for unit in ["pg-guard", "pg-agent"] {
            lab.start_unit(&primary, unit)?;
        }
        ensure!(lab.wait_healthy(SETTLE)? != primary, "the frozen host leads again");
        let mut attempts = load.finish()?;
        let outage = outage_below(&attempts, "guard stopped, too", fault, TAKEOVER_OUTAGE);
        attempts.extend(direct.finish()?);
        prove_attempts(lab, attempts)?;
        outage.map(drop)
    });
}
