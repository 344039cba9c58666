//! The primary's guard is killed: PostgreSQL runs on, and the guard that its supervisor starts takes it over.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::wait::holds_for;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

/// Longer than a lease: a guard that forgot its deadline, or enforced an old one, would have shown it.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(15);

#[test]
fn guard_killed() {
    scenario("guard_killed", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let postmaster = lab.host_status(&primary)?.postmaster;
        let fault = lab.signal(&primary, "pg-guard", "SIGKILL")?;
        holds_for("the same PostgreSQL runs", LONGER_THAN_A_LEASE, || {
            let now = lab.host_status(&primary).map_err(|error| format!("{error:#}"))?.postmaster;
            if now == postmaster {
                Ok(())
            } else {
                Err(format!("postmaster {now:?} instead of {postmaster:?}"))
            }
        })?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        ensure!(
            lab.wait_healthy(SETTLE)? == primary,
            "the leader changed although only its guard was restarted"
        );
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "guard killed", fault, NO_OUTAGE).map(drop)
    });
}
