//! The address moves when its holder ends, dies, hangs, or loses its proxy, and only then.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{Observer, World, is_root, ms, wait_for};

#[test]
fn sigterm_moves_the_address_and_the_neighbours_learn_it() {
    if !is_root() {
        return;
    }
    let (world, mut first, _second) = World::running("");
    world.ask_where();
    wait_for("the client to know ha1", || {
        (world.neighbour().as_deref() == Some("02:00:00:00:00:21")).then_some(())
    });
    let observer = Observer::begin(&world);
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    // The client asks nothing: it must have been told.
    wait_for("the client to know ha2", || {
        (world.neighbour().as_deref() == Some("02:00:00:00:00:22")).then_some(())
    });
    assert_eq!(first.wait().code(), Some(0));
    let seen = observer.end();
    let taken = seen.taken_by_ha2(asked).expect("ha2 has it");
    println!("SIGTERM: taken over after {taken:?}, both for {:?}", seen.overlap());
    assert!(taken < ms(1000), "{taken:?}");
    assert!(seen.overlap() <= ms(60), "{:?}", seen.overlap());
    assert!(!world.ha1.addresses().contains("10.0.1.10"), "{}", world.ha1.addresses());
    first.says("no floating address is left here");
}

#[test]
fn a_killed_vrrpd_leaves_the_address_for_its_lease_only() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    assert!(world.ha1.addresses().contains("valid_lft 1sec"), "leased: {}", world.ha1.addresses());
    let observer = Observer::begin(&world);
    let killed = Instant::now();
    first.signal(Signal::SIGKILL);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("the kernel to remove it from ha1", || (!world.ha1.holds()).then_some(()));
    let seen = observer.end();
    let (gone, taken) = (seen.gone_from_ha1(killed), seen.taken_by_ha2(killed).expect("ha2 has it"));
    println!("SIGKILL: gone after {gone:?}, taken over after {taken:?}, both for {:?}", seen.overlap());
    // The kernel looks for what has expired every so often: up to a second late on Linux 6.
    assert!(gone < ms(2100), "{gone:?}");
    assert!(taken < ms(1000), "{taken:?}");
    assert!(seen.overlap() < ms(1600), "{:?}", seen.overlap());
    // Back again, it is Backup: ha2 is as healthy and has just begun.
    let again = world.ha1.start();
    wait_for("ha1 to be Backup", || again.said("-> backup").then_some(()));
    assert!(world.ha2.holds() && !world.ha1.holds());
}

#[test]
fn a_stopped_vrrpd_is_backup_when_it_goes_on() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    first.signal(Signal::SIGSTOP);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("the kernel to remove it from ha1", || (!world.ha1.holds()).then_some(()));
    let observer = Observer::begin(&world);
    let before = Instant::now();
    first.signal(Signal::SIGCONT);
    wait_for("ha1 to notice", || first.said("-> backup: nothing ran here").then_some(()));
    let seen = observer.end();
    assert_eq!(seen.overlap(), ms(0));
    assert_eq!(seen.gone_from_ha1(before), ms(0), "ha1 has not touched it");
}

#[test]
fn the_address_leaves_a_dead_proxy_but_stays_when_all_are_dead() {
    if !is_root() {
        return;
    }
    let (world, _first, second) = World::running("");
    let observer = Observer::begin(&world);
    let died = Instant::now();
    world.ha1.proxy.die();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
    let seen = observer.end();
    let taken = seen.taken_by_ha2(died).expect("ha2 has it");
    println!("proxy dead: taken over after {taken:?}, both for {:?}", seen.overlap());
    assert!(taken < ms(700), "{taken:?}");
    assert!(seen.overlap() <= ms(100), "{:?}", seen.overlap());

    world.ha2.proxy.die();
    wait_for("ha2 to know that its proxy is dead", || second.said("the proxy is dead: ").then_some(()));
    let observer = Observer::begin(&world);
    let end = Instant::now() + ms(2500);
    wait_for("2.5 s to pass", || (Instant::now() >= end).then_some(()));
    let seen = observer.end();
    assert_eq!((seen.gone_from_ha1(end), seen.overlap()), (ms(0), ms(0)));
    assert!(world.ha2.holds() && !world.ha1.holds(), "both dead: nothing moves");

    // One lives again: it serves, so it gets the address at once, whatever the delay of preemption says.
    let back = Instant::now();
    world.ha1.proxy.serve();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    println!("proxy back: taken over after {:?}", back.elapsed());
    wait_for("ha2 to leave it", || (!world.ha2.holds()).then_some(()));
}

#[test]
fn the_address_leaves_a_hanging_and_a_draining_proxy() {
    if !is_root() {
        return;
    }
    let (world, _first, second) = World::running("");
    let hung = Instant::now();
    world.ha1.proxy.hang();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    println!("proxy hangs: taken over after {:?}", hung.elapsed());
    assert!(hung.elapsed() < ms(2000), "{:?}", hung.elapsed());
    world.ha1.proxy.serve();
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
    world.ha2.proxy.drain();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    second.says("the proxy is draining");
}

#[test]
fn signed_advertisements_move_it_and_others_are_nothing() {
    if !is_root() {
        return;
    }
    let key = |text: &str| format!("vrrp_key = \"7:{}\"\n", text.repeat(8));
    let world = World::new("signing = \"enforce\"\nreplay_window = \"5s\"");
    world.ha1.set_secrets(&key("abcd"));
    world.ha2.set_secrets(&key("abcd"));
    let (world, first, second) = world.run();
    let observer = Observer::begin(&world);
    let end = Instant::now() + ms(2000);
    wait_for("2 s to pass", || (Instant::now() >= end).then_some(()));
    assert!(observer.end().nothing_moved(), "{}", second.log());
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    // Back with another key: neither believes the other.
    world.ha1.set_secrets(&key("efgh"));
    let again = world.ha1.start();
    wait_for("both to hold the address", || (world.ha1.holds() && world.ha2.holds()).then_some(()));
    again.says("its signature with key 7 is wrong");
    second.says("its signature with key 7 is wrong");
    for log in [first.log(), second.log(), again.log()] {
        assert!(!log.contains("abcdabcd") && !log.contains("efghefgh"), "{log}");
    }
}

#[test]
fn unicast_and_version_2_with_a_password_move_it_as_well() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("unicast = true");
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    drop((world, first, _second));

    let world = World::new("version = 2\nvrid = 51\ninterval = \"1s\"");
    world.ha1.set_password("cfgha26");
    world.ha2.set_password("cfgha26");
    let first = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let second = world.ha2.start();
    wait_for("ha2 to know its proxy", || second.said("the proxy is serving").then_some(()));
    let observer = Observer::begin(&world);
    let end = Instant::now() + ms(4500); // more than the Down interval: an advertisement not understood would show
    wait_for("4.5 s to pass", || (Instant::now() >= end).then_some(()));
    assert!(observer.end().nothing_moved(), "{}", second.log());
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    assert!(!first.said("cfgha26") && !second.said("cfgha26"));
}

#[test]
fn a_vrrpd_that_is_started_at_once_after_it_was_killed_goes_on() {
    if !is_root() {
        return;
    }
    // T10. A longer interval, because a debug build starts slowly on a busy machine.
    let (world, mut first, second) = World::running("interval = \"1s\"");
    world.ha1.wait_for_holding_written();
    let observer = Observer::begin(&world);
    first.signal(Signal::SIGKILL);
    first.wait();
    let again = world.ha1.start();
    wait_for("ha1 to go on", || {
        again.said("initialize -> active: goes on where an earlier process").then_some(())
    });
    let end = Instant::now() + ms(4000); // longer than its lease
    wait_for("4 s to pass", || (Instant::now() >= end).then_some(()));
    assert!(observer.end().nothing_moved(), "{}", again.log());
    assert!(!second.said("-> active"), "{}", second.log());
    // Ended properly it has left nothing to go on with.
    again.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
}
