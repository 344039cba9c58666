//! A floating address with a hardware address of its own (`vip.virtual_mac`): neighbours learn nothing when it moves, and the
//! host's own hardware address never speaks for it.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::keepalived::{elects, over_ipv6, version_3};
use crate::link::{Capture, Frame, Host, Observer, World, is_root, let_pass, ms, wait_for};

const SETTINGS: &str = "vrid = 51\nvirtual_mac = true";
const DEVICE: &str = "vrrp4-51";
const HARDWARE: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
const HARDWARE_V6: [u8; 6] = [0, 0, 0x5e, 0, 2, 51];

/// The index of a host's device, and whether it is up; `None` when there is none.
fn device(host: &Host, name: &str) -> Option<(u32, bool)> {
    let all = host.namespace.ip("-o link show");
    let line = all.lines().find(|line| line.contains(&format!(": {name}@")))?;
    let index = line.split(':').next()?.parse().ok()?;
    Some((index, line.contains(",UP")))
}

/// A setting of ARP of the interface below.
fn below(host: &Host, setting: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/eth0/{setting}");
    host.namespace.inside(|| std::fs::read_to_string(path).expect("a setting").trim().to_owned())
}

fn set_for_all(host: &Host, setting: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/conf/all/{setting}");
    host.namespace.inside(|| std::fs::write(path, value).expect("a setting"));
}

/// Lets the client ask until it knows the floating address.
fn known_as(world: &World, hardware: &str) {
    wait_for("the client to find the address", || {
        world.ask_where();
        (world.neighbour().as_deref() == Some(hardware)).then_some(())
    });
}

/// Everything that tells the hardware address of the floating one: advertisements, ARP with it as sender, and neighbour
/// advertisements about it. What is said is `hardware`, in the frame's own header and within.
fn all_say(frames: &[Frame], hardware: [u8; 6]) -> usize {
    let speaking: Vec<&Frame> = frames.iter().filter(|frame| frame.speaks_for_the_address()).collect();
    for frame in &speaking {
        assert!(frame.says().iter().all(|said| *said == hardware), "{}", frame.text());
    }
    speaking.len()
}

#[test]
fn neighbours_learn_nothing_when_an_address_with_its_own_hardware_address_moves() {
    if !is_root() {
        return;
    }
    let world = World::new(SETTINGS);
    // Strict: a packet from the client, which is to be found behind eth0, would not be taken from another interface.
    for host in [&world.ha1, &world.ha2] {
        set_for_all(host, "rp_filter", "1");
    }
    let capture = Capture::begin(&world, "virtual-mac");
    let (world, mut first, second) = world.run();
    first.says("on eth0 from 10.0.1.21, by vrrp4-51");
    // Whoever heard himself would have received something by now, and have an alarm.
    let page = world.ha1.http(7003, "/metrics");
    for (name, value) in [("alarms", "0"), ("advertisements_received_total", "0")] {
        let line = format!("matriarch_vrrp_{name}{{address=\"10.0.1.10\",vrid=\"51\"}} {value}");
        assert!(page.lines().any(|one| one == line), "{line} in {page}");
    }
    assert_eq!(device(&world.ha1, DEVICE).map(|(_, up)| up), Some(true));
    assert_eq!(device(&world.ha2, DEVICE).map(|(_, up)| up), Some(false), "a Backup is silent");
    assert!(!world.ha1.addresses().contains("10.0.1.10"), "{}", world.ha1.addresses());

    known_as(&world, "00:00:5e:00:01:33");
    // The host must ask where the client is before it can answer it: from its own address.
    world.ha1.namespace.ip("neigh flush dev eth0");
    world.client.inside(|| {
        let socket = std::net::UdpSocket::bind("10.0.1.99:0").expect("a socket");
        socket.connect((world.ha1.vip, 9)).expect("a destination");
        socket.set_read_timeout(Some(ms(100))).expect("a limit");
        // Nobody listens there: the answer is an error, of which the kernel sends a few in a second only.
        wait_for("the address to be reached", || {
            drop(socket.send(b"hello"));
            let answer = socket.recv(&mut [0; 8]).err().map(|error| error.kind());
            (answer == Some(std::io::ErrorKind::ConnectionRefused)).then_some(())
        });
    });

    let observer = Observer::begin(&world);
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    assert_eq!(world.neighbour().as_deref(), Some("00:00:5e:00:01:33"));
    assert_eq!(first.wait().code(), Some(0));
    println!("virtual MAC, SIGTERM: taken over after {:?}", observer.end().taken_by_ha2(asked));
    // A clean end leaves nothing, and everything as it was.
    assert_eq!(device(&world.ha1, DEVICE), None);
    assert_eq!(
        (below(&world.ha1, "arp_ignore"), below(&world.ha1, "arp_announce")),
        ("0".into(), "0".into())
    );
    assert_eq!(
        (below(&world.ha2, "arp_ignore"), below(&world.ha2, "arp_announce")),
        ("1".into(), "2".into())
    );
    known_as(&world, "00:00:5e:00:01:33");
    let again = world.ha1.start();
    wait_for("ha1 to be Backup", || again.said("-> backup").then_some(()));
    second.signal(Signal::SIGKILL);
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    known_as(&world, "00:00:5e:00:01:33");

    let frames = capture.all();
    assert!(frames.iter().any(|frame| frame.is_advertisement()), "the capture sees advertisements");
    assert!(frames.iter().any(Frame::is_arp_answer_to_one), "and what the kernel answers");
    println!("{} frames speak for the address", all_say(&frames, HARDWARE));
}

#[test]
fn an_ipv6_address_with_its_own_hardware_address_moves_as_well() {
    if !is_root() {
        return;
    }
    let world = World::over_ipv6(SETTINGS);
    let capture = Capture::begin(&world, "virtual-mac-ipv6");
    let (world, mut first, _second) = world.run();
    known_as(&world, "00:00:5e:00:02:33");
    assert_eq!(device(&world.ha2, "vrrp6-51").map(|(_, up)| up), Some(false));
    let shown = world.ha1.namespace.ip("-o addr show dev vrrp6-51");
    let mut addresses: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["fd00::10/128", "fe80::5e00:233/128"], "none that the kernel made: {shown}");
    first.signal(Signal::SIGTERM);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    assert_eq!(world.neighbour().as_deref(), Some("00:00:5e:00:02:33"));
    assert_eq!(first.wait().code(), Some(0));
    assert_eq!(device(&world.ha1, "vrrp6-51"), None);
    world.client.ip("neigh flush dev eth0");
    known_as(&world, "00:00:5e:00:02:33");
    let frames = capture.all();
    all_say(&frames, HARDWARE_V6);
    let kinds = |within| {
        frames.iter().filter(move |frame| frame.speaks_for_the_address() && frame.says().len() == within)
    };
    assert!(kinds(1).count() > 3 && kinds(2).count() > 1, "advertisements, and neighbour advertisements");
}

#[test]
fn a_killed_vrrpd_leaves_its_device_to_the_next_one() {
    if !is_root() {
        return;
    }
    // Three intervals are enough to start again, also on a busy machine.
    let (world, mut first, second) = World::running(&format!("{SETTINGS}\ninterval = \"1s\""));
    let (index, _) = device(&world.ha1, DEVICE).expect("a device");
    // At once: it goes on.
    world.ha1.wait_for_holding_written();
    first.signal(Signal::SIGKILL);
    first.wait();
    let first = world.ha1.start();
    first.says("goes on where an earlier process");
    assert_eq!(device(&world.ha1, DEVICE), Some((index, true)));
    let_pass(4500); // more than the lease and the Down interval
    assert!(world.ha1.holds() && !world.ha2.holds(), "{}", first.log());

    let killed = Instant::now();
    first.signal(Signal::SIGKILL);
    wait_for("the kernel to remove the address", || (!world.ha1.holds()).then_some(()));
    println!("virtual MAC, SIGKILL: gone after {:?}", killed.elapsed());
    assert!(killed.elapsed() < ms(4500), "{:?}", killed.elapsed());
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    let mut again = world.ha1.start();
    wait_for("ha1 to be Backup", || again.said("-> backup").then_some(()));
    wait_for("its device to be silent", || {
        (device(&world.ha1, DEVICE) == Some((index, false))).then_some(())
    });
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", second.log());
    // What the first of them found is restored by the last.
    again.signal(Signal::SIGTERM);
    assert_eq!(again.wait().code(), Some(0));
    assert_eq!(device(&world.ha1, DEVICE), None);
    assert_eq!(
        (below(&world.ha1, "arp_ignore"), below(&world.ha1, "arp_announce")),
        ("0".into(), "0".into())
    );
}

#[test]
fn a_device_that_is_wanted_no_more_goes_with_what_was_set_for_it() {
    if !is_root() {
        return;
    }
    let world = World::new(SETTINGS);
    let first = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    assert_eq!(below(&world.ha1, "arp_announce"), "2");
    first.signal(Signal::SIGKILL);
    world.ha1.edit(|text| text.replace("virtual_mac = true", "virtual_mac = false"));
    let again = world.ha1.start();
    again.says("own interface, which was left over");
    assert_eq!(device(&world.ha1, DEVICE), None);
    assert_eq!(
        (below(&world.ha1, "arp_ignore"), below(&world.ha1, "arp_announce")),
        ("0".into(), "0".into())
    );
    wait_for("the address on the interface itself", || {
        world.ha1.addresses().contains("10.0.1.10").then_some(())
    });
    known_as(&world, "02:00:00:00:00:21");
}

#[test]
fn a_device_that_others_change_is_put_back() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running(SETTINGS);
    let observer = Observer::begin(&world);
    let restored = |times: usize| first.log().matches("somebody removed the address").count() >= times;
    let whole = || world.ha1.holds() && device(&world.ha1, DEVICE).is_some_and(|(_, up)| up);
    world.ha1.namespace.ip("link set vrrp4-51 down");
    wait_for("it to be up again", || whole().then_some(()));
    known_as(&world, "00:00:5e:00:01:33");
    let (index, _) = device(&world.ha1, DEVICE).expect("a device");
    world.ha1.namespace.ip("link del vrrp4-51");
    wait_for("another one with the address", || {
        (whole() && device(&world.ha1, DEVICE).is_some_and(|(now, _)| now != index)).then_some(())
    });
    assert!(restored(1), "{}", first.log());
    world.client.ip("neigh flush dev eth0");
    known_as(&world, "00:00:5e:00:01:33");
    assert_eq!(observer.end().taken_by_ha2(Instant::now()), None, "it stays");

    // The interface below goes, and its device with it.
    world.unplug(&world.ha1);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    assert_eq!(device(&world.ha1, DEVICE), None);
    world.plug(&world.ha1);
    wait_for("a device on the new interface", || device(&world.ha1, DEVICE));
    wait_for("the new interface to be quiet", || (below(&world.ha1, "arp_ignore") == "1").then_some(()));
}

#[test]
fn what_is_in_the_way_of_a_device_is_said() {
    if !is_root() {
        return;
    }
    let world = World::new(SETTINGS);
    world.ha1.namespace.ip("link add vrrp4-51 type veth peer name other");
    let first = world.ha1.spawn_by(&[]);
    let word = "there is an interface vrrp4-51 that vrrpd did not make";
    wait_for("a word about the name", || first.said(word).then_some(()));
    assert!(!world.ha1.holds());
    world.ha1.namespace.ip("link del vrrp4-51");
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    assert!(device(&world.ha1, DEVICE).is_some());

    set_for_all(&world.ha2, "arp_filter", "1");
    let second = world.ha2.spawn_by(&[]);
    let word = "net.ipv4.conf.all.arp_filter is 1";
    wait_for("a word about the setting", || second.said(word).then_some(()));
    assert_eq!(device(&world.ha2, DEVICE), None);
    set_for_all(&world.ha2, "arp_filter", "0");
    wait_for("ha2 to be Backup", || second.said("-> backup").then_some(()));
}

#[test]
fn keepalived_with_use_vmac_and_we_elect_each_other() {
    if !is_root() {
        return;
    }
    let with_vmac = |text: String| text.replace("interface eth0\n", "interface eth0\nuse_vmac\n");
    elects(|| World::new(SETTINGS), &with_vmac(version_3()));
    elects(|| World::over_ipv6(SETTINGS), &with_vmac(over_ipv6()));
}
