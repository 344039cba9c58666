//! The postmaster is killed while its agent lives: handed over or restarted, but soon.

use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, reference, scenario};

#[test]
fn postmaster_killed() {
    scenario("postmaster_killed", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let fault = lab.signal(&primary, "postgres", "SIGKILL")?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.wait_healthy(SETTLE)?;

        // And on a standby: nobody notices.
        let primary = lab.wait_healthy(SETTLE)?;
        let standby = lab.databases_except(&[&primary])[0];
        lab.signal(standby, "postgres", "SIGKILL")?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.wait_healthy(SETTLE)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "postmaster killed", fault, TAKEOVER_OUTAGE).map(drop)
    });
}
