//! Advertisements as bytes: encoding the VRRP message, decoding a whole IPv4 packet.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::checksum::{self, Coverage, PROTOCOL};
use crate::version::Version;

/// The multicast group of VRRP over IPv4.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// TTL of every advertisement. One that arrives with less has passed a router, and VRRP never leaves its link.
pub const TTL: u8 = 255;

/// Type of service: internetwork control.
pub const TOS: u8 = 0xc0;

/// The only type of message there is.
const ADVERTISEMENT: u8 = 1;
const HEADER: usize = 8;
const AUTH_DATA: usize = 8;
/// keepalived's optional signature behind the message: its length and its type.
const TRAILER: usize = 28;
const TRAILER_TYPE: u8 = 1;
/// Shortest IPv4 header.
const IP_HEADER: usize = 20;

/// Authentication of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// None. Always so in version 3.
    None,
    /// A password in the clear, padded with zero bytes (RFC 2338). It prevents accidents, nothing else.
    Password([u8; 8]),
}

/// What an Active says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Version of the protocol.
    pub version: Version,
    /// Identifier of the virtual router.
    pub vrid: u8,
    /// Priority of the sender; 0 = it leaves.
    pub priority: u8,
    /// Interval in which it advertises: whole seconds in version 2, hundredths of a second in version 3.
    pub interval: Duration,
    /// The floating addresses, at most 255.
    pub addresses: Vec<Ipv4Addr>,
    /// Authentication.
    pub auth: Auth,
}

/// A packet that holds a complete advertisement with a right checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Sender by the IP header.
    pub source: Ipv4Addr,
    /// Where it was sent to.
    pub destination: Ipv4Addr,
    /// TTL as it arrived. Not judged here; only [`TTL`] is acceptable.
    pub ttl: u8,
    /// What the checksum covers: both forms are accepted here.
    pub coverage: Coverage,
    /// What it says.
    pub advertisement: Advertisement,
}

/// Who sent a packet that cannot be trusted in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Sender by the IP header.
    pub source: Ipv4Addr,
    /// TTL as it arrived.
    pub ttl: u8,
    /// Identifier that stands in the message.
    pub vrid: u8,
    /// Priority that stands in the message.
    pub priority: u8,
}

/// Why a packet is no advertisement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Discarded {
    /// Shorter than what it says or must be.
    #[error("truncated: {found} bytes, {needed} needed")]
    Truncated {
        /// Bytes there.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Not IPv4, or a header length below the minimum.
    #[error("no IPv4 header")]
    NotIpv4,
    /// A fragment; advertisements are never fragmented.
    #[error("a fragment")]
    Fragment,
    /// Another protocol than VRRP.
    #[error("protocol {0} instead of 112")]
    Protocol(u8),
    /// Neither version 2 nor 3.
    #[error("VRRP version {0}")]
    Version(u8),
    /// Not an advertisement.
    #[error("message type {0} instead of 1")]
    Type(u8),
    /// No address in it (RFC 9568, erratum 8299).
    #[error("no address in the advertisement")]
    NoAddress,
    /// Interval 0, which would make Backups fire at once (RFC 9568, erratum 8301).
    #[error("interval 0")]
    IntervalZero,
    /// Something behind the message that is no known trailer.
    #[error("{0} unknown bytes behind the message")]
    Trailing(usize),
    /// Wrong in both forms.
    #[error("checksum {found:#06x} instead of {expected:#06x}")]
    Checksum {
        /// Whom it seems to come from.
        heard: Heard,
        /// In the packet.
        found: u16,
        /// Over the message alone.
        expected: u16,
    },
    /// Version 2 with authentication other than none and password.
    #[error("authentication type {kind}")]
    AuthType {
        /// Whom it comes from; the checksum is right.
        heard: Heard,
        /// Number of the type.
        kind: u8,
    },
}

impl Discarded {
    /// Who was heard, where that much was legible.
    pub fn heard(&self) -> Option<Heard> {
        match self {
            Self::Checksum { heard, .. } | Self::AuthType { heard, .. } => Some(*heard),
            _ => None,
        }
    }
}

/// The VRRP message, from the version to the last address or the authentication data. An interval that does not fit
/// is brought into the range of the version; addresses beyond 255 are left out. Version 2 ignores
/// [`Coverage::PseudoHeader`], version 3 ignores the authentication.
pub fn encode(advertisement: &Advertisement, coverage: Coverage) -> Vec<u8> {
    let Advertisement { version, vrid, priority, addresses, .. } = advertisement;
    let addresses = &addresses[..addresses.len().min(usize::from(u8::MAX))];
    let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
    let units = advertisement.interval.as_nanos() / version.interval_unit().as_nanos();
    let units = u16::try_from(units).unwrap_or(u16::MAX).clamp(1, version.longest_interval());
    let [high, low] = units.to_be_bytes();
    let mut message = vec![version.number() << 4 | ADVERTISEMENT, *vrid, *priority, count];
    match (version, advertisement.auth) {
        (Version::V3, _) => message.extend([high, low]),
        (Version::V2, Auth::None) => message.extend([0, low]),
        (Version::V2, Auth::Password(_)) => message.extend([1, low]),
    }
    message.extend([0, 0]);
    message.extend(addresses.iter().flat_map(Ipv4Addr::octets));
    if *version == Version::V2 {
        match advertisement.auth {
            Auth::None => message.extend([0; AUTH_DATA]),
            Auth::Password(password) => message.extend(password),
        }
    }
    let coverage = if *version == Version::V2 { Coverage::Message } else { coverage };
    let sum = checksum::checksum(&message, coverage);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Reads a whole IPv4 packet as a raw socket hands it out. Padding behind the packet's own length is ignored.
///
/// # Errors
/// The first thing that is wrong with it, in the order of the bytes.
pub fn decode(ip_packet: &[u8]) -> Result<Received, Discarded> {
    let (header, message) = open_envelope(ip_packet)?;
    need(message, HEADER)?;
    let version = message[0] >> 4;
    let version = Version::from_number(version).ok_or(Discarded::Version(version))?;
    if message[0] & 0x0f != ADVERTISEMENT {
        return Err(Discarded::Type(message[0] & 0x0f));
    }
    let (vrid, priority, count) = (message[1], message[2], usize::from(message[3]));
    let length = HEADER + 4 * count + if version == Version::V2 { AUTH_DATA } else { 0 };
    need(message, length)?;
    let (message, rest) = message.split_at(length);
    if !rest.is_empty() && (rest.len() != TRAILER || rest[0] != TRAILER_TYPE) {
        return Err(Discarded::Trailing(rest.len()));
    }
    let heard = Heard { source: header.source, ttl: header.ttl, vrid, priority };
    let coverage = coverage_of(message, version, &header)
        .map_err(|(found, expected)| Discarded::Checksum { heard, found, expected })?;
    if count == 0 {
        return Err(Discarded::NoAddress);
    }
    let units = match version {
        Version::V2 => u16::from(message[5]),
        Version::V3 => u16::from_be_bytes([message[4] & 0x0f, message[5]]),
    };
    if units == 0 {
        return Err(Discarded::IntervalZero);
    }
    let (addresses, auth_data) = message[HEADER..].split_at(4 * count);
    let auth = match (version, message[4]) {
        (Version::V3, _) | (Version::V2, 0) => Auth::None,
        (Version::V2, 1) => {
            let mut password = [0; AUTH_DATA];
            password.copy_from_slice(auth_data);
            Auth::Password(password)
        }
        (Version::V2, kind) => return Err(Discarded::AuthType { heard, kind }),
    };
    let addresses = addresses.chunks_exact(4).map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3])).collect();
    let interval = version.interval_unit() * u32::from(units);
    let advertisement = Advertisement { version, vrid, priority, interval, addresses, auth };
    Ok(Received {
        source: header.source,
        destination: header.destination,
        ttl: header.ttl,
        coverage,
        advertisement,
    })
}

struct Envelope {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
}

/// Splits an IPv4 packet into what matters of its header and its payload, cut at the total length it states: short
/// frames are padded on Ethernet.
fn open_envelope(packet: &[u8]) -> Result<(Envelope, &[u8]), Discarded> {
    need(packet, IP_HEADER)?;
    let header_length = usize::from(packet[0] & 0x0f) * 4;
    if packet[0] >> 4 != 4 || header_length < IP_HEADER {
        return Err(Discarded::NotIpv4);
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
    if packet[9] != PROTOCOL {
        return Err(Discarded::Protocol(packet[9]));
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    Ok((Envelope { source: address(12), destination: address(16), ttl: packet[8] }, payload))
}

/// Which form of the checksum is in the message; otherwise what was found, and what the message alone would have.
fn coverage_of(message: &[u8], version: Version, header: &Envelope) -> Result<Coverage, (u16, u16)> {
    let found = u16::from_be_bytes([message[6], message[7]]);
    let expected = checksum::checksum(message, Coverage::Message);
    if found == expected {
        return Ok(Coverage::Message);
    }
    let pseudo = Coverage::PseudoHeader { source: header.source, destination: header.destination };
    if version == Version::V3 && found == checksum::checksum(message, pseudo) {
        return Ok(pseudo);
    }
    Err((found, expected))
}

fn need(bytes: &[u8], needed: usize) -> Result<(), Discarded> {
    let found = bytes.len();
    if found < needed { Err(Discarded::Truncated { found, needed }) } else { Ok(()) }
}
