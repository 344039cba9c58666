//! Numbers of the kernel's: `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`. They are part of what it
//! promises its users and never change.

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;

/// Kinds of messages that say how a request went (netlink(7)).
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
/// Flags of every message.
pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
/// Flags of requests.
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr` before everything.
pub(super) const HEADER_LEN: usize = 16;
/// `struct ifinfomsg` before the attributes of a link.
pub(super) const LINK_HEADER_LEN: usize = 16;
/// `struct ifaddrmsg` before those of an address.
pub(super) const ADDRESS_HEADER_LEN: usize = 8;

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
pub(super) const IFF_RUNNING: u32 = 1 << 6;

/// Attributes of an address. On a point-to-point link the first is the other end; without the second it is our own.
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_CACHEINFO: u16 = 6;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_PROTO: u16 = 11;
/// Flags of an address. Of IPv6 the first means a temporary one.
pub(super) const IFA_F_SECONDARY: u32 = 0x01;
pub(super) const IFA_F_NODAD: u8 = 0x02;
pub(super) const IFA_F_DADFAILED: u32 = 0x08;
pub(super) const IFA_F_DEPRECATED: u32 = 0x20;
pub(super) const IFA_F_TENTATIVE: u32 = 0x40;

/// Marks addresses as installed by us (`IFA_PROTO`, Linux 5.18; older kernels ignore it). Any value from 4 up is free
/// for user space.
pub(super) const OURS: u8 = 112;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
