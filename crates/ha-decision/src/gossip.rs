//! What this member tells the others, and what it makes of what they tell.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::cluster_view::StoreView;
use ha_core::peer_message::{Beat, Echo, PeerMessage, PeerPhase, PeerState};
use ha_core::postgres_view::{DataDirectory, PostgresProcess};
use ha_core::record::{MemberRecord, PROTOCOL, PolicyKind, SyncRecord};
use ha_core::{Epoch, Generation, MemberId, MemberName, MonoTime, Revision};

use crate::action::Action;
use crate::decider::Decider;
use crate::job::{Access, Job};
use crate::primary::Leadership;
use crate::status::{MemberRole, Status};
use crate::switchover::Switchover;
use crate::timers::Timer;

/// How often members tell each other how they are, when nothing changes.
const GOSSIP_EVERY: Duration = Duration::from_millis(500);

/// What was said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gossip {
    told: Option<(MonoTime, PeerState)>,
    published: Option<MemberRecord>,
    slots: Option<(MonoTime, Vec<MemberName>)>,
    /// Newest revision of the sync record for which the store was read out of turn.
    caught_up: Revision,
    /// Newest echoes of this leadership: send time of the beat that was answered.
    pub(crate) echoes: BTreeMap<MemberId, MonoTime>,
}

impl Decider {
    pub(crate) fn gossip(&mut self) {
        self.publish();
        let state = self.peer_state();
        let due = match &self.gossip.told {
            None => self.now,
            Some((at, told)) if same_but_for_positions(told, &state) => *at + GOSSIP_EVERY,
            Some(_) => self.now,
        };
        if self.now < due {
            self.timers.set(Timer::Gossip, due);
            return;
        }
        self.gossip.told = Some((self.now, state.clone()));
        self.timers.set(Timer::Gossip, self.now + GOSSIP_EVERY);
        let generation = self.leadership.as_ref().map(|leadership| leadership.generation);
        let beat = self.beats_for().zip(generation);
        for to in self.others() {
            self.act(Action::Send { to: to.clone(), message: PeerMessage::State(state.clone()) });
            if let Some((epoch, generation)) = beat {
                self.send_beat(to, epoch, generation);
            }
        }
    }

    pub(crate) fn send_beat(&mut self, to: MemberName, epoch: Epoch, generation: Generation) {
        let (sent_at, asks_to_refuse) = (self.now, self.setup.read_leases);
        let message = PeerMessage::Beat(Beat { epoch, generation, sent_at, asks_to_refuse });
        self.act(Action::Send { to, message });
    }

    /// Another member saw a newer sync record. The watch tells it too, but one that hangs on an etcd member that has just
    /// lost power falls silent for seconds, and a standby follows its new leader only when it knows of it.
    pub(crate) fn catch_up_with(&mut self, state: &PeerState) {
        let known = self.sync_revision().max(self.gossip.caught_up);
        if self.store.view.is_some() && state.revision > known {
            self.gossip.caught_up = state.revision;
            self.act(Action::ReadStore { at_least: state.revision });
        }
    }

    /// The epoch that this member leads with a running primary: what beats and heartbeats say.
    pub fn beats_for(&self) -> Option<Epoch> {
        self.leadership.as_ref().filter(|_| self.runs_as_primary()).map(|leadership| leadership.epoch)
    }

    fn peer_state(&self) -> PeerState {
        let (epoch, revision) = self.sync().map_or_else(Default::default, |s| (s.record.epoch, s.revision));
        let instance = self.instance();
        let facts = self.facts();
        PeerState {
            incarnation: self.node.incarnation,
            system_id: facts.map(|f| f.system_id),
            phase: self.phase(),
            epoch,
            revision,
            timeline: self.timeline(),
            flush: instance.map(|i| i.flush).unwrap_or_default(),
            replay: instance.map(|i| i.replay).unwrap_or_default(),
            checkpoint_timeline: instance.map(|i| i.checkpoint_timeline).unwrap_or_default(),
            history: instance.map(|i| i.history.clone()).unwrap_or_default(),
            hears_leader: self.sync().is_some_and(|s| self.hears_leader(&s.record)),
            candidate: self.may_be_promoted(),
            // Data that is to be replaced must not be counted on, even if its server seems to stream a moment longer.
            leaving: self.maintenance.is_leaving() || self.node.job.is_some(),
        }
    }

    fn phase(&self) -> PeerPhase {
        let Some(view) = &self.postgres else { return PeerPhase::Stopped };
        match (&view.process, &view.data) {
            (PostgresProcess::Running(i), _) if i.in_recovery => PeerPhase::Standby,
            (PostgresProcess::Running(_), _) if self.is_open() => PeerPhase::Primary,
            (PostgresProcess::Running(_), _) => PeerPhase::PrimaryClosed,
            (_, DataDirectory::Empty) => PeerPhase::Empty,
            _ => PeerPhase::Stopped,
        }
    }

    /// A primary that takes client commits, as far as the agent's own files say.
    fn is_open(&self) -> bool {
        let open = self.server.applied.as_ref().is_some_and(|a| a.settings.access != Access::Closed);
        open && self.leadership.is_some()
    }

    /// Whether an agent that has just started cannot know yet if the primary that it found is rightly one: its leadership
    /// is to be taken up again first. A lease's time is more than enough for that; after it the guard has ended what
    /// nobody vouched for.
    pub(crate) fn adopting(&self) -> bool {
        let early = self.started.is_some_and(|at| self.now < at + self.setup.timings.lease_ttl);
        let led_elsewhere = self.sync().is_some_and(|s| s.record.leader.member != self.setup.me);
        let closed = self.server.applied.as_ref().is_some_and(|a| a.settings.access == Access::Closed);
        let stops = self.switchover.is_some() || self.maintenance.restart_asked().is_some();
        let may_serve = self.postgres.as_ref().is_none_or(|view| match &view.process {
            PostgresProcess::Running(instance) => !instance.in_recovery,
            PostgresProcess::Silent => true,
            PostgresProcess::Stopped | PostgresProcess::Starting => false,
        });
        early && may_serve && !(led_elsewhere || closed || stops || self.is_open())
    }

    pub(crate) fn may_be_promoted(&self) -> bool {
        let tagged = self.member(&self.setup.me).is_none_or(|m| m.nofailover);
        !tagged && self.node.job.is_none() && self.me_id().is_some() && self.unfit().is_none()
    }

    pub(crate) fn beat_heard(&mut self, from: &MemberName, beat: &Beat) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.heard_at = self.now;
        }
        let Some(member) = self.me_id() else { return };
        let revoked = self.node.promise.as_ref().is_some_and(|p| p.epoch >= beat.epoch)
            || self.sync().is_some_and(|s| s.record.epoch > beat.epoch)
            // After a restart the store may not have answered yet; that the promise was kept and is void is durable.
            || self.node.seen.epoch > beat.epoch;
        let refuses_ms = if revoked { None } else { self.bind_to_refuse(beat) };
        let Beat { epoch, generation, sent_at, .. } = *beat;
        let echo = Echo { epoch, generation, sent_at, member, revoked, refuses_ms };
        self.act(Action::Send { to: from.clone(), message: PeerMessage::Echo(echo) });
    }

    pub(crate) fn echo_heard(&mut self, echo: Echo) {
        // An answer to a beat of an earlier life of this leadership, perhaps before a reboot, names an instant of another
        // clock: counted, it would put the deadline far into the future.
        let mine = |l: &Leadership| l.epoch == echo.epoch && l.generation == echo.generation;
        let this_life = self.leadership.as_ref().is_some_and(mine) && echo.sent_at <= self.now;
        if this_life && !echo.revoked {
            self.refusal_heard(&echo);
            let newest = self.gossip.echoes.entry(echo.member).or_insert(echo.sent_at);
            *newest = (*newest).max(echo.sent_at);
        }
    }

    /// The stream from a member ended: it is not heard until it speaks again.
    pub(crate) fn peer_lost(&mut self, member: &MemberName) {
        if let Some(peer) = self.peers.get_mut(member) {
            peer.connected = false;
        }
    }

    /// Whether a member said how it is within the time that counts as alive.
    pub(crate) fn is_heard(&self, member: &MemberName) -> bool {
        self.peers.get(member).is_some_and(|p| p.connected && self.now.since(p.heard_at) < self.silence())
    }

    /// Silence that counts: at least two missed rounds of gossip.
    pub(crate) fn silence(&self) -> Duration {
        self.detection().max(GOSSIP_EVERY * 2 + GOSSIP_EVERY / 2)
    }

    /// Whether the leader lives: its agent says that its PostgreSQL is a primary, or its WAL still streams here.
    pub(crate) fn hears_leader(&self, record: &SyncRecord) -> bool {
        let leader = &record.leader.member;
        let agent = self.is_heard(leader)
            && self.agent_lives_until(leader).is_some_and(|until| self.now < until)
            && self.peers.get(leader).is_some_and(|p| {
                matches!(p.state.phase, PeerPhase::Primary | PeerPhase::PrimaryClosed)
                    && p.state.epoch == record.epoch
            });
        agent || self.beats_as_primary(record) || self.streams_from_leader(record)
    }

    fn publish(&mut self) {
        let Some(me) = self.member(&self.setup.me) else { return };
        let record = MemberRecord {
            proto: PROTOCOL,
            version: self.setup.version.clone(),
            address: me.address.clone(),
            port: me.port,
            incarnation: self.node.incarnation,
            system_id: self.facts().map(|f| f.system_id),
            file_digest: self.setup.file_digest.clone(),
            boot: self.setup.boot.clone(),
            extra: Default::default(),
        };
        if self.postgres.is_some() && self.gossip.published.as_ref() != Some(&record) {
            self.gossip.published = Some(record.clone());
            self.act(Action::Publish(record));
        }
    }

    /// Every member keeps a slot for every other one, so that a new leader holds the WAL that the others still need.
    pub(crate) fn keep_slots(&mut self) {
        const SLOTS_EVERY: Duration = Duration::from_secs(5);
        if self.instance().is_none() {
            return;
        }
        let others = self.others();
        let due = match &self.gossip.slots {
            Some((at, kept)) if *kept == others => *at + SLOTS_EVERY,
            _ => self.now,
        };
        if self.server.job.is_some() || self.now < due {
            return;
        }
        self.gossip.slots = Some((self.now, others.clone()));
        let members = others
            .into_iter()
            .map(|name| {
                let flush = self.peers.get(&name).map(|p| p.state.flush).filter(|l| l.0 > 0);
                (name, flush)
            })
            .collect();
        self.act(Action::KeepSlots { members });
    }

    /// The store as last seen.
    pub fn view(&self) -> Option<&StoreView> {
        self.store.view.as_ref()
    }

    /// A picture of this decider.
    pub fn status(&self) -> Status {
        let record = self.sync_record();
        let id = self.me_id();
        let role = match (&record, &id) {
            (Some(r), Some(me)) if r.is_led_by(me) => MemberRole::Leader,
            (Some(r), Some(me)) if r.policy.lists(me) => MemberRole::SyncStandby,
            (_, Some(_)) => MemberRole::Replica,
            (_, None) => MemberRole::Uninitialized,
        };
        let deadline = self.guarding.deadline(self.leadership.as_ref().map(|l| l.epoch));
        // From the moment at which it is to stop, whether or not its end was seen yet.
        let stops = self.server.job.as_ref().is_some_and(|running| matches!(running.job, Job::Stop { .. }));
        let serves_writes = role == MemberRole::Leader
            && self.phase() == PeerPhase::Primary
            && !stops
            && (self.is_paused() || deadline.is_some_and(|d| d > self.now));
        Status {
            me: self.setup.me.clone(),
            leader: record.as_ref().map(|r| r.leader.id()),
            epoch: record.as_ref().map(|r| r.epoch).unwrap_or_default(),
            generation: record.as_ref().map(|r| r.generation).unwrap_or_default(),
            revision: self.sync_revision(),
            policy: record.as_ref().map(|r| r.policy.clone()),
            established: record.as_ref().is_some_and(SyncRecord::is_established),
            alarms: self.alarms(record.as_ref()),
            id,
            role,
            serves_writes,
            deadline,
            read_lease: self.read_lease(),
            guard_armed: self.guarding.is_armed(),
            doing: self.doing.as_ref().map(ToString::to_string).unwrap_or_default(),
            blocked: self.blocked.as_ref().map(ToString::to_string),
            paused: self
                .store
                .view
                .as_ref()
                .and_then(|v| v.maintenance.as_ref())
                .map(|m| m.record.reason.clone()),
            store_connected: self.store.connected,
            peers: self.peers.clone(),
            switching_over: self.switchover.is_some(),
            holding: self.switchover.as_ref().is_some_and(Switchover::is_holding),
            successor: self.switchover.as_ref().and_then(|s| s.to.clone()),
            undecided: self.undecided,
            counts: self.notes.counts.clone(),
        }
    }

    fn alarms(&self, record: Option<&SyncRecord>) -> Vec<String> {
        let mut alarms = Vec::new();
        if let Some(record) = record {
            if record.is_established() && record.policy.kind == PolicyKind::Pinned {
                alarms.push(format!("PINNED: {} alone holds the last commits", record.leader.member));
            }
            if !record.is_established() {
                alarms.push(format!("{} is not established: commits wait", record.leader.member));
            }
        }
        if let Some(why) = self.no_read_leases(record) {
            alarms.push(why);
        }
        if let Some(why) = self.unusable_times() {
            alarms.push(format!("the cluster's failover times are not used, the file's are: {why}"));
        }
        alarms.extend(self.fitness_alarm());
        if !self.store.connected {
            alarms.push("etcd cannot be reached".to_owned());
        }
        if self.store.rolled_back {
            alarms.push("etcd shows an older state than this member acted on".to_owned());
        }
        if self.leadership.is_some() && !self.guarding.is_armed() {
            alarms.push("the guard holds no deadline here".to_owned());
        }
        alarms
    }
}

/// Positions move with every commit; only a change of anything else is worth telling at once.
fn same_but_for_positions(a: &PeerState, b: &PeerState) -> bool {
    let still = |s: &PeerState| PeerState { flush: b.flush, replay: b.replay, ..s.clone() };
    still(a) == still(b)
}
