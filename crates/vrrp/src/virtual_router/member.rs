//! What each virtual router of a group has for itself: how it stands on the wire. The decision is one for all.
//!
//! So the members of a group never disagree, and no state exists in which each of two hosts waits because it holds half of
//! the group. Any member that hears the Active hears it for all; one that cannot take part keeps all from it. When two
//! Actives have the same priority, only the first member's addresses are compared: the addresses of different members may
//! be ordered differently, and then each host would give way to the other.

use std::net::IpAddr;
use std::sync::Arc;

use super::validation::Dialect;
use crate::remembered::Remembered;
use crate::setup::Setup;
use crate::signature::Stamp;
use crate::statistics::Counters;

/// One virtual router on the wire.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) setup: Setup,
    /// Own address on the link, or why there is none.
    pub(super) source: Result<IpAddr, Arc<str>>,
    pub(super) counters: Counters,
    /// Form of the checksum that each router uses.
    pub(super) dialects: Remembered<Dialect>,
    /// When we signed last.
    pub(super) signed: Stamp,
    /// The youngest signature of each router.
    pub(super) heard_signed: Remembered<Stamp>,
}

impl Member {
    pub(super) fn new(setup: Setup) -> Self {
        let source = Err("no link yet".into());
        Self {
            setup,
            source,
            counters: Counters::default(),
            dialects: Remembered::new(),
            signed: Stamp::default(),
            heard_signed: Remembered::new(),
        }
    }

    /// Own address on the link, while there is one.
    pub(super) fn own(&self) -> Option<IpAddr> {
        self.source.as_ref().ok().copied()
    }

    pub(super) fn is_peer(&self, source: IpAddr) -> bool {
        self.setup.peers.is_empty() || self.setup.peers.contains(&source)
    }
}
