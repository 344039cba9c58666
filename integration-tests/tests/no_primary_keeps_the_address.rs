//! All database hosts lose power: the address stays where it is, and clients are told why they are refused.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::holds_for;
use integration_tests::front::{OPEN, front_scenario, status_text, stays_on};
use integration_tests::proof::{SOME_ROWS, prove};
use integration_tests::{SETTLE, TAKEOVER};

/// A proxy holds a session at most 10 s.
const HELD: Duration = Duration::from_secs(15);

#[test]
fn no_primary_keeps_the_address() {
    front_scenario("no_primary_keeps_the_address", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let databases = lab.databases();
        lab.power_off(&databases)?;
        for proxy in lab.proxies() {
            let refused = match lab.session_through(lab.address(proxy)?, WRITE_PORT, HELD) {
                Ok(answer) => anyhow::bail!("a session without a database: {answer:?}"),
                Err(error) => format!("{error:#}"),
            };
            let told: Result<()> = (|| {
                ensure!(refused.contains("57P03"), "{proxy} refused with: {refused}");
                ensure!(refused.split_whitespace().count() > 8, "{proxy} does not say why: {refused}");
                Ok(())
            })();
            told?;
            ensure!(status_text(lab, proxy, "/writes/state")? != "open", "{proxy} leads writes nowhere");
        }
        holds_for("the address stays", Duration::from_secs(2), || stays_on(lab, &front.holder))?;
        lab.power_on(&databases)?;
        lab.wait_healthy(SETTLE)?;
        lab.wait_route_open(front.vip, WRITE_PORT, OPEN)?;
        stays_on(lab, &front.holder).map_err(|seen| anyhow::anyhow!("the address moved: {seen}"))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        prove(lab, load).map(drop)
    });
}
