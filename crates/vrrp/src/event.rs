//! What happens to a virtual router.

use std::net::IpAddr;
use std::sync::Arc;

use ha_core::MemberName;

use crate::peer::PeerRouter;
use crate::setup::Tuning;
use crate::track::Tracking;
use crate::tracking::ProxyHealth;

/// Something happened.
///
/// After a pause of the program (stopped, starved, suspended) queued packets should be handed in before
/// [`crate::VirtualRouter::handle_timeout`] is called: they may show that the Active is alive after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'p> {
    /// The program is ready: sockets are open. Answered with [`crate::Action::DropAddress`] for what a predecessor may
    /// have left behind. The state becomes Backup, or Fault until [`Self::LinkUp`] came.
    Started,
    /// The same in place of a program that died just now, less than three intervals ago: it was Active in this holding, and
    /// the address is still here because of it. The router goes on as Active; without a link or in a fault it starts
    /// as usual. What is known of the proxy must have been told before.
    Resumed {
        /// The holding.
        epoch: u64,
    },
    /// A packet of protocol 112 arrived.
    Received {
        /// Sender, as the socket names it.
        source: IpAddr,
        /// The whole IP packet, header first. Raw sockets hand out IPv4 packets like that; of an IPv6 packet they give
        /// the message only, and the rest as ancillary data, from which the program makes the header again.
        packet: &'p [u8],
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
        why: Arc<str>,
    },
    /// The local proxy changed. Until the first of these it counts as dead.
    ProxyChanged(ProxyHealth),
    /// Whether the local proxy has a primary. Without one a host does not take the address back for being preferred: for
    /// clients nothing would be better. Until the first of these it counts as having one.
    PrimaryChanged(bool),
    /// Maintenance mode of the cluster begins or ends. While it lasts an address leaves a host only when that host fails or
    /// somebody asks for it: nobody takes it back for being preferred, nor by weights.
    MaintenanceChanged(bool),
    /// An operator keeps floating addresses off this host, or no longer. With [`crate::PriorityModel::Tiers`] the proxy must
    /// be told to drain as well, and that alone counts; with weights this counts however the proxy is.
    Drained(bool),
    /// What is tracked beside the proxy has changed. Weights count with [`crate::PriorityModel::Weights`]; a fault counts
    /// always: no address here until it is over.
    TrackingChanged(Tracking),
    /// Another host said over the peer channel how this virtual router is there.
    PeerReported {
        /// Who.
        peer: MemberName,
        /// What.
        router: PeerRouter,
    },
    /// Another host does not know this virtual router, or is not heard over the peer channel any more. Changes no state.
    PeerLost {
        /// Who.
        peer: MemberName,
    },
    /// Another host, which holds the address and has lowered its priority, asks to be relieved at once. Done by a Backup
    /// that is better off, and refused when the holding has begun already.
    AskedToTakeOver {
        /// Who.
        peer: MemberName,
        /// What it advertises now.
        priority: u8,
        /// The holding that is to begin.
        epoch: u64,
    },
    /// Settings have changed. An Active stays one unless others are better off now.
    Tuned(Tuning),
    /// Somebody removed the floating address, or it expired because a refresh came too late.
    AddressLost,
    /// An operator wants another host to hold the address. An Active gives it to whoever takes it; when nobody does within a
    /// second it goes on as before. Otherwise it does not take the address back from a host that is as healthy, until
    /// it has become Active again for another reason.
    StepAside,
    /// The program was asked to end. Go on until [`crate::VirtualRouter::is_stopped`].
    Stop,
}
