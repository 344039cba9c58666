//! What the peer channel adds: hosts know of each other, moves that somebody asks for do not wait, and an operator keeps
//! addresses off a host.

use std::time::Instant;

use ha_rpc::proto::{DrainRequest, MoveRequest};
use nix::sys::signal::Signal;

use crate::link::{Host, Observer, VIP, World, is_root, let_pass, ms, wait_for};

/// Short times of `[vrrp]`, behind the lines of `[[vip]]`.
const SHORT: &str = "preempt_delay = \"1s\"\n[vrrp]\nno_primary_hold = \"1s\"\nprimary_hysteresis = \"1s\"";

/// Waits until a host gives this reason for the state of its router.
fn gives_reason(world: &World, host: &Host, text: &str) {
    wait_for(&format!("{} to say {text:?}", host.name), || {
        let routers = world.status(host).routers;
        routers.first().expect("one router").reason.contains(text).then_some(())
    });
}

#[test]
fn a_primary_that_only_the_other_has_moves_the_address_once_and_back_once() {
    if !is_root() {
        return;
    }
    let (world, _first, _second) = World::with_channel(SHORT);
    world.ha1.proxy.has_primary(false);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
    assert_eq!(world.status(&world.ha1).proxy, "without a primary that another proxy has");
    world.ha1.proxy.has_primary(true);
    wait_for("ha1 to take it back", || world.ha1.holds().then_some(()));
    wait_for("ha2 to leave it", || (!world.ha2.holds()).then_some(()));
}

#[test]
fn a_primary_that_nobody_has_moves_nothing() {
    if !is_root() {
        return;
    }
    let (world, _first, _second) = World::with_channel(SHORT);
    let observer = Observer::begin(&world);
    world.ha1.proxy.has_primary(false);
    let_pass(500);
    world.ha2.proxy.has_primary(false);
    let_pass(2500);
    world.ha2.proxy.has_primary(true);
    let_pass(500);
    world.ha1.proxy.has_primary(true);
    let_pass(2500);
    assert!(observer.end().nothing_moved());
}

#[test]
fn without_the_channel_a_lack_of_a_primary_moves_nothing() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::with_channel(SHORT);
    // Only the channel: advertisements still pass.
    world.ha1.namespace.ip("route add blackhole 10.0.1.22/32");
    wait_for("ha1 to notice", || first.said("the connection to another host ended").then_some(()));
    wait_for("ha1 to hear ha2 no more", || (!world.status(&world.ha1).peers[0].heard).then_some(()));
    let observer = Observer::begin(&world);
    world.ha1.proxy.has_primary(false);
    let_pass(3000);
    assert!(observer.end().nothing_moved(), "{}", first.log());
    // And it moves all the same when there is a reason that needs no channel.
    world.ha1.proxy.die();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
}

#[test]
fn moves_that_are_asked_for_do_not_wait_for_the_skew_time() {
    if !is_root() {
        return;
    }
    // Version 2: without the channel each of these moves takes 0.3 to 0.6 s.
    let (world, first, second) = World::with_channel("version = 2\nvrid = 51\ninterval = \"1s\"");
    let address = VIP.to_string();
    let begun = Instant::now();
    let observer = Observer::begin(&world);
    let moved =
        world.call(&world.ha1, |mut client| async move { client.r#move(MoveRequest { address }).await });
    let took = begun.elapsed();
    assert_eq!(moved.expect("a move").active_address, "10.0.1.22");
    println!("hactl vip move: answered after {took:?}, both for {:?}", observer.end().overlap());
    assert!(took < ms(1000), "{took:?}");
    gives_reason(&world, &world.ha2, "ha1 asked for it");

    let observer = Observer::begin(&world);
    let died = Instant::now();
    world.ha2.proxy.die();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    wait_for("ha2 to leave it", || (!world.ha2.holds()).then_some(()));
    println!(
        "proxy dead: the other holds it after {:?}, both for {:?}",
        died.elapsed(),
        observer.end().overlap()
    );
    gives_reason(&world, &world.ha1, "ha2 asked for it");

    world.ha2.proxy.serve();
    wait_for("ha1 to hear that ha2 serves", || {
        (world.status(&world.ha1).peers[0].proxy == "serving").then_some(())
    });
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    println!("SIGTERM: the other holds it after {:?}", asked.elapsed());
    second.says("ha1 asked for it");
}

#[test]
fn a_drained_host_gives_the_address_away_and_stays_drained_over_a_restart() {
    if !is_root() {
        return;
    }
    // T27
    let (world, mut first, _second) = World::with_channel("preempt_delay = \"1s\"");
    let drain = |host: &Host, drain| {
        world
            .call(host, |mut client| async move { client.drain(DrainRequest { drain }).await })
            .expect("an answer")
            .held
    };
    assert_eq!(drain(&world.ha1, true), Vec::<String>::new());
    assert!(world.ha2.holds());
    first.signal(Signal::SIGTERM);
    first.wait();
    let again = world.ha1.start();
    wait_for("ha1 to remember", || {
        again.said("an operator keeps floating addresses off this host").then_some(())
    });
    let observer = Observer::begin(&world);
    let_pass(2500);
    drop(observer.end());
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", again.log());
    assert!(world.status(&world.ha1).drained);
    assert_eq!(drain(&world.ha1, false), Vec::<String>::new());
    wait_for("ha1 to take it back", || world.ha1.holds().then_some(()));
    // Where nobody else serves it stays, and the answer says so.
    world.ha2.proxy.die();
    wait_for("ha1 to hear of it", || (world.status(&world.ha1).peers[0].proxy == "dead").then_some(()));
    assert_eq!(drain(&world.ha1, true), [VIP.to_string()]);
    assert!(world.ha1.holds());
}

#[test]
fn in_maintenance_the_address_stays_until_its_holder_fails() {
    if !is_root() {
        return;
    }
    // T27
    let (world, mut first, second) = World::with_channel(SHORT);
    let in_maintenance = |on| {
        for host in [&world.ha1, &world.ha2] {
            host.proxy.in_maintenance(on);
            wait_for("vrrpd to know", || (world.status(host).maintenance == on).then_some(()));
        }
    };
    in_maintenance(true);
    let page = world.ha1.http(7003, "/metrics");
    assert!(page.lines().any(|line| line == "matriarch_vrrp_maintenance 1"), "{page}");
    let observer = Observer::begin(&world);
    world.ha1.proxy.has_primary(false);
    let_pass(2500);
    assert!(observer.end().nothing_moved(), "{}", first.log());
    world.ha1.proxy.has_primary(true);
    world.ha1.proxy.die();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    world.ha1.proxy.serve();
    // A vrrpd that begins within the mode hears of it from its proxy.
    first.signal(Signal::SIGTERM);
    first.wait();
    let again = world.ha1.start();
    wait_for("ha1 to know again", || world.status(&world.ha1).maintenance.then_some(()));
    let_pass(2500);
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", again.log());
    in_maintenance(false);
    wait_for("ha1 to take it back", || world.ha1.holds().then_some(()));
    second.says("maintenance mode is over");
}

#[test]
fn other_settings_on_the_other_host_are_an_alarm() {
    if !is_root() {
        return;
    }
    let world = World::certified("");
    world.ha2.edit(|text| {
        text.replace("address = \"10.0.1.10/24\"", "address = \"10.0.1.10/24\"\ninterval = \"300ms\"")
    });
    let (_first, _second) = (world.ha1.start(), world.ha2.start());
    for (host, said) in [
        (&world.ha1, "ha2 has other settings: interval 300ms instead of 200ms"),
        (&world.ha2, "ha1 has other settings: interval 200ms instead of 300ms"),
    ] {
        wait_for("the alarm", || {
            let alarms = world.status(host).routers[0].alarms.clone();
            alarms.iter().any(|alarm| alarm.contains(said)).then_some(())
        });
    }
}
