//! The system call for which no safe wrapper is at hand: the only unsafe code of this program.
#![allow(unsafe_code, reason = "a call without a safe wrapper; its block says why it is sound")]

use std::io;

use socket2::SockAddr;

/// Hardware address length of Ethernet (`sll_halen`).
const ETHERNET_ADDRESS_LEN: u8 = 6;

/// Where a packet socket sends to: a hardware address behind an interface (packet(7)).
pub(crate) fn packet_address(interface: u32, protocol: u16, hardware: [u8; 6]) -> io::Result<SockAddr> {
    let interface = libc::c_int::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage is large enough for every address of the kernel and suitably aligned (its documented
    // purpose); all of `sockaddr_ll` is written before its length is, and every field may hold any bits.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut link: libc::sockaddr_ll = std::mem::zeroed();
            link.sll_family = libc::AF_PACKET.cast_unsigned() as libc::sa_family_t;
            link.sll_protocol = protocol.to_be();
            link.sll_ifindex = interface;
            link.sll_halen = ETHERNET_ADDRESS_LEN;
            link.sll_addr[..hardware.len()].copy_from_slice(&hardware);
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
