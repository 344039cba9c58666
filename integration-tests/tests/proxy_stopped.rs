//! The proxy that holds the floating address freezes: its host gives the address away, and the proxy goes on when it thaws.

use std::time::Duration;

use ha_lab::arp_watch::ArpWatch;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::holds_for;
use integration_tests::TAKEOVER;
use integration_tests::front::{HAND_OVER, OPEN, front_scenario, never_two_owners, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

/// A second of silence, and then the clients must notice that nobody answers on sessions that were open.
const OUTAGE: Duration = Duration::from_secs(6);

#[test]
fn proxy_stopped() {
    front_scenario("proxy_stopped", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let watch = ArpWatch::start(lab, front.vip)?;
        let fault = lab.signal(&front.holder, "pg-proxy", "SIGSTOP")?;
        lab.wait_vip_on(&front.other, Duration::from_secs(4))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        lab.signal(&front.holder, "pg-proxy", "SIGCONT")?;
        lab.wait_route_open(lab.address(&front.holder)?, WRITE_PORT, OPEN)?;
        holds_for("the address stays", Duration::from_secs(1), || stays_on(lab, &front.other))?;
        let silence = Duration::from_secs(2);
        never_two_owners(&watch.finish()?, &[(fault, fault + silence + HAND_OVER)])?;
        outage_below(&prove(lab, load)?, "proxy stopped", fault, OUTAGE).map(drop)
    });
}
