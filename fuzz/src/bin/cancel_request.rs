//! A request to cancel, written and read again.
#![no_main]

use fuzz::Input;
use ha_routing::cancel_request::CancelRequest;
use ha_routing::startup_packet::{Opening, OpeningReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let Some((pid, key)) = input.bytes.split_first_chunk::<4>() else { return };
    let request = CancelRequest { pid: u32::from_be_bytes(*pid), key: key.to_vec() };
    let Some(packet) = request.to_bytes() else {
        assert!(!(4..=256).contains(&key.len()), "a key of {} bytes has no packet", key.len());
        return;
    };
    let mut reader = if input.mode & 1 == 0 { OpeningReader::new() } else { OpeningReader::encrypted() };
    let mut left = packet.as_slice();
    for size in input.sizes() {
        let (taken, opening) = reader.push(&left[..size.min(left.len())]).expect("a good packet");
        left = &left[taken..];
        if let Some(opening) = opening {
            assert_eq!(opening, Opening::Cancel(request), "another request is read than was written");
            break;
        }
    }
    assert!(left.is_empty());
    assert_eq!(reader.into_packet(), packet);
});
