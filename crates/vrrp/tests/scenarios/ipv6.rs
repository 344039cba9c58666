//! The same over IPv6: link-local sources, and a link-local floating address in the first place.

use std::net::IpAddr;
use std::time::Duration;

use vrrp::checksum::Coverage;
use vrrp::packet::{Advertisement, Auth, GROUP_V6, encode};
use vrrp::{Action, AlarmKind, Cause, Event, Setup, SetupError, State, Version, VirtualRouter, link_local};

use crate::link::{INTERVAL, Link, VIP_V6, address_v6, ip_packet, setup, setup_v6};

#[test]
fn a_hard_death_is_taken_over_and_the_preferred_one_takes_it_back() {
    let mut link = Link::settled_with([setup_v6(0), setup_v6(1)]);
    link.kill(0);
    let after = link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
    assert!(after <= INTERVAL * 4, "{after:?}");
    link.run(Duration::from_secs(1));
    link.replace(0, setup_v6(0));
    link.run(Duration::from_secs(40));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
    assert_eq!(link.status(0).reason, Cause::Preempted { source: address_v6(1), priority: 188 });
}

#[test]
fn at_equal_priority_the_higher_address_stays_active() {
    let same = |host| Setup { preference: 7, ..setup_v6(host) };
    let mut link = Link::new([same(0), same(1)]);
    link.part(0, 1);
    link.start_all();
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [0, 1]);
    link.cut.clear();
    link.run(INTERVAL * 2);
    assert_eq!(link.actives(), [1]);
    assert_eq!(link.status(0).reason, Cause::HigherAddress { source: address_v6(1) });
}

#[test]
fn each_advertisement_goes_to_the_group_and_lists_the_link_local_address_first() {
    let link = Link::settled_with([setup_v6(0), setup_v6(1)]);
    let mut router = VirtualRouter::new(setup_v6(0), link.now).unwrap();
    for event in [Event::LinkUp { source: address_v6(0) }, Event::Started] {
        router.handle_event(link.now, event);
    }
    let due = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    let sent = std::iter::from_fn(|| router.poll_action()).find_map(|action| match action {
        Action::Send { destination, packet, .. } => Some((destination, packet)),
        _ => None,
    });
    let (destination, packet) = sent.expect("an advertisement");
    let packet = ip_packet(address_v6(0), destination, &packet);
    let received = vrrp::packet::decode(&packet).unwrap();
    assert_eq!((destination, received.destination), (GROUP_V6, GROUP_V6));
    assert_eq!(received.advertisement.addresses[..], [link_local(51).into(), VIP_V6]);
}

/// keepalived does so unless it is strict.
#[test]
fn a_peer_without_a_link_local_address_is_not_understood_and_keeps_us_from_taking_over() {
    let mut link = Link::new([setup_v6(0)]);
    link.start(0);
    let advertisement = Advertisement {
        version: Version::V3,
        vrid: 51,
        priority: 200,
        interval: INTERVAL,
        addresses: vec![VIP_V6].into(),
        auth: Auth::None,
    };
    let coverage = Coverage::PseudoHeader { source: address_v6(1), destination: GROUP_V6 };
    let packet = ip_packet(address_v6(1), GROUP_V6, &encode(&advertisement, coverage));
    for _ in 0..20 {
        link.inject(0, address_v6(1), packet.clone());
        link.run(INTERVAL);
    }
    assert_eq!(link.state(0), State::Backup);
    let alarms: Vec<AlarmKind> = link.status(0).alarms.into_iter().map(|alarm| alarm.kind).collect();
    assert_eq!(alarms, [AlarmKind::NoLinkLocal]);
    assert_eq!(link.status(0).counters.received, 0);
}

#[test]
fn settings_that_no_ipv6_router_can_have_are_refused() {
    let refused = |setup| VirtualRouter::new(setup, Link::new([]).now).unwrap_err();
    let version = Setup { version: Version::V2, interval: Duration::from_secs(1), ..setup_v6(0) };
    assert_eq!(refused(version), SetupError::VersionOfIpv6);
    assert_eq!(refused(Setup { link_local: None, ..setup_v6(0) }), SetupError::LinkLocal);
    let global = "fd00::1".parse().ok();
    assert_eq!(refused(Setup { link_local: global, ..setup_v6(0) }), SetupError::LinkLocal);
    assert_eq!(refused(Setup { peers: setup(0).peers, ..setup_v6(0) }), SetupError::Families);
    let alone: IpAddr = "fe80::10".parse().unwrap();
    assert!(Setup::new(51, alone).addresses().eq([alone]));
    VirtualRouter::new(Setup::new(51, alone), Link::new([]).now).unwrap();
}
