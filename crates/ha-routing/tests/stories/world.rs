//! A world for the router: agents that push claims, REST interfaces that answer checks, and a diary of what it did.

use std::collections::BTreeMap;

use ha_core::{Epoch, MonoTime};
use ha_routing::{Action, Check, Claim, Event, Route, RouteState, Router, Setup};

use crate::samples::name;

/// How often an agent that has nothing new repeats its claim, in milliseconds.
const PUSH_EVERY: u64 = 500;

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) diary: Vec<String>,
    /// What each agent repeats; without an entry its stream is silent.
    agents: BTreeMap<String, Claim>,
    /// What each REST interface answers; without an entry it does not.
    rest: BTreeMap<String, Check>,
    /// Checks are begun and never end.
    checks_hang: bool,
    sequence: u64,
    now: u64,
    next_push: u64,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let now = 1_000_000;
        let router = Router::new(setup, at(now));
        let mut world = Self {
            router,
            diary: Vec::new(),
            agents: BTreeMap::new(),
            rest: BTreeMap::new(),
            checks_hang: false,
            sequence: 0,
            now,
            next_push: now + PUSH_EVERY,
        };
        world.drain();
        world
    }

    /// An agent pushes this now and repeats it.
    pub(crate) fn pushes(&mut self, claim: Claim) {
        self.agents.insert(claim.member.to_string(), claim.clone());
        self.push(claim);
    }

    /// An agent's stream ends.
    pub(crate) fn stream_ends(&mut self, member: &str) {
        self.agents.remove(member);
        self.happens(Event::StreamLost { member: name(member), why: "connection reset".to_owned() });
    }

    /// An agent pushes nothing any more, without an end of its stream.
    pub(crate) fn falls_silent(&mut self, member: &str) {
        self.agents.remove(member);
    }

    /// A REST interface answers like this from now on.
    pub(crate) fn answers(&mut self, member: &str, check: Check) {
        self.rest.insert(member.to_owned(), check);
    }

    /// A REST interface answers no more.
    pub(crate) fn answers_no_more(&mut self, member: &str) {
        self.rest.remove(member);
    }

    /// Checks are begun and end no more.
    pub(crate) fn checks_hang(&mut self) {
        self.checks_hang = true;
    }

    /// Time passes in which the router's host is suspended.
    pub(crate) fn is_suspended(&mut self, ms: u64) {
        self.now += ms;
        self.next_push = self.now + PUSH_EVERY;
    }

    pub(crate) fn happens(&mut self, event: Event) {
        self.router.handle_event(at(self.now), event);
        self.drain();
    }

    /// Time passes; agents push and the router is woken when it wants to be.
    pub(crate) fn passes(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let wanted = self.router.poll_timeout().map_or(u64::MAX, |at| at.0.div_ceil(1_000_000));
            assert!(wanted > self.now, "a timeout that does not lie ahead wakes the driver for ever");
            let next = wanted.min(self.next_push);
            if next > end {
                break;
            }
            self.now = next;
            if next == self.next_push {
                self.next_push += PUSH_EVERY;
                for claim in self.agents.values().cloned().collect::<Vec<_>>() {
                    self.push(claim);
                }
            }
            self.router.handle_timeout(at(self.now));
            self.drain();
        }
        self.now = end;
    }

    /// The diary since the last call.
    pub(crate) fn story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.diary)
    }

    /// The table as it is now.
    pub(crate) fn table(&self) -> std::sync::Arc<ha_routing::Table> {
        self.router.table()
    }

    /// Where new write sessions go: `open pg1 @6`, or `holding: why`.
    pub(crate) fn writes(&self) -> String {
        self.describe(&self.router.table().writes)
    }

    /// Where new read sessions go.
    pub(crate) fn reads(&self) -> String {
        self.describe(&self.router.table().reads)
    }

    fn describe(&self, route: &Route) -> String {
        let table = self.table();
        let names: Vec<&str> = route.upstreams.iter().map(|&i| table.upstreams[i].member.as_str()).collect();
        match route.state {
            RouteState::Open if route.epoch == Epoch(0) => format!("open {}", names.join(" ")),
            RouteState::Open => format!("open {} @{}", names.join(" "), route.epoch),
            RouteState::Holding => format!("holding: {}", route.reason),
            RouteState::Refusing => format!("refusing: {}", route.reason),
        }
    }

    fn push(&mut self, claim: Claim) {
        self.sequence += 1;
        let claim = Claim { sequence: self.sequence, ..claim };
        self.happens(Event::Claimed(claim));
    }

    fn drain(&mut self) {
        let mut before = (String::new(), String::new());
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::PutInForce(table) => {
                    let now = (self.describe(&table.writes), self.describe(&table.reads));
                    if now != before {
                        self.diary.push(format!("in force: writes {}", now.0));
                    }
                    before = now;
                }
                Action::Cut { member, which, reason } => {
                    self.diary.push(format!("cut {which:?} of {member}: {reason}"));
                }
                Action::Confirm { member, sequence } if sequence > 0 => {
                    self.diary.push(format!("confirm {member}"));
                }
                Action::Check { .. } if self.checks_hang => {}
                Action::Check { member } => {
                    let silent = Check::NoAnswer { why: "timed out".to_owned() };
                    let check = self.rest.get(member.as_str()).cloned().unwrap_or(silent);
                    self.happens_later(Event::Checked { member, check });
                }
                Action::Note(reason) if reason.needs_a_human() => {
                    self.diary.push(format!("alarm: {reason}"));
                }
                Action::Confirm { .. } | Action::Note(_) => {}
            }
        }
    }

    /// An answer arrives in the same millisecond, after the actions at hand.
    fn happens_later(&mut self, event: Event) {
        self.router.handle_event(at(self.now), event);
    }
}

fn at(ms: u64) -> MonoTime {
    MonoTime(ms * 1_000_000)
}
