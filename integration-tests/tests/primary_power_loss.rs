//! The primary's host loses power under load; etcd's leader is elsewhere.

use anyhow::ensure;
use integration_tests::history::told;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, etcd, reference, scenario};

#[test]
fn primary_power_loss() {
    scenario("primary_power_loss", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let others = lab.databases_except(&[&primary]);
        etcd::move_leader(lab, others[0])?;
        let load = writing(lab, &primary)?;
        let fault = lab.power_off(&[&primary])?;
        let successor = lab.wait_leader_among(&others, TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let phases = told(lab, &successor, &["leader_silent", "lease_expired"])?;
        ensure!(phases["detect_ms"].as_u64() >= Some(300), "detected before it was silent: {phases}");
        ensure!(phases["promises_ms"].get(&primary).is_none(), "the dead promised: {phases}");
        lab.power_on(&[&primary])?;
        ensure!(lab.wait_healthy(SETTLE)? == successor, "the old primary took the lead back");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "power loss of the primary", fault, TAKEOVER_OUTAGE).map(drop)
    });
}
