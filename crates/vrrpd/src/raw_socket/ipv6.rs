//! Packets over IPv6: the kernel keeps their header (RFC 3542 section 3) and tells what stood in it as ancillary data. The
//! header is made again from that, so that both families are read in the same form.

use std::io::{self, IoSliceMut};
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::sockopt::{Ipv6RecvHopLimit, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, cmsg_space, recvmsg, setsockopt};
use socket2::Socket;
use vrrp::checksum::PROTOCOL;

use super::PACKET_MAX;

/// Length of the header.
pub(super) const HEADER_LEN: usize = 40;
/// Room for the destination and the hop limit.
const ANCILLARY_LEN: usize = cmsg_space::<libc::in6_pktinfo>() + cmsg_space::<libc::c_int>();

/// Lets the kernel tell destination and hop limit with each packet.
pub(super) fn ask_for_headers(socket: &Socket) -> io::Result<()> {
    setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    setsockopt(socket, Ipv6RecvHopLimit, &true)?;
    Ok(())
}

/// Reads one packet, header first; gives its length.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8; PACKET_MAX]) -> io::Result<usize> {
    let (front, message) = buffer.split_at_mut(HEADER_LEN);
    let mut ancillary = [0; ANCILLARY_LEN];
    let mut parts = [IoSliceMut::new(message)];
    let received =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut ancillary), MsgFlags::empty())?;
    let (mut destination, mut hops) = (Ipv6Addr::UNSPECIFIED, 0);
    for one in received.cmsgs()? {
        match one {
            ControlMessageOwned::Ipv6PacketInfo(info) => destination = info.ipi6_addr.s6_addr.into(),
            ControlMessageOwned::Ipv6HopLimit(limit) => hops = u8::try_from(limit).unwrap_or(0),
            _ => {}
        }
    }
    let source = received.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    let length = received.bytes;
    front.copy_from_slice(&header(source, destination, hops, length));
    Ok(HEADER_LEN + length)
}

/// The header, but for the traffic class and the flow label, which nobody reads.
pub(super) fn header(source: Ipv6Addr, destination: Ipv6Addr, hops: u8, length: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = 6 << 4;
    header[4..6].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    (header[6], header[7]) = (PROTOCOL, hops);
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&destination.octets());
    header
}
