//! The few messages of rtnetlink(7) that are needed here.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, Emitable as _, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
    NlasIterator, Parseable as _,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
    CacheInfo,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// `struct ifinfomsg` before the attributes of a link.
const LINK_HEADER_LEN: usize = 16;
/// Attributes of a link.
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
/// Within `IFLA_LINKINFO`: what kind of link it is, and what only this kind has.
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const MACVLAN: &[u8] = b"macvlan";
pub(super) const IFLA_MACVLAN_MODE: u16 = 1;
pub(super) const MACVLAN_MODE_BRIDGE: u32 = 4;
/// Within `IFLA_AF_SPEC`, of IPv4: its settings by number (`IPV4_DEVCONF_*`), of which these are used. The kernel tells them
/// as an array that begins with number 1.
pub(super) const IFLA_INET_CONF: u16 = 1;
pub(super) const ARP_ANNOUNCE: u16 = 18;
pub(super) const ARP_IGNORE: u16 = 19;
/// Flags of a link: set by the administrator; has a carrier and is ready.
pub(super) const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 1 << 6;

/// Marks addresses as installed by us (`IFA_PROTO`, Linux 5.18; older kernels ignore it). Any value from 4 up is free
/// for user space.
const OURS: AddressProtocol = AddressProtocol::Other(112);

/// How an interface deals with ARP (`arp_ignore` and `arp_announce` of the kernel's ip-sysctl).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArpSettings {
    /// 1 = answers only for addresses that stand on it.
    pub(crate) ignore: u32,
    /// 2 = asks from none but its own.
    pub(crate) announce: u32,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The administrator wants it up.
    pub(crate) up: bool,
    /// It has a carrier.
    pub(crate) running: bool,
    /// Ethernet address, if it has one.
    pub(crate) hardware: Option<[u8; 6]>,
    /// The interface that it stands on.
    pub(crate) parent: Option<u32>,
    /// It is a macvlan in bridge mode.
    pub(crate) bridged_macvlan: bool,
    /// What somebody has written on it.
    pub(crate) alias: String,
    /// `None` where IPv4 is off.
    pub(crate) arp: Option<ArpSettings>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Neither secondary or temporary, tentative nor deprecated: stable enough to be known by.
    pub(crate) primary: bool,
    /// It looks as if it were there and is not: over IPv6 the kernel is still looking whether somebody else has it, or has
    /// found somebody (RFC 4862 section 5.4).
    pub(crate) doubtful: bool,
    /// Installed by a vrrpd.
    pub(crate) ours: bool,
    /// When it was installed or refreshed last, in hundredths of a second of `CLOCK_MONOTONIC`.
    pub(crate) refreshed: u32,
}

/// What a netlink message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// A link, new or changed.
    Link(Link),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// An address, new or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// Nothing that matters here.
    Other,
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            RTM_NEWLINK => Self::Link(link(payload)?),
            RTM_DELLINK => Self::LinkGone(link(payload)?.index),
            RTM_NEWADDR => address(payload)?.map_or(Self::Other, Self::Address),
            RTM_DELADDR => address(payload)?.map_or(Self::Other, Self::AddressGone),
            _ => Self::Other,
        })
    }
}

/// Reads a link by hand: of its dozens of attributes a few are needed, and one that cannot be read must not hide a link.
fn link(payload: &[u8]) -> Result<Link, DecodeError> {
    let word = |at: usize| {
        let bytes: Option<[u8; 4]> = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or_else(|| DecodeError::from("link header cut short"))
    };
    let (index, flags) = (word(4)?, word(8)?);
    let mut link =
        Link { index, up: flags & IFF_UP != 0, running: flags & IFF_RUNNING != 0, ..Link::default() };
    for attribute in NlasIterator::new(payload.get(LINK_HEADER_LEN..).unwrap_or_default()) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.hardware = value.try_into().ok(),
            IFLA_LINK => link.parent = number(value),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_LINKINFO => {
                let mode = within(value, IFLA_INFO_DATA).and_then(|data| within(data, IFLA_MACVLAN_MODE));
                let kind = within(value, IFLA_INFO_KIND).map(|kind| kind.strip_suffix(&[0]).unwrap_or(kind));
                link.bridged_macvlan =
                    kind == Some(MACVLAN) && mode.and_then(number) == Some(MACVLAN_MODE_BRIDGE);
            }
            IFLA_AF_SPEC => {
                let inet = within(value, u16::from(u8::from(AddressFamily::Inet)));
                link.arp = inet.and_then(|inet| within(inet, IFLA_INET_CONF)).and_then(arp_settings);
            }
            _ => {}
        }
    }
    Ok(link)
}

/// Up to a zero byte, if there is one.
fn text(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// The value of the first attribute of this kind within another.
fn within(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    /// Two bits of the kind say what the value is like.
    const KIND: u16 = 0x3FFF;
    loop {
        let field = |at: usize| Some(u16::from_ne_bytes(attributes.get(at..at + 2)?.try_into().ok()?));
        let (length, found) = (usize::from(field(0)?), field(2)? & KIND);
        let value = attributes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn arp_settings(values: &[u8]) -> Option<ArpSettings> {
    let setting = |which: u16| number(values.get((usize::from(which) - 1) * 4..)?);
    Some(ArpSettings { ignore: setting(ARP_IGNORE)?, announce: setting(ARP_ANNOUNCE)? })
}

fn address(payload: &[u8]) -> Result<Option<Address>, DecodeError> {
    let families = [AddressFamily::Inet, AddressFamily::Inet6].map(u8::from);
    if !payload.first().is_some_and(|family| families.contains(family)) {
        return Ok(None);
    }
    let message = AddressMessage::parse(payload)?;
    let (mut local, mut other, mut ours, mut refreshed) = (None, None, false, 0);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            // On a point-to-point link this is the other end; without IFA_LOCAL it is our own address.
            AddressAttribute::Address(address) => other = Some(address),
            AddressAttribute::Flags(all) => flags = all,
            AddressAttribute::Protocol(protocol) => ours = protocol == OURS,
            AddressAttribute::CacheInfo(times) => refreshed = times.tstamp,
            _ => {}
        }
    }
    let doubtful = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let unstable = AddressFlags::Secondary | AddressFlags::Deprecated | doubtful;
    Ok(local.or(other).map(|address| Address {
        interface: message.header.index,
        address,
        prefix: message.header.prefix_len,
        primary: !flags.intersects(unstable),
        doubtful: flags.intersects(doubtful),
        refreshed,
        ours,
    }))
}

/// What is asked of the kernel. The crate's own type for that knows every message there is, hundreds of kilobytes of it.
#[derive(Debug, Clone)]
pub(super) enum Request {
    AllLinks,
    AllAddresses,
    NewAddress(AddressMessage),
    OldAddress(AddressMessage),
    /// A link to be made, changed or removed, as bytes.
    NewLink(Vec<u8>),
    SetLink(Vec<u8>),
    OldLink(Vec<u8>),
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Self::AllLinks => RTM_GETLINK,
            Self::AllAddresses => RTM_GETADDR,
            Self::NewAddress(_) => RTM_NEWADDR,
            Self::OldAddress(_) => RTM_DELADDR,
            Self::NewLink(_) => RTM_NEWLINK,
            Self::SetLink(_) => RTM_SETLINK,
            Self::OldLink(_) => RTM_DELLINK,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::AllLinks => LINK_HEADER_LEN,
            Self::AllAddresses => all_addresses().buffer_len(),
            Self::NewAddress(message) | Self::OldAddress(message) => message.buffer_len(),
            Self::NewLink(bytes) | Self::SetLink(bytes) | Self::OldLink(bytes) => bytes.len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::AllLinks => buffer.fill(0), // any family, any index
            Self::AllAddresses => all_addresses().emit(buffer),
            Self::NewAddress(message) | Self::OldAddress(message) => message.emit(buffer),
            Self::NewLink(bytes) | Self::SetLink(bytes) | Self::OldLink(bytes) => {
                buffer.copy_from_slice(bytes);
            }
        }
    }
}

impl From<Request> for NetlinkPayload<Request> {
    fn from(request: Request) -> Self {
        Self::InnerMessage(request)
    }
}

fn all_addresses() -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Unspec;
    message
}

/// The prefix of an address that stands alone.
pub(crate) fn whole_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A request for a /32 or /128 that the kernel removes after so many seconds. Over IPv6 it is deprecated from the
/// beginning, so that nothing takes it for its source; and nobody is asked beforehand whether he has it: that would take
/// a second, and forbid the address as long as the former holder is slow.
pub(super) fn new_address(interface: u32, address: IpAddr, lifetime_seconds: u32) -> Request {
    let mut message = one_address(interface, address, whole_prefix(address));
    let mut lifetime = CacheInfo::default();
    (lifetime.ifa_valid, lifetime.ifa_preferred) = (lifetime_seconds, lifetime_seconds);
    if address.is_ipv6() {
        lifetime.ifa_preferred = 0;
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.extend([AddressAttribute::CacheInfo(lifetime), AddressAttribute::Protocol(OURS)]);
    Request::NewAddress(message)
}

pub(super) fn old_address(interface: u32, address: IpAddr, prefix: u8) -> Request {
    Request::OldAddress(one_address(interface, address, prefix))
}

fn one_address(interface: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address.into();
    message.header.prefix_len = prefix;
    message.header.flags = AddressHeaderFlags::empty();
    message.header.scope = AddressScope::Universe;
    message.header.index = interface;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// The messages in what one read gave; each is aligned to four bytes. Stops at one that is cut short.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let length = usize::try_from(u32::from_ne_bytes(length)).ok().filter(|length| *length >= 16)?;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkMessage;

    use super::*;

    fn bytes_of(message: Request) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn an_address_that_we_install_is_read_back_as_ours() {
        let (vip, vip_v6): (IpAddr, IpAddr) = ([10, 0, 1, 10].into(), "fd00::10".parse().unwrap());
        let mut bytes = bytes_of(new_address(7, vip, 3));
        bytes.extend(bytes_of(old_address(7, vip, 24)));
        bytes.extend(bytes_of(new_address(7, vip_v6, 3)));
        let read: Vec<Message> = split(&bytes)
            .map(|part| match NetlinkMessage::<Message>::deserialize(part).unwrap().payload {
                NetlinkPayload::InnerMessage(message) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        let address = Address {
            interface: 7,
            address: vip,
            prefix: 32,
            primary: true,
            doubtful: false,
            ours: true,
            refreshed: 0,
        };
        let gone = Address { prefix: 24, ours: false, ..address.clone() };
        let six = Address { address: vip_v6, prefix: 128, ..address.clone() };
        assert_eq!(read, [Message::Address(address), Message::AddressGone(gone), Message::Address(six)]);
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let whole = bytes_of(Request::AllLinks);
        for length in 0..whole.len() {
            assert_eq!(split(&whole[..length]).count(), 0, "{length}");
        }
        assert_eq!(split(&whole).count(), 1);
        assert_eq!(split(&[0; 64]).count(), 0, "a length of zero does not go round for ever");
        assert!(link(&[0; 15]).is_ok() && link(&[0; 11]).is_err());
    }
}
