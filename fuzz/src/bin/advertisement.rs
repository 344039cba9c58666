//! A VRRP packet, and what it does to virtual routers that hold the address and that do not.
#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use fuzz::kept::Since;
use ha_core::MonoTime;
use libfuzzer_sys::fuzz_target;
use vrrp::packet::{Discarded, decode, encode};
use vrrp::signature::{Key, SIGNATURE_LEN, Signature, Stamp};
use vrrp::{Event, ProxyHealth, Replay, Setup, Signing, SigningMode, State, VirtualRouter};

/// A checksum that is mended where it is wrong, and a signature that is right: bits of the first byte.
const MEND: u8 = 1;
const SIGN: u8 = 2;

/// More than a router may keep of strangers: its alarms, with the addresses that they name.
const KEPT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, packet)) = data.split_first() else { return };
    let mut packet = packet.to_vec();
    if mode & MEND != 0 {
        mend(&mut packet);
    }
    if mode & SIGN != 0 {
        sign(&mut packet);
    }
    read(&packet);
    for version in [vrrp::Version::V2, vrrp::Version::V3] {
        hear(&packet, version);
    }
});

fn key() -> Key {
    Key { id: 1, secret: vec![b'k'; 32] }
}

/// Writes the checksum that is expected.
fn mend(packet: &mut [u8]) {
    let Err(Discarded::Checksum { expected, .. }) = decode(packet) else { return };
    let header = if packet[0] >> 4 == 4 { usize::from(packet[0] & 0xF) * 4 } else { 40 };
    packet[header + 6..header + 8].copy_from_slice(&expected.to_be_bytes());
    assert!(!matches!(decode(packet), Err(Discarded::Checksum { .. })), "mended, and still wrong");
}

/// Puts a right signature behind an unsigned message.
fn sign(packet: &mut Vec<u8>) {
    let Ok(received) = decode(packet) else { return };
    if received.signature.is_some() {
        return;
    }
    let at = received.message.as_ptr() as usize - packet.as_ptr() as usize + received.message.len();
    let signature = Signature::sign(&key(), received.source, received.message, Stamp(1 << 32));
    let four = received.source.is_ipv4();
    packet.truncate(at);
    packet.extend(signature.bytes());
    let length = u16::try_from(if four { packet.len() } else { packet.len() - 40 }).expect("a short packet");
    let field = if four { 2..4 } else { 4..6 };
    packet[field].copy_from_slice(&length.to_be_bytes());
    let read = decode(packet).expect("as before").signature.expect("a signature");
    assert_eq!(read, signature);
}

/// What is read can be written, is read again as the same, and does not depend on what follows the packet.
fn read(packet: &[u8]) {
    let before = Since::now();
    let first = decode(packet);
    before.assert_at_most(64 * 1024);
    let padded = [packet, &[0xEE; 9]].concat();
    match (&first, decode(&padded)) {
        (Ok(first), Ok(again)) => assert_eq!(*first, again, "padding matters"),
        // Completed by the padding, or cut short in another place.
        (Err(Discarded::Truncated { .. }), _) => {}
        (Err(first), Err(again)) => assert_eq!(*first, again, "padding matters"),
        (first, again) => panic!("padding matters: {first:?}, {again:?}"),
    }
    let Ok(received) = first else { return };
    assert!((1..=255).contains(&received.advertisement.addresses.len()));
    assert!(!received.advertisement.interval.is_zero());
    let written = encode(&received.advertisement, received.coverage);
    assert_eq!(written.len(), received.message.len());
    let header = packet.len().min(received.message.as_ptr() as usize - packet.as_ptr() as usize);
    let mut anew = packet[..header].to_vec();
    anew.extend(&written);
    if let Some(signature) = &received.signature {
        anew.extend(signature.bytes());
        let other = Key { id: 1, secret: vec![b'o'; 32] };
        assert!(!signature.is_valid(&other, received.source, received.message), "forged");
    }
    let again = decode(&anew).expect("what was written is read");
    assert_eq!(again.advertisement, received.advertisement);
    assert_eq!(anew.len(), header + written.len() + received.signature.map_or(0, |_| SIGNATURE_LEN));
}

/// An Active and a Backup of both families: nothing but a packet that counts changes anything.
fn hear(packet: &[u8], version: vrrp::Version) {
    let before = Since::now();
    let now = MonoTime(1_000_000_000_000);
    let four = Setup {
        version,
        interval: Duration::from_secs(1),
        signing: Some(Signing {
            mode: SigningMode::Permissive,
            key: key(),
            next_key: None,
            replay: Replay::Time(Duration::from_secs(5)),
        }),
        ..Setup::new(51, [10, 0, 1, 10])
    };
    let six = Setup {
        version: vrrp::Version::V3,
        ..Setup { address: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x10]), ..four.clone() }
    };
    let six = Setup { link_local: Some(vrrp::link_local(51)), ..six };
    for active in [false, true] {
        let mut router = VirtualRouter::group(vec![four.clone(), six.clone()], now).expect("a good setup");
        let own: [IpAddr; 2] = [[10, 0, 1, 21].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 0x21].into()];
        for (member, source) in own.into_iter().enumerate() {
            router.handle_event_of(now, member, Event::LinkUp { source });
        }
        router.handle_event(now, Event::Started);
        router.handle_event(now, Event::ProxyChanged(ProxyHealth::Serving));
        let mut now = now;
        if active {
            now = router.poll_timeout().expect("a timer");
            router.handle_timeout(now);
        }
        let member = usize::from(packet.first().is_some_and(|first| first >> 4 == 6));
        let (was, source) = (router.status_of(now, member), [10, 0, 1, 99].into());
        router.handle_event_of(now, member, Event::Received { source, packet });
        let is = router.status_of(now, member);
        assert_eq!(was.state, if active { State::Active } else { State::Backup });
        assert!(matches!(is.state, State::Active | State::Backup));
        assert_eq!(is.holds_address, is.state == State::Active);
        assert!(router.poll_timeout().is_some(), "a timer is set");
        if is.counters.received == was.counters.received {
            assert_eq!((is.state, is.active), (was.state, was.active), "it did not count");
        }
    }
    before.assert_at_most(KEPT);
}
