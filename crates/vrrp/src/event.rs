//! What happens to a virtual router.

use std::net::IpAddr;

use crate::tracking::ProxyHealth;

/// Something happened.
///
/// After a pause of the program (stopped, starved, suspended) queued packets should be handed in before
/// [`crate::VirtualRouter::handle_timeout`] is called: they may show that the Active is alive after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The program is ready: sockets are open. Answered with [`crate::Action::DropAddress`] for what a predecessor may
    /// have left behind. The state becomes Backup, or Fault until [`Self::LinkUp`] came.
    Started,
    /// A packet of protocol 112 arrived.
    Received {
        /// Sender, as the socket names it.
        source: IpAddr,
        /// The whole IP packet, header first. Raw sockets hand out IPv4 packets like that; of an IPv6 packet they give
        /// the message only, and the rest as ancillary data, from which the program makes the header again.
        packet: Vec<u8>,
    },
    /// The link works and has a source address. Also to be sent when the source address changes. May come before
    /// [`Self::Started`].
    LinkUp {
        /// First own address of the interface, never a floating one: it decides ties, so it must not change without need.
        source: IpAddr,
    },
    /// No carrier, interface down or gone, or no source address.
    LinkDown {
        /// In words, for people.
        why: String,
    },
    /// The local proxy changed. Until the first of these it counts as dead.
    ProxyChanged(ProxyHealth),
    /// Somebody removed the floating address, or it expired because a refresh came too late.
    AddressLost,
    /// An operator wants another host to hold the address. An Active gives it to whoever takes it; when nobody does within a
    /// second it goes on as before. Otherwise it does not take the address back from a host that is as healthy, until
    /// it has become Active again for another reason.
    StepAside,
    /// The program was asked to end. Go on until [`crate::VirtualRouter::is_stopped`].
    Stop,
}
