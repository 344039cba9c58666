//! What a virtual router asks the program to do.

use std::net::IpAddr;

use ha_core::MemberName;

use crate::packet::Message;
use crate::reason::Reason;

/// One thing to do, in the order handed out: an advertisement goes out before the address is installed, so that the
/// former Active has removed it before the first announcement; priority 0 goes out before the address is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a VRRP message (protocol 112) with TTL or hop limit 255 and TOS 0xC0 from the source address told by
    /// [`crate::Event::LinkUp`]. No completion; a failure is nothing to react to, the next one follows.
    Send {
        /// Which member of the group it is about; 0 if there is no group.
        member: usize,
        /// The group of the router's family, or one peer: with unicast there is one such action for each, because the checksum may differ.
        destination: IpAddr,
        /// The message after the IP header.
        packet: Message,
    },
    /// Install [`crate::Setup::addresses`] of every member, each as a /32 or /128, with this lifetime, or refresh them. Comes with each
    /// advertisement: when the program dies or hangs, the kernel removes them.
    HoldAddress {
        /// Whole seconds, the kernel's unit.
        lifetime_secs: u32,
    },
    /// Remove these addresses, whatever their lifetime; not being there is success.
    DropAddress,
    /// Tell the neighbours where each of these addresses is: gratuitous ARP, in request and in reply form, or an unsolicited
    /// neighbour advertisement.
    Announce,
    /// Ask another host over the peer channel to take the address over at once; no completion. That this router has
    /// lowered its priority has been sent before, so that the other takes over a skew time later all the same.
    AskTakeOver {
        /// Whom.
        peer: MemberName,
        /// What this router advertises now.
        priority: u8,
        /// The holding that begins with it.
        epoch: u64,
    },
    /// Log.
    Note(Reason),
}
