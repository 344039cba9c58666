//! Which situation holds. Level-triggered: every event only updates what is known; then everything that ought to be is
//! compared with what is, and at most one step of each kind (job, transaction) is begun.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ha_core::node_state::NodeState;
use ha_core::peer_message::{HandOver, PeerMessage};
use ha_core::postgres_view::{PostgresProcess, PostgresView};
use ha_core::{Epoch, Incarnation, Lsn, MemberId, MemberName, MonoTime, SystemId};

use crate::action::{Action, OpId, RequestId};
use crate::crash::Crashes;
use crate::election::Election;
use crate::event::{Event, LeaseNews};
use crate::fitness::Fitness;
use crate::gossip::Gossip;
use crate::guarding::Guarding;
use crate::list_change::ListChange;
use crate::maintenance::Maintenance;
use crate::phases::Notes;
use crate::primary::Leadership;
use crate::promise::Revocation;
use crate::random::Random;
use crate::read_lease::ReadLeases;
use crate::reason::Reason;
use crate::server::ServerSide;
use crate::setup::{MemberSetup, Setup};
use crate::status::PeerStatus;
use crate::store::StoreSide;
use crate::suspicion::Suspicion;
use crate::switchover::Switchover;
use crate::takeover_budget::TakeoverBudget;
use crate::timers::Timers;

/// A server that is about to be gone, or has just gone, keeps everybody waiting.
const OBSERVE_WHILE_DOWN: Duration = Duration::from_millis(20);
/// A standby's stream must be seen broken well within the detection time.
const OBSERVE_AT_REST: Duration = Duration::from_millis(500);
const OBSERVE_IN_CHANGE: Duration = Duration::from_millis(100);

/// The leadership lease that this agent holds ready.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaseSide {
    pub(crate) ready: bool,
    /// Send time of the last renewal that was confirmed.
    pub(crate) renewed: Option<MonoTime>,
    /// Send time of the last renewal after which the leader record named this member at this epoch.
    pub(crate) leads: Option<(Epoch, MonoTime)>,
}

/// Decides for one member.
#[derive(Debug, Clone)]
pub struct Decider {
    pub(crate) setup: Setup,
    pub(crate) random: Random,
    pub(crate) now: MonoTime,
    pub(crate) started: Option<MonoTime>,
    pub(crate) node: NodeState,
    pub(crate) store: StoreSide,
    pub(crate) lease: LeaseSide,
    pub(crate) postgres: Option<PostgresView>,
    pub(crate) server: ServerSide,
    pub(crate) peers: BTreeMap<MemberName, PeerStatus>,
    pub(crate) gossip: Gossip,
    pub(crate) guarding: Guarding,
    pub(crate) fitness: Fitness,
    pub(crate) read_leases: ReadLeases,
    pub(crate) leadership: Option<Leadership>,
    pub(crate) list_change: Option<ListChange>,
    pub(crate) election: Option<Election>,
    pub(crate) revocation: Option<Revocation>,
    pub(crate) handover: Option<(MemberName, HandOver)>,
    pub(crate) switchover: Option<Switchover>,
    pub(crate) maintenance: Maintenance,
    pub(crate) notes: Notes,
    /// This agent, in this life, holds the right to run `initdb`.
    pub(crate) won_initialize: bool,
    /// A finished `initdb` whose cluster is not founded yet.
    pub(crate) founded: Option<(SystemId, Lsn)>,
    /// Listed members without a stream, and since when.
    pub(crate) absent_since: BTreeMap<MemberId, MonoTime>,
    /// The leader key was given up because nobody hears this leader.
    pub(crate) isolated: bool,
    pub(crate) crashes: Crashes,
    pub(crate) suspicion: Suspicion,
    pub(crate) takeovers: TakeoverBudget,
    pub(crate) timers: Timers,
    pub(crate) doing: Option<Reason>,
    told: Option<Reason>,
    pub(crate) blocked: Option<Reason>,
    /// Why a leader that serves does not serve well; found anew at every decision.
    pub(crate) trouble: Option<Reason>,
    /// This agent has just started and cannot say yet whether the primary that it found takes writes rightly.
    pub(crate) undecided: bool,
    actions: VecDeque<Action>,
    last_op: u64,
    #[cfg(feature = "testing")]
    pub(crate) mutant: crate::mutant::Mutant,
}

impl Decider {
    /// Breaks one rule, for the simulator's proof that its checker would notice.
    #[cfg(feature = "testing")]
    pub fn break_rule(&mut self, mutant: crate::mutant::Mutant) {
        self.mutant = mutant;
    }

    /// A decider that knows nothing yet but what is durable.
    pub fn new(setup: Setup) -> Self {
        Self {
            random: Random::new(setup.entropy),
            node: setup.node_state.clone(),
            setup,
            now: MonoTime(0),
            started: None,
            store: StoreSide::default(),
            lease: LeaseSide::default(),
            postgres: None,
            server: ServerSide::default(),
            peers: BTreeMap::new(),
            gossip: Gossip::default(),
            guarding: Guarding::default(),
            fitness: Fitness::default(),
            read_leases: ReadLeases::default(),
            leadership: None,
            list_change: None,
            election: None,
            revocation: None,
            handover: None,
            switchover: None,
            maintenance: Maintenance::default(),
            notes: Notes::default(),
            won_initialize: false,
            founded: None,
            absent_since: BTreeMap::new(),
            isolated: false,
            crashes: Crashes::default(),
            suspicion: Suspicion::default(),
            takeovers: TakeoverBudget::default(),
            timers: Timers::default(),
            doing: None,
            told: None,
            blocked: None,
            trouble: None,
            undecided: true,
            actions: VecDeque::new(),
            last_op: 0,
            #[cfg(feature = "testing")]
            mutant: crate::mutant::Mutant::None,
        }
    }

    /// Something happened at `now`.
    pub fn handle_event(&mut self, now: MonoTime, event: Event) {
        self.advance(now);
        match event {
            Event::Store(view) => self.view_arrived(*view),
            Event::StoreLost => {
                if self.store.connected {
                    self.note(Reason::StoreLost);
                }
                self.store.connected = false;
            }
            Event::StoreRolledBack => self.store.rolled_back = true,
            Event::TxnDone { id, outcome } => self.txn_done(id, outcome),
            Event::Lease(news) => self.lease_news(news),
            Event::Postgres(view) => self.observed(view),
            Event::JobDone { id, result } => self.job_done(id, result),
            Event::SessionsHeld { id, proxies } => self.sessions_held(id, proxies),
            Event::Rerouted { id, proxies } => self.rerouted(id, proxies),
            Event::Peer { from, message } => self.heard(from, message),
            Event::Heartbeats(heartbeats) => {
                self.heartbeats_heard(heartbeats);
                return;
            }
            Event::PeerLost { from } => self.peer_lost(&from),
            Event::Guard(news) => self.guard_news(news),
            Event::Storage(news) => self.storage_news(news),
            Event::Request { id, request } => self.requested(id, request),
        }
        self.decide();
    }

    /// The time asked for by [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.advance(now);
        self.decide();
    }

    /// When to wake this decider at the latest.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.next()
    }

    /// How often PostgreSQL should be observed: often while something is about to change, seldom at rest.
    pub fn observe_every(&self) -> Duration {
        let view = self.postgres.as_ref();
        let down = view
            .is_some_and(|view| matches!(view.process, PostgresProcess::Starting | PostgresProcess::Stopped));
        if down && self.leadership.is_some() && self.server.job.is_none() {
            return OBSERVE_WHILE_DOWN;
        }
        let opened = self.leadership.as_ref().is_none_or(|l| l.opened.is_some());
        let record = self.sync_record();
        let settled = self.server.job.is_none()
            && self.election.is_none()
            && self.switchover.is_none()
            && self.list_change.is_none()
            && self.node.promise.is_none()
            && self.absent_since.is_empty()
            && opened
            && !self.notes.is_timing()
            && record.is_some_and(|r| {
                // When only its WAL vouches for the leader, that is looked at often.
                let vouched = r.leader.member == self.setup.me || self.lives(&r.leader.member);
                vouched && r.is_established()
            });
        if settled { OBSERVE_AT_REST } else { OBSERVE_IN_CHANGE }
    }

    /// What to do next; call until there is nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn advance(&mut self, now: MonoTime) {
        self.now = self.now.max(now);
        self.started.get_or_insert(now);
        self.notice_stall();
    }

    fn lease_news(&mut self, news: LeaseNews) {
        match news {
            LeaseNews::Ready => self.lease.ready = true,
            LeaseNews::Renewed { sent_at, leads } => {
                self.lease.ready = true;
                self.lease.renewed = self.lease.renewed.max(Some(sent_at));
                if let Some(epoch) = leads {
                    self.lease.leads = self.lease.leads.max(Some((epoch, sent_at)));
                }
            }
            LeaseNews::Gone => {
                self.lease.ready = false;
                self.lease.renewed = None;
            }
        }
    }

    fn observed(&mut self, view: PostgresView) {
        self.note_wal(&view);
        self.note_replies(&view);
        self.server.storage_failed |= view.storage_failed;
        self.postgres = Some(view.clone());
        self.note_crash(&view);
    }

    fn heard(&mut self, from: MemberName, message: PeerMessage) {
        if self.setup.members.iter().all(|m| m.name != from) || from == self.setup.me {
            return;
        }
        match message {
            PeerMessage::State(state) => {
                self.catch_up_with(&state);
                self.peers.insert(from, PeerStatus { state, heard_at: self.now, connected: true });
            }
            PeerMessage::Beat(beat) => self.beat_heard(&from, &beat),
            PeerMessage::Echo(echo) => self.echo_heard(echo),
            PeerMessage::PromiseRequest(request) => self.promise_asked(from, request),
            PeerMessage::Promised(promised) => self.promise_received(promised),
            PeerMessage::PromiseRefused(refused) => self.promise_refused(refused),
            PeerMessage::HandOver(handover) => {
                self.note_request(&handover);
                self.handover = Some((from, handover));
            }
            PeerMessage::TakeOver(takeover) => self.promises_handed(takeover),
        }
    }

    fn decide(&mut self) {
        self.timers.clear();
        self.blocked = None;
        self.trouble = None;
        self.drop_void_promise();
        self.notice_drift();
        self.review_fitness();
        self.read_leases.begin_decision();
        self.situation();
        self.keep_read_lease();
        self.keep_story();
        self.supply_guard();
        self.keep_slots();
        self.gossip();
        self.undecided = self.undecided && self.adopting();
        // What needs help is said rather than what goes on beside it.
        let word = self.blocked.as_ref().or(self.doing.as_ref());
        if word != self.told.as_ref() {
            self.told = word.cloned();
            if let Some(blocked) = &self.blocked {
                self.notes.counts.blocked(blocked);
            }
            if let Some(reason) = self.told.clone() {
                self.note(reason);
            }
        }
        self.remember_wake_up();
    }

    fn situation(&mut self) {
        let Some(view) = &self.store.view else {
            self.because(Reason::StoreNotSeen);
            return;
        };
        if let Some(why) = view.unreadable.clone() {
            self.because(Reason::ObservingOnly { why });
            return;
        }
        if self.store.rolled_back {
            // A primary that rests on its lease alone is ended as it is when the store is away.
            if self.postgres.is_some() {
                self.demote_before_deadline();
            }
            self.blocked_by(Reason::StoreRolledBack);
            return;
        }
        if self.postgres.is_none() {
            return;
        }
        self.resolve_unknown();
        if self.fence_if_deposed() || self.demote_before_deadline() {
            return;
        }
        match self.sync_record() {
            None => self.bootstrap(),
            Some(record) if record.leader.member == self.setup.me => self.primary(&record),
            Some(record) => {
                self.note_signs(&record);
                self.watch_leader(&record);
                self.standby(&record);
            }
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn reply(&mut self, id: RequestId, answer: Result<crate::RequestDone, crate::Refusal>) {
        self.act(Action::Reply { id, answer });
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.last_op += 1;
        OpId(self.last_op)
    }

    /// Makes a changed node state durable.
    pub(crate) fn persist(&mut self, node: NodeState) {
        if node != self.node {
            self.node = node.clone();
            self.act(Action::Persist(node));
        }
    }

    /// Tells humans once.
    pub(crate) fn note(&mut self, reason: Reason) {
        self.act(Action::Note(reason));
    }

    /// What this member does now; the last word of a decision counts, and is told when it differs from the one before.
    pub(crate) fn because(&mut self, reason: Reason) {
        self.doing = Some(reason);
    }

    /// Why this member cannot go on without help; told when it changes.
    pub(crate) fn blocked_by(&mut self, reason: Reason) {
        self.because(reason.clone());
        self.blocked = Some(reason);
    }

    /// This member with the present life of its data.
    pub(crate) fn me_id(&self) -> Option<MemberId> {
        self.node.incarnation.map(|i| MemberId::new(self.setup.me.clone(), i))
    }

    pub(crate) fn new_incarnation(&mut self) -> Incarnation {
        Incarnation(self.random.next_u32())
    }

    pub(crate) fn member(&self, name: &MemberName) -> Option<&MemberSetup> {
        self.setup.members.iter().find(|m| m.name == *name)
    }

    pub(crate) fn others(&self) -> Vec<MemberName> {
        self.setup.members.iter().map(|m| m.name.clone()).filter(|n| *n != self.setup.me).collect()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.store.view.as_ref().is_some_and(|v| v.maintenance.is_some())
    }

    /// Policy of the running cluster; the file's values until it exists.
    pub(crate) fn settings(&self) -> &ha_core::record::ClusterSettings {
        self.store
            .view
            .as_ref()
            .and_then(|v| v.config.as_ref())
            .map_or(&self.setup.initial_settings, |c| &c.record)
    }
}
