//! The virtual router: decides when this host holds the floating address.
//!
//! This file has the five methods and what belongs to every state; what a received packet is worth is judged in
//! `validation`, and what it leads to in `backup` and `active`.

mod active;
mod backup;
mod member;
mod signing;
mod validation;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use ha_core::MonoTime;

use crate::action::Action;
use crate::alarm::{AlarmBook, AlarmKind};
use crate::announcing::Announcing;
use crate::event::Event;
use crate::priority::{self, Tier};
use crate::reason::{Cause, Reason};
use crate::setup::{Setup, SetupError};
use crate::state::{ActiveSeen, State, Status};
use crate::timers::{self, Timer, Timers};
use crate::tracking::ProxyHealth;

use backup::{Conflict, Foreign};
use member::Member;

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
    /// An operator wants another host to hold the address.
    aside: bool,
    started: bool,
    stopping: bool,
    holds_address: bool,
    timers: Timers,
    /// When this router was last called, to notice that the program did not run.
    called_at: MonoTime,
    /// When it was which time in UTC, as last told; for signatures only.
    utc: (MonoTime, Duration),
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
            aside: false,
            started: false,
            stopping: false,
            holds_address: false,
            timers: Timers::default(),
            called_at: now,
            utc: (now, Duration::ZERO),
            alarms: AlarmBook::default(),
            actions: VecDeque::new(),
            active: None,
            alive_at: now,
            gives_way: None,
            link_was_down: false,
            settles_at: None,
            conflict: None,
            foreign: None,
            announcing: Announcing::default(),
            sent_at: MonoTime::default(),
            restored: VecDeque::new(),
            farewells: 0,
        })
    }

    /// Something happened, to the only or the first member or to all.
    pub fn handle_event(&mut self, now: MonoTime, event: Event) {
        self.handle_event_of(now, 0, event);
    }

    /// Something happened. What concerns a link concerns that of this member, in the order of [`Self::group`]; one that
    /// there is not is ignored.
    pub fn handle_event_of(&mut self, now: MonoTime, member: usize, event: Event) {
        if member >= self.members.len() {
            return;
        }
        self.notice_gap(now);
        match event {
            Event::Started => self.start(now),
            Event::Received { source, packet } => self.receive(now, member, source, &packet),
            Event::LinkUp { source } => self.link_up(now, member, source),
            Event::LinkDown { why } => self.link_down(now, member, why),
            Event::ProxyChanged(health) => self.proxy_changed(now, health),
            Event::AddressLost => self.address_lost(now),
            Event::StepAside => self.step_aside(now),
            Event::Stop => self.stop(now),
        }
    }

    /// What time it is, since 1970 in UTC; signatures are stamped with it. To be told from time to time, because clocks are
    /// set. Nothing else depends on it.
    pub fn set_utc(&mut self, now: MonoTime, utc: Duration) {
        self.utc = (now, utc);
    }

    fn utc(&self, now: MonoTime) -> Duration {
        let (at, utc) = self.utc;
        utc + now.since(at)
    }

    /// The time asked for has come; harmless if it has not.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.notice_gap(now);
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
        Status {
            state: self.state,
            since: self.since,
            reason: self.cause.clone(),
            priority: self.priority(),
            proxy: self.proxy,
            active: self.active,
            holds_address: self.holds_address,
            down_interval: self.down_interval(),
            counters: self.members.get(member).map(|member| member.counters).unwrap_or_default(),
            alarms: self.alarms.current(now),
        }
    }

    /// Whether it has left after [`Event::Stop`], so that the program may end once the actions are done.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Initialize && self.cause == Cause::Stopped
    }

    fn start(&mut self, now: MonoTime) {
        if self.started {
            return;
        }
        (self.started, self.stopping) = (true, false);
        self.push(Action::DropAddress);
        match self.missing() {
            None => self.become_backup(now, Cause::Started),
            Some(why) => self.change(now, State::Fault, Cause::LinkDown { why }),
        }
    }

    /// Why the first member that has no link has none.
    fn missing(&self) -> Option<String> {
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
        self.become_backup(now, Cause::LinkUp);
        if std::mem::take(&mut self.link_was_down) {
            self.settle(now);
        }
    }

    fn link_down(&mut self, now: MonoTime, member: usize, why: String) {
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
        match self.state {
            State::Active if !self.stopping => self.advertise(now),
            State::Backup => self.reconsider(now),
            _ => {}
        }
    }

    fn stop(&mut self, now: MonoTime) {
        if self.stopping || self.is_stopped() {
            return;
        }
        self.stopping = true;
        self.timers.clear_all();
        if self.state == State::Active {
            self.begin_farewell(now);
        } else {
            self.leave(now);
        }
    }

    /// The end of a stop.
    fn leave(&mut self, now: MonoTime) {
        self.drop_address();
        self.timers.clear_all();
        (self.started, self.stopping) = (false, false);
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

    fn change(&mut self, now: MonoTime, to: State, because: Cause) {
        let from = self.state;
        (self.state, self.since, self.cause) = (to, now, because.clone());
        for Member { counters, .. } in &mut self.members {
            counters.transitions += 1;
            counters.became_active += u64::from(to == State::Active);
        }
        self.note(Reason::Changed { from, to, because });
    }

    fn priority(&self) -> u8 {
        priority::effective(self.health(), if self.aside { 0 } else { self.setup.preference })
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
