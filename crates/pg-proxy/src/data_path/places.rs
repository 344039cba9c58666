//! Who may connect to which PostgreSQL, and who waits: for a server with the wanted role, or for a place at one.
//!
//! Touched a few times per session, never while bytes pass, so one lock for all workers is enough and keeps the
//! order of arrival exact over all of them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ha_core::Epoch;
use ha_routing::balance::{Balance, Candidate, Choice, Share, Turns};
use ha_routing::{Route, RouteState, Table};
use tokio::sync::Notify;

use super::{Gauge, Port, RouteCounters, Settings, UpstreamCounters};
use crate::read_lease::ReadLeases;

mod backoff;
#[cfg(test)]
mod tests;

use backoff::Backoff;

/// Sessions of this proxy that may be between connect and the server's first word at one PostgreSQL. Each costs it a
/// fork; all held clients at once, right after a promotion, would be a second outage.
const OPENINGS_AT_ONCE: u32 = 32;

/// What bounds the waiting.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) upstream_connections: u32,
    pub(super) queue_timeout: Duration,
    pub(super) hold_timeout: Duration,
    pub(super) balance: Balance,
}

impl Limits {
    /// Those of these settings.
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            upstream_connections: settings.upstream_connections,
            queue_timeout: settings.queue_timeout,
            hold_timeout: settings.hold_timeout,
            balance: settings.balance,
        }
    }
}

/// Why a client got no place. The text names the reason for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// No server with the wanted role, and none is expected soon.
    Refused(String),
    /// None came in time.
    HoldExpired(String),
    /// All places were taken for too long.
    QueueExpired,
}

#[derive(Debug)]
pub(super) struct Places {
    /// What each upstream is to this proxy.
    shares: Vec<Share>,
    table: Arc<ArcSwap<Table>>,
    state: Mutex<State>,
    /// Told when the first client begins to wait: from then on somebody must call [`Places::tick`].
    pub(super) somebody_waits: Notify,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    next_ticket: u64,
    ports: [PortState; 2],
    upstreams: Vec<UpstreamState>,
    /// Its hashes are random enough to draw by.
    dice: RandomState,
    /// Answers for tickets that have not fetched them yet.
    settled: HashMap<u64, Result<usize, NoPlace>>,
}

#[derive(Debug)]
struct PortState {
    /// By ticket, which is the order of arrival.
    waiting: BTreeMap<u64, Waiter>,
    turns: Turns,
    wait: Wait,
    /// Since when `wait` is what it is.
    wait_since: Instant,
    /// Clients that wait.
    queue: Gauge,
    /// By upstream: sessions of this port that hold a place there.
    sessions: Vec<Gauge>,
}

/// What the clients of a port wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Upstream,
    Place,
}

#[derive(Debug)]
struct Waiter {
    joined: Instant,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct UpstreamState {
    sessions: u32,
    /// Of these, sessions that the server has not said a word to yet.
    openings: u32,
    backoff: Backoff,
}

impl Places {
    pub(super) fn new(shares: Vec<Share>, limits: Limits, table: Arc<ArcSwap<Table>>, now: Instant) -> Self {
        let count = shares.len();
        let port = || PortState {
            waiting: BTreeMap::new(),
            turns: Turns::new(count),
            wait: Wait::Upstream,
            wait_since: now,
            queue: Gauge::default(),
            sessions: vec![Gauge::default(); count],
        };
        let state = State {
            limits,
            next_ticket: 0,
            ports: [port(), port()],
            upstreams: (0..count).map(|_| UpstreamState::default()).collect(),
            dice: RandomState::new(),
            settled: HashMap::new(),
        };
        Self { shares, table, state: Mutex::new(state), somebody_waits: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a place. `joined` is when the client first asked: one whose server failed comes back with it, and
    /// keeps its turn with its old `number`.
    pub(super) fn ask(self: &Arc<Self>, port: Port, joined: Instant, number: Option<u64>) -> Ticket {
        let mut state = self.state();
        let number = number.unwrap_or_else(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        state.ports[port.index()].waiting.insert(number, Waiter { joined, waker: None });
        self.serve(&mut state, port, Instant::now());
        if !state.settled.contains_key(&number) {
            state.note_queue(port);
            self.somebody_waits.notify_one();
        }
        drop(state);
        Ticket { places: Arc::clone(self), port, number, done: false }
    }

    /// The table changed: serves everybody it allows to, and tries servers again that failed before.
    pub(super) fn table_changed(&self) {
        let now = Instant::now();
        let mut state = self.state();
        for upstream in &mut state.upstreams {
            upstream.backoff.lift();
        }
        self.serve_all(&mut state, now);
    }

    /// Other limits are in force: there may be room for those who wait.
    pub(super) fn change_limits(&self, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        self.serve_all(&mut state, Instant::now());
    }

    /// Ends waits that took too long and tries servers whose pause is over. Returns whether anybody still waits.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut state = self.state();
        self.serve_all(&mut state, now);
        for port in [Port::Writes, Port::Reads] {
            self.expire(&mut state, port, now);
        }
        state.ports.iter().any(|port| !port.waiting.is_empty())
    }

    /// By port: who waits, and who holds a place at each upstream.
    pub(super) fn counters(&self) -> [RouteCounters; 2] {
        let mut state = self.state();
        [Port::Writes, Port::Reads].map(|port| {
            state.note_queue(port);
            let of = &state.ports[port.index()];
            let upstream = |&sessions| UpstreamCounters { sessions, ..UpstreamCounters::default() };
            RouteCounters {
                waiting: of.queue,
                upstreams: of.sessions.iter().map(upstream).collect(),
                ..RouteCounters::default()
            }
        })
    }

    /// Whether the table in force leads sessions of `port` to `upstream`.
    pub(super) fn allows(&self, port: Port, upstream: usize) -> bool {
        let table = self.table.load();
        let route = port.route(&table);
        route.state == RouteState::Open && route.upstreams.contains(&upstream)
    }

    /// A session could not be connected: nobody tries this server for a moment.
    pub(super) fn failed(&self, upstream: usize, why: &str, now: Instant) {
        self.state().upstreams[upstream].backoff.failed(now, why);
    }

    /// A session was connected and the server said its first word.
    pub(super) fn answered(&self, upstream: usize) {
        self.state().upstreams[upstream].backoff.reset();
    }

    fn serve_all(&self, state: &mut State, now: Instant) {
        self.serve(state, Port::Writes, now);
        self.serve(state, Port::Reads, now);
    }

    /// Gives out places in the order of arrival as long as there are any.
    fn serve(&self, state: &mut State, port: Port, now: Instant) {
        let table = self.table.load();
        let route = port.route(&table);
        if route.state == RouteState::Refusing {
            while let Some(number) = state.first(port) {
                state.settle(port, number, Err(NoPlace::Refused(route.reason.clone())));
            }
            return;
        }
        let mut wait = Wait::Upstream;
        while let Some(number) = state.first(port) {
            match self.next_upstream(state, route, port, number, now) {
                Choice::Take(upstream) => {
                    state.upstreams[upstream].sessions += 1;
                    state.upstreams[upstream].openings += 1;
                    let of_port = &mut state.ports[port.index()].sessions[upstream];
                    of_port.set(of_port.now + 1);
                    state.settle(port, number, Ok(upstream));
                    continue;
                }
                Choice::Full => wait = Wait::Place,
                Choice::Empty => wait = Wait::Upstream,
            }
            break;
        }
        let waits = &mut state.ports[port.index()];
        if waits.wait != wait && !waits.waiting.is_empty() {
            waits.wait = wait;
            waits.wait_since = now;
        }
    }

    /// The upstream that the next session of `port`, which has this ticket, goes to.
    fn next_upstream(
        &self,
        state: &mut State,
        route: &Route,
        port: Port,
        number: u64,
        now: Instant,
    ) -> Choice {
        if route.state != RouteState::Open {
            return Choice::Empty;
        }
        let (limit, balance) = (state.limits.upstream_connections, state.limits.balance);
        let candidate = |&upstream: &usize| {
            let of = state.upstreams.get(upstream).filter(|of| !of.backoff.pauses(now))?;
            let sessions = if of.openings >= OPENINGS_AT_ONCE { limit } else { of.sessions };
            Some(Candidate { upstream, sessions, limit, share: self.shares[upstream] })
        };
        let candidates: Vec<Candidate> = route.upstreams.iter().filter_map(candidate).collect();
        let dice = state.dice.hash_one(number);
        state.ports[port.index()].turns.choose(balance, dice, &candidates)
    }

    /// Sends away the clients of a port whose patience is used up.
    fn expire(&self, state: &mut State, port: Port, now: Instant) {
        let waits = &state.ports[port.index()];
        let patience = match waits.wait {
            Wait::Upstream => state.limits.hold_timeout,
            Wait::Place => state.limits.queue_timeout,
        };
        // A wait that turns from one kind into the other begins anew, but not for ever.
        let longest = state.limits.hold_timeout + state.limits.queue_timeout;
        let over = |waiter: &Waiter| {
            now.duration_since(waiter.joined.max(waits.wait_since)) >= patience
                || now.duration_since(waiter.joined) >= longest
        };
        let expired: Vec<u64> =
            waits.waiting.iter().filter(|(_, waiter)| over(waiter)).map(|(number, _)| *number).collect();
        if expired.is_empty() {
            return;
        }
        let why = match waits.wait {
            Wait::Upstream => NoPlace::HoldExpired(self.why_none(state, port)),
            Wait::Place => NoPlace::QueueExpired,
        };
        for number in expired {
            state.settle(port, number, Err(why.clone()));
        }
    }

    /// Why no upstream takes sessions of `port` now.
    fn why_none(&self, state: &State, port: Port) -> String {
        let table = self.table.load();
        let route = port.route(&table);
        let failure =
            || route.upstreams.iter().find_map(|upstream| state.upstreams.get(*upstream)?.backoff.why());
        match route.state {
            RouteState::Open => failure().unwrap_or(&route.reason).to_owned(),
            _ => route.reason.clone(),
        }
    }
}

impl State {
    fn first(&self, port: Port) -> Option<u64> {
        self.ports[port.index()].waiting.keys().next().copied()
    }

    fn note_queue(&mut self, port: Port) {
        let port = &mut self.ports[port.index()];
        port.queue.set(u32::try_from(port.waiting.len()).unwrap_or(u32::MAX));
    }

    fn settle(&mut self, port: Port, number: u64, answer: Result<usize, NoPlace>) {
        let waiter = self.ports[port.index()].waiting.remove(&number);
        self.settled.insert(number, answer);
        if let Some(waker) = waiter.and_then(|waiter| waiter.waker) {
            waker.wake();
        }
    }

    fn opened(&mut self, upstream: usize) {
        let upstream = &mut self.upstreams[upstream];
        upstream.openings = upstream.openings.saturating_sub(1);
    }
}

impl Port {
    /// Position of what there is for each port.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Writes => 0,
            Self::Reads => 1,
        }
    }

    /// Where the table leads sessions of this port.
    pub(super) fn route(self, table: &Table) -> &Route {
        match self {
            Self::Writes => &table.writes,
            Self::Reads => &table.reads,
        }
    }
}

/// A client's turn in the queue. Dropping it gives up the turn, and the place if it was given one meanwhile.
#[derive(Debug)]
pub(super) struct Ticket {
    places: Arc<Places>,
    port: Port,
    number: u64,
    done: bool,
}

impl Ticket {
    /// Place in the order of arrival; see [`Places::ask`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Future for Ticket {
    type Output = Result<Place, NoPlace>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.places.state();
        if let Some(answer) = state.settled.remove(&self.number) {
            drop(state);
            self.done = true;
            let places = Arc::clone(&self.places);
            return Poll::Ready(answer.map(|upstream| Place {
                places,
                port: self.port,
                upstream,
                opening: true,
                leads: None,
            }));
        }
        if let Some(waiter) = state.ports[self.port.index()].waiting.get_mut(&self.number) {
            waiter.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.places.state();
        state.ports[self.port.index()].waiting.remove(&self.number);
        let given = state.settled.remove(&self.number);
        drop(state);
        if let Some(Ok(upstream)) = given {
            let (places, port) = (Arc::clone(&self.places), self.port);
            drop(Place { places, port, upstream, opening: true, leads: None });
        }
    }
}

/// A session's place at a PostgreSQL; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    port: Port,
    upstream: usize,
    opening: bool,
    /// The leadership for which the session was led there, where answers pass only while it has a read lease.
    leads: Option<Epoch>,
}

impl Place {
    /// From now on answers pass only while this upstream leads this epoch, and nobody else can.
    pub(super) fn rests_on_lease(&mut self, epoch: Epoch) {
        self.leads = Some(epoch);
    }

    /// Whether what the server said until now may be passed on.
    pub(super) fn may_answer(&self, leases: Option<&ReadLeases>) -> bool {
        match (self.leads, leases) {
            (Some(epoch), Some(leases)) => leases.holds(self.upstream, epoch),
            _ => true,
        }
    }

    /// Index of the upstream.
    pub(super) fn upstream(&self) -> usize {
        self.upstream
    }

    /// The server said its first word: it has forked, the next client may come.
    pub(super) fn opened(&mut self) {
        if std::mem::take(&mut self.opening) {
            let mut state = self.places.state();
            state.opened(self.upstream);
            self.places.serve_all(&mut state, Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if self.opening {
            state.opened(self.upstream);
        }
        let upstream = &mut state.upstreams[self.upstream];
        upstream.sessions = upstream.sessions.saturating_sub(1);
        let of_port = &mut state.ports[self.port.index()].sessions[self.upstream];
        of_port.set(of_port.now.saturating_sub(1));
        self.places.serve_all(&mut state, Instant::now());
    }
}
