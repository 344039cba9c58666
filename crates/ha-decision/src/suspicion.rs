//! Whether the leader has fallen silent: long before its lease runs out, but never on one signal alone, and never when
//! this member itself was the one that stood still.
//!
//! Its agent (heartbeats and messages are one signal) and its WAL are two signals: a leader whose WAL still streams is not
//! replaced because its agent is silent, and one whose agent speaks decides itself what becomes of a PostgreSQL that has
//! died. Silence is a function of when each was heard last, so a walreceiver that connects again or a stream of messages
//! that breaks proves nothing by itself.

use std::time::Duration;

use ha_core::heartbeat::{HeardHeartbeat, Heartbeats};
use ha_core::peer_message::PeerPhase;
use ha_core::postgres_view::PostgresView;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::{Epoch, MemberName, MonoTime};

use crate::action::Action;
use crate::decider::Decider;
use crate::timers::Timer;

/// A decider that is woken so much later than it asked for stood still, and what it did not hear meanwhile proves
/// nothing.
const STALL: Duration = Duration::from_millis(300);

/// What is known about the leader's silence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspicion {
    /// When WAL, or a sign of life in its stream, last came from the leader of this epoch.
    wal_heard: Option<(Epoch, MonoTime)>,
    /// Heartbeats, as the driver gave them last.
    heartbeats: Heartbeats,
    /// When this decider wanted to be woken.
    awaited: Option<MonoTime>,
    /// When it last found that it had stood still.
    stalled_at: Option<MonoTime>,
    /// The end of silence for which a look at PostgreSQL was asked for.
    looked_for: Option<MonoTime>,
}

impl Decider {
    /// Called first whenever something happens: the decider may have stood still until now.
    pub(crate) fn notice_stall(&mut self) {
        let late = self.suspicion.awaited.take().is_some_and(|at| self.now > at + STALL);
        if late && !broken!(self, StandstillIgnored) {
            self.suspicion.stalled_at = Some(self.now);
        }
    }

    /// Called last: when this decider is to be woken.
    pub(crate) fn remember_wake_up(&mut self) {
        self.suspicion.awaited = self.timers.next().map(|at| at.max(self.now));
    }

    /// Since when this decider has not stood still: what it did not hear before proves nothing.
    pub(crate) fn awake_since(&self) -> MonoTime {
        let stalled = self.suspicion.stalled_at.max(self.suspicion.heartbeats.stalled_at);
        stalled.max(self.started).unwrap_or(self.now)
    }

    pub(crate) fn heartbeats_heard(&mut self, heartbeats: Heartbeats) {
        self.suspicion.heartbeats = heartbeats;
    }

    /// Keeps note of the newest sign of life in the stream of the leader's WAL.
    pub(crate) fn note_wal(&mut self, view: &PostgresView) {
        let Some(receiver) = view.instance().and_then(|instance| instance.receiver.as_ref()) else { return };
        let Some(epoch) = receiver.epoch.filter(|_| receiver.streaming) else { return };
        let age_ns = receiver.last_message_age_ms.saturating_mul(1_000_000);
        let heard = MonoTime(view.at.0.saturating_sub(age_ns));
        self.suspicion.wal_heard = self.suspicion.wal_heard.max(Some((epoch, heard)));
    }

    /// The newest heartbeat of a member; none in this life of the agent means that they may not get through at all.
    fn heartbeat_of(&self, member: &MemberName) -> Option<HeardHeartbeat> {
        let heard = &self.suspicion.heartbeats.heard;
        heard.iter().find(|(name, _)| name == member).map(|(_, heartbeat)| *heartbeat)
    }

    /// Silence towards this member after which it counts as gone. While the times of the cluster change, the longer of two
    /// counts: the other one may still rely on it.
    fn detection_towards(&self, member: &MemberName) -> Duration {
        let announced = self.heartbeat_of(member).map_or(0, |heartbeat| heartbeat.detection_ms);
        self.detection().max(Duration::from_millis(announced))
    }

    /// Until when a member's agent counts as alive if nothing more comes; none if nothing ever came.
    pub(crate) fn agent_lives_until(&self, member: &MemberName) -> Option<MonoTime> {
        let heartbeat = self.heartbeat_of(member);
        // Messages alone come so seldom that one late one would pass for silence.
        let silence = if heartbeat.is_some() { self.detection_towards(member) } else { self.silence() };
        let said = self.peers.get(member).map(|peer| peer.heard_at + silence);
        said.max(heartbeat.map(|heartbeat| heartbeat.at + silence))
    }

    /// Whether a member's agent was heard lately, by whatever way.
    pub(crate) fn lives(&self, member: &MemberName) -> bool {
        self.is_heard(member) || self.agent_lives_until(member).is_some_and(|until| self.now < until)
    }

    /// Whether the leader's heartbeats say that its PostgreSQL runs as the primary of this epoch.
    pub(crate) fn beats_as_primary(&self, record: &SyncRecord) -> bool {
        let leader = &record.leader.member;
        self.heartbeat_of(leader).is_some_and(|heartbeat| {
            heartbeat.leads == Some(record.epoch)
                && self.now.since(heartbeat.at) < self.detection_towards(leader)
        })
    }

    /// Until when the stream of the leader's WAL counts as alive if nothing more comes; none without one.
    fn stream_lives_until(&self, record: &SyncRecord) -> Option<MonoTime> {
        let (_, heard) = self.suspicion.wal_heard.filter(|(epoch, _)| *epoch == record.epoch)?;
        // An idle stream shows life only so often.
        let idle = self.setup.timings.stream_sign;
        Some(heard + self.detection_towards(&record.leader.member).max(idle))
    }

    /// Whether WAL, or a sign of life in its stream, came from the leader lately.
    pub(crate) fn streams_from_leader(&self, record: &SyncRecord) -> bool {
        self.stream_lives_until(record).is_some_and(|until| self.now < until)
    }

    /// Asks to be woken when the leader's silence may have lasted long enough, and then for a look at PostgreSQL: only an
    /// observation that is newer than that tells whether WAL came after all.
    pub(crate) fn watch_leader(&mut self, record: &SyncRecord) {
        let due = self.silent_at(record);
        if self.now < due {
            self.timers.set(Timer::Suspicion, due);
        } else if self.wal_is_unseen_since(due) && self.suspicion.looked_for < Some(due) {
            self.suspicion.looked_for = Some(due);
            self.notes.counts.suspicions += 1;
            self.act(Action::Observe);
        }
    }

    fn wal_is_unseen_since(&self, due: MonoTime) -> bool {
        self.postgres.as_ref().is_none_or(|view| view.at < due)
    }

    /// The leader of an established quorum is silent in every way, others say nothing else, and this member was awake all
    /// the time. Without a list only the end of its lease proves anything.
    pub(crate) fn leader_is_silent(&self, record: &SyncRecord) -> bool {
        let quorum = record.policy.kind == PolicyKind::Quorum && record.is_established();
        quorum && self.silent_since(record).is_some() && !self.others_hear_leader(record)
    }

    /// Since when the silence counts.
    pub(crate) fn silent_since(&self, record: &SyncRecord) -> Option<MonoTime> {
        let due = self.silent_at(record);
        (self.now >= due && !self.wal_is_unseen_since(due)).then_some(due)
    }

    /// When the leader has been silent for long enough if nothing more comes from it.
    fn silent_at(&self, record: &SyncRecord) -> MonoTime {
        let leader = &record.leader.member;
        let silence =
            if self.heartbeat_of(leader).is_some() { self.detection_towards(leader) } else { self.silence() };
        let awake = self.awake_since() + silence;
        [self.agent_lives_until(leader), self.stream_lives_until(record)]
            .into_iter()
            .flatten()
            .fold(awake, MonoTime::max)
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
