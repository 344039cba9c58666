//! What the kernel says about links and addresses. The kernel is no stranger, but its messages are long lists of attributes
//! that change from version to version.
#![no_main]

use fuzz::kept::Since;
use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

// The file itself: vrrpd's library shows no parts, and is not built for this.
#[allow(dead_code, unreachable_pub, reason = "requests are not fuzzed")]
#[path = "../../../crates/vrrpd/src/netlink/message.rs"]
mod message;

use message::Message;

fuzz_target!(|data: &[u8]| {
    let before = Since::now();
    let mut at = 0;
    for part in message::split(data) {
        assert_eq!(part, &data[at..at + part.len()], "parts follow each other");
        at = (at + part.len()).next_multiple_of(4);
        let alone = read(part);
        assert_eq!(message::split(part).count(), 1, "a part is one message");
        let stuffed = [part, &[0; 3]].concat();
        assert_eq!(message::split(&stuffed).next(), Some(part), "what follows does not matter");
        if let Some(Message::Link(link)) = alone {
            assert!(link.name.len() <= 3 * part.len(), "{}", link.name);
        }
    }
    // At most one message is in hand at a time.
    before.assert_at_most(64 * data.len() + 4096);
});

fn read(part: &[u8]) -> Option<Message> {
    match NetlinkMessage::<Message>::deserialize(part).ok()?.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    }
}
