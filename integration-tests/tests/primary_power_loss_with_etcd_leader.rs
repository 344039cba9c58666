//! The host of the primary and of etcd's leader loses power: a new etcd leader first starts every lease anew.

use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, etcd, reference, scenario};

#[test]
fn primary_power_loss_with_etcd_leader() {
    scenario("primary_power_loss_with_etcd_leader", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        etcd::move_leader(lab, &primary)?;
        let load = writing(lab, &primary)?;
        let fault = lab.power_off(&[&primary])?;
        lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.power_on(&[&primary])?;
        lab.wait_healthy(SETTLE)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "power loss of the primary with etcd's leader", fault, TAKEOVER_OUTAGE)
            .map(drop)
    });
}
