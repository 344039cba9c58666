//! The proxy with the floating address hears no agent any more: what it knew last counts for a while, then new sessions at its
//! own address are refused with the reason. The other proxy hears them, so the address goes there and clients write on; with
//! the agents heard again everything stays where it is.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::Cut;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::TAKEOVER;
use integration_tests::front::{MOVE_OUTAGE, OPEN, front_scenario, status_text, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

/// REST and gRPC of the agents.
const AGENTS: [u16; 2] = [8008, 8009];
/// A proxy trusts what it heard last for 10 s.
const TOO_OLD: Duration = Duration::from_secs(16);
/// A proxy host without a primary keeps the address for 5 s; hosts tell each other how they are every half second.
const NO_PRIMARY_HOLD: Duration = Duration::from_secs(10);

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
        lab.wait_vip_on(&front.other, NO_PRIMARY_HOLD)?;
        lab.session_through(front.vip, WRITE_PORT, Duration::from_secs(2))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let blind = lab.address(&front.holder)?;
        let refused = lab.session_through(blind, WRITE_PORT, Duration::from_secs(15));
        let refused = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("57P03"), "refused with: {refused:?}");

        lab.heal()?;
        lab.wait_route_open(blind, WRITE_PORT, OPEN)?;
        holds_for("the address stays", Duration::from_secs(1), || stays_on(lab, &front.other))?;
        outage_below(&prove(lab, load)?, "one proxy hears no agent", fault, MOVE_OUTAGE).map(drop)
    });
}
