//! Requests about links.

use super::constants::*;
use super::message::ArpSettings;
use super::request::Request;

const IFLA_MTU: u16 = 4;
/// Of IPv6 in `IFLA_AF_SPEC`: whether the kernel makes link-local addresses, and that it makes none.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// Settings of IPv4 on a link (`IPV4_DEVCONF_*`).
const RP_FILTER: u16 = 8;
const ARP_FILTER: u16 = 13;

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

/// A macvlan in bridge mode: in private mode it would keep frames from its own hardware address, so those of the other
/// hosts' routers, from the interface below.
pub(super) fn new(device: NewDevice<'_>) -> Request {
    let mut body = Request::new_link();
    body.attribute(IFLA_LINK, &device.parent.to_ne_bytes());
    body.nested(IFLA_IFNAME, |name| {
        name.put(device.name.as_bytes());
        name.put(&[0]);
    });
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
    body
}

/// Makes a link answer ARP for its own addresses only, whoever asks, and take packets although answers leave by another. Loose
/// and not off: the kernel takes the higher of this and the value of all links, and 2 is above the strict 1.
pub(super) fn answering(index: u32) -> Request {
    inet(index, &[(RP_FILTER, 2), (ARP_FILTER, 0), (ARP_IGNORE, 1)])
}

/// Sets how a link answers and asks by ARP.
pub(super) fn arp(index: u32, settings: ArpSettings) -> Request {
    inet(index, &[(ARP_IGNORE, settings.ignore), (ARP_ANNOUNCE, settings.announce)])
}

fn inet(index: u32, settings: &[(u16, u32)]) -> Request {
    let mut body = Request::set_link(index, 0, 0);
    body.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET.into(), |inet| {
            inet.nested(IFLA_INET_CONF, |values| {
                for (number, value) in settings {
                    values.attribute(*number, &value.to_ne_bytes());
                }
            });
        });
    });
    body
}

/// Keeps the kernel from giving a link a link-local address: made from the hardware address, it would be the same on all hosts.
pub(super) fn without_link_local(index: u32) -> Request {
    let mut body = Request::set_link(index, 0, 0);
    body.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET6.into(), |inet6| {
            inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    body
}

pub(super) fn alias(index: u32, text: &str) -> Request {
    let mut body = Request::set_link(index, 0, 0);
    body.attribute(IFLA_IFALIAS, text.as_bytes());
    body
}

pub(super) fn up(index: u32, up: bool) -> Request {
    Request::set_link(index, if up { IFF_UP } else { 0 }, IFF_UP)
}

pub(super) fn old(index: u32) -> Request {
    Request::old_link(index)
}

#[cfg(test)]
mod tests {
    use super::super::message::{Link, Message};
    use super::super::request::tests::{read_back, words};
    use super::*;

    fn read(request: Request) -> Link {
        match read_back(request) {
            Message::Link(link) => link,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_that_we_make_is_read_back() {
        let hardware = [0, 0, 0x5E, 0, 1, 51];
        let link = read(new(NewDevice { name: "vrrp4-51", parent: 7, hardware, mtu: Some(1279) }));
        assert_eq!((link.name.as_str(), link.hardware, link.parent), ("vrrp4-51", Some(hardware), Some(7)));
        assert!(link.bridged_macvlan && !link.up);
        let link = read(alias(9, "text"));
        assert_eq!((link.index, link.alias.as_str(), link.bridged_macvlan), (9, "text", false));
        assert!(read(up(9, true)).up && !read(up(9, false)).up);
        assert_eq!(read_back(old(9)), Message::LinkGone(9));
    }

    /// As iproute2 sends `ip link set dev eth0 addrgenmode none`, and what lies within for IPv4.
    #[test]
    fn settings_byte_by_byte() {
        let length_and_kind = |length: u32, kind: u32| length | kind << 16;
        let six = [length_and_kind(16, 26), length_and_kind(12, 10), length_and_kind(5, 8), 1];
        assert_eq!(words(without_link_local(7)), [&[0, 7, 0, 0][..], &six].concat());
        let four = [length_and_kind(28, 26), length_and_kind(24, 2), length_and_kind(20, 1)];
        let values = [length_and_kind(8, 19), 1, length_and_kind(8, 18), 2];
        let settings = ArpSettings { ignore: 1, announce: 2 };
        assert_eq!(words(arp(7, settings)), [&[0, 7, 0, 0][..], &four, &values].concat());
    }
}
