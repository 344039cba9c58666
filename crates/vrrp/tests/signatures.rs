//! Signatures, byte for byte, against another implementation of HMAC.

use std::net::IpAddr;

use proptest::prelude::*;
use vrrp::packet::{Discarded, decode};
use vrrp::signature::{Key, SIGNATURE_LEN, Signature, Stamp};

fn key(id: u8) -> Key {
    Key { id, secret: b"0123456789abcdef0123456789abcdef".to_vec() }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

/// As the layout says, with another implementation.
fn independent(key: &Key, source: IpAddr, message: &[u8], stamp: Stamp) -> Vec<u8> {
    let (family, address) = match source {
        IpAddr::V4(source) => (4, source.octets().to_vec()),
        IpAddr::V6(source) => (6, source.octets().to_vec()),
    };
    let mut input = vec![family, message[0] >> 4, message[1], 0];
    input.extend(&address);
    input.resize(20, 0);
    input.extend(&message[..6]);
    input.extend([0, 0]);
    input.extend(&message[8..]);
    let mut signature = vec![1, key.id, 0, 0];
    signature.extend(stamp.0.to_be_bytes());
    input.extend(&signature);
    input.extend([0; 16]);
    let code = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key.secret), &input);
    signature.extend(&code.as_ref()[..16]);
    signature
}

/// Computed with Python's hmac module.
#[test]
fn vectors_of_both_versions_and_families() {
    let stamp = Stamp(1_700_000_000 << 32 | 0x8000 << 16 | 7);
    let vectors = [
        ("10.0.1.1", "3133 6701 0064 5c5d 0a00 010a", "a6b1 4292 8926 28dd a4ea 13ed a8a8 b8ed"),
        (
            "10.0.1.1",
            "2133 6701 0001 0000 0a00 010a 0000 0000 0000 0000",
            "8bc9 fc46 2966 f7aa 2cf0 33da 2f3b a5d0",
        ),
        (
            "fe80::1",
            "3133 6702 0064 6d8b fe80 0000 0000 0000 0000 0000 000a 0010 fd00 0000 0000 0000 0000 0000 0000 0010",
            "8a5d 2aac cab2 a854 f84c 4822 ba38 e7e7",
        ),
    ];
    for (source, message, code) in vectors {
        let (source, message): (IpAddr, _) = (source.parse().unwrap(), bytes(message));
        let signature = Signature::sign(&key(7), source, &message, stamp);
        let expected = [bytes("0107 0000 6553 f100 8000 0007"), bytes(code)].concat();
        assert_eq!(signature.bytes()[..], expected);
        assert_eq!(independent(&key(7), source, &message, stamp), expected);
        let read = Signature::read(&expected).unwrap();
        assert_eq!((read, read.key_id(), read.stamp()), (signature, 7, stamp));
        assert!(read.is_valid(&key(7), source, &message));
        // The checksum is not covered: routers disagree about it, and it is filled in later over IPv6.
        let mut other_sum = message.clone();
        other_sum[6] ^= 0xff;
        assert!(read.is_valid(&key(7), source, &other_sum));
    }
}

/// Two advertisements of keepalived 2.4.3 (commit 9cbce3e2 of its repository), captured on 30 November 2026 between network
/// namespaces: `auth_hmac { key 7 "matriarch-test-key-0123456789abcdef" }`. vrrpd, run beside it with the same key, waited behind
/// it and took over when it left; keepalived did the same behind vrrpd; with different keys each refused the other's.
#[test]
fn keepalived_signs_as_we_do() {
    let its = Key { id: 7, secret: b"matriarch-test-key-0123456789abcdef".to_vec() };
    for packet in [
        "45c0003c 00010000 ff70cf68 0a000116 e0000012 3133c801 00640fb8 0a00010a 01070000 6b0d4d5c aba90000 \
         39dcc8b503ef83b41c0639032e803187",
        "45c0003c 00020000 ff70cf67 0a000116 e0000012 3133c801 00640fb8 0a00010a 01070000 6b0d4d5d c02b0000 \
         c487ca3139a41d715678c3c433f509e0",
    ] {
        let packet = bytes(packet);
        let received = decode(&packet).unwrap();
        let signature = received.signature.unwrap();
        let source: IpAddr = "10.0.1.22".parse().unwrap();
        assert!(signature.is_valid(&its, source, received.message));
        assert_eq!(Signature::sign(&its, source, received.message, signature.stamp()), signature);
        assert!(!signature.is_valid(&key(7), source, received.message));
    }
}

#[test]
fn a_signed_packet_is_read_and_anything_else_behind_a_message_is_not() {
    let source: IpAddr = "10.0.1.1".parse().unwrap();
    let message = bytes("3133 6701 0064 5c5d 0a00 010a");
    let signature = Signature::sign(&key(7), source, &message, Stamp(5));
    let packet = |rest: &[u8]| {
        let total = u16::try_from(20 + message.len() + rest.len()).unwrap().to_be_bytes();
        let header = [0x45, 0xc0, total[0], total[1], 0, 1, 0, 0, 255, 112, 0, 0, 10, 0, 1, 1, 224, 0, 0, 18];
        [&header[..], &message, rest].concat()
    };
    let signed = packet(signature.bytes());
    let received = decode(&signed).unwrap();
    assert_eq!((received.signature, received.message), (Some(signature), &message[..]));
    assert_eq!(decode(&packet(&[])).unwrap().signature, None);
    let other_type = [&[2], &signature.bytes()[1..]].concat();
    for rest in [&signature.bytes()[..27], &other_type, &[0; 4]] {
        assert_eq!(decode(&packet(rest)).unwrap_err(), Discarded::Trailing(rest.len()));
    }
    assert_eq!(Signature::read(&[1; SIGNATURE_LEN + 1]), None);
}

proptest! {
    #[test]
    fn agrees_with_the_other_implementation_and_any_changed_bit_is_noticed(
        secret in prop::collection::vec(any::<u8>(), 32..=64),
        id: u8,
        address: [u8; 16],
        four: bool,
        message in prop::collection::vec(any::<u8>(), 8..200),
        stamp: u64,
        bit: prop::sample::Index,
    ) {
        let source = if four { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { address.into() };
        let (key, stamp) = (Key { id, secret }, Stamp(stamp));
        let signature = Signature::sign(&key, source, &message, stamp);
        prop_assert_eq!(&signature.bytes()[..], &independent(&key, source, &message, stamp)[..]);
        prop_assert!(signature.is_valid(&key, source, &message));

        let at = bit.index((message.len() + SIGNATURE_LEN) * 8);
        let mut both = [&message[..], signature.bytes()].concat();
        both[at / 8] ^= 1 << (at % 8);
        let (changed, rest) = both.split_at(message.len());
        let valid = Signature::read(rest).is_some_and(|signature| signature.is_valid(&key, source, changed));
        prop_assert_eq!(valid, (6..8).contains(&(at / 8)), "bit {} of {}", at, message.len());
    }
}
