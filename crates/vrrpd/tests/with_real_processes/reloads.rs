//! A changed file comes into force without a move.

use nix::sys::signal::Signal;

use crate::link::{Observer, World, is_root, wait_for};

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
    world.ha1.edit(|text| text.replace("nonsense = 1\n", "[[vip]]\naddress = \"10.0.1.12/24\"\n"));
    first.signal(Signal::SIGHUP);
    wait_for("the new address to be named", || {
        alarms().iter().any(|alarm| alarm.contains("adds 10.0.1.12")).then_some(())
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
