//! The first bytes of clients and servers, byte by byte.

use ha_routing::login::{LoginStage, LoginWatcher};
use ha_routing::startup_packet::{
    LONGEST, Opening, OpeningError, OpeningReader, Replication, StartupInfo, with_client,
};

const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
const GSS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x30];

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).expect("a short body");
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in parameters {
        body.extend_from_slice(key.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(3 << 16 | u32::from(minor), &body)
}

fn cancel(key: &[u8]) -> Vec<u8> {
    packet(80_877_102, &[&4_711_u32.to_be_bytes(), key].concat())
}

/// Reads one packet from bytes that come in pieces of this size; what follows it must be left alone.
fn read(bytes: &[u8], piece: usize) -> Result<(Opening, usize), OpeningError> {
    let mut reader = OpeningReader::new();
    read_with(&mut reader, bytes, piece)
}

fn read_with(
    reader: &mut OpeningReader,
    bytes: &[u8],
    piece: usize,
) -> Result<(Opening, usize), OpeningError> {
    let mut consumed = 0;
    for _ in 0..=bytes.len() {
        let end = bytes.len().min(consumed + piece);
        let (taken, opening) = reader.push(&bytes[consumed..end])?;
        consumed += taken;
        if let Some(opening) = opening {
            return Ok((opening, consumed));
        }
        assert_eq!(consumed, end, "bytes of an unfinished packet are all taken");
    }
    panic!("nothing came of {} bytes", bytes.len());
}

/// The same result whatever the pieces, and never a byte more than the packet.
fn read_in_all_pieces(packet: &[u8]) -> Opening {
    let stuffed = [packet, b"\x16more"].concat();
    let (whole, consumed) = read(&stuffed, stuffed.len()).expect("a good packet");
    assert_eq!(consumed, packet.len(), "what follows the packet is not consumed");
    for piece in 1..packet.len().min(40) {
        assert_eq!(
            read(&stuffed, piece).expect("a good packet"),
            (whole.clone(), packet.len()),
            "pieces of {piece}"
        );
    }
    whole
}

#[test]
fn nothing_can_be_encrypted_twice() {
    for request in [SSL, GSS] {
        let error = read_with(&mut OpeningReader::encrypted(), &request, 8).expect_err("inside TLS");
        assert!(matches!(error, OpeningError::Malformed { .. }), "{error}");
    }
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1];
    let error = read_with(&mut OpeningReader::encrypted(), &hello, 8).expect_err("TLS inside TLS");
    assert!(matches!(error, OpeningError::TooLong { .. }), "{error}");
    let login = startup(0, &[("user", "alice")]);
    let (opening, consumed) = read_with(&mut OpeningReader::encrypted(), &login, 3).expect("a login");
    assert!(matches!(opening, Opening::Startup(_)) && consumed == login.len());
}

fn info(bytes: &[u8]) -> StartupInfo {
    match read_in_all_pieces(bytes) {
        Opening::Startup(info) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_is_understood_and_its_packet_kept_byte_by_byte() {
    // psql 15: protocol 3.0.
    let bytes: &[u8] = b"\x00\x00\x00\x4B\x00\x03\x00\x00user\0app\0database\0shop\0application_name\0psql\0\
                         client_encoding\0UTF8\0\0";
    assert_eq!(bytes.len(), 0x4B);
    let found = info(bytes);
    assert_eq!(
        found,
        StartupInfo {
            user: "app".to_owned(),
            database: "shop".to_owned(),
            application_name: "psql".to_owned(),
            replication: Replication::None,
            protocol: (3, 0),
            length: 0x4B,
            names_synchronous_commit: false,
        }
    );
    let mut reader = OpeningReader::new();
    for byte in bytes {
        assert_eq!(reader.packet(), b"", "no packet before it is complete");
        reader.push(&[*byte]).unwrap();
    }
    assert_eq!(reader.packet(), bytes);
    assert_eq!(reader.into_packet(), bytes);
}

#[test]
fn any_minor_version_of_protocol_3_passes_and_options_with_it() {
    for minor in [0, 2, 9_999] {
        let bytes = startup(minor, &[("user", "app"), ("_pq_.command_tag", "1"), ("options", "-c a=b")]);
        assert_eq!(info(&bytes).protocol, (3, minor));
    }
    assert_eq!(startup(9_999, &[])[4..8], 206_607_u32.to_be_bytes());
}

#[test]
fn a_database_is_named_after_the_user_unless_given() {
    assert_eq!(info(&startup(0, &[("user", "app")])).database, "app");
    assert_eq!(info(&startup(0, &[("user", "app"), ("database", "")])).database, "app");
}

#[test]
fn replication_is_told_from_sessions() {
    for (value, expected) in [
        ("true", Replication::Physical),
        ("1", Replication::Physical),
        ("ON", Replication::Physical),
        ("database", Replication::Logical),
        ("false", Replication::None),
        ("off", Replication::None),
        ("0", Replication::None),
    ] {
        let bytes = startup(0, &[("user", "standby"), ("replication", value)]);
        assert_eq!(info(&bytes).replication, expected, "{value}");
    }
}

#[test]
fn names_that_are_no_utf8_do_not_hurt() {
    let bytes = packet(196_608, b"user\0m\xFCller\0\0");
    assert_eq!(info(&bytes).user, "m\u{FFFD}ller");
}

#[test]
fn requests_for_encryption_are_exactly_eight_bytes() {
    assert_eq!(read_in_all_pieces(&SSL), Opening::SslRequest);
    assert_eq!(read_in_all_pieces(&GSS), Opening::GssRequest);
    for code in [80_877_103, 80_877_104] {
        assert!(matches!(read(&packet(code, b"x"), 100), Err(OpeningError::Malformed { .. })));
    }
}

#[test]
fn gss_then_ssl_then_login_on_one_connection() {
    let login = startup(0, &[("user", "app")]);
    let bytes = [&GSS[..], &SSL, &login].concat();
    for piece in 1..bytes.len() {
        let mut reader = OpeningReader::new();
        let (first, a) = read_with(&mut reader, &bytes, piece).unwrap();
        let (second, b) = read_with(&mut reader, &bytes[a..], piece).unwrap();
        let (third, c) = read_with(&mut reader, &bytes[a + b..], piece).unwrap();
        assert_eq!((first, second), (Opening::GssRequest, Opening::SslRequest));
        assert!(matches!(third, Opening::Startup(_)));
        assert_eq!(a + b + c, bytes.len());
        assert_eq!(reader.packet(), login);
    }
}

#[test]
fn the_same_request_for_encryption_twice_is_refused() {
    for request in [SSL, GSS] {
        let mut reader = OpeningReader::new();
        reader.push(&request).unwrap();
        assert!(matches!(reader.push(&request), Err(OpeningError::Malformed { .. })));
    }
}

#[test]
fn tls_from_the_first_byte_is_left_for_the_handshake() {
    let mut reader = OpeningReader::new();
    assert_eq!(reader.push(&[0x16, 3, 1, 2, 0]).unwrap(), (0, Some(Opening::DirectTls)));
    assert_eq!(reader.push(&[0x16]).unwrap(), (0, Some(Opening::DirectTls)));
    // After a request that was answered, the handshake follows where the client agreed; it is not ours to read.
    let mut reader = OpeningReader::new();
    reader.push(&SSL).unwrap();
    assert_eq!(reader.push(&[0x16, 3, 1]).unwrap(), (0, Some(Opening::DirectTls)));
}

#[test]
fn cancel_keys_have_4_to_256_bytes() {
    for length in 4..=256 {
        let key: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let bytes = cancel(&key);
        let Opening::Cancel(request) = read_in_all_pieces(&bytes) else { panic!("no cancel request") };
        assert_eq!((request.pid, request.key.as_slice()), (4_711, key.as_slice()));
        assert_eq!(request.to_bytes().unwrap(), bytes, "it is passed on as it came");
    }
    for length in [0, 1, 3, 257, 1_000] {
        let refused = read(&cancel(&vec![7; length]), 5_000);
        assert!(matches!(refused, Err(OpeningError::Malformed { .. })), "{length}");
    }
    assert!(matches!(read(&packet(80_877_102, b""), 8), Err(OpeningError::Malformed { .. })));
}

#[test]
fn hostile_lengths_are_refused_by_their_four_bytes() {
    for length in [0_u32, 1, 4, 7] {
        let refused = OpeningReader::new().push(&length.to_be_bytes());
        assert!(matches!(refused, Err(OpeningError::Malformed { .. })), "{length}");
    }
    for length in [10_001, 0x0001_0000, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
        let refused = OpeningReader::new().push(&length.to_be_bytes());
        assert_eq!(refused, Err(OpeningError::TooLong { length }));
    }
    // HTTP and garbage look like enormous lengths.
    assert!(matches!(OpeningReader::new().push(b"GET / HTTP/1.1"), Err(OpeningError::TooLong { .. })));
}

#[test]
fn the_longest_packet_is_ten_thousand_bytes() {
    let name = "x".repeat(LONGEST - 8 - "user\0\0\0".len());
    let bytes = startup(0, &[("user", &name)]);
    assert_eq!(bytes.len(), LONGEST);
    assert_eq!(info(&bytes).user, name);
    let longer = startup(0, &[("user", &format!("{name}x"))]);
    assert_eq!(read(&longer, 9), Err(OpeningError::TooLong { length: 10_001 }));
}

#[test]
fn logins_that_do_not_follow_the_protocol_are_refused() {
    let malformed: [&[u8]; 5] = [b"", b"user", b"user\0app", b"user\0app\0", b"user\0app\0\0trailing"];
    for body in malformed {
        let refused = read(&packet(196_608, body), 100);
        assert!(matches!(refused, Err(OpeningError::Malformed { .. })), "{body:?}: {refused:?}");
    }
    assert_eq!(read(&startup(0, &[]), 100), Err(OpeningError::NoUser));
    assert_eq!(read(&startup(0, &[("user", "")]), 100), Err(OpeningError::NoUser));
    let old = read(&packet(2 << 16, &[0; 284]), 100);
    assert_eq!(old, Err(OpeningError::Unsupported { major: 2, minor: 0 }));
    let refusals = [
        (OpeningError::TooLong { length: 10_001 }, "08P01"),
        (OpeningError::Malformed { what: "x" }, "08P01"),
        (OpeningError::Unsupported { major: 2, minor: 0 }, "0A000"),
        (OpeningError::NoUser, "28000"),
    ];
    for (error, sqlstate) in refusals {
        assert_eq!(error.refusal().sqlstate, sqlstate);
    }
}

#[test]
fn wanted_never_reaches_past_the_packet() {
    let bytes = startup(0, &[("user", "app"), ("database", "shop")]);
    let stream = [&SSL[..], &bytes, b"Q"].concat();
    let mut reader = OpeningReader::new();
    let (mut at, mut found) = (0, Vec::new());
    while found.len() < 2 {
        let wanted = reader.wanted();
        assert!(wanted > 0);
        let (taken, opening) = reader.push(&stream[at..at + wanted]).unwrap();
        assert_eq!(taken, wanted, "all that was read belongs to the packet");
        at += taken;
        found.extend(opening);
    }
    assert_eq!(&stream[at..], b"Q");
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + body.len()).expect("a short body");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// What PostgreSQL sends in a login with SCRAM, up to the first ReadyForQuery.
fn login(key: &[u8]) -> Vec<u8> {
    [
        message(b'v', b"\0\0\0\0\0\0\0\0"),
        message(b'R', b"\0\0\0\x0ASCRAM-SHA-256\0\0"),
        message(b'R', b"\0\0\0\x0Br=..,s=..,i=4096"),
        message(b'R', b"\0\0\0\x0Cv=.."),
        message(b'R', b"\0\0\0\0"),
        message(b'S', b"server_version\x0017.6\0"),
        message(b'N', b"SNOTICE\0C00000\0Mhello\0\0"),
        message(b'K', &[&4_711_u32.to_be_bytes(), key].concat()),
        message(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn a_login_is_watched_to_its_end_and_not_further() {
    for key_length in [4, 32, 256] {
        let key = vec![0x5A; key_length];
        let bytes = login(&key);
        let stream = [bytes.as_slice(), &message(b'T', b"rows")].concat();
        for piece in 1..stream.len() {
            let mut watcher = LoginWatcher::new();
            let mut seen = 0;
            for part in stream.chunks(piece) {
                seen += watcher.watch(part);
            }
            assert_eq!((watcher.stage(), seen), (&LoginStage::Ready, bytes.len()), "pieces of {piece}");
            let found = watcher.key().unwrap();
            assert_eq!((found.pid, &found.key), (4_711, &key));
        }
    }
}

#[test]
fn a_refused_login_gives_its_sqlstate() {
    let error = message(b'E', b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
    for piece in 1..=error.len() {
        let mut watcher = LoginWatcher::new();
        for part in error.chunks(piece) {
            watcher.watch(part);
        }
        let refused = LoginStage::Refused { sqlstate: "57P03".to_owned(), authenticated: false };
        assert_eq!(watcher.stage(), &refused);
    }
    let mut watcher = LoginWatcher::new();
    watcher.watch(&message(b'R', b"\0\0\0\0"));
    assert_eq!(watcher.stage(), &LoginStage::Preparing);
    watcher.watch(&message(b'E', b"SFATAL\0C3D000\0Mno such database\0\0"));
    assert_eq!(watcher.stage(), &LoginStage::Refused { sqlstate: "3D000".to_owned(), authenticated: true });
    assert!(watcher.key().is_none());
}

#[test]
fn what_is_no_login_is_passed_on_unread() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request"[..],
        b"\0\0\0\0\0\0",
        b"\x01\0\0\0\x04",
        b"R\0\0\0\x03",
        b"R\xFF\xFF\xFF\xFF",
    ] {
        let mut watcher = LoginWatcher::new();
        watcher.watch(bytes);
        assert_eq!(watcher.stage(), &LoginStage::Unreadable, "{bytes:?}");
        assert!(watcher.is_done());
        assert_eq!(watcher.watch(b"more"), 0);
    }
    // An enormous error is an error, but nobody keeps it.
    let mut watcher = LoginWatcher::new();
    watcher.watch(&message(b'E', &vec![b'x'; 100_000]));
    let refused = LoginStage::Refused { sqlstate: String::new(), authenticated: false };
    assert_eq!(watcher.stage(), &refused);
}

#[test]
fn the_client_is_named_behind_the_application() {
    let client = "10.0.1.100:40000".parse().unwrap();
    let named = |more: &[(&str, &str)]| {
        let packet = startup(0, &[&[("user", "app"), ("database", "shop")], more].concat());
        let longer = with_client(&packet, &info(&packet), client);
        let seen = info(&longer);
        assert_eq!(seen.length, longer.len());
        assert_eq!((seen.user.as_str(), seen.database.as_str()), ("app", "shop"));
        seen.application_name
    };
    assert_eq!(named(&[]), "10.0.1.100:40000");
    assert_eq!(named(&[("application_name", "psql")]), "psql 10.0.1.100:40000");
    let name = named(&[("application_name", &"ü".repeat(100))]);
    assert!(name.len() <= 63 && name.ends_with("ü 10.0.1.100:40000"), "{name}");
    // No room: nothing of the packet is lost.
    let packet = startup(0, &[("user", "app"), ("options", &"x".repeat(9_950))]);
    assert_eq!(with_client(&packet, &info(&packet), client), packet);
}
