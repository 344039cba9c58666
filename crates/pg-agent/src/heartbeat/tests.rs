use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use ha_core::MonoTime;
use ha_core::heartbeat::{BODY, DATAGRAM, Heartbeat, HeartbeatWay};

use super::*;

const KEY: &str = "a key for this test";

fn free_address() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn options(me: &str, address: SocketAddr, other: (&str, SocketAddr)) -> HeartbeatOptions {
    HeartbeatOptions {
        me: me.parse().unwrap(),
        address,
        others: vec![(other.0.parse().unwrap(), other.1)],
        key: Secret::new(KEY.to_owned()),
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

/// A datagram as pg2 would send it to pg1.
fn datagram(session: u64, sequence: u64, key: &str, to: &str) -> Vec<u8> {
    let (from, to) = ("pg2".parse().unwrap(), to.parse().unwrap());
    let heartbeat = Heartbeat {
        session,
        sequence,
        sent_at: MonoTime(1),
        leads: Some(Epoch(7)),
        detection_ms: 1500,
        echo: None,
    };
    let body = heartbeat.encode(HeartbeatWay { from: &from, to: &to });
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &body);
    [body.as_slice(), tag.as_ref()].concat()
}

#[test]
fn two_agents_hear_each_other_and_what_the_other_says() {
    let (a, b) = (free_address(), free_address());
    let one = HeartbeatLink::start(options("pg1", a, ("pg2", b))).unwrap();
    let two = HeartbeatLink::start(options("pg2", b, ("pg1", a))).unwrap();
    one.say(Some(Epoch(4)), Duration::from_millis(1000));
    until("pg2 hears that pg1 leads", || {
        two.heard().heard.iter().any(|(name, heard)| {
            name.as_str() == "pg1" && heard.leads == Some(Epoch(4)) && heard.detection_ms == 1000
        })
    });
    until("a round trip is measured", || one.figures()[0].round_trip_ns > 0);
    one.say(None, Duration::from_millis(1000));
    until("pg1 leads no more", || two.heard().heard[0].1.leads.is_none());
    drop(one);
    let last = two.heard().heard[0].1.at;
    assert!(ha_daemon::boottime() >= last);
    assert_eq!(two.figures()[0].rejected, 0);
}

#[test]
fn what_pg2_did_not_send_just_now_is_rejected() {
    let one_address = free_address();
    let two = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let link = HeartbeatLink::start(options("pg1", one_address, ("pg2", two.local_addr().unwrap()))).unwrap();
    let send = |bytes: &[u8]| two.send_to(bytes, one_address).unwrap();
    let received = || link.figures()[0].received;
    let rejected = || link.figures()[0].rejected;

    send(&datagram(5, 3, KEY, "pg1"));
    until("a good one is heard", || received() == 1);
    let foreign = [
        ("a wrong key", datagram(5, 4, "another key", "pg1")),
        ("for somebody else", datagram(5, 4, KEY, "pg3")),
        ("said before", datagram(5, 3, KEY, "pg1")),
        ("of an earlier life", datagram(4, 99, KEY, "pg1")),
        ("cut short", datagram(5, 4, KEY, "pg1")[..DATAGRAM - 1].to_vec()),
        ("too long", [datagram(5, 4, KEY, "pg1"), vec![0]].concat()),
        ("no tag at all", vec![0; BODY - 1]),
    ];
    for (index, (what, bytes)) in foreign.iter().enumerate() {
        send(bytes);
        until(what, || rejected() == index as u64 + 1);
    }
    // Another socket on the same host is another sender.
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    stranger.send_to(&datagram(5, 4, KEY, "pg1"), one_address).unwrap();
    send(&datagram(5, 6, KEY, "pg1"));
    until("the next good one is heard", || received() == 2);
    assert_eq!(link.figures()[0].missed, 2, "4 and 5 never came from pg2");
    assert_eq!(rejected(), foreign.len() as u64);
    send(&datagram(6, 1, KEY, "pg1"));
    until("a later life is heard", || received() == 3);
}

#[test]
fn a_link_that_is_off_hears_nothing() {
    let link = HeartbeatLink::off();
    link.say(Some(Epoch(1)), Duration::from_secs(1));
    assert_eq!(link.heard(), Heartbeats::default());
}
