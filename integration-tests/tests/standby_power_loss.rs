//! A standby loses power: writes go on after the list has shrunk. Then the primary too: with two of three etcd members gone
//! nobody decides anything; when the stale standby comes back, only the one that has every acknowledged row may lead.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::wait::holds_for;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, TAKEOVER_OUTAGE, reference, scenario};

/// Longer than a lease: nobody may get impatient.
const ALONE: Duration = Duration::from_secs(12);

#[test]
fn standby_power_loss() {
    scenario("standby_power_loss", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let standbys = lab.databases_except(&[&primary]);
        let (lost, left) = (standbys[0], standbys[1]);
        let load = writing(lab, &primary)?;

        let fault = lab.power_off(&[lost])?;
        lab.wait_cluster("the lost standby to leave the list", &[&primary], TAKEOVER, |seen| {
            match seen.member(lost) {
                Some(member) if member.is_sync() => Err(format!("{lost} is listed")),
                _ => Ok(()),
            }
        })?;
        load.wait_for_acks(5 * SOME_ROWS, TAKEOVER)?;

        lab.power_off(&[&primary])?;
        holds_for("no leader without a majority of etcd", ALONE, || match lab.rest(left, "/primary") {
            Ok(answer) if answer.status == 200 => Err(format!("{left} leads")),
            _ => Ok(()),
        })?;
        lab.power_on(&[lost])?;
        let successor = lab.wait_leader_among(&[lost, left], SETTLE)?;
        ensure!(successor == left, "{lost} leads although it had left the list");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.power_on(&[&primary])?;
        lab.wait_healthy(SETTLE)?;
        let attempts = prove(lab, load)?;
        let before: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.ended < fault + Duration::from_secs(8))
            .cloned()
            .collect();
        outage_below(&before, "power loss of a standby", fault, TAKEOVER_OUTAGE).map(drop)
    });
}
