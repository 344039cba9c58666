//! The primary loses etcd but not its standbys. Nothing may be lost, and writes go on.

use std::time::Duration;

use ha_lab::Cut;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, etcd, reference, scenario};

/// Two leases long.
const CUT: Duration = Duration::from_secs(20);

#[test]
fn primary_partitioned_from_etcd() {
    scenario("primary_partitioned_from_etcd", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let others = lab.databases_except(&[&primary]);
        let fault = lab.cut(Cut::ports_between(&[&primary], &others, &etcd::PORTS))?;
        while ha_lab::clock::now() < fault + CUT {
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        }
        lab.heal()?;
        lab.wait_healthy(SETTLE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "primary partitioned from etcd", fault, TAKEOVER_OUTAGE).map(drop)
    });
}
