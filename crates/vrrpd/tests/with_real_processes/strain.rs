//! Floods, a starved machine, and more news from the kernel than a process can be told.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{Burners, Flood, Observer, VIP, World, is_root, let_pass, ms, wait_for};

#[test]
fn a_flood_keeps_nobody_from_anything_and_costs_less_than_a_processor() {
    if !is_root() {
        return;
    }
    let (world, mut first, mut second) = World::running("interval = \"200ms\"");
    let observer = Observer::begin(&world);
    let (cpu, begun) = (first.cpu().max(second.cpu()), Instant::now());
    let flood = Flood::begin(&world);
    wait_for("three seconds of a flood", || (begun.elapsed() >= ms(3000)).then_some(()));
    let (used, time, sent) = (first.cpu().max(second.cpu()) - cpu, begun.elapsed(), flood.sent());
    println!(
        "flood: {} packets a second; {used:?} of processor in {time:?}",
        u128::from(sent) * 1000 / time.as_millis()
    );
    assert!(sent > 10_000, "{sent} packets are no flood");
    assert!(used < time, "{used:?} of processor in {time:?}");
    assert!(observer.end().nothing_moved(), "{}", first.log());
    assert!(first.is_running() && second.is_running());
    // And whoever must take over does, in the middle of it.
    let killed = Instant::now();
    first.signal(Signal::SIGKILL);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    println!("flood: taken over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < ms(2000), "{:?}", killed.elapsed());
    let lines = second.log().lines().count();
    assert!(lines < 100, "a flood must not fill the log: {lines} lines");
}

/// Pages that the kernel may move within a few seconds while it makes room for larger ones.
const MOVED_PAGES: u64 = 2;

#[test]
fn what_a_takeover_needs_is_in_memory_before_it_is_needed() {
    if !is_root() {
        return;
    }
    let (world, first, second) = World::with_channel("");
    if first.said("memory is not locked") {
        println!("skipped: no locked memory on this machine");
        return;
    }
    let (size, resident, locked) = second.program();
    assert!(size > 1000 && resident == size && locked, "{resident} of {size} KiB, locked: {locked}");
    // While it waits, and when it does what it has never done before: no page that it must wait for. The kernel itself may
    // move one meanwhile.
    let faults = second.page_faults();
    let few = || assert!(second.page_faults() <= faults + MOVED_PAGES, "{faults}, {}", second.page_faults());
    let_pass(2000);
    few();
    world.ha1.proxy.die();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    first.signal(Signal::SIGKILL);
    world.ha2.proxy.die();
    wait_for("ha2 to know its proxy dead", || second.said("the proxy is dead: ").then_some(()));
    few();
}

/// The long run is `make calm-run`.
#[test]
fn a_starved_machine_moves_nothing() {
    if !is_root() {
        return;
    }
    let (world, first, second) = World::running("");
    if first.said("no real-time priority") {
        println!("skipped: no real-time priority on this machine");
        return;
    }
    let observer = Observer::begin(&world);
    let mut burners = Burners::start();
    let end = Instant::now() + ms(8000);
    wait_for("eight seconds to pass", || (Instant::now() >= end).then_some(()));
    assert!(burners.all_burn());
    drop(burners);
    assert!(observer.end().nothing_moved(), "{}\n{}", first.log(), second.log());
    assert!(!second.said("-> active"));
}

/// ha2 hears nothing of what changes while it is stopped, and more changes than its queue holds: afterwards it looks at
/// everything, and finds the address that should not be here.
#[test]
fn changes_that_the_kernel_could_not_tell_are_found_by_looking() {
    if !is_root() {
        return;
    }
    let (world, _first, second) = World::running("");
    let namespace = &world.ha2.namespace;
    namespace.ip("link add other type bridge");
    second.signal(Signal::SIGSTOP);
    let mut batch = String::new();
    for number in 0..5000 {
        for way in ["add", "del"] {
            batch += &format!("addr {way} 192.168.{}.{}/32 dev other\n", number / 250, 1 + number % 250);
        }
    }
    let mut ip = namespace.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    let mut input = ip.stdin.take().expect("its input");
    input.write_all(batch.as_bytes()).expect("tell it the changes");
    drop(input);
    assert!(ip.wait().expect("ip").success());
    namespace.ip(&format!("addr add {VIP}/32 dev eth0"));
    let table = namespace.inside(|| std::fs::read_to_string("/proc/thread-self/net/netlink"));
    let table = table.expect("the kernel's list of netlink sockets");
    // Columns: socket, protocol (0 for routes and addresses), port, groups, two buffers, dump, locks, drops.
    let dropped = table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields[1] == "0" && u32::from_str_radix(fields[3], 16).is_ok_and(|groups| groups != 0);
        listens && fields[8] != "0"
    });
    assert!(dropped, "nothing was lost: {table}");
    second.signal(Signal::SIGCONT);
    let gone = Instant::now();
    wait_for("the address to be removed", || (!world.ha2.holds()).then_some(()));
    println!("overrun: found after {:?}", gone.elapsed());
    wait_for("a word about it", || second.said("left over").then_some(()));
    assert!(world.ha1.holds());
}
