//! What vrrpd needs of its host, and what it goes without.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::link::{Host, World, is_root, wait_for};

/// Nobody in particular.
const UID: &str = "65534";

/// Lets others read a host's files and speak to its proxy.
fn open_files(host: &Host) {
    let open = |path: &Path| {
        let permissions = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, permissions).expect("open a path");
    };
    open(host.dir().parent().expect("the link's directory"));
    open(host.dir());
    open(&host.dir().join("proxy.sock"));
}

#[test]
fn two_capabilities_are_enough_and_what_is_missing_is_said() {
    if !is_root() {
        return;
    }
    for settings in ["", "virtual_mac = true"] {
        runs_with_two_capabilities(settings);
    }
}

fn runs_with_two_capabilities(settings: &str) {
    let world = World::new(settings);
    open_files(&world.ha1);
    let uid = format!("--reuid={UID}");
    let gid = format!("--regid={UID}");
    let unprivileged = [
        "setpriv",
        &uid,
        &gid,
        "--clear-groups",
        "--inh-caps=-all,+net_raw,+net_admin",
        "--ambient-caps=-all,+net_raw,+net_admin",
        "--bounding-set=-all,+net_raw,+net_admin",
        "--no-new-privs",
    ];
    // The limits of an ordinary service: neither real-time priority nor locked memory.
    let limited = [&["prlimit", "--rtprio=0", "--memlock=65536"][..], &unprivileged].concat();
    let first = world.ha1.start_by(&limited);
    first.says("no real-time priority");
    first.says("memory is not locked");
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let second = world.ha2.start();
    wait_for("ha2 to be Backup", || second.said("-> backup").then_some(()));
    wait_for("ha2 to know its proxy", || second.said("the proxy is serving").then_some(()));
    world.ha1.proxy.die();
    wait_for("ha2 alone to hold the address", || (world.ha2.holds() && !world.ha1.holds()).then_some(()));
    world.ha1.proxy.serve();
    let page = world.ha1.http(7003, "/metrics");
    assert!(
        page.lines().any(|line| line.starts_with("matriarch_vrrp_degraded") && line.ends_with(" 2")),
        "{page}"
    );
}

#[test]
fn without_raw_sockets_it_says_what_it_needs() {
    if !is_root() {
        return;
    }
    let world = World::new("");
    let first = world.ha1.spawn_by(&["setpriv", "--bounding-set=-all,+net_admin,+dac_read_search"]);
    wait_for("vrrpd to give up", || first.said("this needs CAP_NET_RAW").then_some(()));
    assert!(!world.ha1.holds());
}

/// What is set by people or by NTP moves none of its timers: all of them follow the time since boot, suspension included.
#[test]
fn no_timer_follows_a_clock_that_can_be_set() {
    if !is_root() {
        return;
    }
    let world = World::new("");
    let first = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let entries = std::fs::read_dir(format!("/proc/{}/fdinfo", first.id())).expect("its descriptors");
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let clocks: Vec<String> = texts
        .flat_map(|text| {
            let lines = text.lines().filter_map(|line| line.strip_prefix("clockid: ").map(str::to_owned));
            lines.collect::<Vec<_>>()
        })
        .collect();
    // CLOCK_BOOTTIME, see timerfd_create(2).
    assert!(!clocks.is_empty() && clocks.iter().all(|clock| clock == "7"), "{clocks:?}");
}
