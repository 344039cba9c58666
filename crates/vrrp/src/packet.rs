//! Advertisements as bytes: encoding the VRRP message, decoding a whole IP packet.

mod envelope;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use crate::checksum::{self, Coverage};
use crate::signature::{SIGNATURE_LEN, Signature};
use crate::version::Version;

/// The multicast group of VRRP over IPv4.
pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));

/// The multicast group of VRRP over IPv6.
pub const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12));

/// The multicast group that a router with this address sends to.
pub fn group_of(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GROUP } else { GROUP_V6 }
}

/// TTL, or hop limit, of every advertisement. One that arrives with less has passed a router, and VRRP never leaves its link.
pub const TTL: u8 = 255;

/// Type of service, or traffic class: internetwork control.
pub const TOS: u8 = 0xc0;

/// The only type of message there is.
const ADVERTISEMENT: u8 = 1;
const HEADER: usize = 8;
const AUTH_DATA: usize = 8;

/// Addresses of one advertisement. Those of our own virtual routers take no memory of the heap: one, and over IPv6 the
/// link-local one before it.
pub type Addresses = SmallVec<[IpAddr; 2]>;

/// A message as it is sent, signature included. With no more addresses than [`Addresses`] has room for it takes no memory
/// of the heap.
pub type Message = SmallVec<[u8; HEADER + 2 * 16 + SIGNATURE_LEN]>;

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
    /// The floating addresses, all of one family, at most 255. Over IPv6 the first is link-local (RFC 9568 section
    /// 5.2.9).
    pub addresses: Addresses,
    /// Authentication.
    pub auth: Auth,
}

/// A packet that holds a complete advertisement with a right checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<'p> {
    /// Sender by the IP header.
    pub source: IpAddr,
    /// Where it was sent to.
    pub destination: IpAddr,
    /// TTL or hop limit as it arrived. Not judged here; only [`TTL`] is acceptable.
    pub ttl: u8,
    /// What the checksum covers: both forms are accepted here.
    pub coverage: Coverage,
    /// What it says.
    pub advertisement: Advertisement,
    /// The message, as it came.
    pub message: &'p [u8],
    /// The signature behind it, if there is one. Not judged here.
    pub signature: Option<Signature>,
}

/// Who sent a packet that cannot be trusted in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Sender by the IP header.
    pub source: IpAddr,
    /// TTL or hop limit as it arrived.
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
    /// Neither IPv4 nor IPv6, or a header length below the minimum.
    #[error("no IP header")]
    NotIp,
    /// A fragment; advertisements are never fragmented.
    #[error("a fragment")]
    Fragment,
    /// Another protocol than VRRP.
    #[error("protocol {0} instead of 112")]
    Protocol(u8),
    /// Neither version 2 nor 3, or 2 over IPv6.
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
        /// As the standard demands.
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
    /// Over IPv6, and the first address is not link-local (RFC 9568, erratum 8300).
    #[error("first address {first} is not link-local")]
    NoLinkLocal {
        /// Whom it comes from; the checksum is right.
        heard: Heard,
        /// The first address.
        first: Ipv6Addr,
    },
}

impl Discarded {
    /// Who was heard, where that much was legible.
    pub fn heard(&self) -> Option<Heard> {
        match self {
            Self::Checksum { heard, .. } | Self::AuthType { heard, .. } | Self::NoLinkLocal { heard, .. } => {
                Some(*heard)
            }
            _ => None,
        }
    }
}

/// The VRRP message, from the version to the last address or the authentication data. An interval that does not fit
/// is brought into the range of the version; addresses beyond 255 are left out. Version 2 ignores
/// [`Coverage::PseudoHeader`], version 3 ignores the authentication.
pub fn encode(advertisement: &Advertisement, coverage: Coverage) -> Message {
    let Advertisement { version, vrid, priority, addresses, .. } = advertisement;
    let addresses = &addresses[..addresses.len().min(usize::from(u8::MAX))];
    let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
    let units = advertisement.interval.as_nanos() / version.interval_unit().as_nanos();
    let units = u16::try_from(units).unwrap_or(u16::MAX).clamp(1, version.longest_interval());
    let [high, low] = units.to_be_bytes();
    let mut message: Message = smallvec![version.number() << 4 | ADVERTISEMENT, *vrid, *priority, count];
    match (version, advertisement.auth) {
        (Version::V3, _) => message.extend([high, low]),
        (Version::V2, Auth::None) => message.extend([0, low]),
        (Version::V2, Auth::Password(_)) => message.extend([1, low]),
    }
    message.extend([0, 0]);
    for address in addresses {
        match address {
            IpAddr::V4(address) => message.extend(address.octets()),
            IpAddr::V6(address) => message.extend(address.octets()),
        }
    }
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

/// Reads a whole IP packet, header first. Padding behind the packet's own length is ignored.
///
/// # Errors
/// The first thing that is wrong with it, in the order of the bytes.
pub fn decode(ip_packet: &[u8]) -> Result<Received<'_>, Discarded> {
    let (header, message) = envelope::open(ip_packet)?;
    need(message, HEADER)?;
    let version = message[0] >> 4;
    let version = Version::from_number(version)
        .filter(|version| header.source.is_ipv4() || *version == Version::V3)
        .ok_or(Discarded::Version(version))?;
    if message[0] & 0x0f != ADVERTISEMENT {
        return Err(Discarded::Type(message[0] & 0x0f));
    }
    let (vrid, priority, count) = (message[1], message[2], usize::from(message[3]));
    let size = if header.source.is_ipv4() { 4 } else { 16 };
    let length = HEADER + size * count + if version == Version::V2 { AUTH_DATA } else { 0 };
    need(message, length)?;
    let (message, rest) = message.split_at(length);
    let signature = Signature::read(rest);
    if signature.is_none() && !rest.is_empty() {
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
    let (addresses, auth_data) = message[HEADER..].split_at(size * count);
    let auth = match (version, message[4]) {
        (Version::V3, _) | (Version::V2, 0) => Auth::None,
        (Version::V2, 1) => {
            let mut password = [0; AUTH_DATA];
            password.copy_from_slice(auth_data);
            Auth::Password(password)
        }
        (Version::V2, kind) => return Err(Discarded::AuthType { heard, kind }),
    };
    let addresses: Addresses = addresses.chunks_exact(size).filter_map(envelope::address).collect();
    if let Some(IpAddr::V6(first)) = addresses.first().filter(|first| !is_link_local(**first)) {
        return Err(Discarded::NoLinkLocal { heard, first: *first });
    }
    let interval = version.interval_unit() * u32::from(units);
    let advertisement = Advertisement { version, vrid, priority, interval, addresses, auth };
    Ok(Received {
        source: header.source,
        destination: header.destination,
        ttl: header.ttl,
        coverage,
        advertisement,
        message,
        signature,
    })
}

/// Which form of the checksum is in the message; otherwise what was found, and what the standard demands.
fn coverage_of(
    message: &[u8],
    version: Version,
    header: &envelope::Envelope,
) -> Result<Coverage, (u16, u16)> {
    let found = u16::from_be_bytes([message[6], message[7]]);
    let pseudo = Coverage::PseudoHeader { source: header.source, destination: header.destination };
    let usual = if header.source.is_ipv4() { Coverage::Message } else { pseudo };
    let expected = checksum::checksum(message, usual);
    if found == expected {
        return Ok(usual);
    }
    if version == Version::V3 && found == checksum::checksum(message, pseudo) {
        return Ok(pseudo);
    }
    Err((found, expected))
}

/// Whether an address is link-local; those of IPv4 do not count.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn need(bytes: &[u8], needed: usize) -> Result<(), Discarded> {
    let found = bytes.len();
    if found < needed { Err(Discarded::Truncated { found, needed }) } else { Ok(()) }
}
