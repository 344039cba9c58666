//! What a server says until a session is ready.
#![no_main]

use fuzz::Input;
use fuzz::kept::Since;
use ha_routing::login::LoginWatcher;
use libfuzzer_sys::fuzz_target;

/// Longest body that is kept, and how much of it the key is at most: more than either is a leak.
const KEPT: usize = 2 * 8_192 + 256;
/// With more pieces than these their prefixes are not compared as well, which is quadratic.
const COMPARED: usize = 32;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let (whole, length) = watched(input.bytes);
    let before = Since::now();
    let mut cut = LoginWatcher::new();
    let mut passed = 0;
    for (number, piece) in input.pieces().enumerate() {
        let was_done = cut.is_done();
        let seen = cut.watch(piece);
        assert!(
            seen <= piece.len() && (seen == 0 || !was_done),
            "{seen} bytes belong to a login that is over"
        );
        assert!(seen == piece.len() || cut.is_done(), "bytes of the login are left");
        passed += seen;
        if number < COMPARED {
            let (prefix, length) = watched(&input.bytes[..passed]);
            assert_eq!((cut.stage(), cut.key(), passed), (prefix.stage(), prefix.key(), length));
        }
        before.assert_at_most(KEPT);
    }
    assert_eq!((cut.stage(), cut.key(), passed), (whole.stage(), whole.key(), length));
    if cut.is_done() {
        // The key and an SQLSTATE.
        before.assert_at_most(256 + 5);
    }
    assert!(cut.key().is_none_or(|key| (4..=256).contains(&key.key.len())));
});

/// All at once; how many bytes belong to the login.
fn watched(bytes: &[u8]) -> (LoginWatcher, usize) {
    let mut watcher = LoginWatcher::new();
    let seen = watcher.watch(bytes);
    (watcher, seen)
}
