//! Advertisements on the wire: IP protocol 112 on one interface (RFC 9568 section 5.1), IPv4.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};

/// Where advertisements go, unless by unicast.
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// IP protocol number of VRRP.
const VRRP: i32 = 112;
/// Receivers discard anything else: a packet with it has passed no router.
const TIME_TO_LIVE: u32 = 255;
/// CS6, internetwork control.
const TYPE_OF_SERVICE: u32 = 0xC0;
/// The largest advertisement is 20 + 60 (options) + 8 + 255 * 4 + 8 bytes; anything longer is cut and then discarded.
pub(crate) const PACKET_MAX: usize = 2048;
/// BPF: return a constant (`BPF_RET | BPF_K`).
const RETURN: u16 = 0x06;

/// Gives whole IPv4 packets of protocol 112.
#[derive(Debug)]
pub(crate) struct Receiver(Socket);

impl Receiver {
    /// Listens to the group, on this interface only.
    pub(crate) fn of_group(name: &str, index: u32) -> io::Result<Self> {
        let socket = open(name)?;
        // Else the kernel would also deliver groups that other sockets have joined.
        socket.set_multicast_all_v4(false)?;
        // By index: an address may stand on several interfaces. The membership ends with the interface.
        socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(index))?;
        socket.bind(&address(GROUP))?;
        Ok(Self(socket))
    }

    /// Listens to what is sent to `own`, on this interface only.
    pub(crate) fn of_address(name: &str, own: Ipv4Addr) -> io::Result<Self> {
        let socket = open(name)?;
        socket.bind(&address(own))?;
        Ok(Self(socket))
    }

    /// The next packet; `None` when there is none waiting.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8; PACKET_MAX]) -> io::Result<Option<&'b [u8]>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends advertisements from one source address.
#[derive(Debug)]
pub(crate) struct Sender(Socket);

impl Sender {
    /// Prepares sending on this interface from `source`. The kernel writes the IP header.
    pub(crate) fn open(name: &str, source: Ipv4Addr) -> io::Result<Self> {
        let socket = open(name)?;
        // It never reads: whatever the kernel would queue here is dropped at the door.
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        socket.set_tos_v4(TYPE_OF_SERVICE)?;
        socket.set_ttl_v4(TIME_TO_LIVE)?;
        socket.set_multicast_ttl_v4(TIME_TO_LIVE)?;
        // On Linux an option of the sender; without it we would hear ourselves.
        socket.set_multicast_loop_v4(false)?;
        socket.bind(&address(source))?;
        Ok(Self(socket))
    }

    /// Sends one advertisement, to the group or to one host.
    pub(crate) fn send(&self, advertisement: &[u8], destination: Ipv4Addr) -> io::Result<()> {
        // Without MSG_DONTROUTE a host that has no route at all could not reach the group.
        let flags = if destination.is_multicast() { libc::MSG_DONTROUTE } else { 0 };
        self.0.send_to_with_flags(advertisement, &address(destination), flags).map(drop)
    }
}

/// Whether this process may open such sockets at all.
pub(crate) fn permitted() -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::RAW.cloexec(), Some(Protocol::from(VRRP))).map(drop)
}

fn open(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(VRRP)))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

fn address(address: Ipv4Addr) -> SockAddr {
    SockAddr::from(SocketAddr::V4(SocketAddrV4::new(address, 0)))
}

/// The virtual router that a received packet names, if it is long enough to name one.
pub(crate) fn named_router(packet: &[u8]) -> Option<u8> {
    let header = usize::from(packet.first()? & 0x0F) * 4;
    packet.get(header + 1).copied()
}

/// Who sent a received packet.
pub(crate) fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_is_named_behind_a_header_of_any_length() {
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[10, 0, 1, 1]);
        packet.extend([0x31, 51, 103]);
        assert_eq!((named_router(&packet), source(&packet)), (Some(51), Some(Ipv4Addr::new(10, 0, 1, 1))));
        let mut with_options = vec![0x46; 24];
        with_options.extend([0x31, 52]);
        assert_eq!(named_router(&with_options), Some(52));
        for short in [&packet[..0], &packet[..20], &packet[..21], &[0x4F; 30]] {
            assert_eq!(named_router(short), None, "{short:?}");
        }
        assert_eq!(source(&packet[..15]), None);
    }
}
