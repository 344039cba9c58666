//! The few messages of rtnetlink(7) that are needed here, read in place: the thread that advertises refreshes its address with
//! each advertisement, hears of that, and asks for no memory. Libraries for this make a message of vectors of attributes
//! of vectors.

use std::net::IpAddr;

use super::constants::*;
use crate::short_text::{InterfaceName, ShortText};

/// What is written on a device of ours has fewer than 80 bytes.
const ALIAS_MAX: usize = 96;

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
pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk()?))
}

pub(super) fn short(bytes: &[u8], at: usize) -> Option<u16> {
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

/// The prefix of an address that stands alone.
pub(crate) fn whole_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::super::request::tests::{bytes_of, read_back};
    use super::*;

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
}
