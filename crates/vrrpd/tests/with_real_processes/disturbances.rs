//! Links that come and go, addresses that others change, packets that are none of ours; and what the outside can see.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{self, Capture, Observer, VIP, World, is_root, ms, wait_for};

#[test]
fn a_lost_link_is_a_fault_and_its_return_changes_nothing() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    let observer = Observer::begin(&world);
    let cut = Instant::now();
    world.cable(&world.ha1, false);
    wait_for("ha1 to notice", || first.said("eth0 has no carrier").then_some(()));
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    let taken = cut.elapsed();
    assert!(!world.ha1.holds());
    world.cable(&world.ha1, true);
    wait_for("ha1 to notice the link", || (first.log().matches("on eth0 from").count() == 2).then_some(()));
    wait_for("ha1 to hear ha2", || (first.log().matches("-> backup").count() == 2).then_some(()));
    let seen = observer.end();
    println!("link lost: taken over after {taken:?}, both for {:?}", seen.overlap());
    assert!(taken < ms(1000), "{taken:?}");
    assert_eq!(seen.overlap(), ms(0));
    assert!(world.ha2.holds() && !world.ha1.holds());
}

#[test]
fn a_new_interface_of_the_same_name_is_used_without_a_restart() {
    if !is_root() {
        return;
    }
    let (world, mut first, _second) = World::running("interface = \"eth0\"");
    world.unplug(&world.ha1);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to notice", || first.said("there is no interface eth0").then_some(()));
    world.plug(&world.ha1);
    world.ha2.proxy.die();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    assert!(first.is_running());
}

#[test]
fn an_address_removed_by_hand_is_put_back() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    let before = world.ha2.holds();
    let removed = Instant::now();
    world.ha1.namespace.ip(&format!("addr del {VIP}/32 dev eth0"));
    wait_for("ha1 to notice", || first.said("somebody removed the address").then_some(()));
    wait_for("the address to be back", || world.ha1.holds().then_some(()));
    println!("removed by hand: back after {:?}", removed.elapsed());
    assert!(removed.elapsed() < ms(500), "{:?}", removed.elapsed());
    assert!(!before && !world.ha2.holds());
}

#[test]
fn what_an_earlier_process_left_is_removed_at_the_start() {
    if !is_root() {
        return;
    }
    let world = World::new("");
    let _first = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    for address in ["10.0.1.10/32", "10.0.1.77/32"] {
        world.ha2.namespace.ip(&format!("addr add {address} dev eth0"));
    }
    let second = world.ha2.start();
    let addresses = world.ha2.addresses();
    assert!(!addresses.contains("10.0.1.10/32"), "{addresses}");
    assert!(addresses.contains("10.0.1.22/24") && addresses.contains("10.0.1.77/32"), "{addresses}");
    second.says("left over");
    // The same while it runs: a Backup does not have the address.
    world.ha2.namespace.ip("addr add 10.0.1.10/32 dev eth0");
    wait_for("the address to be removed", || (!world.ha2.holds()).then_some(()));
    assert!(world.ha1.holds());
}

/// As a program without leases would have left it: for ever.
#[test]
fn a_permanent_leftover_of_a_killed_process_is_removed_before_anything_is_sent() {
    if !is_root() {
        return;
    }
    let (world, mut first, _second) = World::running("");
    first.signal(Signal::SIGKILL);
    first.wait();
    wait_for("ha2 alone to hold the address", || (world.ha2.holds() && !world.ha1.holds()).then_some(()));
    world.ha1.namespace.ip(&format!("addr add {VIP}/32 dev eth0"));
    let capture = Capture::begin(&world, "leftover");
    let begun = Instant::now();
    let again = world.ha1.start();
    assert!(!world.ha1.holds(), "{}", world.ha1.addresses());
    assert!(world.ha1.addresses().contains("10.0.1.21/24"), "{}", world.ha1.addresses());
    again.says("left over");
    assert!(capture.from(&world.ha1, begun).is_empty(), "it has spoken before it had looked");
}

#[test]
fn an_address_removed_ten_times_a_second_is_left_to_the_other_host() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    let mut removed = Instant::now();
    wait_for("ha2 to hold the address", || {
        if removed.elapsed() >= ms(100) {
            removed = Instant::now();
            // Not there between its removal and its return.
            let arguments = format!("addr del {VIP}/32 dev eth0");
            drop(world.ha1.namespace.command("ip").args(arguments.split(' ')).output());
        }
        world.ha2.holds().then_some(())
    });
    wait_for("ha1 to give way", || first.said("the address is removed again and again").then_some(()));
    assert_eq!(first.log().matches("somebody removed the address: putting it back").count(), 5);
    assert!(!world.ha1.holds());
}

/// Addresses of a subnet go with its first one, where the kernel is not told to promote another. Ours is a /32, so it does
/// not go with the host's own; but without that one the host cannot take part.
#[test]
fn without_the_hosts_own_address_the_floating_one_goes_to_the_other_host() {
    if !is_root() {
        return;
    }
    let (world, first, second) = World::running("");
    let observer = Observer::begin(&world);
    let removed = Instant::now();
    world.ha1.namespace.ip("addr del 10.0.1.21/24 dev eth0");
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
    let seen = observer.end();
    println!("own address removed: taken over after {:?}", seen.taken_by_ha2(removed));
    assert!(seen.overlap() <= ms(60), "{:?}", seen.overlap());
    first.says("-> fault: no interface has an address");
    // A good-bye from an address that is gone.
    second.says("-> active: 10.0.1.21 leaves");
    world.ha1.namespace.ip("addr add 10.0.1.21/24 dev eth0");
    wait_for("ha1 to take part again", || (first.log().matches("-> backup").count() == 2).then_some(()));
    assert!(world.ha2.holds() && !world.ha1.holds());
}

#[test]
fn an_interface_with_a_new_name_is_found_by_its_subnet() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    for command in ["link set eth0 down", "link set eth0 name eth7", "link set eth7 up"] {
        world.ha1.namespace.ip(command);
    }
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to take part", || first.said("on eth7 from 10.0.1.21").then_some(()));
    world.ha2.proxy.die();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    assert!(world.ha1.namespace.ip("-4 -o addr show dev eth7").contains("10.0.1.10/32"));
}

#[test]
fn a_link_that_flaps_at_random_leaves_one_holder() {
    if !is_root() {
        return;
    }
    let (world, mut first, mut second) = World::running("preempt_delay = \"300ms\"");
    let observer = Observer::begin(&world);
    let mut random = 7_u64;
    for _ in 0..12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let host = if random >> 63 == 0 { &world.ha1 } else { &world.ha2 };
        for (plugged, millis) in [(false, 50 + (random >> 20) % 900), (true, 50 + (random >> 40) % 900)] {
            world.cable(host, plugged);
            let end = Instant::now() + ms(millis);
            wait_for("the link to have been so", || (Instant::now() >= end).then_some(()));
        }
    }
    wait_for("one of them alone to hold it", || (world.ha1.holds() != world.ha2.holds()).then_some(()));
    let seen = observer.end();
    // A hand-over may be looked at in its middle; two that go on would be seen at every look.
    assert!(seen.longest_overlap() <= ms(60), "{:?}", seen.longest_overlap());
    assert!(first.is_running() && second.is_running());
}

#[test]
fn what_is_no_advertisement_of_ours_changes_nothing() {
    if !is_root() {
        return;
    }
    let (world, mut first, mut second) = World::running("");
    let memory = (first.resident_kib(), second.resident_kib());
    let observer = Observer::begin(&world);
    world.client.inside(link::send_garbage);
    let seen = observer.end();
    assert!(seen.nothing_moved(), "{seen:?}");
    assert!(first.is_running() && second.is_running());
    let metrics = world.ha1.http(7003, "/metrics");
    let discarded =
        metrics.lines().find(|line| line.starts_with("matriarch_vrrp_advertisements_discarded_total"));
    let count: u64 = discarded.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a counter");
    assert!(count > 1000, "{metrics}");
    let lines = first.log().lines().count();
    assert!(lines < 100, "a flood must not fill the log: {lines} lines");
    let grown =
        first.resident_kib().saturating_sub(memory.0).max(second.resident_kib().saturating_sub(memory.1));
    assert!(grown < 2048, "{grown} KiB more than before");
}

#[test]
fn metrics_and_health_tell_who_holds_the_address() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("");
    let has = |host: &link::Host, line: &str| {
        let text = host.http(7003, "/metrics");
        text.lines().any(|found| found == line)
    };
    let active = "matriarch_vrrp_active{address=\"10.0.1.10\",vrid=\"10\"}";
    wait_for("ha1 to say so", || has(&world.ha1, &format!("{active} 1")).then_some(()));
    wait_for("ha2 to say so", || has(&world.ha2, &format!("{active} 0")).then_some(()));
    let priority = "matriarch_vrrp_priority{address=\"10.0.1.10\",vrid=\"10\"}";
    wait_for("ha1's priority", || has(&world.ha1, &format!("{priority} 151")).then_some(()));
    wait_for("ha2's priority", || has(&world.ha2, &format!("{priority} 150")).then_some(()));
    assert!(world.ha1.http(7003, "/health").starts_with("HTTP/1.1 200"));
    println!("resident: {} KiB in this build", first.resident_kib());
}
