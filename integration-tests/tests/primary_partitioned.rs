//! The primary is cut off: from everybody, then only from the other database hosts while clients still reach it.

use anyhow::{Result, ensure};
use ha_lab::{Cut, Lab};
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, reference, scenario};

#[test]
fn primary_partitioned() {
    scenario("primary_partitioned", reference, &[], |lab| {
        cut_off(lab, "primary partitioned from all", |lab, primary| lab.isolate(&[primary]))?;
        cut_off(lab, "primary partitioned from the other databases", |lab, primary| {
            lab.cut(Cut::between(&[primary], &lab.databases_except(&[primary])))
        })
    });
}

fn cut_off(lab: &Lab, what: &str, cut: impl FnOnce(&Lab, &str) -> Result<std::time::Duration>) -> Result<()> {
    let primary = lab.wait_healthy(SETTLE)?;
    lab.sql(&primary, "DROP TABLE IF EXISTS appload")?;
    let load = writing(lab, &primary)?;
    let fault = cut(lab, &primary)?;
    let successor = lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    ensure!(
        lab.rest_method("GET", &successor, "/primary")?.status == 200,
        "{successor} does not lead while {primary} is cut off"
    );
    lab.heal()?;
    ensure!(lab.wait_healthy(SETTLE)? == successor, "the lead moved when the partition healed");
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    let attempts = prove(lab, load)?;
    outage_below(&attempts, what, fault, TAKEOVER_OUTAGE).map(drop)
}
