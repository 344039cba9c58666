//! Somebody changes with `ALTER SYSTEM` what the agent owns. It is put right, toward the safer value, and stays right.

use std::time::Duration;

use ha_lab::wait::wait_for;
use integration_tests::proof::{SOME_ROWS, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

#[test]
fn owned_parameter_altered() {
    scenario("owned_parameter_altered", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        for (parameter, wrong) in
            [("synchronous_standby_names", ""), ("hot_standby", "off"), ("port", "6543")]
        {
            lab.sql(&primary, &format!("ALTER SYSTEM SET {parameter} = '{wrong}'"))?;
            lab.sql(&primary, "SELECT pg_reload_conf()")?;
            wait_for(&format!("{parameter} to be put right"), Duration::from_secs(15), || {
                let now =
                    lab.sql(&primary, &format!("SHOW {parameter}")).map_err(|error| format!("{error:#}"))?;
                let query = format!(
                    "SELECT count(*) FROM pg_file_settings WHERE name = '{parameter}' AND sourcefile LIKE '%auto.conf'"
                );
                let kept = lab.sql(&primary, &query).map_err(|error| format!("{error:#}"))?;
                match (now.as_str(), kept.as_str()) {
                    (now, "0") if now != wrong => Ok(()),
                    (now, kept) => Err(format!("{now:?}, {kept} lines in postgresql.auto.conf")),
                }
            })?;
        }
        // With the right list in force, a power loss right now costs nothing.
        lab.power_off(&[&primary])?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.power_on(&[&primary])?;
        lab.wait_healthy(SETTLE)?;
        prove(lab, load).map(drop)
    });
}
