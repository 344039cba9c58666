//! vrrpd dies, or freezes, on the host with the floating address: the kernel takes the address away when its lease has
//! run out, and two hosts never answer for it beyond that.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::arp_watch::ArpWatch;
use ha_lab::clock;
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::TAKEOVER;
use integration_tests::front::{Front, MOVE_OUTAGE, front_scenario, never_two_owners, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};

/// The lease of the address is a second; the kernel looks for those that have run out once a second.
const GONE: Duration = Duration::from_millis(2100);

#[test]
fn vrrpd_killed() {
    front_scenario("vrrpd_killed", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let watch = ArpWatch::start(lab, front.vip)?;
        lab.mask(&front.holder, "vrrpd")?;
        let killed = lab.signal(&front.holder, "vrrpd", "SIGKILL")?;
        moved(front, &front.holder, &front.other, killed)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.start_unit(&front.holder, "vrrpd")?;
        holds_for("the address stays", Duration::from_secs(2), || stays_on(lab, &front.other))?;

        let frozen = lab.signal(&front.other, "vrrpd", "SIGSTOP")?;
        moved(front, &front.other, &front.holder, frozen)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.signal(&front.other, "vrrpd", "SIGCONT")?;
        holds_for("the address stays", Duration::from_secs(2), || stays_on(lab, &front.holder))?;

        never_two_owners(&watch.finish()?, &[(killed, killed + GONE), (frozen, frozen + GONE)])?;
        let attempts = prove(lab, load)?;
        let first: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < frozen).cloned().collect();
        outage_below(&first, "vrrpd killed", killed, MOVE_OUTAGE)?;
        outage_below(&attempts, "vrrpd stopped", frozen, MOVE_OUTAGE).map(drop)
    });
}

/// Waits until the address has left `from` and is on `to` only; in time for the lease.
fn moved(front: &Front<'_>, from: &str, to: &str, fault: Duration) -> Result<()> {
    let left = wait_for(&format!("the address to leave {from}"), GONE * 2, || {
        let holders = front.lab.vip_holders().map_err(|error| format!("{error:#}"))?;
        if holders.iter().any(|holder| holder == from) {
            Err(format!("on {holders:?}"))
        } else {
            Ok(clock::now())
        }
    })?;
    let late = left.saturating_sub(fault);
    ensure!(late < GONE, "the address left {from} only after {late:.2?}");
    front.lab.wait_vip_on(to, Duration::from_secs(3))
}
