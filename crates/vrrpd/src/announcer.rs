//! Telling the neighbours where a floating address is now.

use std::io;
use std::net::IpAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
pub(crate) use vrrp::frame::HardwareAddress;

use crate::system_call::packet_address;
use crate::{gratuitous_arp, neighbour_advertisement};

/// Announces on one interface.
#[derive(Debug)]
pub(crate) struct Announcer {
    socket: Socket,
    ipv4_neighbours: SockAddr,
    ipv6_neighbours: SockAddr,
    own: HardwareAddress,
}

impl Announcer {
    /// Prepares announcements on the interface with this index and hardware address.
    pub(crate) fn open(interface: u32, own: HardwareAddress) -> io::Result<Self> {
        // Protocol 0: nothing that arrives is queued here.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))?;
        let to = |protocol, hardware| packet_address(interface, protocol, hardware);
        Ok(Self {
            socket,
            ipv4_neighbours: to(gratuitous_arp::ETHERTYPE, gratuitous_arp::BROADCAST)?,
            ipv6_neighbours: to(neighbour_advertisement::ETHERTYPE, neighbour_advertisement::ALL_NODES)?,
            own,
        })
    }

    /// Says once that `address` is here: over IPv4 in both forms that stacks honour.
    pub(crate) fn announce(&self, address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => {
                for form in [gratuitous_arp::Form::Request, gratuitous_arp::Form::Reply] {
                    let frame = gratuitous_arp::frame(form, self.own, address);
                    self.socket.send_to(&frame, &self.ipv4_neighbours)?;
                }
            }
            IpAddr::V6(address) => {
                let frame = neighbour_advertisement::frame(self.own, address);
                self.socket.send_to(&frame, &self.ipv6_neighbours)?;
            }
        }
        Ok(())
    }
}
