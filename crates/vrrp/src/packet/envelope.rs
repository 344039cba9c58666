//! The IP header around a message.

use std::net::IpAddr;

use super::{Discarded, need};
use crate::checksum::PROTOCOL;

/// Shortest header of IPv4, and the header of IPv6.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// What matters of an IP header.
pub(super) struct Envelope {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// TTL or hop limit.
    pub(super) ttl: u8,
}

/// Splits an IP packet into what matters of its header and its payload, cut at the length it states: short frames are
/// padded on Ethernet.
pub(super) fn open(packet: &[u8]) -> Result<(Envelope, &[u8]), Discarded> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => open_ipv4(packet),
        Some(6) => open_ipv6(packet),
        Some(_) => Err(Discarded::NotIp),
        None => Err(Discarded::Truncated { found: 0, needed: IPV4_HEADER }),
    }
}

fn open_ipv4(packet: &[u8]) -> Result<(Envelope, &[u8]), Discarded> {
    need(packet, IPV4_HEADER)?;
    let header_length = usize::from(packet[0] & 0x0f) * 4;
    if header_length < IPV4_HEADER {
        return Err(Discarded::NotIp);
    }
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    need(packet, total)?;
    let payload = packet
        .get(header_length..total)
        .ok_or(Discarded::Truncated { found: total, needed: header_length })?;
    // More fragments, or an offset.
    if u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
        return Err(Discarded::Fragment);
    }
    Ok((envelope(&packet[12..20], packet[9], packet[8])?, payload))
}

/// No extension header may stand in between: nothing that VRRP needs is in one, and a fragment has one.
fn open_ipv6(packet: &[u8]) -> Result<(Envelope, &[u8]), Discarded> {
    need(packet, IPV6_HEADER)?;
    let end = IPV6_HEADER + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    need(packet, end)?;
    Ok((envelope(&packet[8..IPV6_HEADER], packet[6], packet[7])?, &packet[IPV6_HEADER..end]))
}

/// From both addresses, which stand side by side in either header.
fn envelope(addresses: &[u8], protocol: u8, ttl: u8) -> Result<Envelope, Discarded> {
    if protocol != PROTOCOL {
        return Err(Discarded::Protocol(protocol));
    }
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let (source, destination) = address(source).zip(address(destination)).ok_or(Discarded::NotIp)?;
    Ok(Envelope { source, destination, ttl })
}

/// An address from its 4 or 16 bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
