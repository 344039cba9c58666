//! The distribution's keepalived as the other host: during a migration one host has the old stack and one the new.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::link::{Keepalived, Observer, Pinger, World, is_root, let_pass, ms, wait_for};

/// The guide's configuration of its second host; the check script fails, because no haproxy runs here.
const GUIDE: &str = r#"
vrrp_script chk_haproxy {
script "/usr/bin/pidof haproxy"
interval 2
weight 2
fall 2
rise 2
}
vrrp_instance VI_PG {
state BACKUP
interface eth0
virtual_router_id 51
priority 100
advert_int 1
authentication {
auth_type PASS
auth_pass cfgha26
}
virtual_ipaddress {
10.0.1.10/24
}
track_script {
chk_haproxy
}
}
"#;

/// Ours for it.
const VERSION_2: &str = "version = 2\nvrid = 51\ninterval = \"1s\"";

#[test]
fn the_guides_keepalived_waits_behind_us_and_takes_over() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    world.ha1.set_password("cfgha26");
    let mut first = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let keepalived = Keepalived::start(&world.ha2, GUIDE);
    let observer = Observer::begin(&world);
    let_pass(5000); // more than its Down interval of 3.6 s
    assert!(observer.end().nothing_moved(), "{}", first.log());
    let complaint = ["bogus", "mismatch", "Invalid", "checksum"].iter().find(|word| keepalived.said(word));
    assert_eq!(complaint, None, "{}", keepalived.log());

    first.signal(Signal::SIGTERM);
    let asked = Instant::now();
    wait_for("keepalived to hold the address", || world.ha2.holds().then_some(()));
    println!("keepalived took over {:?} after SIGTERM", asked.elapsed());
    assert!(asked.elapsed() < ms(1500), "{:?}", asked.elapsed());
    assert_eq!(first.wait().code(), Some(0));

    // Ours is better than anything that keepalived advertises (priority 102 at most): it takes the address back.
    let _again = world.ha1.start();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    wait_for("keepalived to leave it", || (!world.ha2.holds()).then_some(()));
    // Not with a dead proxy: then the other stack is better.
    world.ha1.proxy.die();
    wait_for("keepalived to hold the address", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
}

#[test]
fn we_wait_behind_a_preferred_keepalived_and_take_over() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    world.ha1.set_password("cfgha26");
    let preferred = GUIDE.replace("priority 100", "priority 200");
    let mut keepalived = Keepalived::start(&world.ha2, &preferred);
    wait_for("keepalived to hold the address", || world.ha2.holds().then_some(()));
    let first = world.ha1.start();
    let_pass(5000); // more than the Down interval
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", first.log());
    let ended = Instant::now();
    keepalived.end();
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    println!("we took over {:?} after keepalived's end", ended.elapsed());
    assert!(ended.elapsed() < ms(1500), "{:?}", ended.elapsed());
    let _keepalived = Keepalived::start(&world.ha2, &preferred);
    wait_for("keepalived to take it back", || world.ha2.holds().then_some(()));
    wait_for("ha1 to leave it", || (!world.ha1.holds()).then_some(()));
}

/// One of the two is preferred, holds the address, ends, gives it to the other, comes back and takes it again.
pub(crate) fn elects(world: impl Fn() -> World, keepalived: &str) {
    for (priority, ours) in [(100, true), (200, false)] {
        let world = world();
        let configuration = keepalived.replace("priority 100", &format!("priority {priority}"));
        let keepalived = Keepalived::start(&world.ha2, &configuration);
        wait_for("keepalived to hold the address", || world.ha2.holds().then_some(()));
        let first = world.ha1.start();
        let settled = || (world.ha1.holds(), world.ha2.holds()) == (ours, !ours);
        wait_for("one of them to hold the address", || settled().then_some(()));
        let_pass(2000);
        assert!(settled(), "{}\n{}", first.log(), keepalived.log());
        let complaint = ["bogus", "mismatch", "Invalid"].iter().find(|word| keepalived.said(word));
        assert_eq!(complaint, None, "{}", keepalived.log());
        if ours {
            first.signal(Signal::SIGTERM);
            wait_for("keepalived to hold the address", || world.ha2.holds().then_some(()));
            let _again = world.ha1.start();
            wait_for("ha1 to take it back", || settled().then_some(()));
        } else {
            drop(keepalived);
            wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
            let _again = Keepalived::start(&world.ha2, &configuration);
            wait_for("keepalived to take it back", || settled().then_some(()));
        }
    }
}

/// The guide's, in version 3: its checksums have a pseudo header, and up to 2.2.7 it knows no others.
pub(crate) fn version_3() -> String {
    "global_defs {\nvrrp_version 3\n}\n".to_owned()
        + &GUIDE
            .replace("advert_int 1", "advert_int 0.2")
            .replace("authentication {\nauth_type PASS\nauth_pass cfgha26\n}\n", "")
}

/// The same with IPv6 addresses.
pub(crate) fn over_ipv6() -> String {
    version_3().replace("10.0.1.10/24", "fe80::5e00:233\nfd00::10/64")
}

/// The same to one peer.
fn unicast(configuration: &str, own: &str, peer: &str) -> String {
    let unicast = format!("unicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}\nvirtual_ipaddress");
    configuration.replace("virtual_ipaddress", &unicast)
}

#[test]
fn version_3_settles_whatever_checksum_keepalived_likes() {
    if !is_root() {
        return;
    }
    for (seconds, interval) in [("0.2", "200ms"), ("0.1", "100ms")] {
        let keepalived = version_3().replace("advert_int 0.2", &format!("advert_int {seconds}"));
        elects(|| World::new(&format!("vrid = 51\ninterval = \"{interval}\"")), &keepalived);
    }
}

#[test]
fn version_3_settles_over_ipv6() {
    if !is_root() {
        return;
    }
    elects(|| World::over_ipv6("vrid = 51"), &over_ipv6());
}

#[test]
fn unicast_settles_over_both_families_and_in_version_2() {
    if !is_root() {
        return;
    }
    let settings = "vrid = 51\nunicast = true";
    elects(|| World::new(settings), &unicast(&version_3(), "10.0.1.22", "10.0.1.21"));
    // keepalived 2.2 begins with hop limit 64.
    let far = "vrid = 51\nunicast = true\nmax_hops = 191";
    elects(|| World::over_ipv6(far), &unicast(&over_ipv6(), "fd00::22", "fd00::21"));
    let version_2 = || {
        let world = World::new(&format!("{VERSION_2}\nunicast = true"));
        world.ha1.set_password("cfgha26");
        world
    };
    elects(version_2, &unicast(GUIDE, "10.0.1.22", "10.0.1.21"));
}

/// Neither waits for the other: whoever is first, one of them has it after the Down interval, and never both.
#[test]
fn both_start_at_the_same_moment() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    world.ha1.set_password("cfgha26");
    let preferred = GUIDE.replace("priority 100", "priority 200");
    let observer = Observer::begin(&world);
    let begun = Instant::now();
    let _keepalived = Keepalived::start(&world.ha2, &preferred);
    let first = world.ha1.start();
    wait_for("one of them to hold the address", || (world.ha1.holds() || world.ha2.holds()).then_some(()));
    println!("cold start: held after {:?}", begun.elapsed());
    // 3.2 s and 3.3 s are their Down intervals.
    assert!(begun.elapsed() < ms(5500), "{:?}", begun.elapsed());
    wait_for("the preferred one to hold it", || settled_by(&world.ha2));
    let_pass(2000);
    let seen = observer.end();
    assert!(seen.overlap() <= ms(100), "{:?}", seen.overlap());
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", first.log());
}

/// keepalived itself would take over, and both would hold the address. Whoever does not understand the other waits here, and
/// says so.
#[test]
fn a_keepalived_with_another_password_is_not_taken_over_while_it_is_heard() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    world.ha1.set_password("cfgha26");
    let keepalived = Keepalived::start(&world.ha2, &GUIDE.replace("cfgha26", "another"));
    wait_for("keepalived to hold the address", || settled_by(&world.ha2));
    let first = world.ha1.start();
    let_pass(4500); // more than the Down interval
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}", first.log());
    let complaint = "its password or kind of authentication is not ours";
    first.says(complaint);
    first.says("not taking over for up to");
    let alarms = "matriarch_vrrp_alarms{address=\"10.0.1.10\",vrid=\"51\"} 1";
    let page = world.ha1.http(7003, "/metrics");
    assert!(page.lines().any(|line| line == alarms), "{page}");
    drop(keepalived);
    wait_for("ha1 to hold the address of one that is gone", || settled_by(&world.ha1));
}

/// One that says that the address is its own is believed at once, and nobody answers it with his own priority.
#[test]
fn an_owner_wins_without_a_duel() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    world.ha1.set_password("cfgha26");
    let first = world.ha1.start();
    wait_for("ha1 to hold the address", || settled_by(&world.ha1));
    let owner = GUIDE.replace("priority 100", "priority 255").replace("state BACKUP", "state MASTER");
    let owner = owner.replace("track_script {\nchk_haproxy\n}\n", "");
    let keepalived = Keepalived::start_owner(&world.ha2, &owner);
    wait_for("ha1 to leave the address", || (!world.ha1.holds() && world.ha2.holds()).then_some(()));
    let_pass(2000);
    first.says("has the higher priority 255");
    assert_eq!(first.log().matches("-> active").count(), 1, "{}", first.log());
    drop(keepalived);
    wait_for("ha1 to hold the address again", || settled_by(&world.ha1));
}

/// The same the other way round: ours owns the address and takes it from the first moment on, from one just below it and
/// whatever the preemption mode. Two that own it are settled by the first packets.
#[test]
fn an_owner_of_ours_takes_the_address_at_once_and_of_two_one_gives_in() {
    if !is_root() {
        return;
    }
    let owns = "preempt = false\npriority_model = \"keepalived\"\npriorities = { ha1 = 255 }";
    let world = World::new(&format!("{VERSION_2}\n{owns}"));
    world.ha1.set_password("cfgha26");
    let untracked = GUIDE.replace("track_script {\nchk_haproxy\n}\n", "");
    let below = Keepalived::start(&world.ha2, &untracked.replace("priority 100", "priority 254"));
    wait_for("keepalived to hold the address", || settled_by(&world.ha2));
    let mut first = world.ha1.start();
    let begun = Instant::now();
    wait_for("ha1 to hold the address", || (world.ha1.holds() && !world.ha2.holds()).then_some(()));
    println!("an owner holds the address {:?} after its start", begun.elapsed());
    first.says("initialize -> active: this host owns the address (priority 255)");
    first.signal(Signal::SIGTERM);
    wait_for("keepalived to hold the address again", || settled_by(&world.ha2));
    assert_eq!(first.wait().code(), Some(0));
    drop(below);

    let owner = untracked.replace("priority 100", "priority 255").replace("state BACKUP", "state MASTER");
    let _other = Keepalived::start_owner(&world.ha2, &owner);
    wait_for("keepalived, the owner, to hold the address", || settled_by(&world.ha2));
    let second = world.ha1.start();
    second.says("initialize -> active: this host owns the address");
    // keepalived takes 254 when it hears of another owner.
    wait_for("one holder", || (world.ha1.holds() != world.ha2.holds()).then_some(()));
    let first_to_settle = world.ha1.holds();
    let_pass(4000); // more than the Down interval of 3 s
    assert_eq!(second.log().matches("-> active").count(), 1, "no duel: {}", second.log());
    assert_eq!((world.ha1.holds(), world.ha2.holds()), (first_to_settle, !first_to_settle));
}

/// The hosts change over one after the other while a client asks a hundred times a second: the address is away no longer
/// than two graceful hand-overs take.
#[test]
fn migration_of_one_host_after_the_other() {
    if !is_root() {
        return;
    }
    let world = World::new(VERSION_2);
    for host in [&world.ha1, &world.ha2] {
        host.set_password("cfgha26");
    }
    let mut old1 = Keepalived::start(&world.ha1, &GUIDE.replace("priority 100", "priority 101"));
    wait_for("keepalived on ha1 to hold the address", || settled_by(&world.ha1));
    let mut old2 = Keepalived::start(&world.ha2, GUIDE);
    let pinger = Pinger::begin(&world);
    let_pass(500);

    old2.end();
    let second = world.ha2.start();
    wait_for("ha2 to have the address, ours being better than any keepalived", || {
        (world.ha2.holds() && !world.ha1.holds()).then_some(())
    });
    old1.end();
    let first = world.ha1.start();
    let_pass(4000); // more than a Down interval
    assert!(world.ha2.holds() && !world.ha1.holds(), "{}\n{}", first.log(), second.log());
    second.signal(Signal::SIGTERM);
    wait_for("ha1 to hold the address", || settled_by(&world.ha1));
    let_pass(500);
    let away = pinger.end();
    println!("migration: {away:?} without an answer");
    // Each 0.4 s, the skew of version 2 at priority 150.
    assert!(away < ms(2000), "{away:?}");
}

fn settled_by(host: &crate::link::Host) -> Option<()> {
    host.holds().then_some(())
}
