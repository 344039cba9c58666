//! Peers that are heard and not understood, strangers, loops.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vrrp::checksum::Coverage;
use vrrp::packet::{self, Addresses, Advertisement, Auth, GROUP};
use vrrp::{AlarmKind, Cause, ChecksumMode, ProxyHealth, Reason, Setup, State, Version};

use crate::link::{INTERVAL, Link, Seen, VIP, address, ip_packet, ms, setup, setup_v2};

/// The alarm that a host shows about its peer.
fn alarm(link: &Link, host: usize) -> Option<AlarmKind> {
    link.status(host).alarms.into_iter().next().map(|alarm| alarm.kind)
}

/// Host 0 runs as it is, host 1 differs in its settings: host 1 waits a minute before it takes over.
fn held_back(different: Setup, normal: Setup, expected: &AlarmKind) {
    let mut link = Link::new([normal, different]);
    link.start(0);
    link.run(Duration::from_secs(5));
    assert_eq!(link.actives(), [0]);
    link.start(1);
    link.run(Duration::from_secs(58));
    assert_eq!(link.actives(), [0], "no second Active");
    assert_eq!(alarm(&link, 1).as_ref(), Some(expected));
    assert!(link.noted(1, |reason| matches!(reason, Reason::HeldBack { .. })));
    link.run(Duration::from_secs(8));
    assert_eq!(link.status(1).reason, Cause::ConflictOutwaited);
    assert_eq!(alarm(&link, 0).is_some(), alarm(&link, 1).is_some(), "the other one sees it as well");
}

#[test]
fn a_peer_with_another_password_keeps_us_from_taking_over_for_a_minute() {
    let different = Setup { auth: Some(*b"other\0\0\0"), ..setup_v2(1) };
    held_back(different, setup_v2(0), &AlarmKind::WrongPassword);
    held_back(Setup { auth: None, ..setup_v2(1) }, setup_v2(0), &AlarmKind::WrongPassword);
}

#[test]
fn a_peer_with_another_interval_of_version_2_does_so_too() {
    let different = Setup { interval: Duration::from_secs(2), ..setup_v2(1) };
    held_back(different, setup_v2(0), &AlarmKind::WrongInterval { theirs: Duration::from_secs(1) });
    // Even one that is heard only every ten seconds, while our Down interval is three.
    let slow = Setup { interval: Duration::from_secs(10), ..setup_v2(0) };
    let mut link = Link::new([slow, setup_v2(1)]);
    link.start(0);
    link.run_until(Duration::from_secs(45), |link| link.actives() == [0]);
    link.run(Duration::from_secs(9));
    link.start(1);
    link.run(Duration::from_secs(55));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn a_peer_with_another_version_or_form_of_checksum_does_so_too() {
    let theirs = AlarmKind::WrongVersion { theirs: 2 };
    held_back(Setup { interval: Duration::from_secs(1), ..setup(1) }, setup_v2(0), &theirs);
    let strict = |host, checksum| Setup { checksum, ..setup(host) };
    let (rfc, pseudo) = (strict(1, ChecksumMode::Rfc9568), strict(0, ChecksumMode::Pseudo));
    held_back(rfc, pseudo, &AlarmKind::WrongChecksum);
}

#[test]
fn by_unicast_a_peer_may_be_some_hops_away_and_one_that_is_too_far_is_waited_for() {
    let hops = |max_hops| Setup { unicast: true, max_hops, ..setup(0) };
    let heard = |max_hops: u8, ttl: u8| {
        let mut link = Link::new([hops(max_hops)]);
        link.start(0);
        let advertisement = Advertisement {
            version: Version::V3,
            vrid: 51,
            priority: 189,
            interval: INTERVAL,
            addresses: vec![VIP].into(),
            auth: Auth::None,
        };
        let mut packet =
            ip_packet(address(1), address(0), &packet::encode(&advertisement, Coverage::Message));
        packet[8] = ttl;
        for _ in 0..20 {
            link.inject(0, address(1), packet.clone());
            link.run(INTERVAL);
        }
        (link.state(0), link.status(0).active.map(|active| active.source), alarm(&link, 0))
    };
    for (max_hops, ttl) in [(0, 255), (3, 252), (191, 64), (254, 1)] {
        assert_eq!(heard(max_hops, ttl), (State::Backup, Some(address(1)), None));
    }
    for (max_hops, ttl) in [(0, 254), (3, 251), (190, 64), (254, 0)] {
        assert_eq!(heard(max_hops, ttl), (State::Backup, None, Some(AlarmKind::WrongTtl { ttl })));
    }
}

#[test]
fn a_misconfigured_peer_that_dies_is_taken_over_in_the_usual_time() {
    let different = Setup { auth: Some(*b"other\0\0\0"), ..setup_v2(1) };
    let mut link = Link::new([setup_v2(0), different]);
    link.start(0);
    link.run(Duration::from_secs(5));
    link.start(1);
    link.run(Duration::from_secs(20));
    link.kill(0);
    let after = link.run_until(Duration::from_secs(10), |link| link.actives() == [1]);
    assert!(after <= ms(2 * 3300), "{after:?}");
    assert!(matches!(link.status(1).reason, Cause::ActiveSilent { .. }));
}

#[test]
fn a_misconfigured_stranger_is_not_waited_for() {
    let stranger = Setup { auth: Some(*b"other\0\0\0"), ..setup_v2(2) };
    let ours = Setup { peers: vec![address(0)], ..setup_v2(1) };
    let mut link = Link::new([setup_v2(0), ours, stranger]);
    link.start(2);
    link.run(Duration::from_secs(5));
    link.start(1);
    link.run(Duration::from_secs(5));
    assert_eq!(link.state(1), State::Active);
    assert_eq!(alarm(&link, 1), Some(AlarmKind::WrongPassword));
}

#[test]
fn an_alarm_ends_a_minute_after_its_cause() {
    let different = Setup { auth: Some(*b"other\0\0\0"), ..setup_v2(1) };
    let mut link = Link::new([setup_v2(0), different]);
    link.start(0);
    link.run(Duration::from_secs(5));
    link.start(1);
    link.run(Duration::from_secs(5));
    assert!(alarm(&link, 1).is_some());
    link.kill(0);
    link.run(Duration::from_secs(62));
    assert_eq!(alarm(&link, 1), None);
    let told = link
        .seen
        .iter()
        .filter(|(_, host, seen)| *host == 1 && matches!(seen, Seen::Noted(Reason::Noticed(_))));
    assert_eq!(told.count(), 1, "told once, however often it was seen");
}

/// An advertisement that host 1 of a settled pair would believe, changed a little.
fn advertisement(change: impl Fn(&mut Advertisement)) -> Vec<u8> {
    let mut advertisement = Advertisement {
        version: Version::V3,
        vrid: 51,
        priority: 189,
        interval: INTERVAL,
        addresses: vec![VIP].into(),
        auth: Auth::None,
    };
    change(&mut advertisement);
    packet::encode(&advertisement, Coverage::Message).to_vec()
}

#[test]
fn packets_that_are_not_valid_do_not_keep_an_active_alive() {
    let own = address(1);
    let group = |message: &[u8]| ip_packet(address(0), GROUP, message);
    let with_ttl = |mut packet: Vec<u8>, ttl| {
        packet[8] = ttl;
        packet
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("TTL", with_ttl(group(&advertisement(|_| {})), 254)),
        ("our own address", ip_packet(own, GROUP, &advertisement(|_| {}))),
        ("another router", group(&advertisement(|a| a.vrid = 52))),
        ("no address", group(&advertisement(|a| a.addresses.clear()))),
        ("truncated", group(&advertisement(|_| {})[..10])),
        ("nothing", Vec::new()),
    ];
    for (name, packet) in cases {
        let mut link = Link::settled();
        link.kill(0);
        let before = link.status(1).counters;
        let due = link.hosts[1].router.poll_timeout();
        for _ in 0..5 {
            link.run(ms(20));
            link.inject(1, address(0), packet.clone());
        }
        assert_eq!(link.hosts[1].router.poll_timeout(), due, "{name}");
        let after = link.status(1).counters;
        assert_eq!(after.received, before.received, "{name}");
        assert_eq!(after.discarded + after.other_vrid, before.discarded + before.other_vrid + 5, "{name}");
    }
}

#[test]
fn other_addresses_are_believed_and_told() {
    let mut link = Link::settled();
    let theirs: Addresses = vec![IpAddr::from([10, 0, 1, 99])].into();
    let message = advertisement(|a| a.addresses.clone_from(&theirs));
    link.kill(0);
    for _ in 0..20 {
        link.inject(1, address(0), ip_packet(address(0), GROUP, &message));
        link.run(INTERVAL);
    }
    assert_eq!(link.state(1), State::Backup);
    assert_eq!(alarm(&link, 1), Some(AlarmKind::OtherAddresses { theirs }));
}

/// A stranger that advertises none of our addresses, five times a second.
fn foreign_cluster(link: &mut Link, priority: u8, seconds: u64) {
    let stranger = Ipv4Addr::new(10, 0, 1, 77);
    let message = advertisement(|a| {
        (a.priority, a.addresses) = (priority, vec![Ipv4Addr::new(10, 0, 1, 99).into()].into());
    });
    for _ in 0..seconds * 5 {
        for host in 0..link.hosts.len() {
            link.inject(host, stranger.into(), ip_packet(stranger.into(), GROUP, &message));
        }
        link.run(INTERVAL);
    }
}

#[test]
fn a_foreign_cluster_does_not_move_our_address() {
    for priority in [1, 100, 254, 0] {
        let mut link = Link::settled();
        foreign_cluster(&mut link, priority, 10);
        assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]), "{priority}");
        assert!(matches!(alarm(&link, 0), Some(AlarmKind::OtherAddresses { .. })));
        assert!(link.status(0).counters.sent <= 110, "it is not answered");
        link.kill(0);
        foreign_cluster(&mut link, priority, 1);
        assert_eq!(link.actives(), [1], "{priority}: nor does it keep us from taking over");
    }
}

/// Ours never advertises more than 189, and 255 is the owner's, who needs no election: one that comes is believed at once.
#[test]
fn the_owner_of_the_address_wins_without_a_duel() {
    let mut link = Link::settled();
    let packet = ip_packet(address(2), GROUP, &advertisement(|a| a.priority = 255));
    for _ in 0..5 {
        for host in [0, 1] {
            link.inject(host, address(2), packet.clone());
        }
        assert_eq!((link.actives(), link.owners()), (vec![], vec![]));
        link.run(INTERVAL);
    }
    assert_eq!(link.status(0).counters.transitions, 3, "Backup while the owner is heard");
    link.run_until(Duration::from_secs(1), |link| link.actives() == [0]);
}

/// The other cluster was there first: it is left alone. When it comes later, we stay.
#[test]
fn another_cluster_with_our_identifier_is_not_disturbed_and_does_not_disturb() {
    let theirs: Addresses = vec![IpAddr::from([10, 0, 1, 99])].into();
    let foreign = address(7);
    for priority in [1, 100, 254] {
        let message = advertisement(|a| {
            a.priority = priority;
            a.addresses.clone_from(&theirs);
        });
        let packet = ip_packet(foreign, GROUP, &message);
        let mut link = Link::new([setup(0), setup(1)]);
        link.start_all();
        for _ in 0..100 {
            for host in 0..2 {
                link.inject(host, foreign, packet.clone());
            }
            link.run(INTERVAL);
        }
        assert_eq!(link.actives(), [] as [usize; 0], "priority {priority}");
        assert!(link.seen.iter().all(|(_, _, seen)| !matches!(seen, Seen::Advertised { .. })));
        let waits = Reason::HeldBackByForeign { source: foreign };
        let told =
            link.seen.iter().filter(|(_, host, seen)| *host == 0 && *seen == Seen::Noted(waits.clone()));
        assert_eq!(told.count(), 1);
        assert_eq!(alarm(&link, 0), Some(AlarmKind::OtherAddresses { theirs: theirs.clone() }));

        // It is gone: nothing to wait for.
        link.run_until(Duration::from_secs(2), |link| link.actives() == [0]);
        // It is back, stronger or weaker: it takes nothing, and is not answered.
        link.run(INTERVAL / 2);
        let sent = link.status(0).counters.sent;
        for host in 0..2 {
            link.inject(host, foreign, packet.clone());
        }
        assert_eq!((link.actives(), link.status(0).counters.sent), (vec![0], sent));
        assert_eq!(link.status(0).counters.discarded_source, 101);
        // Nor does it keep the next of ours from taking over for a proxy's death.
        link.proxy(0, ProxyHealth::Dead);
        link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
    }
}

#[test]
fn a_longer_interval_of_version_3_is_adopted_within_limits() {
    let mut link = Link::settled();
    link.kill(0);
    for (theirs, adopted) in [(1000, 1000), (100, 100), (40_000, 2000), (10, 20)] {
        let message = advertisement(|a| a.interval = ms(theirs));
        link.inject(1, address(0), ip_packet(address(0), GROUP, &message));
        let expected = ms(adopted) * 3 + ms(adopted) * 68 / 256;
        let found = link.hosts[1].router.poll_timeout().unwrap().since(link.now);
        assert_eq!(found.as_micros(), expected.as_micros(), "{theirs}");
    }
    assert_eq!(alarm(&link, 1), Some(AlarmKind::OtherInterval { theirs: ms(10) }));
}

#[test]
fn a_flood_from_forged_sources_fills_neither_memory_nor_log() {
    let mut link = Link::settled();
    for n in 0..5000_u32 {
        let source = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0200 + n));
        link.inject(1, source, ip_packet(source, GROUP, &advertisement(|a| a.priority = 1)));
        let mut routed = ip_packet(source, GROUP, &advertisement(|_| {}));
        routed[8] = 3;
        link.inject(1, source, routed);
    }
    assert!(link.seen.len() < 40, "{}", link.seen.len());
    assert!(link.status(1).alarms.len() <= 64);
}
