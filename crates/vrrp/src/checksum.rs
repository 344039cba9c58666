//! The Internet checksum (RFC 1071) of VRRP messages.

use std::net::IpAddr;

/// Number of VRRP among the protocols of IP.
pub const PROTOCOL: u8 = 112;

/// Offset of the checksum in the message.
const FIELD: usize = 6;

/// What the checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// The message alone: version 2, and version 3 by RFC 9568.
    Message,
    /// A pseudo header and the message: always over IPv6 (RFC 8200 section 8.1); over IPv4 version 3 as keepalived
    /// does it by default.
    PseudoHeader {
        /// Sender.
        source: IpAddr,
        /// Receiver.
        destination: IpAddr,
    },
}

/// The checksum that belongs into the message; its own field counts as zero, whatever it holds.
pub fn checksum(message: &[u8], coverage: Coverage) -> u16 {
    let mut sum = match coverage {
        Coverage::Message => 0,
        Coverage::PseudoHeader { source, destination } => {
            // A message is at most 8 + 16 * 255 + 8 bytes long, so its length fits into the 16 bits that the header of
            // IPv4 has for it, and into the low half of the 32 bits of IPv6.
            let length = u64::try_from(message.len()).unwrap_or(u64::MAX) & 0xffff;
            add_address(add_address(0, source), destination) + u64::from(PROTOCOL) + length
        }
    };
    sum = add(sum, message.get(..FIELD).unwrap_or(message));
    sum = add(sum, message.get(FIELD + 2..).unwrap_or(&[]));
    complement(sum)
}

/// The Internet checksum over these pieces, of which all but the last have an even length.
pub fn internet_checksum(pieces: &[&[u8]]) -> u16 {
    complement(pieces.iter().fold(0, |sum, piece| add(sum, piece)))
}

fn complement(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(u16::try_from(sum).unwrap_or(u16::MAX))
}

fn add_address(sum: u64, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => add(sum, &address.octets()),
        IpAddr::V6(address) => add(sum, &address.octets()),
    }
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
            let (source, destination) = (IpAddr::from(a), IpAddr::from(b));
            let found = checksum(&message, Coverage::Message);
            let with_pseudo = checksum(&message, Coverage::PseudoHeader { source, destination });
            message[6] = 0;
            message[7] = 0;
            prop_assert_eq!(found, naive(&message));
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            let pseudo = [&a[..], &b[..], &[0, PROTOCOL], &length, &message].concat();
            prop_assert_eq!(with_pseudo, naive(&pseudo));
        }

        #[test]
        fn agrees_with_the_naive_sum_over_ipv6(mut message in prop::collection::vec(any::<u8>(), 8..600), a: [u8; 16], b: [u8; 16]) {
            let (source, destination) = (IpAddr::from(a), IpAddr::from(b));
            let found = checksum(&message, Coverage::PseudoHeader { source, destination });
            message[6] = 0;
            message[7] = 0;
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let pseudo = [&a[..], &b[..], &length, &[0, 0, 0, PROTOCOL], &message].concat();
            prop_assert_eq!(found, naive(&pseudo));
        }
    }
}
