//! Advertisements as Ethernet frames: with a hardware address of its own (RFC 9568 section 7.3) a virtual router cannot leave
//! the envelope to the kernel, which would send from the interface that has the source address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{PROTOCOL, internet_checksum};
use crate::packet::{TOS, TTL};

/// A hardware address of Ethernet.
pub type HardwareAddress = [u8; 6];

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Don't fragment: so the identification may be the same in all packets (RFC 6864 section 4.1).
const DONT_FRAGMENT: u8 = 0x40;

/// What the kernel calls an IP version in an Ethernet frame.
pub const fn ethertype(ipv6: bool) -> u16 {
    if ipv6 { 0x86DD } else { 0x0800 }
}

/// The hardware address that is the virtual router's and not a host's: the same on all hosts, so that neighbours need learn
/// nothing when the router moves.
pub const fn virtual_hardware(vrid: u8, ipv6: bool) -> HardwareAddress {
    [0, 0, 0x5E, 0, if ipv6 { 2 } else { 1 }, vrid]
}

/// Where frames to a multicast group go (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_hardware(group: IpAddr) -> HardwareAddress {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            [1, 0, 0x5E, a & 0x7F, b, c]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// All of a frame that stands before the advertisement: the headers of Ethernet and IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    bytes: [u8; ETHERNET_LEN + IPV6_LEN],
    length: usize,
}

impl Headers {
    /// For an advertisement of `length` bytes to a multicast group. `None` when source and group are not of one family.
    pub fn new(hardware: HardwareAddress, source: IpAddr, group: IpAddr, length: usize) -> Option<Self> {
        let mut bytes = [0; ETHERNET_LEN + IPV6_LEN];
        bytes[..6].copy_from_slice(&group_hardware(group));
        bytes[6..12].copy_from_slice(&hardware);
        bytes[12..ETHERNET_LEN].copy_from_slice(&ethertype(source.is_ipv6()).to_be_bytes());
        let ip = match (source, group) {
            (IpAddr::V4(source), IpAddr::V4(group)) => {
                let header = ipv4(source, group, length);
                bytes[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN].copy_from_slice(&header);
                IPV4_LEN
            }
            (IpAddr::V6(source), IpAddr::V6(group)) => {
                bytes[ETHERNET_LEN..].copy_from_slice(&ipv6(source, group, length));
                IPV6_LEN
            }
            _ => return None,
        };
        Some(Self { bytes, length: ETHERNET_LEN + ip })
    }

    /// As they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// An advertisement has 4096 bytes at most, so that its length fits into either header.
fn in_16_bits(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn ipv4(source: Ipv4Addr, group: Ipv4Addr, length: usize) -> [u8; IPV4_LEN] {
    let mut header = [0; IPV4_LEN];
    (header[0], header[1]) = (0x45, TOS);
    header[2..4].copy_from_slice(&in_16_bits(IPV4_LEN + length));
    (header[6], header[8], header[9]) = (DONT_FRAGMENT, TTL, PROTOCOL);
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&group.octets());
    let sum = internet_checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn ipv6(source: Ipv6Addr, group: Ipv6Addr, length: usize) -> [u8; IPV6_LEN] {
    let mut header = [0; IPV6_LEN];
    // Version 6, the traffic class across two bytes, flow label 0.
    (header[0], header[1]) = (0x60 | TOS >> 4, TOS << 4);
    header[4..6].copy_from_slice(&in_16_bits(length));
    (header[6], header[7]) = (PROTOCOL, TTL);
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&group.octets());
    header
}
