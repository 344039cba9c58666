//! All database hosts lose power in the same millisecond and come back together.

use integration_tests::proof::{SOME_ROWS, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

#[test]
fn all_hosts_power_cycle() {
    scenario("all_hosts_power_cycle", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        lab.power_off(&lab.databases())?;
        lab.power_on(&lab.databases())?;
        lab.wait_healthy(SETTLE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        prove(lab, load).map(drop)
    });
}
