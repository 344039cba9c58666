//! The few messages of rtnetlink(7) that are needed here, written and read in place: the thread that advertises refreshes
//! its address with each advertisement and hears of that, and asks for no memory. Libraries for this make a message of
//! vectors of attributes of vectors.

use std::io;
use std::net::IpAddr;

use crate::short_text::{InterfaceName, ShortText};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// Kinds of messages that say how a request went (netlink(7)).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Flags of every message.
pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Flags of requests.
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr` before everything.
const HEADER_LEN: usize = 16;
/// `struct ifinfomsg` before the attributes of a link.
const LINK_HEADER_LEN: usize = 16;
/// `struct ifaddrmsg` before those of an address.
const ADDRESS_HEADER_LEN: usize = 8;
/// The longest request is a new device: three names or numbers and what is nested, or the longest alias.
const REQUEST_MAX: usize = 512;
/// What is written on a device of ours has fewer than 80 bytes.
const ALIAS_MAX: usize = 96;

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

/// Attributes of an address. On a point-to-point link the first is the other end; without the second it is our own.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
/// Flags of an address. Of IPv6 the first means a temporary one.
const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_NODAD: u8 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;

/// Marks addresses as installed by us (`IFA_PROTO`, Linux 5.18; older kernels ignore it). Any value from 4 up is free
/// for user space.
const OURS: u8 = 112;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// How an interface deals with ARP (`arp_ignore` and `arp_announce` of the kernel's ip-sysctl).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArpSettings {
    /// 1 = answers only for addresses that stand on it.
    pub(crate) ignore: u32,
    /// 2 = asks from none but its own.
    pub(crate) announce: u32,
}

/// A network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: InterfaceName,
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
    /// What somebody has written on it; the beginning, if it is long.
    pub(crate) alias: ShortText<ALIAS_MAX>,
    /// `None` where IPv4 is off.
    pub(crate) arp: Option<ArpSettings>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A link, new or changed.
    Link(Link),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// An address, new or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A request was done, or failed with the error of this number (errno(3)).
    Outcome(Result<(), i32>),
    /// The end of what was asked for.
    Done,
    /// Nothing that matters here.
    Other,
}

/// A message that is shorter than it says, or whose attributes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Envelope<'b> {
    kind: u16,
    flags: u16,
    /// Of the request that it answers.
    pub(super) sequence: u32,
    payload: &'b [u8],
}

impl Envelope<'_> {
    /// What it is a part of changed while it was read.
    pub(super) fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    pub(super) fn open(&self) -> Result<Message, Unreadable> {
        Ok(match self.kind {
            RTM_NEWLINK => Message::Link(link(self.payload)?),
            RTM_DELLINK => Message::LinkGone(link(self.payload)?.index),
            RTM_NEWADDR => address(self.payload)?.map_or(Message::Other, Message::Address),
            RTM_DELADDR => address(self.payload)?.map_or(Message::Other, Message::AddressGone),
            NLMSG_ERROR => {
                let negative = number(self.payload).ok_or(Unreadable)?.cast_signed();
                Message::Outcome(if negative == 0 { Ok(()) } else { Err(negative.saturating_neg()) })
            }
            NLMSG_DONE => Message::Done,
            _ => Message::Other,
        })
    }
}

/// The messages in what one read gave; each is aligned to four bytes. Stops at one that is cut short.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Envelope<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(bytes)?).ok().filter(|length| *length >= HEADER_LEN)?;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags) = (short(message, 4)?, short(message, 6)?);
        Some(Envelope { kind, flags, sequence: number(&message[8..])?, payload: &message[HEADER_LEN..] })
    })
}

/// Of a link's dozens of attributes a few are needed, and one that cannot be read must not hide a link.
fn link(payload: &[u8]) -> Result<Link, Unreadable> {
    let word = |at: usize| payload.get(at..).and_then(number).ok_or(Unreadable);
    let (index, flags) = (word(4)?, word(8)?);
    let mut link =
        Link { index, up: flags & IFF_UP != 0, running: flags & IFF_RUNNING != 0, ..Link::default() };
    for attribute in attributes(payload.get(LINK_HEADER_LEN..).unwrap_or_default()) {
        let (kind, value) = attribute?;
        match kind {
            IFLA_IFNAME => link.name = ShortText::read(value),
            IFLA_ADDRESS => link.hardware = value.try_into().ok(),
            IFLA_LINK => link.parent = number(value),
            IFLA_IFALIAS => link.alias = ShortText::read(value),
            IFLA_LINKINFO => {
                let mode = within(value, IFLA_INFO_DATA).and_then(|data| within(data, IFLA_MACVLAN_MODE));
                let kind = within(value, IFLA_INFO_KIND).map(|kind| kind.strip_suffix(&[0]).unwrap_or(kind));
                link.bridged_macvlan =
                    kind == Some(MACVLAN) && mode.and_then(number) == Some(MACVLAN_MODE_BRIDGE);
            }
            IFLA_AF_SPEC => {
                let inet = within(value, AF_INET.into());
                link.arp = inet.and_then(|inet| within(inet, IFLA_INET_CONF)).and_then(arp_settings);
            }
            _ => {}
        }
    }
    Ok(link)
}

fn arp_settings(values: &[u8]) -> Option<ArpSettings> {
    let setting = |which: u16| number(values.get((usize::from(which) - 1) * 4..)?);
    Some(ArpSettings { ignore: setting(ARP_IGNORE)?, announce: setting(ARP_ANNOUNCE)? })
}

/// `None` for one of another family.
fn address(payload: &[u8]) -> Result<Option<Address>, Unreadable> {
    let (header, rest) = payload.split_at_checked(ADDRESS_HEADER_LEN).ok_or(Unreadable)?;
    let [family, prefix, flags, ..] = *header else { return Err(Unreadable) };
    if ![AF_INET, AF_INET6].contains(&family) {
        return Ok(None);
    }
    let interface = number(&header[4..]).ok_or(Unreadable)?;
    let (mut local, mut other, mut ours, mut refreshed) = (None, None, false, 0);
    let mut flags = u32::from(flags);
    for attribute in attributes(rest) {
        let (kind, value) = attribute?;
        match kind {
            IFA_LOCAL => local = ip_address(value),
            IFA_ADDRESS => other = ip_address(value),
            IFA_FLAGS => flags = number(value).ok_or(Unreadable)?,
            IFA_PROTO => ours = value.first() == Some(&OURS),
            // `struct ifa_cacheinfo`: how long it is preferred and valid, when it was made, when it was updated.
            IFA_CACHEINFO => refreshed = value.get(12..).and_then(number).ok_or(Unreadable)?,
            _ => {}
        }
    }
    let doubtful = IFA_F_TENTATIVE | IFA_F_DADFAILED;
    let unstable = IFA_F_SECONDARY | IFA_F_DEPRECATED | doubtful;
    Ok(local.or(other).map(|address| Address {
        interface,
        address,
        prefix,
        primary: flags & unstable == 0,
        doubtful: flags & doubtful != 0,
        refreshed,
        ours,
    }))
}

fn ip_address(value: &[u8]) -> Option<IpAddr> {
    let four = value.try_into().map(|octets: [u8; 4]| IpAddr::from(octets));
    four.or_else(|_| value.try_into().map(|octets: [u8; 16]| IpAddr::from(octets))).ok()
}

/// The four bytes at the beginning.
fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Attributes by their kind. Ends at one that is cut short, and says so.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Unreadable>> {
    /// Two bits of the kind say what the value is like.
    const KIND: u16 = 0x3FFF;
    std::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let one = || {
            let (length, kind) = (usize::from(short(bytes, 0)?), short(bytes, 2)? & KIND);
            Some((length, kind, bytes.get(4..length)?))
        };
        let found = one();
        bytes = found.and_then(|(length, ..)| bytes.get(length.next_multiple_of(4)..)).unwrap_or_default();
        Some(found.map(|(_, kind, value)| (kind, value)).ok_or(Unreadable))
    })
}

/// The value of the first attribute of this kind within another.
fn within(value: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(value).map_while(Result::ok).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// What is asked of the kernel: a message that grows in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    bytes: [u8; REQUEST_MAX],
    length: usize,
    is_too_long: bool,
}

impl Request {
    fn new(kind: u16) -> Self {
        let mut request = Self { bytes: [0; REQUEST_MAX], length: HEADER_LEN, is_too_long: false };
        request.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        request
    }

    /// About the link with this index (0 = a new one, or all); of `mask` the bits in `flags` are set, the others cleared.
    fn about_link(kind: u16, index: u32, flags: u32, mask: u32) -> Self {
        let mut request = Self::new(kind);
        request.put(&[0; 4]); // any family, any type
        for word in [index, flags, mask] {
            request.put(&word.to_ne_bytes());
        }
        request
    }

    pub(super) fn all_links() -> Self {
        Self::about_link(RTM_GETLINK, 0, 0, 0)
    }

    pub(super) fn new_link() -> Self {
        Self::about_link(RTM_NEWLINK, 0, 0, 0)
    }

    pub(super) fn set_link(index: u32, flags: u32, mask: u32) -> Self {
        Self::about_link(RTM_SETLINK, index, flags, mask)
    }

    pub(super) fn old_link(index: u32) -> Self {
        Self::about_link(RTM_DELLINK, index, 0, 0)
    }

    fn about_address(kind: u16, header: [u8; 4], interface: u32) -> Self {
        let mut request = Self::new(kind);
        request.put(&header);
        request.put(&interface.to_ne_bytes());
        request
    }

    pub(super) fn all_addresses() -> Self {
        Self::about_address(RTM_GETADDR, [0; 4], 0)
    }

    /// For a /32 or /128 that the kernel removes after so many seconds. Over IPv6 it is deprecated from the beginning, so
    /// that nothing takes it for its source; and nobody is asked beforehand whether he has it: that would take a second,
    /// and forbid the address as long as the former holder is slow.
    pub(super) fn new_address(interface: u32, address: IpAddr, lifetime_secs: u32) -> Self {
        let (flags, preferred) = if address.is_ipv6() { (IFA_F_NODAD, 0) } else { (0, lifetime_secs) };
        let mut request = Self::one_address(RTM_NEWADDR, interface, address, whole_prefix(address), flags);
        request.nested(IFA_CACHEINFO, |times| {
            for word in [preferred, lifetime_secs, 0, 0] {
                times.put(&word.to_ne_bytes());
            }
        });
        request.attribute(IFA_PROTO, &[OURS]);
        request
    }

    pub(super) fn old_address(interface: u32, address: IpAddr, prefix: u8) -> Self {
        Self::one_address(RTM_DELADDR, interface, address, prefix, 0)
    }

    fn one_address(kind: u16, interface: u32, address: IpAddr, prefix: u8, flags: u8) -> Self {
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut request = Self::about_address(kind, [family, prefix, flags, 0], interface);
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            match address {
                IpAddr::V4(address) => request.attribute(kind, &address.octets()),
                IpAddr::V6(address) => request.attribute(kind, &address.octets()),
            }
        }
        request
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |request| request.put(value));
    }

    /// Attributes within an attribute.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.length;
        self.put(&[0, 0]);
        self.put(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.length - begin).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(begin..begin + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.put(&[0; 3][..self.length.next_multiple_of(4) - self.length]);
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.is_too_long = true,
        }
    }

    /// As it is sent, under this number.
    pub(super) fn finish(&mut self, flags: u16, sequence: u32) -> io::Result<&[u8]> {
        let length = u32::try_from(self.length).ok().filter(|_| !self.is_too_long);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(&self.bytes[..self.length])
    }
}

/// The prefix of an address that stands alone.
pub(crate) fn whole_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn bytes_of(mut request: Request) -> Vec<u8> {
        request.finish(NLM_F_REQUEST, 7).unwrap().to_vec()
    }

    /// What the kernel would read, were it as curious as we are.
    pub(in super::super) fn read_back(request: Request) -> Message {
        let mut bytes = bytes_of(request);
        if bytes[4..6] == RTM_SETLINK.to_ne_bytes() {
            bytes[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        }
        let all: Vec<Message> = split(&bytes).map(|one| one.open().unwrap()).collect();
        let [message] = all[..] else { panic!("{all:?}") };
        message
    }

    /// What follows the header of a request.
    pub(in super::super) fn words(request: Request) -> Vec<u32> {
        let bytes = bytes_of(request);
        bytes[HEADER_LEN..].chunks(4).map(|word| number(word).unwrap()).collect()
    }

    #[test]
    fn an_address_that_we_install_is_read_back_as_ours() {
        let (vip, vip_v6): (IpAddr, IpAddr) = ([10, 0, 1, 10].into(), "fd00::10".parse().unwrap());
        let address = Address {
            interface: 7,
            address: vip,
            prefix: 32,
            primary: true,
            doubtful: false,
            ours: true,
            refreshed: 0,
        };
        let gone = Address { prefix: 24, ours: false, ..address };
        let six = Address { address: vip_v6, prefix: 128, ..address };
        assert_eq!(read_back(Request::new_address(7, vip, 3)), Message::Address(address));
        assert_eq!(read_back(Request::old_address(7, vip, 24)), Message::AddressGone(gone));
        assert_eq!(read_back(Request::new_address(7, vip_v6, 3)), Message::Address(six));
    }

    /// As the kernel's `linux/netlink.h` and `linux/if_addr.h` have it.
    #[test]
    fn an_address_byte_by_byte() {
        let vip = u32::from_ne_bytes([10, 0, 1, 10]);
        let length_and_kind = |length: u32, kind: u32| length | kind << 16;
        let header = [u32::from_ne_bytes([2, 32, 0, 0]), 7];
        let twice = [length_and_kind(8, 2), vip, length_and_kind(8, 1), vip];
        let times = [length_and_kind(20, 6), 3, 3, 0, 0];
        let ours = [length_and_kind(5, 11), 112];
        if cfg!(target_endian = "little") {
            let all = [&header[..], &twice, &times, &ours].concat();
            assert_eq!(words(Request::new_address(7, vip.to_ne_bytes().into(), 3)), all);
        }
        let mut request = Request::all_addresses();
        let head = request.finish(NLM_F_REQUEST | NLM_F_DUMP, 5).unwrap();
        assert_eq!((number(head), short(head, 4), short(head, 6)), (Some(24), Some(22), Some(0x301)));
        assert_eq!((number(&head[8..]), number(&head[12..])), (Some(5), Some(0)));
    }

    #[test]
    fn answers_say_how_it_went() {
        let answer = |kind: u16, payload: &[u8]| {
            let mut request = Request::new(kind);
            request.put(payload);
            read_back(request)
        };
        assert_eq!(answer(NLMSG_ERROR, &[0; 20]), Message::Outcome(Ok(())));
        let refused = (-libc::EADDRNOTAVAIL).to_ne_bytes();
        assert_eq!(answer(NLMSG_ERROR, &refused), Message::Outcome(Err(libc::EADDRNOTAVAIL)));
        assert_eq!((answer(NLMSG_DONE, &[0; 4]), answer(99, &[])), (Message::Done, Message::Other));
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let whole = bytes_of(Request::all_links());
        for length in 0..whole.len() {
            assert_eq!(split(&whole[..length]).count(), 0, "{length}");
        }
        assert_eq!(split(&whole).count(), 1);
        assert_eq!(split(&[0; 64]).count(), 0, "a length of zero does not go round for ever");
        assert!(link(&[0; 15]).is_ok() && link(&[0; 11]) == Err(Unreadable));
        assert_eq!((address(&[2; 7]), address(&[9; 8])), (Err(Unreadable), Ok(None)));
        // An attribute that says less than its own header, or more than there is.
        for length in [0_u16, 3, 9] {
            let attribute = [length.to_ne_bytes(), IFLA_IFNAME.to_ne_bytes(), [0; 2], [0; 2]].concat();
            assert_eq!(link(&[&[0; LINK_HEADER_LEN][..], &attribute].concat()), Err(Unreadable), "{length}");
            assert_eq!(within(&attribute, IFLA_IFNAME), None);
        }
    }

    #[test]
    fn a_request_that_does_not_fit_is_not_sent() {
        let mut request = Request::new_link();
        request.attribute(IFLA_IFALIAS, &[b'x'; REQUEST_MAX]);
        assert_eq!(request.finish(0, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
