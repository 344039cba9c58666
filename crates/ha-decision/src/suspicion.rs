//! Whether the leader has fallen silent: long before its lease runs out, but never on one signal alone, and never when
//! this member itself was the one that stood still.
//!
//! Its agent's messages and its WAL are two signals: a leader whose WAL still streams is not replaced because its agent
//! is silent, and one whose agent speaks decides itself what becomes of a PostgreSQL that has died.

use std::time::Duration;

use ha_core::peer_message::PeerPhase;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::{Epoch, MonoTime};

use crate::decider::Decider;
use crate::timers::Timer;

/// Silence must last this long after the last signal counted as gone: a walreceiver that connects again at the moment at
/// which an agent is started again is no silence.
const SETTLE: Duration = Duration::from_millis(200);

/// A decider that is woken so much later than it asked for stood still, and what it did not hear meanwhile proves
/// nothing.
const STALL: Duration = Duration::from_millis(300);

/// What is known about the leader's silence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspicion {
    /// Since when nothing is heard of the leader of this epoch.
    unheard: Option<(Epoch, MonoTime)>,
    /// When this decider wanted to be woken.
    awaited: Option<MonoTime>,
    /// When it last found that it had stood still.
    stalled_at: Option<MonoTime>,
}

impl Decider {
    /// Called first whenever something happens: the decider may have stood still until now.
    pub(crate) fn notice_stall(&mut self) {
        let late = self.suspicion.awaited.take().is_some_and(|at| self.now > at + STALL);
        if late {
            self.suspicion.stalled_at = Some(self.now);
        }
    }

    /// Called last: when this decider is to be woken.
    pub(crate) fn remember_wake_up(&mut self) {
        self.suspicion.awaited = self.timers.next().map(|at| at.max(self.now));
    }

    /// Keeps note of whether the leader is heard, and asks to be woken when that changes by time alone.
    pub(crate) fn watch_leader(&mut self, record: &SyncRecord) {
        let last = self.last_sign_of(record);
        let heard_until = last.map(|at| at + SETTLE);
        if self.hears_leader(record) || self.speaks(record) {
            self.suspicion.unheard = None;
            if let Some(until) = heard_until.filter(|until| *until > self.now) {
                self.timers.set(Timer::Suspicion, until);
            }
            return;
        }
        let known = self.suspicion.unheard.filter(|(epoch, _)| *epoch == record.epoch);
        let (_, since) = *self.suspicion.unheard.insert(known.unwrap_or((record.epoch, self.now)));
        let due = self.not_before(since);
        if due > self.now {
            self.timers.set(Timer::Suspicion, due);
        }
    }

    /// The leader of an established quorum is silent in every way, others say nothing else, and this member was awake all
    /// the time. Without a list only the end of its lease proves anything.
    pub(crate) fn leader_is_silent(&self, record: &SyncRecord) -> bool {
        let quorum = record.policy.kind == PolicyKind::Quorum && record.is_established();
        quorum && self.silent_since(record).is_some() && !self.others_hear_leader(record)
    }

    /// Since when the silence counts.
    pub(crate) fn silent_since(&self, record: &SyncRecord) -> Option<MonoTime> {
        let (_, since) = self.suspicion.unheard.filter(|(epoch, _)| *epoch == record.epoch)?;
        let due = self.not_before(since);
        (self.now >= due).then_some(due)
    }

    fn not_before(&self, since: MonoTime) -> MonoTime {
        let awake = self.suspicion.stalled_at.max(self.started).map(|at| at + self.silence());
        (since + SETTLE).max(awake.unwrap_or(since))
    }

    /// Whether the leader's agent said anything lately, whatever its PostgreSQL does. A stream that broke is no proof of
    /// more than itself, so it is waited for as long as for one that is silent.
    fn speaks(&self, record: &SyncRecord) -> bool {
        self.peers
            .get(&record.leader.member)
            .is_some_and(|peer| self.now.since(peer.heard_at) < self.silence())
    }

    /// When the leader will count as unheard if nothing more comes.
    fn last_sign_of(&self, record: &SyncRecord) -> Option<MonoTime> {
        let agent = self.peers.get(&record.leader.member).map(|peer| peer.heard_at + self.silence());
        agent.max(self.stream_ends(record))
    }

    /// A member that is heard still hears the leader: the network between the leader and this member is broken, not the
    /// leader.
    fn others_hear_leader(&self, record: &SyncRecord) -> bool {
        self.peers.iter().any(|(name, peer)| {
            *name != record.leader.member
                && self.is_heard(name)
                && peer.state.hears_leader
                && peer.state.epoch == record.epoch
                && peer.state.phase == PeerPhase::Standby
        })
    }
}
