//! Requests about links, byte by byte like their reading: the type that the crate has for them knows every attribute there
//! is.

use super::message::{
    ARP_ANNOUNCE, ARP_IGNORE, ArpSettings, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFALIAS, IFLA_IFNAME,
    IFLA_INET_CONF, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MACVLAN_MODE, MACVLAN,
    MACVLAN_MODE_BRIDGE,
};

const IFLA_MTU: u16 = 4;
/// Of IPv6 in `IFLA_AF_SPEC`: whether the kernel makes link-local addresses, and that it makes none.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// Settings of IPv4 on a link (`IPV4_DEVCONF_*`).
const RP_FILTER: u16 = 8;
const ARP_FILTER: u16 = 13;

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// A macvlan to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewDevice<'n> {
    pub(crate) name: &'n str,
    /// The interface below it.
    pub(crate) parent: u32,
    pub(crate) hardware: [u8; 6],
    /// `None` = that of the interface below.
    pub(crate) mtu: Option<u32>,
}

/// The header and attributes of a message about a link.
struct Body(Vec<u8>);

impl Body {
    /// About the link with this index (0 = a new one); of `mask` the bits in `flags` are set, the others cleared.
    fn new(index: u32, flags: u32, mask: u32) -> Self {
        let mut bytes = vec![0; 4]; // any family, any type
        for word in [index, flags, mask] {
            bytes.extend(word.to_ne_bytes());
        }
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nested(kind, |body| body.0.extend(value))
    }

    /// Attributes within an attribute.
    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let begin = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        // Names and numbers only: far from the 64 KiB that the field can say.
        let length = u16::try_from(self.0.len() - begin).unwrap_or(u16::MAX);
        self.0[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// A macvlan in bridge mode: in private mode it would keep frames from its own hardware address, so those of the other
/// hosts' routers, from the interface below.
pub(super) fn new(device: NewDevice<'_>) -> Vec<u8> {
    let mut body = Body::new(0, 0, 0);
    body.attribute(IFLA_LINK, &device.parent.to_ne_bytes());
    body.attribute(IFLA_IFNAME, &[device.name.as_bytes(), &[0]].concat());
    body.attribute(IFLA_ADDRESS, &device.hardware);
    if let Some(mtu) = device.mtu {
        body.attribute(IFLA_MTU, &mtu.to_ne_bytes());
    }
    body.nested(IFLA_LINKINFO, |info| {
        info.attribute(IFLA_INFO_KIND, MACVLAN);
        info.nested(IFLA_INFO_DATA, |data| {
            data.attribute(IFLA_MACVLAN_MODE, &MACVLAN_MODE_BRIDGE.to_ne_bytes());
        });
    });
    body.0
}

/// Makes a link answer ARP for its own addresses only, whoever asks, and take packets although answers leave by another. Loose
/// and not off: the kernel takes the higher of this and the value of all links, and 2 is above the strict 1.
pub(super) fn answering(index: u32) -> Vec<u8> {
    inet(index, &[(RP_FILTER, 2), (ARP_FILTER, 0), (ARP_IGNORE, 1)])
}

/// Sets how a link answers and asks by ARP.
pub(super) fn arp(index: u32, settings: ArpSettings) -> Vec<u8> {
    inet(index, &[(ARP_IGNORE, settings.ignore), (ARP_ANNOUNCE, settings.announce)])
}

fn inet(index: u32, settings: &[(u16, u32)]) -> Vec<u8> {
    let mut body = Body::new(index, 0, 0);
    body.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET, |inet| {
            inet.nested(IFLA_INET_CONF, |values| {
                for (number, value) in settings {
                    values.attribute(*number, &value.to_ne_bytes());
                }
            });
        });
    });
    body.0
}

/// Keeps the kernel from giving a link a link-local address: made from the hardware address, it would be the same on all hosts.
pub(super) fn without_link_local(index: u32) -> Vec<u8> {
    let mut body = Body::new(index, 0, 0);
    body.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET6, |inet6| {
            inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    body.0
}

pub(super) fn alias(index: u32, text: &str) -> Vec<u8> {
    let mut body = Body::new(index, 0, 0);
    body.attribute(IFLA_IFALIAS, text.as_bytes());
    body.0
}

pub(super) fn up(index: u32, up: bool) -> Vec<u8> {
    Body::new(index, if up { IFF_UP } else { 0 }, IFF_UP).0
}

pub(super) fn old(index: u32) -> Vec<u8> {
    Body::new(index, 0, 0).0
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkDeserializable as _, NetlinkHeader};

    use super::super::message::{Link, Message};
    use super::*;

    const RTM_NEWLINK: u16 = 16;

    fn read(bytes: &[u8]) -> Link {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWLINK;
        match Message::deserialize(&header, bytes).unwrap() {
            Message::Link(link) => link,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_that_we_make_is_read_back() {
        let hardware = [0, 0, 0x5E, 0, 1, 51];
        let bytes = new(NewDevice { name: "vrrp4-51", parent: 7, hardware, mtu: Some(1279) });
        let link = read(&bytes);
        assert_eq!((link.name.as_str(), link.hardware, link.parent), ("vrrp4-51", Some(hardware), Some(7)));
        assert!(link.bridged_macvlan && !link.up);
        assert_eq!(bytes.len() % 4, 0);
        let link = read(&alias(9, "text"));
        assert_eq!((link.index, link.alias.as_str(), link.bridged_macvlan), (9, "text", false));
        assert!(read(&up(9, true)).up && !read(&up(9, false)).up);
    }

    /// As iproute2 sends `ip link set dev eth0 addrgenmode none`, and what lies within for IPv4.
    #[test]
    fn settings_byte_by_byte() {
        let words = |bytes: &[u8]| {
            let words = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
            words.collect::<Vec<_>>()
        };
        let length_and_kind = |length: u32, kind: u32| length | kind << 16;
        let six = [length_and_kind(16, 26), length_and_kind(12, 10), length_and_kind(5, 8), 1];
        assert_eq!(words(&without_link_local(7)), [&[0, 7, 0, 0][..], &six].concat());
        let four = [length_and_kind(28, 26), length_and_kind(24, 2), length_and_kind(20, 1)];
        let values = [length_and_kind(8, 19), 1, length_and_kind(8, 18), 2];
        let settings = ArpSettings { ignore: 1, announce: 2 };
        assert_eq!(words(&arp(7, settings)), [&[0, 7, 0, 0][..], &four, &values].concat());
    }
}
