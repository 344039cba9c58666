//! FRRouting's vrrpd as the other host: a third opinion on version 3, with a virtual hardware address.

use nix::sys::signal::Signal;

use crate::link::{Frr, World, is_root, let_pass, wait_for};

/// Lets the client ask until it believes that the floating address is there. Only of our own: whether FRR's macvlan answers
/// at once is FRR's.
fn wait_until_at(world: &World, hardware: &str) {
    wait_for("the client to find the address", || {
        world.ask_where();
        (world.neighbour().as_deref() == Some(hardware)).then_some(())
    });
}

fn elects(world: &World) {
    const OURS: &str = "02:00:00:00:00:21";
    Frr::prepare(&world.ha2);

    let frr = Frr::start(&world.ha2, 100);
    wait_for("FRR to be Active", || (frr.times("Backup -> Master") == 1).then_some(()));
    let mut first = world.ha1.start();
    wait_for("FRR to give way to us", || (frr.times("Master -> Backup") == 1).then_some(()));
    wait_until_at(world, OURS);
    first.signal(Signal::SIGTERM);
    wait_for("FRR to be Active again", || (frr.times("Backup -> Master") == 2).then_some(()));
    first.wait();
    let again = world.ha1.start();
    wait_for("FRR to give way again", || (frr.times("Master -> Backup") == 2).then_some(()));
    drop((frr, again));

    let mut frr = Frr::start(&world.ha2, 200);
    wait_for("the preferred FRR to be Active", || (frr.times("Backup -> Master") == 1).then_some(()));
    let first = world.ha1.start();
    let_pass(2000); // more than the Down interval
    assert!(!world.ha1.holds() && frr.times("Master -> Backup") == 0, "{}\n{}", first.log(), frr.log());
    frr.end();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let frr = Frr::start(&world.ha2, 200);
    wait_for("FRR to take it back", || (frr.times("Backup -> Master") == 1).then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
}

#[test]
fn we_and_frr_elect_each_other_over_ipv4() {
    if is_root() && Frr::is_installed() {
        elects(&World::new("vrid = 51"));
    }
}

#[test]
fn we_and_frr_elect_each_other_over_ipv6() {
    if is_root() && Frr::is_installed() {
        elects(&World::over_ipv6("vrid = 51"));
    }
}
