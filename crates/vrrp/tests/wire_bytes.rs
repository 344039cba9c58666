//! What goes over the wire, byte for byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use vrrp::Version;
use vrrp::checksum::Coverage;
use vrrp::frame::{Headers, virtual_hardware};
use vrrp::packet::{Advertisement, Auth, Discarded, GROUP, GROUP_V6, decode};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const PSEUDO: Coverage = Coverage::PseudoHeader { source: SOURCE, destination: GROUP };

/// Captured from keepalived 2.2.7 with the guide's configuration, priority 103.
const CAPTURED: &str = "45c0 0028 0001 0000 ff70 cf91 0a00 0101 e000 0012 \
                        2133 6701 0101 09bf 0a00 010a 6366 6768 6132 3600";

/// The same over IPv6: version 3, 200 ms, without authentication.
const CAPTURED_V6: &str = "6c0f c9cf 0028 70ff fe80 0000 0000 0000 0000 00ff fe00 0021 ff02 0000 0000 0000 0000 0000 0000 0012 \
                           3133 6702 0014 6ebb fe80 0000 0000 0000 0000 0000 000a 0010 fd00 0000 0000 0000 0000 0000 0000 0010";

fn encode(advertisement: &Advertisement, coverage: Coverage) -> Vec<u8> {
    vrrp::packet::encode(advertisement, coverage).to_vec()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

fn version_2(priority: u8, auth: Auth) -> Advertisement {
    Advertisement {
        version: Version::V2,
        vrid: 51,
        priority,
        interval: Duration::from_secs(1),
        addresses: vec![Ipv4Addr::new(10, 0, 1, 10).into()].into(),
        auth,
    }
}

fn version_3(centiseconds: u64) -> Advertisement {
    Advertisement {
        version: Version::V3,
        interval: Duration::from_millis(10 * centiseconds),
        ..version_2(103, Auth::None)
    }
}

fn guide_password() -> Auth {
    Auth::Password(*b"cfgha26\0")
}

/// An IP packet around a message; the IPv4 header's own checksum is the kernel's business.
fn packet(source: IpAddr, destination: IpAddr, ttl: u8, message: &[u8]) -> Vec<u8> {
    let length =
        |header: usize| u16::try_from(header + message.len()).expect("a short message").to_be_bytes();
    let (mut packet, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = length(20);
            let packet = vec![0x45, 0xc0, high, low, 0, 1, 0, 0, ttl, 112, 0, 0];
            (packet, [source.octets(), destination.octets()].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length(0);
            let packet = vec![0x6c, 0, 0, 0, high, low, 112, ttl];
            (packet, [source.octets(), destination.octets()].concat())
        }
        _ => panic!("{source} to {destination}"),
    };
    packet.extend(addresses);
    packet.extend(message);
    packet
}

fn sum(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[6], message[7]])
}

#[test]
fn the_captured_packet_is_read_and_written_alike() {
    let captured = bytes(CAPTURED);
    let received = decode(&captured).unwrap();
    assert_eq!((received.source, received.destination, received.ttl), (SOURCE, GROUP, 255));
    assert_eq!(received.coverage, Coverage::Message);
    assert_eq!(received.advertisement, version_2(103, guide_password()));
    assert_eq!(encode(&received.advertisement, Coverage::Message), captured[20..]);
}

#[test]
fn version_2_checksums_of_other_priorities() {
    for (priority, expected) in [(103, 0x09bf), (102, 0x0abf), (101, 0x0bbf), (100, 0x0cbf), (0, 0x70bf)] {
        let message = encode(&version_2(priority, guide_password()), Coverage::Message);
        assert_eq!(sum(&message), expected, "priority {priority}");
        assert_eq!(decode(&packet(SOURCE, GROUP, 255, &message)).unwrap().advertisement.priority, priority);
    }
    let none = encode(&version_2(101, Auth::None), Coverage::Message);
    assert_eq!(sum(&none), 0x6ec0);
    assert_eq!((none.len(), &none[12..]), (20, &[0; 8][..]), "the authentication data is always there");
    assert_eq!(decode(&packet(SOURCE, GROUP, 255, &none)).unwrap().advertisement, version_2(101, Auth::None));
}

#[test]
fn version_2_never_has_a_pseudo_header() {
    let advertisement = version_2(103, guide_password());
    assert_eq!(encode(&advertisement, PSEUDO), encode(&advertisement, Coverage::Message));
}

#[test]
fn version_3_in_both_forms_of_the_checksum() {
    let vectors = [
        (10, "3133 6701 000a 5cb7 0a00 010a", "3133 6701 000a 7127 0a00 010a"),
        (100, "3133 6701 0064 5c5d 0a00 010a", "3133 6701 0064 70cd 0a00 010a"),
    ];
    for (centiseconds, plain, pseudo) in vectors {
        let advertisement = version_3(centiseconds);
        for (coverage, message) in [(Coverage::Message, bytes(plain)), (PSEUDO, bytes(pseudo))] {
            assert_eq!(encode(&advertisement, coverage), message);
            let whole = packet(SOURCE, GROUP, 255, &message);
            let received = decode(&whole).unwrap();
            assert_eq!((&received.advertisement, received.coverage), (&advertisement, coverage));
        }
    }
}

#[test]
fn version_3_over_ipv6() {
    let source: IpAddr = "fe80::1".parse().unwrap();
    let first: Ipv6Addr = "fe80::a:10".parse().unwrap();
    let addresses = vec![first.into(), "fd00::10".parse().unwrap()].into();
    let advertisement = Advertisement { addresses, ..version_3(100) };
    let pseudo = Coverage::PseudoHeader { source, destination: GROUP_V6 };
    let message = encode(&advertisement, pseudo);
    assert_eq!((message.len(), sum(&message)), (40, 0x6d8b));
    assert_eq!(message[..8], bytes("3133 6702 0064 6d8b"));
    let whole = packet(source, GROUP_V6, 255, &message);
    let received = decode(&whole).unwrap();
    assert_eq!((received.source, received.destination, received.ttl), (source, GROUP_V6, 255));
    assert_eq!((received.coverage, &received.advertisement), (pseudo, &advertisement));
    let captured = bytes(CAPTURED_V6);
    let received = decode(&captured).unwrap();
    assert_eq!(
        received.advertisement,
        Advertisement { interval: Duration::from_millis(200), ..advertisement.clone() }
    );
    assert_eq!(encode(&received.advertisement, received.coverage), captured[40..]);

    let mut padded = whole.clone();
    padded.extend([0xee; 6]);
    assert_eq!(decode(&padded), decode(&whole));
    for length in 0..whole.len() {
        assert!(matches!(decode(&whole[..length]), Err(Discarded::Truncated { .. })), "{length}");
    }

    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = whole.clone();
        change(&mut packet);
        decode(&packet).unwrap_err()
    };
    assert_eq!(broken(&|p| p[6] = 58), Discarded::Protocol(58));
    // Without the pseudo header, which is the other form over IPv4 only.
    let plain = encode(&advertisement, Coverage::Message);
    assert!(matches!(broken(&|p| p[40..].copy_from_slice(&plain)), Discarded::Checksum { .. }));
    assert_eq!(broken(&|p| p[40] = 0x21), Discarded::Version(2));
    let global =
        encode(&Advertisement { addresses: advertisement.addresses[1..].into(), ..version_3(100) }, pseudo);
    let error = decode(&packet(source, GROUP_V6, 255, &global)).unwrap_err();
    assert!(matches!(error, Discarded::NoLinkLocal { heard, .. } if heard.source == source), "{error}");
}

#[test]
fn padding_of_short_frames_and_longer_headers_are_read_over() {
    let mut padded = bytes(CAPTURED);
    padded.extend([0xee; 6]);
    assert_eq!(decode(&padded), decode(&bytes(CAPTURED)));

    let message = encode(&version_3(20), Coverage::Message);
    let mut options = packet(SOURCE, GROUP, 255, &message);
    options[0] = 0x46;
    options[3] += 4;
    options.splice(20..20, [0x94, 0x04, 0, 0]);
    assert_eq!(decode(&options).unwrap().advertisement, version_3(20));
}

#[test]
fn the_reserved_bits_of_version_3_are_ignored() {
    let mut message = encode(&version_3(20), Coverage::Message);
    message[4] |= 0xa0;
    let right = vrrp::checksum::checksum(&message, Coverage::Message).to_be_bytes();
    message[6..8].copy_from_slice(&right);
    assert_eq!(decode(&packet(SOURCE, GROUP, 255, &message)).unwrap().advertisement, version_3(20));
}

#[test]
fn a_known_trailer_is_read_over_and_an_unknown_one_is_not() {
    let mut message = encode(&version_3(20), Coverage::Message);
    message.push(1);
    message.extend([7; 27]);
    assert_eq!(decode(&packet(SOURCE, GROUP, 255, &message)).unwrap().advertisement, version_3(20));
    message[12] = 2;
    assert_eq!(decode(&packet(SOURCE, GROUP, 255, &message)), Err(Discarded::Trailing(28)));
    message.truncate(12 + 4);
    assert_eq!(decode(&packet(SOURCE, GROUP, 255, &message)), Err(Discarded::Trailing(4)));
}

#[test]
fn each_kind_of_broken_packet_is_told_by_its_name() {
    let good = packet(SOURCE, GROUP, 255, &encode(&version_3(20), Coverage::Message));
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        if packet.len() >= 32 {
            let right = vrrp::checksum::checksum(&packet[20..], Coverage::Message).to_be_bytes();
            packet[26..28].copy_from_slice(&right);
        }
        decode(&packet).unwrap_err()
    };
    assert_eq!(broken(&|p| p.truncate(19)), Discarded::Truncated { found: 19, needed: 20 });
    assert_eq!(broken(&|p| p.truncate(31)), Discarded::Truncated { found: 31, needed: 32 });
    assert_eq!(broken(&|p| p[3] = 200), Discarded::Truncated { found: 32, needed: 200 });
    assert_eq!(broken(&|p| p[3] = 10), Discarded::Truncated { found: 10, needed: 20 });
    assert_eq!(broken(&|p| p[3] = 27), Discarded::Truncated { found: 7, needed: 8 });
    assert_eq!(broken(&|p| p[0] = 0x75), Discarded::NotIp);
    assert_eq!(broken(&|p| p[0] = 0x44), Discarded::NotIp);
    assert_eq!(broken(&|p| p[6] = 0x20), Discarded::Fragment);
    assert_eq!(broken(&|p| p[7] = 1), Discarded::Fragment);
    assert_eq!(broken(&|p| p[9] = 89), Discarded::Protocol(89));
    assert_eq!(broken(&|p| p[20] = 0x41), Discarded::Version(4));
    assert_eq!(broken(&|p| p[20] = 0x32), Discarded::Type(2));
    assert_eq!(broken(&|p| p[23] = 255), Discarded::Truncated { found: 12, needed: 8 + 4 * 255 });
    assert_eq!(broken(&|p| p[23] = 0), Discarded::Trailing(4));
    assert_eq!(broken(&|p| p[25] = 0), Discarded::IntervalZero);

    let mut none = packet(SOURCE, GROUP, 255, &[0x31, 51, 100, 0, 0, 20, 0, 0]);
    let right = vrrp::checksum::checksum(&none[20..], Coverage::Message).to_be_bytes();
    none[26..28].copy_from_slice(&right);
    assert_eq!(decode(&none), Err(Discarded::NoAddress));

    let mut wrong = good.clone();
    wrong[22] ^= 1;
    let discarded = decode(&wrong).unwrap_err();
    assert!(matches!(discarded, Discarded::Checksum { .. }), "{discarded}");
    assert_eq!(discarded.heard().map(|heard| (heard.source, heard.vrid)), Some((SOURCE, 51)));
}

#[test]
fn an_unknown_kind_of_authentication_is_told_with_its_sender() {
    let mut message = encode(&version_2(103, guide_password()), Coverage::Message);
    message[4] = 2;
    let right = vrrp::checksum::checksum(&message, Coverage::Message).to_be_bytes();
    message[6..8].copy_from_slice(&right);
    let discarded = decode(&packet(SOURCE, GROUP, 255, &message)).unwrap_err();
    assert_eq!(discarded.to_string(), "authentication type 2");
    assert_eq!(discarded.heard().map(|heard| heard.priority), Some(103));
}

#[test]
fn an_interval_that_does_not_fit_is_brought_into_range() {
    let interval_of = |version, interval| {
        let message =
            encode(&Advertisement { version, interval, ..version_2(100, Auth::None) }, Coverage::Message);
        decode(&packet(SOURCE, GROUP, 255, &message)).unwrap().advertisement.interval
    };
    assert_eq!(interval_of(Version::V3, Duration::from_secs(3600)), Duration::from_millis(40_950));
    assert_eq!(interval_of(Version::V3, Duration::from_millis(1)), Duration::from_millis(10));
    assert_eq!(interval_of(Version::V2, Duration::from_secs(3600)), Duration::from_secs(255));
    assert_eq!(interval_of(Version::V2, Duration::from_millis(200)), Duration::from_secs(1));
}

fn advertisements() -> impl Strategy<Value = Advertisement> {
    let auth = prop_oneof![Just(Auth::None), any::<[u8; 8]>().prop_map(Auth::Password)];
    let addresses = prop::collection::vec(any::<[u8; 4]>().prop_map(IpAddr::from), 1..=255);
    (any::<bool>(), any::<u8>(), any::<u8>(), 1..=4095_u32, addresses, auth).prop_map(
        |(second, vrid, priority, units, addresses, auth)| {
            let (version, units, auth) =
                if second { (Version::V2, units.min(255), auth) } else { (Version::V3, units, Auth::None) };
            let interval = version.interval_unit() * units;
            Advertisement { version, vrid, priority, interval, addresses: addresses.into(), auth }
        },
    )
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(advertisement in advertisements(), pseudo: bool, source: [u8; 4], ttl: u8) {
        let source = IpAddr::from(source);
        let coverage = if pseudo { Coverage::PseudoHeader { source, destination: GROUP } } else { Coverage::Message };
        let message = encode(&advertisement, coverage);
        let whole = packet(source, GROUP, ttl, &message);
        let received = decode(&whole).unwrap();
        prop_assert_eq!(&received.advertisement, &advertisement);
        prop_assert_eq!((received.source, received.destination, received.ttl), (source, GROUP, ttl));
    }

    #[test]
    fn random_bytes_are_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        drop(decode(&bytes));
    }

    /// Random bytes hardly ever get past the header; these do.
    #[test]
    fn mutated_packets_are_refused_quietly(
        advertisement in advertisements(),
        changes in prop::collection::vec((0..80_usize, any::<u8>()), 1..6),
        length in 0..1100_usize,
        mend: bool,
    ) {
        let mut packet = packet(SOURCE, GROUP, 255, &encode(&advertisement, Coverage::Message));
        for (at, byte) in changes {
            if let Some(old) = packet.get_mut(at) {
                *old = byte;
            }
        }
        packet.truncate(length.max(1));
        if mend && packet.len() >= 28 {
            let right = vrrp::checksum::checksum(&packet[20..], Coverage::Message).to_be_bytes();
            packet[26..28].copy_from_slice(&right);
        }
        if let Ok(received) = decode(&packet) {
            prop_assert!(!received.advertisement.addresses.is_empty());
            prop_assert!(!received.advertisement.interval.is_zero());
        }
    }
}

/// The captured packets in frames; the identification of IPv4 is always 0, with DF, and IPv6's flow label too.
#[test]
fn frames_from_the_virtual_hardware_address() {
    let frame = |ipv6, source: IpAddr, group, message: &[u8]| {
        let headers =
            Headers::new(virtual_hardware(51, ipv6), source, group, message.len()).expect("one family");
        [headers.as_bytes(), message].concat()
    };
    let message = &bytes(CAPTURED)[20..];
    let four = "01005e000012 00005e000133 0800 45c0 0028 0000 4000 ff70 8f92 0a00 0101 e000 0012 \
                2133 6701 0101 09bf 0a00 010a 6366 6768 6132 3600";
    assert_eq!(frame(false, SOURCE, GROUP, message), bytes(four));
    let source = "fe80::ff:fe00:21".parse().expect("an address");
    let six = format!("333300000012 00005e000233 86dd {}", CAPTURED_V6.replacen("6c0f c9cf", "6c00 0000", 1));
    let found = frame(true, source, GROUP_V6, &bytes(CAPTURED_V6)[40..]);
    assert_eq!(found, bytes(&six));
    // What others make of it.
    let received = decode(&found[14..]).expect("an advertisement");
    assert_eq!((received.source, received.destination, received.ttl), (source, GROUP_V6, 255));
    assert_eq!(Headers::new(virtual_hardware(51, false), SOURCE, GROUP_V6, 20), None);
}

proptest! {
    /// The sum over an IPv4 header, its checksum included, is all ones.
    #[test]
    fn an_ipv4_header_adds_up(source: [u8; 4], length in 8_usize..1300) {
        let headers = Headers::new(virtual_hardware(1, false), source.into(), GROUP, length).expect("one family");
        prop_assert_eq!(vrrp::checksum::internet_checksum(&[&headers.as_bytes()[14..]]), 0);
    }
}
