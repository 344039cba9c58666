//! The header of a load balancer.
#![no_main]

use fuzz::Input;
use fuzz::kept::Since;
use ha_routing::proxy_header::{HeaderError, HeaderReader, LONGEST, Origin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let whole = read(input.bytes, std::iter::repeat(usize::MAX));
    for cut in [read(input.bytes, input.sizes()), read(input.bytes, std::iter::repeat(1))] {
        match (&whole, &cut) {
            // Which of two mistakes is met first depends on the pieces.
            (Err(_), Err(_)) => {}
            _ => assert_eq!(whole, cut, "depends on the pieces"),
        }
    }
    if let Ok((Some(_), length)) = whole {
        let mut stuffed = input.bytes[..length].to_vec();
        stuffed.extend_from_slice(b"\r\n\0\0\0\x08");
        assert_eq!(read(&stuffed, input.sizes()), whole, "what follows the header matters");
    }
});

/// The origin, and how many bytes were read up to it.
fn read(bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Result<(Option<Origin>, usize), HeaderError> {
    let before = Since::now();
    let mut reader = HeaderReader::new();
    let mut at = 0;
    for size in sizes {
        if at == bytes.len() {
            break;
        }
        let wanted = reader.wanted();
        assert!((1..=LONGEST).contains(&wanted), "{wanted} bytes are wanted");
        let end = bytes.len().min(at + size.min(wanted));
        let origin = reader.push(&bytes[at..end])?;
        at = end;
        before.assert_at_most(2 * LONGEST);
        if origin.is_some() {
            return Ok((origin, at));
        }
        assert!(!reader.is_empty());
    }
    Ok((None, at))
}
