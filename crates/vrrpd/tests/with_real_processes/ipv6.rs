//! A floating IPv6 address, and both families together.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{Host, Observer, VIP_V6, World, is_root, ms, wait_for};

/// What `ip` shows of an address.
fn line_of(host: &Host, address: &str) -> String {
    let all = host.addresses();
    all.lines().find(|line| line.contains(address)).unwrap_or_default().to_owned()
}

#[test]
fn an_ipv6_address_moves_and_the_neighbours_learn_it() {
    if !is_root() {
        return;
    }
    let (world, mut first, second) = World::over_ipv6("").run();
    for address in ["fd00::10/128", "fe80::5e00:210/128"] {
        let line = line_of(&world.ha1, address);
        assert!(!line.contains("tentative"), "works at once: {line}");
        assert!(line.contains("deprecated") && line.contains("valid_lft 1sec"), "no source, leased: {line}");
    }
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
    println!("IPv6, SIGTERM: taken over after {taken:?}, both for {:?}", seen.overlap());
    assert!(taken < ms(1000), "{taken:?}");
    let left = world.ha1.addresses();
    assert!(!left.contains("fd00::10/") && !left.contains("fe80::5e00:210"), "{left}");

    let again = world.ha1.start();
    wait_for("ha1 to be Backup", || again.said("-> backup").then_some(()));
    let killed = Instant::now();
    second.signal(Signal::SIGKILL);
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    println!("IPv6, SIGKILL: taken over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < ms(1500), "{:?}", killed.elapsed());
    wait_for("the kernel to remove it from ha2", || (!world.ha2.holds()).then_some(()));
}

#[test]
fn an_ipv6_address_that_others_make_doubtful_is_put_back() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::over_ipv6("interval = \"1s\"").run();
    world.ha1.namespace.inside(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "1").expect("a sysctl");
    });
    // Removed and added anew in the usual way: the kernel asks the link first, and does not use it meanwhile. vrrpd is
    // stopped for that moment, because it would be faster.
    let batch = world.ha1.dir().join("batch");
    let text = format!("addr del {VIP_V6}/128 dev eth0\naddr add {VIP_V6}/128 dev eth0\n");
    std::fs::write(&batch, text).expect("write the batch");
    first.signal(Signal::SIGSTOP);
    world.ha1.namespace.ip(&format!("-batch {}", batch.display()));
    first.signal(Signal::SIGCONT);
    wait_for("ha1 to notice", || first.said("somebody removed the address").then_some(()));
    wait_for("the address to work again", || {
        let line = line_of(&world.ha1, "fd00::10/128");
        (line.contains("deprecated") && !line.contains("tentative")).then_some(())
    });
    assert!(world.ha1.holds() && !world.ha2.holds());
}

#[test]
fn by_unicast_an_ipv6_address_moves_as_well() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::over_ipv6("unicast = true").run();
    first.says("on eth0 from fd00::21");
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
}

#[test]
fn metrics_name_an_ipv6_address() {
    if !is_root() {
        return;
    }
    let six = "[[vip]]\naddress = \"fd00::10/64\"\ninterface = \"eth0\"\nvrid = 10\n";
    let (world, _first, _second) = World::running(six);
    let active = "matriarch_vrrp_active{address=\"fd00::10\",vrid=\"10\"} 1";
    wait_for("ha1 to say so", || world.ha1.http(7003, "/metrics").contains(active).then_some(()));
    assert!(world.ha1.holds() && world.ha1.has(VIP_V6.into()), "{}", world.ha1.addresses());
}

#[test]
fn a_group_of_both_families_moves_as_one() {
    if !is_root() {
        return;
    }
    let group = "group = \"front\"\n[[vip]]\naddress = \"fd00::10/64\"\ninterface = \"eth0\"\nvrid = 10\ngroup = \"front\"\n";
    let (world, first, _second) = World::running(group);
    let six = VIP_V6.into();
    assert!(world.ha1.has(six));
    // One family cannot take part any more: both go, and at once, because the other family says so.
    let lost = Instant::now();
    world.ha1.namespace.ip("addr del fe80::ff:fe00:21/64 dev eth0");
    wait_for("ha2 to hold both", || (world.ha2.holds() && world.ha2.has(six)).then_some(()));
    println!("group: taken over {:?} after the loss of one family", lost.elapsed());
    first.says("eth0 has no link-local address of its own");
    assert!(!world.ha1.holds() && !world.ha1.has(six), "{}", world.ha1.addresses());
    world.ha1.namespace.ip("addr add fe80::ff:fe00:21/64 dev eth0");
    wait_for("ha1 to take part again", || (first.log().matches("-> backup").count() == 2).then_some(()));
    assert!(world.ha2.holds() && world.ha2.has(six));
}
