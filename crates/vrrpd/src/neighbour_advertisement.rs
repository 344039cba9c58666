//! The unsolicited neighbour advertisement (RFC 4861 section 7.2.6; RFC 9568 section 8.2.3), IPv6's gratuitous ARP.
//! Neighbours that know the address learn its new place; others ask when they need it.

use std::net::Ipv6Addr;

use vrrp::checksum::internet_checksum;

use crate::announcer::HardwareAddress;

pub(crate) const ETHERTYPE: u16 = 0x86DD;
/// Hardware address of the group of all nodes, ff02::1 (RFC 2464 section 7).
pub(crate) const ALL_NODES: HardwareAddress = [0x33, 0x33, 0, 0, 0, 1];

const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMP_V6: u8 = 58;
/// Receivers discard any other (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
/// Type of the message, and its flags: override what is known. Not the router flag, because a proxy forwards nothing.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// Option: hardware address of the target, in units of 8 bytes.
const TARGET_HARDWARE_ADDRESS: [u8; 2] = [2, 1];

const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const MESSAGE_LEN: usize = 32;
const FRAME_LEN: usize = ETHERNET_LEN + IPV6_LEN + MESSAGE_LEN;

/// One Ethernet frame, without its checksum. Its source is the floating address itself.
pub(crate) fn frame(own: HardwareAddress, address: Ipv6Addr) -> [u8; FRAME_LEN] {
    let mut message = [0; MESSAGE_LEN];
    (message[0], message[4]) = (NEIGHBOUR_ADVERTISEMENT, OVERRIDE);
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&TARGET_HARDWARE_ADDRESS);
    message[26..].copy_from_slice(&own);
    let length = [0, 0, 0, MESSAGE_LEN as u8];
    let sum = internet_checksum(&[
        &address.octets(),
        &ALL_NODES_ADDRESS.octets(),
        &length,
        &[0, 0, 0, ICMP_V6],
        &message,
    ]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&ALL_NODES);
    frame[6..12].copy_from_slice(&own);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    frame[14] = 6 << 4;
    frame[19..22].copy_from_slice(&[MESSAGE_LEN as u8, ICMP_V6, HOP_LIMIT]);
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES_ADDRESS.octets());
    frame[54..].copy_from_slice(&message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent by keepalived 2.2.7 for fd00::10 on an interface with this hardware address.
    #[test]
    fn byte_by_byte() {
        let frame = frame([0x02, 0, 0, 0, 0, 0x21], "fd00::10".parse().unwrap());
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 0x21, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            136, 0, 0x5a, 0x5d, 0x20, 0, 0, 0,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            2, 1, 0x02, 0, 0, 0, 0, 0x21,
        ];
        assert_eq!(frame, expected);
    }
}
