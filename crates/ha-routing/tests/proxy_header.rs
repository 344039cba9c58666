//! Headers of the PROXY protocol, byte by byte: what sections 2.1 and 2.2 of its specification allow and forbid.

use std::net::SocketAddr;

use ha_routing::proxy_header::{HeaderError, HeaderReader, LONGEST, Origin, SIGNATURE};
use proptest::prelude::*;

/// Reads a header from a stream that gives at most `piece` bytes at a time; says how many bytes were read.
fn read(stream: &[u8], piece: usize) -> Result<(Option<Origin>, usize), HeaderError> {
    let mut reader = HeaderReader::new();
    let mut read = 0;
    while read < stream.len() {
        let wanted = reader.wanted();
        assert!(wanted > 0, "nothing is wanted of a header that is not complete");
        let end = stream.len().min(read + wanted.min(piece));
        let origin = reader.push(&stream[read..end])?;
        read = end;
        if origin.is_some() {
            return Ok((origin, read));
        }
    }
    Ok((None, read))
}

/// The origin of a whole header, the same whatever the pieces, and never a byte more than the header.
fn origin(header: &[u8]) -> Origin {
    let stream = [header, b"\0\0\0\x08session"].concat();
    for piece in [1, 2, 3, 5, 7, 11, 16, stream.len()] {
        let (origin, taken) =
            read(&stream, piece).unwrap_or_else(|error| panic!("pieces of {piece}: {error}"));
        assert_eq!(taken, header.len(), "bytes read of a header, in pieces of {piece}");
        if piece == stream.len() {
            return origin.expect("a whole header");
        }
    }
    unreachable!("the last piece is the whole stream")
}

fn refused(header: &[u8]) -> String {
    let stream = [header, &[b'x'; 200]].concat();
    let error = read(&stream, usize::MAX).expect_err("no header").to_string();
    for piece in [1, 2, 3] {
        // Which of two mistakes is met first depends on the pieces.
        read(&stream, piece).expect_err("no header");
    }
    error
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short");
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), body].concat()
}

fn client(text: &str) -> Origin {
    Origin::Client(text.parse().expect("an address with its port"))
}

const V4: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB];

#[test]
fn binary_header_of_tcp_names_the_client() {
    assert_eq!(origin(&v2(0x21, 0x11, &V4)), client("192.168.0.1:56324"));
    let mut v6 = [0; 36];
    (v6[0], v6[1], v6[15], v6[31], v6[33]) = (0x20, 0x01, 7, 8, 99);
    assert_eq!(origin(&v2(0x21, 0x21, &v6)), client("[2001::7]:99"));
    // Notes follow the addresses: PP2_TYPE_AUTHORITY, then one that nobody knows.
    let noted = [&V4[..], &[2, 0, 3], b"foo", &[0xEE, 0, 0]].concat();
    assert_eq!(origin(&v2(0x21, 0x11, &noted)), client("192.168.0.1:56324"));
}

#[test]
fn binary_header_without_a_client_leaves_the_peer() {
    assert_eq!(origin(&v2(0x20, 0x00, &[])), Origin::Peer);
    // What a LOCAL one says beyond that is skipped unread, its family too.
    assert_eq!(origin(&v2(0x20, 0x11, &V4)), Origin::Peer);
    assert_eq!(origin(&v2(0x20, 0xFF, &[1, 2, 3])), Origin::Peer);
    // UNSPEC, UDP, unix sockets.
    for family in [0x00, 0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32] {
        assert_eq!(origin(&v2(0x21, family, &[9; 216])), Origin::Peer, "{family:#x}");
    }
}

#[test]
fn malformed_binary_header_is_refused_at_its_first_wrong_byte() {
    let wrong = [
        (v2(0x11, 0x11, &V4), "version"),
        (v2(0x31, 0x11, &V4), "version"),
        (v2(0x22, 0x11, &V4), "command"),
        (v2(0x2F, 0x11, &V4), "command"),
        (v2(0x21, 0x41, &V4), "family"),
        (v2(0x21, 0x13, &V4), "family"),
        (v2(0x21, 0x11, &V4[..11]), "too short"),
        (v2(0x21, 0x21, &[0; 35]), "too short"),
        (v2(0x21, 0x11, &[]), "too short"),
        (v2(0x21, 0x11, &[0; LONGEST]), "more than 4096"),
    ];
    for (header, why) in wrong {
        let error = refused(&header);
        assert!(error.contains(why), "{error} instead of {why}");
    }
    let mut reader = HeaderReader::new();
    assert_eq!(reader.push(&SIGNATURE[..12]), Ok(None));
    reader.push(&[0x41]).expect_err("before the family is there");
    let mut torn = SIGNATURE;
    torn[11] = b'\r';
    assert_eq!(refused(&torn), HeaderError::Missing.to_string());
}

#[test]
fn line_of_text_names_the_client() {
    let of = |line: &str| origin(line.as_bytes());
    assert_eq!(of("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"), client("192.168.0.1:56324"));
    assert_eq!(
        of("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
        client("255.255.255.255:65535")
    );
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(of(&format!("PROXY TCP6 {full} {full} 0 65535\r\n")), client(&format!("[{full}]:0")));
    assert_eq!(of("PROXY TCP6 ::1 2001:DB8::2 1 2\r\n"), client("[::1]:1"));
    assert_eq!(of("PROXY UNKNOWN\r\n"), Origin::Peer);
    // The longest line, and one whose rest makes no sense.
    assert_eq!(of(&format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n")), Origin::Peer);
    assert_eq!(of("PROXY UNKNOWN who knows\r\n"), Origin::Peer);
}

#[test]
fn line_that_is_not_exactly_as_specified_is_refused() {
    let wrong = [
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r",
        "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 +5632 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 1 99999\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 127.0.0.1 127.0.0.1 1 2\r\n",
        "PROXY UDP4 127.0.0.1 127.0.0.1 1 2\r\n",
        "PROXY UNKNOWN a\rb\r\n",
        "PROXY TCP4\u{e9} 127.0.0.1 127.0.0.1 1 2\r\n",
        "PROXY \r\n1234567",
        "PROXYTCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        "proxy TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    ];
    for line in wrong {
        refused(line.as_bytes());
    }
    let error = refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes());
    assert!(error.contains("107"), "{error}");
}

#[test]
fn sessions_without_a_header_are_noticed_at_once() {
    for (beginning, bytes) in [
        ("a login", &b"\0\0\0\x29\0\x03\0\0user"[..]),
        ("TLS", b"\x16\x03\x01\x02\0\x01"),
        ("HTTP", b"GET / HTTP/1.0"),
    ] {
        let mut reader = HeaderReader::new();
        assert_eq!(reader.push(&bytes[..1]), Err(HeaderError::Missing), "{beginning}");
    }
}

/// What a load balancer would write.
fn written(version: u8, source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let ports = [source.port().to_be_bytes(), target.port().to_be_bytes()].concat();
    match (version, source, target) {
        (1, SocketAddr::V4(_), _) => {
            let (from, to) = (source.ip(), target.ip());
            format!("PROXY TCP4 {from} {to} {} {}\r\n", source.port(), target.port()).into_bytes()
        }
        (1, _, _) => {
            let (from, to) = (source.ip(), target.ip());
            format!("PROXY TCP6 {from} {to} {} {}\r\n", source.port(), target.port()).into_bytes()
        }
        (_, SocketAddr::V4(source), SocketAddr::V4(target)) => {
            v2(0x21, 0x11, &[&source.ip().octets()[..], &target.ip().octets(), &ports].concat())
        }
        (_, SocketAddr::V6(source), SocketAddr::V6(target)) => {
            v2(0x21, 0x21, &[&source.ip().octets()[..], &target.ip().octets(), &ports].concat())
        }
        _ => unreachable!("both of one family"),
    }
}

fn endpoints() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = (any::<([u8; 4], u16)>(), any::<([u8; 4], u16)>()).prop_map(|(a, b)| (a.into(), b.into()));
    let v6 = (any::<([u16; 8], u16)>(), any::<([u16; 8], u16)>()).prop_map(|(a, b)| (a.into(), b.into()));
    prop_oneof![v4, v6]
}

/// Noise, and headers with a few bytes changed.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    let changed = (1..=2_u8, endpoints(), prop::collection::vec((0..120_usize, any::<u8>()), 0..4));
    let changed = changed.prop_map(|(version, (source, target), changes)| {
        let mut header = written(version, source, target);
        for (at, byte) in changes {
            if let Some(place) = header.get_mut(at) {
                *place = byte;
            }
        }
        header
    });
    let begun = noise.clone().prop_map(|rest| [&SIGNATURE[..], &rest].concat());
    let line = noise.clone().prop_map(|rest| [b"PROXY ", &rest[..]].concat());
    prop_oneof![noise, changed, begun, line]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(version in 1..=2_u8, (source, target) in endpoints()) {
        prop_assert_eq!(origin(&written(version, source, target)), Origin::Client(source));
    }

    #[test]
    fn no_stream_panics_or_reads_differently_in_pieces(stream in streams(), piece in 1..20_usize) {
        let whole = read(&stream, usize::MAX);
        let pieces = read(&stream, piece);
        // Which of two mistakes is met first may depend on the pieces, whether there is one does not.
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
            (whole, pieces) => prop_assert!(whole.is_err() && pieces.is_err()),
        }
    }
}
