//! Advertisements from a hardware address of the virtual router's own: whole frames, because the kernel would send from the
//! interface that has the source address.

use std::io::{self, IoSlice};
use std::net::IpAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use vrrp::frame::{Headers, ethertype, group_hardware};
use vrrp::packet::group_of;

use crate::announcer::HardwareAddress;
use crate::system_call::packet_address;

/// Sends by one device, from one source address, to the group of its family.
#[derive(Debug)]
pub(crate) struct FrameSender {
    socket: Socket,
    group: SockAddr,
    hardware: HardwareAddress,
    source: IpAddr,
}

impl FrameSender {
    pub(crate) fn open(device: u32, hardware: HardwareAddress, source: IpAddr) -> io::Result<Self> {
        // Protocol 0: nothing that arrives is queued here.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
        let to = group_hardware(group_of(source));
        let group = packet_address(device, ethertype(source.is_ipv6()), to)?;
        Ok(Self { socket, group, hardware, source })
    }

    pub(crate) fn send(&self, advertisement: &[u8], destination: IpAddr) -> io::Result<()> {
        let headers = Headers::new(self.hardware, self.source, destination, advertisement.len());
        let headers = headers.ok_or(io::ErrorKind::InvalidInput)?;
        let parts = [IoSlice::new(headers.as_bytes()), IoSlice::new(advertisement)];
        self.socket.send_to_vectored(&parts, &self.group).map(drop)
    }
}
