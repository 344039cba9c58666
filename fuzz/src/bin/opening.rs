//! The first packets of a client, in the clear and inside TLS.
#![no_main]

use fuzz::Input;
use fuzz::kept::Since;
use ha_routing::messages::MessageWalker;
use ha_routing::startup_packet::{LONGEST, Opening, OpeningError, OpeningReader};
use libfuzzer_sys::fuzz_target;

/// What came of a stream: each opening with the bytes read up to it.
type Outcome = (Vec<(usize, Opening)>, Option<OpeningError>);

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let whole = read(&input, std::iter::repeat(usize::MAX), false);
    assert_eq!(read(&input, input.sizes(), false), whole, "depends on the pieces");
    assert_eq!(read(&input, input.sizes(), true), whole, "depends on the pieces within what is wanted");
    assert_eq!(read(&input, std::iter::repeat(usize::MAX), true), whole, "depends on what is wanted");
    if let Some(error) = &whole.1 {
        let mut walker = MessageWalker::default();
        let mut messages = 0;
        walker.advance(&error.refusal().to_bytes(), |piece| {
            messages += usize::from(piece.is_last);
            false
        });
        assert!(walker.between_messages() && messages == 1, "the refusal is no message: {error}");
    }
});

/// Reads packets until one is more than a request for encryption. `obedient` reads no more than is wanted.
fn read(input: &Input<'_>, sizes: impl Iterator<Item = usize>, obedient: bool) -> Outcome {
    let mut reader = if input.mode & 1 == 0 { OpeningReader::new() } else { OpeningReader::encrypted() };
    let (mut openings, mut begin, mut at) = (Vec::new(), 0, 0);
    for size in sizes {
        let left = &input.bytes[at..];
        if left.is_empty() {
            break;
        }
        let wanted = reader.wanted();
        assert!((1..=LONGEST).contains(&wanted), "{wanted} bytes are wanted");
        let size = if obedient { size.min(wanted) } else { size }.min(left.len());
        let before = Since::now();
        let (taken, opening) = match reader.push(&left[..size]) {
            Ok(found) => found,
            Err(error) => return (openings, Some(error)),
        };
        at += taken;
        let Some(opening) = opening else {
            assert_eq!(taken, size, "bytes of an unfinished packet are left");
            before.assert_at_most(2 * LONGEST);
            continue;
        };
        let packet = &input.bytes[begin..at];
        if opening != Opening::DirectTls {
            assert_eq!(reader.packet(), packet, "the packet is not what was sent");
            assert!(!obedient || taken == size, "what is wanted reaches past the packet");
        }
        match &opening {
            Opening::SslRequest | Opening::GssRequest => assert!(input.mode & 1 == 0, "TLS inside TLS"),
            Opening::DirectTls => assert!(input.mode & 1 == 0 && taken == 0 && begin == at),
            Opening::Cancel(request) => assert_eq!(request.to_bytes().as_deref(), Some(packet)),
            Opening::Startup(login) => {
                assert!(login.length == packet.len() && !login.user.is_empty() && !login.database.is_empty());
                assert!(login.length <= LONGEST);
            }
        }
        let again = matches!(opening, Opening::SslRequest | Opening::GssRequest);
        openings.push((at, opening));
        begin = at;
        if !again {
            return (openings, None);
        }
    }
    (openings, None)
}
