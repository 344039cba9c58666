//! Programs of the operator's: those that a priority follows, and those that follow the holder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ha_rpc::proto::MoveRequest;
use nix::sys::signal::Signal;

use crate::link::{Host, VIP, World, is_root, ms, wait_for};

/// A program that others may run, with this text.
fn program(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("write a program");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("make it one");
    path.to_owned()
}

#[test]
fn a_script_moves_the_address_by_its_weight_as_in_the_guide() {
    if !is_root() {
        return;
    }
    let flags = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(flags.path(), std::fs::Permissions::from_mode(0o755)).expect("open it");
    let flag = |host: &str| flags.path().join(host);
    let world = World::certified("priority_model = \"keepalived\"\npriorities = { ha1 = 101, ha2 = 100 }");
    for host in [&world.ha1, &world.ha2] {
        std::fs::write(flag(host.name), "").expect("a flag");
        let track = format!(
            "\n[[vip.track]]\nscript = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"100ms\"\ntimeout = \"5s\"\n\
             rise = 2\nfall = 2\nweight = 2\n",
            flag(host.name).display()
        );
        host.edit(|text| text + &track);
    }
    let (first, _second) = (world.ha1.start(), world.ha2.start());
    let priority = |host: &Host| world.status(host).routers[0].priority;
    let settled = |ha1: u32, ha2: u32, holder: &Host| {
        wait_for(&format!("{ha1} and {ha2}, held by {}", holder.name), || {
            let other = if holder.name == "ha1" { &world.ha2 } else { &world.ha1 };
            let all = (priority(&world.ha1), priority(&world.ha2), holder.holds(), other.holds());
            (all == (ha1, ha2, true, false)).then_some(())
        });
    };
    settled(103, 102, &world.ha1);
    std::fs::remove_file(flag("ha1")).expect("the flag");
    settled(101, 102, &world.ha2);
    std::fs::remove_file(flag("ha2")).expect("the flag");
    settled(101, 100, &world.ha1);
    let shown = world.status(&world.ha1).routers[0].tracks.clone();
    assert!(shown[0].contains("failed (weight 2)"), "{shown:?} {}", first.log());
}

/// A pretended cloud: whoever holds its address stands in a file, and it refuses whoever is late.
fn cloud(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (owner, highest) = (dir.join("owner"), dir.join("epoch"));
    let text = format!(
        "exec 9> {dir}/lock; flock 9\n[ -e {dir}/broken ] && exit 1\nhighest=$(cat {highest} 2>/dev/null || echo 0)\n\
         [ \"$3\" -ge \"$highest\" ] || exit 0\n[ \"$1\" = hold ] || exit 0\n\
         echo \"$3\" > {highest}; echo {name} > {owner}; echo \"$@\" >> {dir}/calls",
        dir = dir.display(),
        owner = owner.display(),
        highest = highest.display(),
    );
    let check = format!("[ \"$1\" != hold ] || [ \"$(cat {})\" = {name} ]", owner.display());
    (
        program(&dir.join(format!("changed-{name}")), &text),
        program(&dir.join(format!("check-{name}")), &check),
    )
}

#[test]
fn a_hook_follows_the_holder_is_repeated_until_it_succeeds_and_mends_what_others_change() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let world = World::certified("unicast = true");
    for host in [&world.ha1, &world.ha2] {
        let (changed, check) = cloud(dir, host.name);
        let hooks = format!(
            "\n[hooks]\nvip_changed = \"{}\"\nvip_check = \"{}\"\nvip_check_interval = \"1s\"\n",
            changed.display(),
            check.display()
        );
        host.edit(|text| text + &hooks);
    }
    let (first, second) = (world.ha1.start(), world.ha2.start());
    let owner = || std::fs::read_to_string(dir.join("owner")).unwrap_or_default().trim().to_owned();
    let owned_by =
        |name: &str| wait_for(&format!("the cloud to lead to {name}"), || (owner() == name).then_some(()));
    owned_by("ha1");
    // The cloud does not work for a while.
    std::fs::write(dir.join("broken"), "").expect("break it");
    wait_for("ha2 to be connected", || second.said("connected to another host").then_some(()));
    let address = VIP.to_string();
    wait_for("a move", || {
        let address = address.clone();
        world.call(&world.ha1, |mut client| async move { client.r#move(MoveRequest { address }).await }).ok()
    });
    wait_for("the hook to fail", || second.said("hook failed").then_some(()));
    wait_for("an alarm", || {
        let alarms = world.status(&world.ha2).routers[0].alarms.clone();
        alarms.iter().any(|alarm| alarm.starts_with("hooks.vip_changed: ")).then_some(())
    });
    assert_eq!(owner(), "ha1");
    std::fs::remove_file(dir.join("broken")).expect("mend it");
    owned_by("ha2");
    // Somebody else takes it away: the check finds that.
    std::fs::write(dir.join("owner"), "somebody\n").expect("change it");
    owned_by("ha2");
    first.signal(Signal::SIGTERM);
    second.signal(Signal::SIGKILL);
    let again = world.ha2.start();
    owned_by("ha2");
    let calls = std::fs::read_to_string(dir.join("calls")).expect("calls");
    let epochs: Vec<u64> = calls.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok()).collect();
    assert!(epochs.is_sorted() && epochs.len() >= 3, "{calls} {}", again.log());
}

#[test]
fn the_end_of_vrrpd_tells_the_hook_to_leave_and_does_not_wait_for_one_that_hangs() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let world = World::new("");
    // Whether the address is still there when it is told to leave counts as well.
    let text = format!(
        "here=$(ip -o addr show dev eth0 | grep -c ' {VIP}/')\n\
         [ \"$1\" = leave ] && [ -e {dir}/hang ] && {{ echo $$ > {dir}/pid; exec sleep 1000; }}\n\
         echo \"$1 $2 $3 $here\" >> {dir}/calls",
        dir = dir.display()
    );
    let changed = program(&dir.join("changed"), &text);
    world.ha1.edit(|text| text + &format!("\n[hooks]\nvip_changed = \"{}\"\n", changed.display()));
    let calls = || {
        let text = std::fs::read_to_string(dir.join("calls")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let held = |earlier: &str| {
        wait_for("the hook to be told that ha1 holds the address", || {
            calls().pop().filter(|call| call[0] == "hold" && call[2] != earlier)
        })
    };
    let mut first = world.ha1.start();
    let hold = held("");
    let before = calls().len();
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait().code(), Some(0));
    let leave = [vec!["leave".to_owned()], hold[1..3].to_vec(), vec!["0".to_owned()]].concat();
    assert_eq!(calls()[before..], [leave], "{}", first.log());

    std::fs::write(dir.join("hang"), "").expect("a flag");
    let mut again = world.ha1.start();
    held(&hold[2]);
    let asked = Instant::now();
    again.signal(Signal::SIGTERM);
    assert_eq!(again.wait().code(), Some(0));
    println!("SIGTERM with a hook that hangs: ended after {:?}", asked.elapsed());
    assert!(asked.elapsed() < ms(5000), "TimeoutStopSec of the unit: {:?}", asked.elapsed());
    again.says("a hook did not leave within 3s");
    let pid = std::fs::read_to_string(dir.join("pid")).expect("it was started");
    wait_for("it to be killed", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}
