//! The proxy with the floating address hears no agent any more: open sessions go on, new ones are refused with the reason
//! when its knowledge is too old, the other proxy is not concerned, and everything is as before when the agents are heard.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::Cut;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::wait_for;
use integration_tests::NO_OUTAGE;
use integration_tests::front::{OPEN, front_scenario, status_text, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

/// REST and gRPC of the agents.
const AGENTS: [u16; 2] = [8008, 8009];
/// A proxy trusts what it heard last for 10 s.
const TOO_OLD: Duration = Duration::from_secs(16);

#[test]
fn agents_unreachable_from_one_proxy() {
    front_scenario("agents_unreachable_from_one_proxy", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let fault = lab.cut(Cut::ports_between(&[&front.holder], &lab.databases(), &AGENTS))?;
        // What it knew last is good for a while.
        lab.session_through(front.vip, WRITE_PORT, Duration::from_secs(2))?;
        wait_for("a blind proxy to take no new sessions", TOO_OLD, || {
            match status_text(lab, &front.holder, "/writes/state")
                .map_err(|error| format!("{error:#}"))?
                .as_str()
            {
                "open" => Err("open".to_owned()),
                _ => Ok(()),
            }
        })?;
        let refused = lab.session_through(front.vip, WRITE_PORT, Duration::from_secs(15));
        let refused = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("57P03"), "refused with: {refused:?}");
        stays_on(lab, &front.holder).map_err(|seen| anyhow::anyhow!("the address moved: {seen}"))?;
        lab.session_through(lab.address(&front.other)?, WRITE_PORT, Duration::from_secs(2))?;
        load.wait_for_acks(SOME_ROWS, NO_OUTAGE)?;

        lab.heal()?;
        lab.wait_route_open(front.vip, WRITE_PORT, OPEN)?;
        outage_below(&prove(lab, load)?, "one proxy hears no agent", fault, NO_OUTAGE).map(drop)
    });
}
