//! What the kernel says about links and addresses. The kernel is no stranger, but its messages are long lists of attributes
//! that change from version to version.
#![no_main]

use fuzz::kept::Since;
use libfuzzer_sys::fuzz_target;

// The files themselves: vrrpd's library shows no parts, and is not built for this.
#[allow(dead_code, reason = "requests are not fuzzed")]
#[path = "../../../crates/vrrpd/src/netlink/constants.rs"]
mod constants;
#[allow(dead_code, unreachable_pub, reason = "not everything is looked at")]
#[path = "../../../crates/vrrpd/src/netlink/message.rs"]
mod message;
#[allow(dead_code, unreachable_pub, reason = "names are only read")]
#[path = "../../../crates/vrrpd/src/short_text.rs"]
mod short_text;

use message::Message;

fuzz_target!(|data: &[u8]| {
    let before = Since::now();
    let (mut parts, mut links) = (0, 0);
    for part in message::split(data) {
        parts += 1;
        if let Ok(Message::Link(link)) = part.open() {
            links += 1;
            assert!(link.name.as_str().len() <= 16, "{}", link.name);
        }
    }
    // Not even for a moment would be better still; that is shown where vrrpd runs.
    before.assert_at_most(0);
    assert!(links <= parts && parts <= data.len() / 16, "each has a header");
    let mut stuffed = data.to_vec();
    stuffed.extend([0; 16]);
    assert!(message::split(&stuffed).count() >= parts, "what follows takes nothing away");
});
