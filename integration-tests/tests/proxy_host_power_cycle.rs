//! Each proxy host in turn loses power while it holds the floating address, and comes back behind the other.

use std::time::Duration;

use ha_lab::arp_watch::ArpWatch;
use ha_lab::clock;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::holds_for;
use integration_tests::TAKEOVER;
use integration_tests::front::{MOVE_OUTAGE, OPEN, front_scenario, never_two_owners, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

#[test]
fn proxy_host_power_cycle() {
    front_scenario("proxy_host_power_cycle", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let watch = ArpWatch::start(lab, front.vip)?;
        let mut faults = Vec::new();
        for (off, heir) in [(&front.holder, &front.other), (&front.other, &front.holder)] {
            let fault = lab.power_off(&[off])?;
            lab.wait_vip_on(heir, Duration::from_secs(4))?;
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
            lab.power_on(&[off])?;
            lab.wait_route_open(lab.address(off)?, WRITE_PORT, OPEN)?;
            holds_for("the address stays", Duration::from_secs(2), || stays_on(lab, heir))?;
            faults.push((fault, clock::now()));
        }
        // A host without power answers nothing: there is no moment of two.
        never_two_owners(&watch.finish()?, &[])?;
        let attempts = prove(lab, load)?;
        for (fault, until) in faults {
            let part: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < until).cloned().collect();
            outage_below(&part, "power loss of the active proxy host", fault, MOVE_OUTAGE)?;
        }
        Ok(())
    });
}
