//! The virtual router: decides when this host holds the floating address.
//!
//! This file has the five methods and what belongs to every state; what a received packet is worth is judged in
//! `validation`, and what it leads to in `backup` and `active`.

mod active;
mod backup;
mod handover;
mod member;
mod signing;
mod tracked;
mod validation;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::{MemberName, MonoTime};

use crate::action::Action;
use crate::alarm::{Alarm, AlarmBook, AlarmKind};
use crate::announcing::Announcing;
use crate::event::Event;
use crate::flapping::Moves;
use crate::peer::PeerRouter;
use crate::priority::Tier;
use crate::reason::{Cause, Reason};
use crate::setup::{Setup, SetupError};
use crate::state::{ActiveSeen, Headline, State, Status};
use crate::timers::{self, Timer, Timers};
use crate::track::Tracking;
use crate::tracking::ProxyHealth;

use backup::{Conflict, Foreign};
use member::Member;

/// Actions that may wait before more memory is asked for: an Active's in a group of a dozen.
const ACTIONS: usize = 64;
/// The same of other hosts.
const PEERS: usize = 16;

/// One virtual router on one interface, or a group of them that hold or leave their addresses together.
#[derive(Debug)]
pub struct VirtualRouter {
    /// What decides: that of the first member.
    setup: Setup,
    members: Vec<Member>,
    state: State,
    since: MonoTime,
    cause: Cause,
    proxy: ProxyHealth,
    /// What is tracked beside it.
    tracking: Tracking,
    /// The local proxy has a primary.
    primary: bool,
    /// Maintenance mode of the cluster.
    maintenance: bool,
    /// An operator keeps floating addresses off this host.
    drained: bool,
    /// An operator wants another host to hold the address.
    aside: bool,
    /// The other hosts that are heard over the peer channel and know this virtual router.
    peers: Vec<(MemberName, PeerRouter)>,
    /// The newest holding that is known.
    epoch: u64,
    /// The newest that was our own.
    held_epoch: u64,
    moves: Moves,
    started: bool,
    stopping: bool,
    holds_address: bool,
    timers: Timers,
    /// When this router was last called, to notice that the program did not run.
    called_at: MonoTime,
    /// By how much a timer was late at most.
    latest_tick: Duration,
    /// When it was which time in UTC, as last told.
    utc: Option<(MonoTime, Duration)>,
    alarms: AlarmBook,
    actions: VecDeque<Action>,

    // Backup
    active: Option<ActiveSeen>,
    /// Interval of the Active; our own until one is heard.
    active_interval: Duration,
    /// Last evidence that an Active lives, or the beginning of listening: the Down interval counts from here.
    alive_at: MonoTime,
    /// Why the Down timer is shorter than the Down interval, if it is.
    gives_way: Option<Cause>,
    /// The link has been down since the last start.
    link_was_down: bool,
    /// The link came back just now and nobody was heard: no takeover before this.
    settles_at: Option<MonoTime>,
    /// A peer that is heard and not understood.
    conflict: Option<Conflict>,
    /// Another cluster with our identifier.
    foreign: Option<Foreign>,

    // Active
    announcing: Announcing,
    sent_at: MonoTime,
    /// When the address was put back after somebody removed it.
    restored: VecDeque<MonoTime>,
    /// Repetitions of priority 0 still to be sent.
    farewells: u8,
}

impl VirtualRouter {
    /// A router in Initialize that waits for [`Event::Started`].
    ///
    /// # Errors
    /// Settings that no virtual router can have.
    pub fn new(setup: Setup, now: MonoTime) -> Result<Self, SetupError> {
        Self::group(vec![setup], now)
    }

    /// Several that decide as one, for instance one for each family: when one of them cannot take part, none does; when one
    /// hears the Active, all do.
    ///
    /// # Errors
    /// Settings that no virtual router can have, or that are not the same for all members although they decide together.
    pub fn group(setups: Vec<Setup>, now: MonoTime) -> Result<Self, SetupError> {
        setups.iter().try_for_each(Setup::check)?;
        let setup = setups.first().cloned().ok_or(SetupError::NoMember)?;
        if let Some(other) = setups.iter().find(|other| !setup.decides_like(other)) {
            return Err(SetupError::Disagree { one: setup.address, other: other.address });
        }
        Ok(Self {
            active_interval: setup.interval,
            setup,
            members: setups.into_iter().map(Member::new).collect(),
            state: State::Initialize,
            since: now,
            cause: Cause::NotStarted,
            proxy: ProxyHealth::Dead,
            tracking: Tracking::default(),
            primary: true,
            maintenance: false,
            drained: false,
            aside: false,
            peers: Vec::with_capacity(PEERS),
            epoch: 0,
            held_epoch: 0,
            moves: Moves::default(),
            started: false,
            stopping: false,
            holds_address: false,
            timers: Timers::default(),
            called_at: now,
            latest_tick: Duration::ZERO,
            utc: None,
            alarms: AlarmBook::default(),
            actions: VecDeque::with_capacity(ACTIONS),
            active: None,
            alive_at: now,
            gives_way: None,
            link_was_down: false,
            settles_at: None,
            conflict: None,
            foreign: None,
            announcing: Announcing::default(),
            sent_at: MonoTime::default(),
            restored: VecDeque::with_capacity(active::RESTORE_LIMIT),
            farewells: 0,
        })
    }

    /// Something happened, to the only or the first member or to all.
    pub fn handle_event(&mut self, now: MonoTime, event: Event<'_>) {
        self.handle_event_of(now, 0, event);
    }

    /// Something happened. What concerns a link concerns that of this member, in the order of [`Self::group`]; one that
    /// there is not is ignored.
    pub fn handle_event_of(&mut self, now: MonoTime, member: usize, event: Event<'_>) {
        if member >= self.members.len() {
            return;
        }
        self.notice_gap(now);
        match event {
            Event::Started => self.start(now),
            Event::Resumed { epoch } => self.resume(now, epoch),
            Event::Received { source, packet } => self.receive(now, member, source, packet),
            Event::LinkUp { source } => self.link_up(now, member, source),
            Event::LinkDown { why } => self.link_down(now, member, why),
            Event::ProxyChanged(health) => self.proxy_changed(now, health),
            Event::Drained(drained) => self.drained_changed(now, drained),
            Event::TrackingChanged(tracking) => self.tracking_changed(now, tracking),
            Event::PrimaryChanged(there) => self.primary_changed(now, there),
            Event::MaintenanceChanged(on) => self.maintenance_changed(now, on),
            Event::PeerReported { peer, router } => self.peer_reported(now, peer, router),
            Event::PeerLost { peer } => self.peers.retain(|(other, _)| *other != peer),
            Event::AskedToTakeOver { peer, priority, epoch } => {
                self.asked_to_take_over(now, peer, priority, epoch);
            }
            Event::Tuned(tuning) => self.tuned(now, tuning),
            Event::AddressLost => self.address_lost(now),
            Event::StepAside => self.step_aside(now),
            Event::Stop => self.stop(now),
        }
    }

    /// What time it is, since 1970 in UTC. To be told from time to time, because clocks are set. Signatures are stamped with
    /// it, and holdings numbered from its milliseconds on, so that numbers grow also where hosts cannot tell each other:
    /// as long as their clocks are less apart than two moves. Nothing else depends on it.
    pub fn set_utc(&mut self, now: MonoTime, utc: Duration) {
        self.utc = Some((now, utc));
    }

    /// Zero if it was never told.
    fn utc(&self, now: MonoTime) -> Duration {
        self.utc.map_or(Duration::ZERO, |(at, utc)| utc + now.since(at))
    }

    /// The time asked for has come; harmless if it has not.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.notice_gap(now);
        self.notice_lateness(now);
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Down => self.down_interval_over(now),
                Timer::Preempt => self.preempt(now),
                Timer::Advertise => self.advertise(now),
                Timer::Announce => self.announce(now),
                Timer::Farewell => self.repeat_farewell(now),
                Timer::Aside => self.nobody_took_over(now),
            }
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.next()
    }

    /// The next thing to do; call until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How it looks now; the counters are those of the first member.
    pub fn status(&self, now: MonoTime) -> Status {
        self.status_of(now, 0)
    }

    /// The same with the counters of this member.
    pub fn status_of(&self, now: MonoTime, member: usize) -> Status {
        self.status_in(now, member, Vec::new())
    }

    /// The same, with its alarms in place of others, whose memory is used again.
    pub fn status_in(&self, now: MonoTime, member: usize, mut alarms: Vec<Alarm>) -> Status {
        alarms.clear();
        alarms.extend(self.alarms.current(now).cloned());
        Status {
            state: self.state,
            since: self.since,
            reason: self.cause.clone(),
            priority: self.priority(),
            proxy: self.proxy,
            epoch: self.epoch,
            held_epoch: self.held_epoch,
            moves: self.moves.count(now),
            active: self.active,
            holds_address: self.holds_address,
            down_interval: self.down_interval(),
            latest_tick: self.latest_tick,
            counters: self.members.get(member).map(|member| member.counters).unwrap_or_default(),
            alarms,
        }
    }

    /// What of its status others wait for.
    pub fn headline(&self) -> Headline {
        Headline { state: self.state, priority: self.priority(), epoch: self.epoch }
    }

    /// Whether it has left after [`Event::Stop`], so that the program may end once the actions are done.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Initialize && self.cause == Cause::Stopped
    }

    /// Whether advertisements may follow, the last ones of one that has left included.
    pub fn is_speaking(&self) -> bool {
        self.state == State::Active || self.timers.get(Timer::Farewell).is_some()
    }

    fn start(&mut self, now: MonoTime) {
        if self.started {
            return;
        }
        (self.started, self.stopping) = (true, false);
        self.push(Action::DropAddress);
        match (self.missing(), self.tracking.fault.clone()) {
            (None, None) => self.begin(now, Cause::Started),
            (None, Some(what)) => self.change(now, State::Fault, Cause::TrackFailed { what }),
            (Some(why), _) => self.change(now, State::Fault, Cause::LinkDown { why }),
        }
    }

    /// It can take part from now on: it listens first, unless it owns the address.
    fn begin(&mut self, now: MonoTime, because: Cause) {
        if self.is_owner() {
            self.become_active(now, Cause::OwnsAddress);
        } else {
            self.become_backup(now, because);
        }
    }

    /// Why the first member that has no link has none.
    fn missing(&self) -> Option<Arc<str>> {
        self.members.iter().find_map(|member| member.source.clone().err())
    }

    fn link_up(&mut self, now: MonoTime, member: usize, source: IpAddr) {
        self.members[member].source = Ok(source);
        if self.state != State::Fault {
            return;
        }
        if let Some(why) = self.missing() {
            self.cause = Cause::LinkDown { why };
            return;
        }
        if self.tracking.fault.is_some() {
            return;
        }
        self.begin(now, Cause::LinkUp);
        if std::mem::take(&mut self.link_was_down) && self.state == State::Backup {
            self.settle(now);
        }
    }

    fn link_down(&mut self, now: MonoTime, member: usize, why: Arc<str>) {
        let source = Err(why.clone());
        self.link_was_down = self.started;
        match self.state {
            State::Active if self.stopping => self.leave(now),
            State::Active | State::Backup => {
                if self.holds_address {
                    // Lost with a dead link; heard when only the address went, or over another member's link.
                    self.send(now, 0);
                    self.drop_address();
                }
                self.timers.clear_all();
                self.change(now, State::Fault, Cause::LinkDown { why });
            }
            State::Fault => self.cause = Cause::LinkDown { why },
            State::Initialize => {}
        }
        self.members[member].source = source;
    }

    fn proxy_changed(&mut self, now: MonoTime, health: ProxyHealth) {
        let from = self.priority();
        self.proxy = health;
        let to = self.priority();
        if from == to {
            return;
        }
        self.note(Reason::PriorityChanged { from, to, proxy: health });
        self.follow_priority(now, from, to);
    }

    fn drained_changed(&mut self, now: MonoTime, drained: bool) {
        let from = self.priority();
        self.drained = drained;
        let to = self.priority();
        if from != to {
            self.note(Reason::PriorityTracked { from, to });
            self.follow_priority(now, from, to);
        }
    }

    /// The own priority has become another.
    fn follow_priority(&mut self, now: MonoTime, from: u8, to: u8) {
        match self.state {
            State::Active if !self.stopping => {
                self.advertise(now);
                if self.has_fallen(from, to) {
                    self.ask_the_best_peer();
                }
            }
            State::Backup => self.reconsider(now),
            _ => {}
        }
    }

    fn primary_changed(&mut self, now: MonoTime, there: bool) {
        self.primary = there;
        if self.state == State::Backup {
            self.reconsider(now);
        }
    }

    fn maintenance_changed(&mut self, now: MonoTime, on: bool) {
        if std::mem::replace(&mut self.maintenance, on) == on {
            return;
        }
        self.note(if on { Reason::Frozen } else { Reason::Thawed });
        if self.state == State::Backup {
            self.reconsider(now);
        }
    }

    fn stop(&mut self, now: MonoTime) {
        if self.stopping || self.is_stopped() {
            return;
        }
        self.stopping = true;
        self.timers.clear_all();
        if self.state != State::Active {
            self.leave(now);
        } else if !self.relieved_on_stop(now) {
            self.begin_farewell(now);
        }
    }

    /// The end of a stop.
    fn leave(&mut self, now: MonoTime) {
        self.drop_address();
        self.timers.clear_all();
        (self.started, self.stopping, self.aside) = (false, false, false);
        self.change(now, State::Initialize, Cause::Stopped);
    }

    /// A program that did not run for longer than the Down interval has been replaced by somebody else meanwhile: it
    /// begins anew, listening first. An Active shows it by the missing advertisements, a Backup only by a timer that
    /// is long overdue, because its timer may rightly take the whole interval.
    fn notice_gap(&mut self, now: MonoTime) {
        let gap = now.since(self.called_at);
        self.called_at = now;
        let overdue = self.timers.next().map_or(Duration::ZERO, |due| now.since(due));
        if gap <= self.down_interval() || overdue <= self.setup.interval || self.stopping {
            return;
        }
        if matches!(self.state, State::Active | State::Backup) {
            self.timers.clear(Timer::Farewell);
            self.become_backup(now, Cause::WokeUp { gap });
        }
    }

    /// Less than a gap, but a reason to look at the machine.
    fn notice_lateness(&mut self, now: MonoTime) {
        let late = self.timers.next().map_or(Duration::ZERO, |due| now.since(due));
        if late < self.setup.interval / 4 {
            return;
        }
        for Member { counters, .. } in &mut self.members {
            counters.late_ticks += 1;
        }
        self.latest_tick = self.latest_tick.max(late);
        if late >= self.setup.interval {
            self.notice(now, AlarmKind::LateTick { by: late }, None);
        }
    }

    fn change(&mut self, now: MonoTime, to: State, because: Cause) {
        let from = self.state;
        (self.state, self.since, self.cause) = (to, now, because.clone());
        if from == State::Active || to == State::Active {
            self.moves.moved(now);
        }
        for Member { counters, .. } in &mut self.members {
            counters.transitions += 1;
            counters.became_active += u64::from(to == State::Active);
        }
        self.note(Reason::Changed { from, to, because });
    }

    fn tier(&self) -> Tier {
        Tier::from(self.health())
    }

    /// The proxy's health as it counts: an Active that steps aside is as one whose proxy drains.
    fn health(&self) -> ProxyHealth {
        if self.aside && self.state == State::Active {
            self.proxy.min(ProxyHealth::Draining)
        } else {
            self.proxy
        }
    }

    fn down_interval(&self) -> Duration {
        let interval = match self.state {
            State::Active => self.setup.interval,
            _ => self.active_interval,
        };
        timers::down_interval(self.setup.version, self.priority(), interval)
    }

    fn skew(&self) -> Duration {
        timers::skew(self.setup.version, self.priority(), self.active_interval)
    }

    fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn note(&mut self, reason: Reason) {
        self.push(Action::Note(reason));
    }

    fn notice(&mut self, now: MonoTime, kind: AlarmKind, source: Option<IpAddr>) {
        if let Some(alarm) = self.alarms.record(now, kind, source) {
            self.note(Reason::Noticed(alarm));
        }
    }
}
