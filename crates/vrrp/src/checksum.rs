//! The Internet checksum (RFC 1071) of VRRP messages.

use std::net::Ipv4Addr;

/// Number of VRRP among the protocols of IP.
pub const PROTOCOL: u8 = 112;

/// Offset of the checksum in the message.
const FIELD: usize = 6;

/// What the checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// The message alone: version 2, and version 3 by RFC 9568.
    Message,
    /// An IPv4 pseudo header and the message: version 3 as keepalived does it by default.
    PseudoHeader {
        /// Sender.
        source: Ipv4Addr,
        /// Receiver.
        destination: Ipv4Addr,
    },
}

/// The checksum that belongs into the message; its own field counts as zero, whatever it holds.
pub fn checksum(message: &[u8], coverage: Coverage) -> u16 {
    let mut sum = match coverage {
        Coverage::Message => 0,
        Coverage::PseudoHeader { source, destination } => {
            // A message is at most 8 + 4 * 255 + 8 bytes long, so its length fits.
            let length = u64::try_from(message.len()).unwrap_or(u64::MAX) & 0xffff;
            add(add(0, &source.octets()), &destination.octets()) + u64::from(PROTOCOL) + length
        }
    };
    sum = add(sum, message.get(..FIELD).unwrap_or(message));
    sum = add(sum, message.get(FIELD + 2..).unwrap_or(&[]));
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(u16::try_from(sum).unwrap_or(u16::MAX))
}

/// Adds 16-bit words in network order; an odd last byte is the high half of its word.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(sum, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        sum + u64::from(u16::from_be_bytes([word[0], low]))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As slowly and as literally as the RFC puts it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for (index, byte) in bytes.iter().enumerate() {
            sum += u32::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        !(u16::try_from(sum).unwrap())
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_sum(mut message in prop::collection::vec(any::<u8>(), 8..600), a: [u8; 4], b: [u8; 4]) {
            let (source, destination) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            let found = checksum(&message, Coverage::Message);
            let with_pseudo = checksum(&message, Coverage::PseudoHeader { source, destination });
            message[6] = 0;
            message[7] = 0;
            prop_assert_eq!(found, naive(&message));
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            let pseudo = [&a[..], &b[..], &[0, PROTOCOL], &length, &message].concat();
            prop_assert_eq!(with_pseudo, naive(&pseudo));
        }
    }
}
