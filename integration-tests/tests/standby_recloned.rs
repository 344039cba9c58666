//! A standby comes back with an empty disk and is cloned again, under load.

use std::fs;

use anyhow::{Context as _, ensure};
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

#[test]
fn standby_recloned() {
    scenario("standby_recloned", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let standby = lab.databases_except(&[&primary])[0];
        let load = writing(lab, &primary)?;
        let fault = lab.power_off(&[standby])?;
        let data = lab.dir().host(standby).join("lib/postgresql");
        for entry in fs::read_dir(&data).context("list the data disk")? {
            fs::remove_dir_all(entry?.path()).context("empty the data disk")?;
        }
        lab.power_on(&[standby])?;
        ensure!(lab.wait_healthy(SETTLE)? == primary, "the leader changed");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "standby cloned again", fault, NO_OUTAGE).map(drop)
    });
}
