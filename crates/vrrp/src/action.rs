//! What a virtual router asks the program to do.

use std::net::Ipv4Addr;

use crate::reason::Reason;

/// One thing to do, in the order handed out: an advertisement goes out before the address is installed, so that the
/// former Active has removed it before the first announcement; priority 0 goes out before the address is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a VRRP message (protocol 112) with TTL 255 and TOS 0xC0 from the source address told by
    /// [`crate::Event::LinkUp`]. No completion; a failure is nothing to react to, the next one follows.
    Send {
        /// 224.0.0.18, or one peer: with unicast there is one such action for each, because the checksum may differ.
        destination: Ipv4Addr,
        /// The message after the IP header.
        packet: Vec<u8>,
    },
    /// Install the address as a /32 with this valid and preferred lifetime, or refresh it. Comes with each
    /// advertisement: when the program dies or hangs, the kernel removes the address.
    HoldAddress {
        /// Whole seconds, the kernel's unit.
        lifetime_secs: u32,
    },
    /// Remove the address, whatever its lifetime; not being there is success.
    DropAddress,
    /// Send one gratuitous ARP, in request and in reply form.
    Announce,
    /// Log.
    Note(Reason),
}
