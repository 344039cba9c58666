//! The wire at each transition, byte by byte: advertisements (Ethernet, IP, VRRP) and announcements (ARP) of both hosts, in
//! their order. The link fixes all addresses, so that whole frames can be written down here; what differs from frame
//! to frame is the identification of the IP header, and with it the header's checksum, which is verified instead.
//!
//! A run leaves `<name>.pcap` in cargo's directory for tests (`target/tmp`).

use std::time::Instant;

use ha_rpc::proto::MoveRequest;
use nix::sys::signal::Signal;

use crate::link::{Capture, Frame, VIP, World, is_root, ms, wait_for};

/// Fixed, because the interval stands in the packets. The delay is that of the preferred host's return; it is no multiple of the
/// interval, so that nothing else is sent at that moment.
const SETTINGS: &str = "interval = \"200ms\"\npreempt_delay = \"1100ms\"";

/// Advertisements of ha1 while its proxy serves (priority 151), while it steps aside for an operator (60), while its proxy is
/// dead (11), and when vrrpd ends (0).
const HA1: &str =
    "01005e000012 020000000021 0800 45c00020 id.. 4000ff70 sum. 0a000115 e0000012 310a9701 00142cd6 0a00010a";
const HA1_ASIDE: &str =
    "01005e000012 020000000021 0800 45c00020 id.. 4000ff70 sum. 0a000115 e0000012 310a3c01 001487d6 0a00010a";
const HA1_DEAD: &str =
    "01005e000012 020000000021 0800 45c00020 id.. 4000ff70 sum. 0a000115 e0000012 310a0b01 0014b8d6 0a00010a";
const HA1_LEAVES: &str =
    "01005e000012 020000000021 0800 45c00020 id.. 4000ff70 sum. 0a000115 e0000012 310a0001 0014c3d6 0a00010a";
/// Of ha2 while its proxy serves (150).
const HA2: &str =
    "01005e000012 020000000022 0800 45c00020 id.. 4000ff70 sum. 0a000116 e0000012 310a9601 00142dd6 0a00010a";

/// Announcements as a request for one's own address, and as a reply that nobody asked for.
const HA1_REQUEST: &str =
    "ffffffffffff 020000000021 0806 0001080006040001 020000000021 0a00010a 000000000000 0a00010a";
const HA1_REPLY: &str =
    "ffffffffffff 020000000021 0806 0001080006040002 020000000021 0a00010a 020000000021 0a00010a";
const HA2_REQUEST: &str =
    "ffffffffffff 020000000022 0806 0001080006040001 020000000022 0a00010a 000000000000 0a00010a";
const HA2_REPLY: &str =
    "ffffffffffff 020000000022 0806 0001080006040002 020000000022 0a00010a 020000000022 0a00010a";

/// What ha1 and ha2 send when they become Active and nobody answers: an advertisement, announcements at once, after 50 and
/// 150 ms, and after 200 ms the next advertisement.
const HA1_BEGINS: [&str; 8] =
    [HA1, HA1_REQUEST, HA1_REPLY, HA1_REQUEST, HA1_REPLY, HA1_REQUEST, HA1_REPLY, HA1];
const HA2_BEGINS: [&str; 8] =
    [HA2, HA2_REQUEST, HA2_REPLY, HA2_REQUEST, HA2_REPLY, HA2_REQUEST, HA2_REPLY, HA2];

/// What ha1 announced when it became Active comes to an end: after pauses of up to 1.5 s the last is 2.5 s later.
fn wait_until_announced(world: &World, capture: &Capture) {
    let begun = Instant::now();
    wait_for("a pause in ha1's announcements", || {
        let since = Instant::now().checked_sub(ms(1600)).filter(|since| *since >= begun)?;
        capture.from(&world.ha1, since).iter().all(|frame| frame.text() == HA1).then_some(())
    });
}

#[test]
fn wire_of_a_start() {
    if !is_root() {
        return;
    }
    let world = World::new(SETTINGS);
    let capture = Capture::begin(&world, "start");
    let begun = Instant::now();
    let _first = world.ha1.start();
    let frames = capture.expect(&world.ha1, begun, &HA1_BEGINS);
    assert!(frames[0].at - begun >= ms(600), "it listens first, for three intervals and a skew");
}

#[test]
fn wire_of_a_takeover() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running_by_multicast_only(SETTINGS);
    let capture = Capture::begin(&world, "takeover");
    let killed = Instant::now();
    first.signal(Signal::SIGKILL);
    capture.expect(&world.ha2, killed, &HA2_BEGINS);
    // At most one that was under way.
    assert!(capture.from(&world.ha1, killed).len() <= 1);
}

#[test]
fn wire_of_a_farewell() {
    if !is_root() {
        return;
    }
    let (world, mut first, _second) = World::running_by_multicast_only(SETTINGS);
    let capture = Capture::begin(&world, "farewell");
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    let zeros = capture.expect_behind(&world.ha1, asked, HA1, &[HA1_LEAVES; 3]);
    let taken = capture.expect(&world.ha2, asked, &HA2_BEGINS);
    assert!(zeros[2].at < taken[1].at, "announced by ha2 before ha1 had left");
    assert!(taken[0].at - zeros[0].at < ms(1000), "the skew of 83 ms, not the Down interval of 683");
    assert_eq!(first.wait().code(), Some(0));
    let last = capture.from(&world.ha1, asked).pop().expect("ha1's last frame");
    assert_eq!(last.at, zeros[2].at, "something behind the farewell: {}", last.text());
}

#[test]
fn wire_of_a_dead_proxy() {
    if !is_root() {
        return;
    }
    let (world, _first, _second) = World::running_by_multicast_only(SETTINGS);
    let capture = Capture::begin(&world, "dead-proxy");
    wait_until_announced(&world, &capture);
    let died = Instant::now();
    world.ha1.proxy.die();
    // The lower priority at once; and again as the last word, for which the winner announces itself once more if need be.
    let lowered = capture.expect_behind(&world.ha1, died, HA1, &[HA1_DEAD, HA1_DEAD]);
    let taken = capture.expect(&world.ha2, died, &HA2_BEGINS[..3]);
    assert!(lowered[0].at < taken[0].at && taken[0].at < lowered[1].at);
    wait_for("the next advertisement of ha2", || {
        capture.from(&world.ha2, lowered[1].at).iter().any(|frame| frame.text() == HA2).then_some(())
    });
    let last = capture.from(&world.ha1, died).pop().expect("ha1's last frame");
    assert_eq!(last.at, lowered[1].at, "something behind the last word: {}", last.text());
}

/// Make before break: the other host is asked over the peer channel, and has the address before this one has removed it.
#[test]
fn wire_of_a_planned_move() {
    if !is_root() {
        return;
    }
    let (world, _first, second) = World::with_channel(SETTINGS);
    let capture = Capture::begin(&world, "planned-move");
    wait_until_announced(&world, &capture);
    let asked = Instant::now();
    let address = VIP.to_string();
    let moved =
        world.call(&world.ha1, |mut client| async move { client.r#move(MoveRequest { address }).await });
    assert_eq!(moved.expect("a move").active_address, "10.0.1.22");
    wait_for("ha2 to say that it was asked over the peer channel", || {
        second.said("ha1 asked for it").then_some(())
    });

    // That it steps aside, with the priority of a draining proxy, and the same as its last word: never priority 0, after
    // which a Backup that was not asked would be on its way as well.
    let aside = capture.expect_behind(&world.ha1, asked, HA1, &[HA1_ASIDE, HA1_ASIDE]);
    let taken = capture.expect(&world.ha2, asked, &HA2_BEGINS[..3]);
    assert!(aside[0].at < taken[0].at && taken[0].at < aside[1].at);
    // An advertisement more where the last word came late; announcements as ever, at once and twice more.
    wait_for("three announcements of ha2", || {
        let frames = capture.from(&world.ha2, asked);
        let (adverts, announced): (Vec<Frame>, Vec<Frame>) =
            frames.into_iter().partition(Frame::is_advertisement);
        assert!(adverts.iter().all(|frame| frame.text() == HA2), "{adverts:?}");
        let announced: Vec<String> = announced.iter().map(Frame::text).collect();
        let golden = [HA2_REQUEST, HA2_REPLY].repeat(3);
        let announced: Vec<&str> = announced.iter().take(golden.len()).map(String::as_str).collect();
        assert!(golden.starts_with(&announced), "{announced:?}");
        (announced.len() == golden.len() && adverts.len() >= 2).then_some(())
    });
    // Preferred, and past the delay of preemption: what an operator has moved stays there, and ha1 says nothing.
    wait_for("the delay to pass", || (aside[1].at.elapsed() > ms(1500)).then_some(()));
    let last = capture.from(&world.ha1, asked).pop().expect("ha1's last frame");
    assert_eq!(last.at, aside[1].at, "something behind the last word: {}", last.text());
    assert!(world.ha2.holds() && !world.ha1.holds());
}

#[test]
fn wire_of_a_lost_link_and_of_its_return() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running_by_multicast_only(SETTINGS);
    let capture = Capture::begin(&world, "link");
    world.cable(&world.ha1, false);
    let cut = Instant::now();
    capture.expect(&world.ha2, cut, &HA2_BEGINS);
    wait_for("ha1 to notice", || first.said("eth0 has no carrier").then_some(()));
    world.cable(&world.ha1, true);
    let mended = Instant::now();

    // Back again, it says nothing for the delay, and then takes the address back: preemption.
    let back = capture.expect(&world.ha1, cut, &HA1_BEGINS[..3]);
    assert!(back[0].at - mended >= ms(1100), "{:?}", back[0].at - mended);
    wait_for("ha2 to leave the address", || (!world.ha2.holds()).then_some(()));
    let last = capture.from(&world.ha2, back[0].at);
    let last: Vec<String> = last.iter().map(Frame::text).collect();
    assert_eq!(last, [HA2], "the loser's last word and no more");
}

#[test]
fn wire_of_an_address_lost() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running_by_multicast_only(SETTINGS);
    let capture = Capture::begin(&world, "address-lost");
    let quiet = Instant::now();
    wait_until_announced(&world, &capture);
    let removed = Instant::now();
    world.ha1.namespace.ip(&format!("addr del {VIP}/32 dev eth0"));
    capture.expect_behind(&world.ha1, removed, HA1, &[HA1_REQUEST, HA1_REPLY]);
    wait_for("the address to be announced three times", || {
        let frames = capture.from(&world.ha1, removed);
        let texts = frames.iter().map(Frame::text);
        let announced: Vec<String> = texts.filter(|text| text != HA1).collect();
        let golden = [HA1_REQUEST, HA1_REPLY].repeat(3);
        assert!(
            golden.starts_with(&announced.iter().map(String::as_str).collect::<Vec<_>>()),
            "{announced:?}"
        );
        (announced.len() == golden.len()).then_some(())
    });
    first.says("somebody removed the address");
    assert!(world.ha1.holds());
    assert!(capture.from(&world.ha2, quiet).is_empty(), "ha2 has noticed nothing");
}

#[test]
fn wire_of_version_2_with_a_password() {
    if !is_root() {
        return;
    }
    let world = World::new("version = 2\nvrid = 51\ninterval = \"1s\"");
    world.ha1.set_password("cfgha26");
    let capture = Capture::begin(&world, "version-2");
    let begun = Instant::now();
    let mut first = world.ha1.start();
    let golden = |rest: &str| {
        format!(
            "01005e000012 020000000021 0800 45c00028 id.. 4000ff70 sum. 0a000115 e0000012 {rest} 63666768 61323600"
        )
    };
    let (serving, leaves) = (golden("21339701 0101d9be 0a00010a"), golden("21330001 010170bf 0a00010a"));
    capture.expect(&world.ha1, begun, &[&serving, HA1_REQUEST, HA1_REPLY]);
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    wait_for("three farewells", || {
        let frames = capture.from(&world.ha1, asked);
        (frames.iter().filter(|frame| frame.text() == leaves).count() == 3).then_some(())
    });
    assert_eq!(first.wait().code(), Some(0));
}
