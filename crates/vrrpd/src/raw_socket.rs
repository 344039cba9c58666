//! Advertisements on the wire: IP protocol 112 on one interface (RFC 9568 section 5.1), over IPv4 or IPv6.
//!
//! Checksums over IPv6 are ours, not the kernel's (`IPV6_CHECKSUM`): it would drop a packet with a wrong one without a
//! word, and a peer that is heard but not understood must be noticed.

mod ipv6;

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};
use vrrp::packet::{TOS, TTL, group_of};

/// IP protocol number of VRRP.
const VRRP: i32 = 112;
/// The largest advertisement is 40 + 8 + 255 * 16 bytes over IPv6, and less over IPv4; anything longer is cut and then
/// discarded.
pub(crate) const PACKET_MAX: usize = 4608;
/// BPF: return a constant (`BPF_RET | BPF_K`).
const RETURN: u16 = 0x06;

/// Gives whole IP packets of protocol 112.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: Socket,
    ipv6: bool,
}

impl Receiver {
    /// Listens to the group of the family of `own`, on this interface only.
    pub(crate) fn of_group(name: &str, index: u32, own: IpAddr) -> io::Result<Self> {
        let socket = open(name, own)?;
        let group = group_of(own);
        // Else the kernel would also deliver groups that other sockets have joined. By index: an address may stand on
        // several interfaces. The membership ends with the interface.
        match group {
            IpAddr::V4(group) => {
                socket.set_multicast_all_v4(false)?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => {
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&group, index)?;
            }
        }
        socket.bind(&address(group, index))?;
        Self::with(socket, own)
    }

    /// Listens to what is sent to `own`, on this interface only.
    pub(crate) fn of_address(name: &str, index: u32, own: IpAddr) -> io::Result<Self> {
        let socket = open(name, own)?;
        socket.bind(&address(own, index))?;
        Self::with(socket, own)
    }

    fn with(socket: Socket, own: IpAddr) -> io::Result<Self> {
        let ipv6 = own.is_ipv6();
        if ipv6 {
            ipv6::ask_for_headers(&socket)?;
        }
        Ok(Self { socket, ipv6 })
    }

    /// The next packet; `None` when there is none waiting.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8; PACKET_MAX]) -> io::Result<Option<&'b [u8]>> {
        let read = if self.ipv6 { ipv6::receive(&self.socket, buffer) } else { (&self.socket).read(buffer) };
        match read {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends advertisements from one source address.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Socket,
    index: u32,
}

impl Sender {
    /// Prepares sending on this interface from `source`. The kernel writes the IP header.
    pub(crate) fn open(name: &str, index: u32, source: IpAddr) -> io::Result<Self> {
        let socket = open(name, source)?;
        // It never reads: whatever the kernel would queue here is dropped at the door.
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        let (hops, class) = (u32::from(TTL), u32::from(TOS));
        // Looping back is on Linux an option of the sender; with it we would hear ourselves.
        if source.is_ipv4() {
            socket.set_tos_v4(class)?;
            socket.set_ttl_v4(hops)?;
            socket.set_multicast_ttl_v4(hops)?;
            socket.set_multicast_loop_v4(false)?;
            // Also from an address that was just taken from this host: the good-bye must still go out.
            socket.set_ip_transparent_v4(true)?;
        } else {
            socket.set_tclass_v6(class)?;
            socket.set_unicast_hops_v6(hops)?;
            socket.set_multicast_hops_v6(hops)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_loop_v6(false)?;
        }
        socket.bind(&address(source, index))?;
        Ok(Self { socket, index })
    }

    /// Sends one advertisement, to the group or to one host.
    pub(crate) fn send(&self, advertisement: &[u8], destination: IpAddr) -> io::Result<()> {
        // Without MSG_DONTROUTE a host that has no route at all could not reach the group.
        let flags = if destination.is_multicast() { libc::MSG_DONTROUTE } else { 0 };
        self.socket.send_to_with_flags(advertisement, &address(destination, self.index), flags).map(drop)
    }
}

/// Whether this process may open such sockets at all.
pub(crate) fn permitted() -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::RAW.cloexec(), Some(Protocol::from(VRRP))).map(drop)
}

fn open(interface: &str, of_family: IpAddr) -> io::Result<Socket> {
    let domain = if of_family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(VRRP)))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// What the kernel names an address with. One that is valid on a single link, such as the group's, needs the interface.
fn address(address: IpAddr, index: u32) -> SockAddr {
    SockAddr::from(match address {
        IpAddr::V4(address) => SocketAddr::from((address, 0)),
        IpAddr::V6(address) if address.is_multicast() || address.is_unicast_link_local() => {
            SocketAddrV6::new(address, 0, 0, index).into()
        }
        IpAddr::V6(address) => SocketAddr::from((address, 0)),
    })
}

/// The virtual router that a received packet names, if it is long enough to name one.
pub(crate) fn named_router(packet: &[u8]) -> Option<u8> {
    let header = match packet.first()? {
        first if first >> 4 == 6 => ipv6::HEADER_LEN,
        first => usize::from(first & 0x0F) * 4,
    };
    packet.get(header + 1).copied()
}

/// Who sent a received packet.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    if packet.first()? >> 4 == 6 {
        let bytes: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        return Some(bytes.into());
    }
    let bytes: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_is_named_behind_a_header_of_any_length() {
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[10, 0, 1, 1]);
        packet.extend([0x31, 51, 103]);
        assert_eq!((named_router(&packet), source(&packet)), (Some(51), Some(IpAddr::from([10, 0, 1, 1]))));
        let mut with_options = vec![0x46; 24];
        with_options.extend([0x31, 52]);
        assert_eq!(named_router(&with_options), Some(52));
        for short in [&packet[..0], &packet[..20], &packet[..21], &[0x4F; 30]] {
            assert_eq!(named_router(short), None, "{short:?}");
        }
        assert_eq!(source(&packet[..15]), None);
    }

    #[test]
    fn headers_of_ipv6_are_those_that_the_packet_had() {
        let (from, to): (IpAddr, IpAddr) = ("fe80::1".parse().unwrap(), "ff02::12".parse().unwrap());
        let (IpAddr::V6(source_v6), IpAddr::V6(destination)) = (from, to) else { unreachable!() };
        let mut packet = ipv6::header(source_v6, destination, 255, 3).to_vec();
        packet.extend([0x31, 51, 103]);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 3, 112, 255]);
        assert_eq!((named_router(&packet), source(&packet)), (Some(51), Some(from)));
        assert_eq!((named_router(&packet[..41]), source(&packet[..23])), (None, None));
    }
}
