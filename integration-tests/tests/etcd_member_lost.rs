//! One etcd member is gone, be it etcd's leader on the primary's host: nobody may notice.

use std::time::Duration;

use anyhow::ensure;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, etcd, reference, scenario};

/// Longer than a lease and an election.
const GONE: Duration = Duration::from_secs(15);

#[test]
fn etcd_member_lost() {
    scenario("etcd_member_lost", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        etcd::move_leader(lab, &primary)?;
        let load = writing(lab, &primary)?;
        let fault = etcd::kill(lab, &[&primary])?;
        while ha_lab::clock::now() < fault + GONE {
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        }
        etcd::start(lab, &[&primary])?;
        ensure!(lab.wait_healthy(SETTLE)? == primary, "the leader changed although a majority of etcd lived");
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "etcd member lost", fault, NO_OUTAGE).map(drop)
    });
}
