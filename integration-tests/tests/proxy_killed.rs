//! The proxy that holds the floating address dies: the address moves, and stays where it is when the proxy is back.

use std::time::Duration;

use ha_lab::arp_watch::ArpWatch;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::holds_for;
use integration_tests::TAKEOVER;
use integration_tests::front::{HAND_OVER, MOVE_OUTAGE, OPEN, front_scenario, never_two_owners, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

#[test]
fn proxy_killed() {
    front_scenario("proxy_killed", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let watch = ArpWatch::start(lab, front.vip)?;
        lab.mask(&front.holder, "pg-proxy")?;
        let fault = lab.signal(&front.holder, "pg-proxy", "SIGKILL")?;
        lab.wait_vip_on(&front.other, Duration::from_secs(3))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        lab.start_unit(&front.holder, "pg-proxy")?;
        lab.wait_route_open(lab.address(&front.holder)?, WRITE_PORT, OPEN)?;
        holds_for("the address stays", Duration::from_secs(1), || stays_on(lab, &front.other))?;
        never_two_owners(&watch.finish()?, &[(fault, fault + HAND_OVER)])?;
        outage_below(&prove(lab, load)?, "proxy killed", fault, MOVE_OUTAGE).map(drop)
    });
}
