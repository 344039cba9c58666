//! What hosts tell and ask each other over the peer channel. It makes moves faster, and numbers the holdings; whether it
//! works or not, advertisements alone lead to the same state.

use std::time::Duration;

use ha_core::{MemberName, MonoTime};

use super::VirtualRouter;
use super::active::FAREWELLS;
use crate::action::Action;
use crate::alarm::AlarmKind;
use crate::peer::PeerRouter;
use crate::reason::{Cause, Reason};
use crate::state::State;
use crate::timers::Timer;

/// How long a router that ends waits to be relieved before it says good-bye in the usual way.
const RELIEF_LIMIT: Duration = Duration::from_millis(100);

impl VirtualRouter {
    pub(super) fn peer_reported(&mut self, now: MonoTime, peer: MemberName, router: PeerRouter) {
        if let Some(what) = router.differs.clone() {
            self.notice(now, AlarmKind::OtherSettings { peer: peer.clone(), what }, None);
        }
        self.epoch = self.epoch.max(router.epoch);
        if self.state == State::Active
            && router.state != State::Active
            && router.held_epoch >= self.held_epoch
        {
            // It held the address at the same time and has given it up: what was done for its holding must be done for ours
            // once more, and with a higher number.
            self.epoch += 1;
            self.held_epoch = self.epoch;
        }
        match self.peers.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, known)) => *known = router,
            None => self.peers.push((peer, router)),
        }
    }

    /// Asks whoever is best off among the hosts that are better off than this one, if there is any.
    pub(super) fn ask_the_best_peer(&mut self) {
        if let Some(peer) = self.best_peer() {
            self.note(Reason::AsksToTakeOver { peer: peer.clone() });
            self.push(Action::AskTakeOver { peer, priority: self.priority(), epoch: self.epoch + 1 });
        }
    }

    fn best_peer(&self) -> Option<MemberName> {
        let own = self.priority();
        let is_better =
            |router: &PeerRouter| router.state == State::Backup && self.is_better(router.priority, own);
        let better = self.peers.iter().filter(|(_, router)| is_better(router));
        better.max_by_key(|(peer, router)| (router.priority, peer)).map(|(peer, _)| peer.clone())
    }

    pub(super) fn asked_to_take_over(&mut self, now: MonoTime, peer: MemberName, priority: u8, epoch: u64) {
        let why = if self.state != State::Backup || self.stopping {
            "this host is no Backup"
        } else if epoch <= self.epoch {
            "that is over"
        } else if !self.is_better(self.priority(), priority) {
            "this host is not better off"
        } else {
            self.epoch = epoch - 1;
            self.become_active(now, Cause::AskedToTakeOver { peer, priority });
            return;
        };
        self.note(Reason::DoesNotTakeOver { peer, why });
    }

    /// A stop with somebody there who can relieve this host: it advertises as one that drains and asks; it leaves when it
    /// hears the other. False when there is nobody.
    pub(super) fn relieved_on_stop(&mut self, now: MonoTime) -> bool {
        self.aside = true;
        if self.best_peer().is_none() {
            return false;
        }
        self.send(now, self.priority());
        self.ask_the_best_peer();
        self.farewells = FAREWELLS;
        self.timers.set(Timer::Farewell, now + RELIEF_LIMIT);
        true
    }
}
