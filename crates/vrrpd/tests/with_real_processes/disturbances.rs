//! Links that come and go, addresses that others change, packets that are none of ours; and what the outside can see.

use std::time::Instant;

use crate::link::{self, Observer, VIP, World, is_root, ms, wait_for};

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
    assert!(second.said("left over"), "{}", second.log());
    // The same while it runs: a Backup does not have the address.
    world.ha2.namespace.ip("addr add 10.0.1.10/32 dev eth0");
    wait_for("the address to be removed", || (!world.ha2.holds()).then_some(()));
    assert!(world.ha1.holds());
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
