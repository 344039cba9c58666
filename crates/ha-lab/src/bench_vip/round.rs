//! One event under load, once: how long writes stood still, and on how many hosts the address was meanwhile.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::event::Event;
use super::report::Sample;
use crate::arp_watch::ArpWatch;
use crate::bench::stack::Stack;
use crate::client_load::{Load, LoadOptions};
use crate::clock;
use crate::front::{READ_PORT, WRITE_PORT};
use crate::lab::Lab;
use crate::load_report::{Verdict, outage, rows};
use crate::wait::wait_for;

/// The first of the file: it holds the address when all is well.
const PREFERRED: &str = "ha1";
/// The one that takes it over.
const OTHER: &str = "ha2";
/// Until the address is where it belongs; keepalived needs twice its Down interval, and twice its check of the proxy.
const MOVE: Duration = Duration::from_secs(30);
/// From a started host to a proxy that leads sessions.
const OPEN: Duration = Duration::from_secs(60);
/// Writes that must flow before an event, and after it.
const SOME_ROWS: u64 = 200;
/// How long it is watched after that: leases run out, and keepalived's last announcements come after five seconds.
const WATCHED: Duration = Duration::from_secs(6);
/// The processes of keepalived on a host.
const KEEPALIVED: &str = "$(pidof keepalived)";

/// Runs it while all is well, and leaves it so.
pub(super) fn run(stack: Stack, lab: &Lab, leader: &str, event: Event, round: u32) -> Result<Sample> {
    let what = || format!("{}, round {round}", event.name());
    put_in_order(stack, lab).with_context(|| format!("before {}", what()))?;
    if event == Event::Returned {
        lab.power_off(&[PREFERRED])?;
        lab.wait_vip_on(OTHER, MOVE).with_context(|| format!("before {}", what()))?;
    }
    lab.sql(leader, "TRUNCATE appload")?;
    let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
    load.wait_for_acks(SOME_ROWS, OPEN).with_context(|| format!("before {}", what()))?;
    let watch = ArpWatch::start(lab, lab.vip()?)?;

    let fault = strike(stack, lab, event).with_context(what)?;
    if event.moves() {
        let heir = if event == Event::Returned { PREFERRED } else { OTHER };
        wait_for(&format!("{}: the address on {heir}", what()), MOVE, || {
            let holders = lab.vip_holders().map_err(|error| format!("{error:#}"))?;
            if holders.iter().any(|holder| holder == heir) {
                Ok(())
            } else {
                Err(format!("it is on {holders:?}"))
            }
        })?;
    }
    load.wait_for_acks(SOME_ROWS, MOVE).with_context(what)?;
    // Not a wait for something: what goes on after the first success belongs to the event.
    thread::sleep(WATCHED);
    let end = clock::now();
    let seen = watch.finish()?;
    let attempts = load.finish()?;
    undo(stack, lab, event).with_context(|| format!("undo {}", what()))?;

    let verdict = Verdict::new(&attempts, &rows(lab, leader)?);
    verdict.check().with_context(what)?;
    let found = outage(&attempts, fault).with_context(|| format!("{}: no row acknowledged", what()))?;
    Ok(Sample {
        stack,
        event,
        round,
        outage: found.length().as_secs_f64(),
        on_two: seen.time_doubly_owned(fault, end).as_secs_f64(),
        still_on_two: seen.is_doubly_owned_at(end),
        on_none: seen.time_unowned(fault, end).as_secs_f64(),
        acknowledged: verdict.acked,
    })
}

/// The preferred host holds the address, and both proxies lead both kinds of sessions.
fn put_in_order(stack: Stack, lab: &Lab) -> Result<()> {
    for proxy in lab.proxies() {
        let address = lab.address(proxy)?;
        lab.wait_route_open(address, WRITE_PORT, OPEN)?;
        lab.wait_route_open(address, READ_PORT, OPEN)?;
    }
    if stack == Stack::Ours && lab.wait_vip_holder(MOVE)? == OTHER {
        move_by_hand(lab)?;
    }
    lab.wait_vip_on(PREFERRED, MOVE)
}

fn move_by_hand(lab: &Lab) -> Result<()> {
    let output = lab.hactl(&["vip", "move", "--yes"])?;
    ensure!(output.code == Some(0), "hactl vip move: {}{}", output.stdout, output.stderr);
    Ok(())
}

/// What moves the address.
fn daemon(stack: Stack) -> &'static str {
    match stack {
        Stack::Ours => "vrrpd",
        Stack::Classic => "keepalived",
    }
}

fn proxy(stack: Stack) -> &'static str {
    match stack {
        Stack::Ours => "pg-proxy",
        Stack::Classic => "haproxy",
    }
}

/// A command of a shell on the preferred host. Returns when it has ended.
fn shell(lab: &Lab, command: &str) -> Result<Duration> {
    let output = lab.exec(PREFERRED, &["sh", "-c", command])?;
    ensure!(output.code == Some(0), "{command}: {output:?}");
    Ok(clock::now())
}

/// Returns when it hit, or just before.
fn strike(stack: Stack, lab: &Lab, event: Event) -> Result<Duration> {
    let (proxy, daemon) = (proxy(stack), daemon(stack));
    let before = clock::now();
    match (event, stack) {
        (Event::PowerLoss, _) => return lab.power_off(&[PREFERRED]),
        (Event::Returned, _) => lab.power_on(&[PREFERRED])?,
        (Event::ProxyKilled, _) => drop(lab.signal(PREFERRED, proxy, "SIGKILL")?),
        (Event::ProxyKilledForGood, _) => {
            lab.mask(PREFERRED, proxy)?;
            lab.signal(PREFERRED, proxy, "SIGKILL")?;
        }
        (Event::DaemonKilled, _) => drop(lab.signal(PREFERRED, daemon, "SIGKILL")?),
        (Event::DaemonKilledForGood, Stack::Ours) => {
            lab.mask(PREFERRED, daemon)?;
            lab.signal(PREFERRED, daemon, "SIGKILL")?;
        }
        // Stopped first: neither of its two processes may mend what happens to the other.
        (Event::DaemonKilledForGood, Stack::Classic) => {
            shell(lab, &format!("kill -STOP {KEEPALIVED}; kill -KILL {KEEPALIVED}"))?;
        }
        (Event::DaemonStopped, Stack::Ours) => drop(lab.signal(PREFERRED, daemon, "SIGSTOP")?),
        (Event::DaemonStopped, Stack::Classic) => drop(shell(lab, &format!("kill -STOP {KEEPALIVED}"))?),
        (Event::DaemonEnded, _) => lab.stop_unit(PREFERRED, daemon)?,
        (Event::Moved, _) => move_by_hand(lab)?,
    }
    Ok(before)
}

/// Ends the event; what it left to others to mend is not undone.
fn undo(stack: Stack, lab: &Lab, event: Event) -> Result<()> {
    match event {
        Event::PowerLoss => lab.power_on(&[PREFERRED]),
        Event::ProxyKilledForGood => lab.start_unit(PREFERRED, proxy(stack)),
        Event::DaemonKilledForGood | Event::DaemonEnded => lab.start_unit(PREFERRED, daemon(stack)),
        Event::DaemonStopped if stack == Stack::Classic => {
            shell(lab, &format!("kill -CONT {KEEPALIVED}")).map(drop)
        }
        Event::DaemonStopped => lab.signal(PREFERRED, daemon(stack), "SIGCONT").map(drop),
        Event::ProxyKilled | Event::DaemonKilled | Event::Moved | Event::Returned => Ok(()),
    }
}
