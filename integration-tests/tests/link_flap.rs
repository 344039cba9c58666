//! The cable of the host with the floating address is pulled and put back, for longer and shorter than it takes to move.

use std::time::Duration;

use ha_lab::arp_watch::ArpWatch;
use ha_lab::clock;
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::TAKEOVER;
use integration_tests::front::{HAND_OVER, MOVE_OUTAGE, front_scenario, never_two_owners, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

/// Shorter than the silence that makes a Backup take over.
const BLINK: Duration = Duration::from_millis(100);

#[test]
fn link_flap() {
    front_scenario("link_flap", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let watch = ArpWatch::start(lab, front.vip)?;
        let pulled = lab.pull_cables(&[&front.holder])?;
        lab.wait_vip_on(&front.other, Duration::from_secs(4))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let plugged = lab.plug_cables(&[&front.holder])?;
        holds_for("the address stays", Duration::from_secs(2), || stays_on(lab, &front.other))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        // Whoever has it after a blink, it is one host, and soon.
        let mut blinks = Vec::new();
        for _ in 0..3 {
            let holder = lab.wait_vip_holder(Duration::from_secs(8))?;
            let at = lab.pull_cables(&[&holder])?;
            wait_for("a blink", Duration::from_secs(1), || {
                if clock::now() > at + BLINK { Ok(()) } else { Err(String::new()) }
            })?;
            blinks.push((at, lab.plug_cables(&[&holder])? + HAND_OVER));
            lab.wait_vip_holder(Duration::from_secs(8))?;
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        }
        never_two_owners(&watch.finish()?, &blinks)?;
        let attempts = prove(lab, load)?;
        let first: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < plugged).cloned().collect();
        outage_below(&first, "cable of the active proxy host pulled", pulled, MOVE_OUTAGE).map(drop)
    });
}
