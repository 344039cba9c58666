//! A primary that was cut off holds commits that nobody confirmed. It must come back without them, by pg_rewind.

use anyhow::ensure;
use ha_lab::Cut;
use ha_lab::wait::wait_for;
use integration_tests::proof::{SOME_ROWS, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

#[test]
fn old_primary_rewinds() {
    scenario("old_primary_rewinds", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        lab.sql(&primary, "CREATE TABLE diverged (id int)")?;
        let load = writing(lab, &primary)?;
        let others = lab.databases_except(&[&primary]);
        lab.cut(Cut::between(&[&primary], &others))?;
        // Acknowledged below `on`, so it opted out of every promise: this is what a rewind is for.
        lab.sql(
            &primary,
            "SET synchronous_commit = local; INSERT INTO diverged SELECT generate_series(1, 1000)",
        )?;
        let successor = lab.wait_leader_among(&others, TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.heal()?;
        ensure!(lab.wait_healthy(SETTLE)? == successor, "the lead moved when the old primary came back");
        for host in lab.databases() {
            wait_for(&format!("no unconfirmed row on {host}"), TAKEOVER, || {
                match lab.sql(host, "SELECT count(*) FROM diverged").as_deref() {
                    Ok("0") => Ok(()),
                    Ok(count) => Err(format!("{count} rows")),
                    Err(error) => Err(format!("{error:#}")),
                }
            })?;
        }
        let log = std::fs::read_to_string(lab.dir().log(&primary, "pg-agent"))?;
        ensure!(log.contains("rewind"), "the agent's log does not mention a rewind");
        prove(lab, load).map(drop)
    });
}
