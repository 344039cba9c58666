//! A changed file comes into force without a move.

use std::net::IpAddr;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{Capture, Host, Observer, VIP, World, is_root, wait_for};

#[test]
fn a_changed_file_moves_nothing_a_bad_one_changes_nothing_and_what_is_asked_for_counts() {
    if !is_root() {
        return;
    }
    // T37
    let (world, first, second) = World::with_channel("preempt_delay = \"1s\"");
    let alarms = || world.status(&world.ha1).routers[0].alarms.clone();
    let digest = || world.status(&world.ha1).file_digest;
    let before = digest();
    let observer = Observer::begin(&world);
    // Read by itself, without a signal.
    world.ha1.edit(|text| text + "# nothing\n");
    wait_for("the file to be read", || (digest() != before).then_some(()));
    let good = digest();
    world.ha1.edit(|text| text + "nonsense = 1\n");
    first.signal(Signal::SIGHUP);
    wait_for("the file to be refused", || {
        alarms().iter().any(|alarm| alarm.contains("nonsense") && alarm.contains("refused")).then_some(())
    });
    assert_eq!(digest(), good);
    world.ha1.edit(|text| {
        text.replace("nonsense = 1\n", "").replacen("[[vip]]\n", "[[vip]]\ninterval = \"300ms\"\n", 1)
    });
    first.signal(Signal::SIGHUP);
    wait_for("the new interval to be named", || {
        alarms().iter().any(|alarm| alarm.contains("changes how 10.0.1.10 is advertised")).then_some(())
    });
    assert!(observer.end().nothing_moved(), "{}", first.log());
    // The other host is preferred from now on: this is a reason to move.
    for host in [&world.ha1, &world.ha2] {
        let preferred = "[[vip]]\npreference = [\"ha2\"]\n";
        host.edit(|text| text.replacen("[[vip]]\n", preferred, 1));
    }
    first.signal(Signal::SIGHUP);
    second.signal(Signal::SIGHUP);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
}

/// A virtual router of version 3 with the identifier 12 that leaves: identifier and priority, and that it has one address.
const LEAVES: &str = " 310c0001 ";

#[test]
fn addresses_come_and_go_with_the_file_and_the_others_stay() {
    if !is_root() {
        return;
    }
    let (world, first, second) = World::with_channel("");
    let hooked = world.ha1.dir().join("hooked");
    let text = format!("#!/bin/sh\necho \"$1 $2\" >> {}\n", hooked.display());
    let program = world.ha1.dir().join("changed");
    std::fs::write(&program, text).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("make it one");
    let said = || std::fs::read_to_string(&hooked).unwrap_or_default();
    let change = |host: &Host, from: &str, to: &str| {
        host.edit(|text| if from.is_empty() { text + to } else { text.replace(from, to) });
        let vrrpd = if host.name == "ha1" { &first } else { &second };
        vrrpd.signal(Signal::SIGHUP);
    };
    let is_at = |last: u8, ha1: bool, ha2: bool| {
        let address = IpAddr::from([10, 0, 1, last]);
        wait_for(&format!("{address} at ha1 {ha1}, at ha2 {ha2}"), || {
            ((world.ha1.has(address), world.ha2.has(address)) == (ha1, ha2)).then_some(())
        });
    };
    let observer = Observer::begin(&world);
    let twelve = "[[vip]]\naddress = \"10.0.1.12/24\"\n";
    let hooks = format!("[hooks]\nvip_changed = \"{}\"\n", program.display());
    change(&world.ha1, "", &format!("{twelve}{hooks}"));
    is_at(12, true, false);
    wait_for("the hook", || said().contains("hold 10.0.1.12").then_some(()));
    let alarms = world.status(&world.ha1).routers.into_iter().flat_map(|router| router.alarms);
    let waiting: Vec<String> = alarms.filter(|alarm| alarm.contains("restart")).collect();
    assert_eq!(waiting, [""; 0]);
    change(&world.ha2, "", twelve);
    wait_for("ha2 to be its Backup", || (world.status(&world.ha2).routers.len() == 2).then_some(()));

    // Gone from one host's file: it is handed to the other, and the program is told.
    change(&world.ha1, twelve, "");
    is_at(12, false, true);
    // After the one that it began with as Backup.
    wait_for("the hook", || (said().matches("leave 10.0.1.12").count() >= 2).then_some(()));
    wait_for("ha1 to know one address", || (world.status(&world.ha1).routers.len() == 1).then_some(()));

    // Another address with the same identifier in its place.
    let thirteen = "[[vip]]\naddress = \"10.0.1.13/24\"\nvrid = 12\n";
    change(&world.ha2, twelve, thirteen);
    is_at(12, false, false);
    is_at(13, false, true);
    // Nobody else has it: who might is told.
    let capture = Capture::begin(&world, "address-removed");
    let begun = Instant::now();
    change(&world.ha2, thirteen, "");
    is_at(13, false, false);
    wait_for("ha2 to say three times that it leaves", || {
        let frames = capture.from(&world.ha2, begun);
        (frames.iter().filter(|frame| frame.text().contains(LEAVES)).count() == 3).then_some(())
    });
    assert!(observer.end().nothing_moved(), "{}\n{}", first.log(), second.log());
    // What concerned other addresses ran no program for this one.
    assert_eq!(said().matches(&format!("hold {VIP}")).count(), 1, "{}", said());
    assert!(world.ha1.holds(), "{}", first.log());
}
