//! One thread that relays: its sessions, and the orders it takes.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, thread};

use arc_swap::ArcSwap;
use ha_core::MemberName;
use ha_routing::Sessions;
use ha_routing::silence::{LastWord, Patience, Side};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::MissedTickBehavior;

use super::accept::{self, Accepting};
use super::cancel_keys::CancelKeys;
use super::counting::{OpenCount, UpstreamCount, WorkerCounters};
use super::places::Places;
use super::processors;
use super::session::Session;
use super::session_log::SessionLog;
use super::{Options, Port, SessionReport, Settings};

/// How often each thread shows that it is not stuck.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_millis(100);

/// What all threads of the data path share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What was known at the start.
    pub(super) options: Options,
    /// What is in force now.
    pub(super) settings: ArcSwap<Settings>,
    pub(super) places: Arc<Places>,
    pub(super) cancel_keys: Arc<CancelKeys>,
    pub(super) reports: UnboundedSender<SessionReport>,
    /// Client sessions open now, at most `max_connections`.
    pub(super) open: AtomicU32,
    /// Connections beyond that, which are about to be refused, or carry a cancel request.
    pub(super) beyond: AtomicU32,
    /// Of these and those within the limit, by port.
    pub(super) open_by_port: [OpenCount; 2],
    /// Listeners that are not closed.
    pub(super) doors: AtomicU32,
    pub(super) session_log: SessionLog,
    /// By upstream: its last connection failed, as was reported.
    pub(super) failing: Vec<AtomicBool>,
    pub(super) lines_dropped: AtomicU64,
    pub(super) started: Instant,
}

impl Shared {
    pub(super) fn member(&self, upstream: usize) -> &MemberName {
        &self.options.upstreams[upstream].0
    }

    pub(super) fn address(&self, upstream: usize) -> SocketAddr {
        self.options.upstreams[upstream].1
    }

    /// Tells the driver; when it is gone, nobody wants to know.
    pub(super) fn report(&self, report: SessionReport) {
        drop(self.reports.send(report));
    }

    /// Milliseconds since the start.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a worker is told. The queue has no bound of its own: no more connections are handed over than
/// the limits allow, and the driver's orders are few.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this client.
    Serve { client: TcpStream, from: SocketAddr, port: Port, admitted: bool },
    /// Accept clients from now on; one worker does.
    Accept(Box<Accepting>),
    /// End the sessions of one upstream.
    Cut { upstream: usize, which: Sessions, reason: Arc<str> },
    /// End the sessions that are idle outside a transaction, and every other one when it comes to that.
    CutIdle,
    /// End all sessions.
    CutAll,
    /// End the thread.
    Stop,
}

/// The outside of a worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) orders: UnboundedSender<Order>,
    pub(super) counters: Arc<WorkerCounters>,
    /// Connections that it has; the next one goes to the worker with the fewest.
    pub(super) load: Arc<AtomicU32>,
    /// When it showed its last sign of life, see [`Shared::now_ms`].
    pub(super) seen_ms: Arc<AtomicU64>,
}

/// Starts a worker, which stays on that processor if there is one.
pub(super) fn spawn(
    number: usize,
    processor: Option<usize>,
    shared: &Arc<Shared>,
) -> io::Result<WorkerHandle> {
    let (orders, received) = tokio::sync::mpsc::unbounded_channel();
    let handle = WorkerHandle {
        orders,
        counters: Arc::new(WorkerCounters::new(shared.options.upstreams.len())),
        load: Arc::default(),
        seen_ms: Arc::new(AtomicU64::new(shared.now_ms())),
    };
    let (shared, counters) = (Arc::clone(shared), Arc::clone(&handle.counters));
    let (load, seen_ms) = (Arc::clone(&handle.load), Arc::clone(&handle.seen_ms));
    // The runtime must be built on its own thread; whether that worked is told before anybody relies on it.
    let (built, outcome) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("relay-{number}")).spawn(
        move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                if let Some(processor) = processor {
                    processors::stay_on(processor);
                }
                drop(built.send(Ok(())));
                let worker = Rc::new(Worker::new(shared, counters, load));
                runtime.block_on(run(worker, received, seen_ms));
            }
            Err(error) => {
                drop(built.send(Err(error)));
            }
        },
    )?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(handle)
}

async fn run(worker: Rc<Worker>, mut orders: UnboundedReceiver<Order>, seen_ms: Arc<AtomicU64>) {
    let mut life = tokio::time::interval(SIGN_OF_LIFE);
    life.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Serve { client, from, port, admitted }) => {
                    worker.take_over(client, from, port, admitted);
                }
                Some(Order::Accept(accepting)) => accept::begin(&worker, *accepting),
                Some(Order::Cut { upstream, which, reason }) => worker.cut(upstream, which, &reason),
                Some(Order::CutIdle) => worker.cut_idle(),
                Some(Order::CutAll) => worker.cut_all(),
                Some(Order::Stop) | None => return,
            },
            _ = life.tick() => {
                let now = worker.shared.now_ms();
                seen_ms.store(now, Ordering::Relaxed);
                worker.end_silent(now / 1000);
            }
        }
    }
}

/// One worker as its sessions see it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<WorkerCounters>,
    load: Arc<AtomicU32>,
    roster: RefCell<Roster>,
    /// Seconds since the start, exact to a tenth.
    second: Cell<u32>,
    /// Sessions end when they are idle.
    leaves: Cell<bool>,
}

/// The sessions of a worker, so that they can be cut. Entries are used again.
#[derive(Debug, Default)]
struct Roster {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    waker: Option<Waker>,
    cut: Option<CutOrder>,
    /// The upstream whose loss would end the session.
    upstream: Option<u16>,
    reads: bool,
    taken: bool,
    /// Of a session that has its server.
    word: Option<LastWord>,
}

/// Why a session has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CutOrder {
    /// Its server lost the role for which the session was led there.
    RoleLost(Arc<str>),
    /// The proxy ends.
    ShuttingDown,
    /// This side left the other waiting for too long.
    Silent(Side),
}

impl Worker {
    fn new(shared: Arc<Shared>, counters: Arc<WorkerCounters>, load: Arc<AtomicU32>) -> Self {
        let (roster, second, leaves) = (RefCell::default(), Cell::new(0), Cell::new(false));
        Self { shared, counters, load, roster, second, leaves }
    }

    /// Ends the sessions that have been silent for too long, once in each second.
    fn end_silent(&self, second: u64) {
        let second = u32::try_from(second).unwrap_or(u32::MAX);
        if self.second.replace(second) == second {
            return;
        }
        // The limits may have changed.
        let settings = self.shared.settings.load();
        let patience = Patience::new(settings.client_timeout, settings.server_timeout);
        if patience.is_limited() {
            self.order(|entry| patience.exhausted(entry.word?, second).map(CutOrder::Silent));
        }
    }

    /// Serves a client that this thread has accepted.
    pub(super) fn serve(
        self: &Rc<Self>,
        client: tokio::net::TcpStream,
        from: SocketAddr,
        port: Port,
        admitted: bool,
    ) {
        let seat = Seat::take(Rc::clone(self), port, admitted);
        self.counters.sessions_total.add(1);
        self.counters.of(port).sessions_total.add(1);
        drop(tokio::task::spawn_local(Session::new(client, from, seat)));
    }

    /// Serves a client that another thread has accepted.
    fn take_over(self: &Rc<Self>, client: TcpStream, from: SocketAddr, port: Port, admitted: bool) {
        match tokio::net::TcpStream::from_std(client) {
            Ok(client) => self.serve(client, from, port, admitted),
            Err(error) => {
                tracing::warn!(%error, "cannot watch an accepted connection");
                drop(Seat::take(Rc::clone(self), port, admitted));
            }
        }
    }

    fn cut(&self, upstream: usize, which: Sessions, reason: &Arc<str>) {
        self.order(|entry| {
            let port_matches = match which {
                Sessions::Writes => !entry.reads,
                Sessions::Reads => entry.reads,
                Sessions::All => true,
            };
            let concerned = port_matches && entry.upstream.map(usize::from) == Some(upstream);
            concerned.then(|| CutOrder::RoleLost(Arc::clone(reason)))
        });
    }

    /// Whether a session is to end when it is idle.
    pub(super) fn leaves(&self) -> bool {
        self.leaves.get()
    }

    /// Each session looks at itself: only it knows whether it is idle.
    fn cut_idle(&self) {
        self.leaves.set(true);
        for entry in self.roster.borrow_mut().entries.iter_mut().filter(|entry| entry.taken) {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    fn cut_all(&self) {
        self.order(|_| Some(CutOrder::ShuttingDown));
    }

    fn order(&self, order: impl Fn(&Entry) -> Option<CutOrder>) {
        for entry in self.roster.borrow_mut().entries.iter_mut().filter(|entry| entry.taken) {
            if let Some(order) = order(entry) {
                entry.cut = Some(order);
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

/// A session's entry in the roster of its worker, and its share of the limits. Given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    worker: Rc<Worker>,
    entry: u32,
    admitted: bool,
    port: Port,
}

impl Seat {
    fn take(worker: Rc<Worker>, port: Port, admitted: bool) -> Self {
        let mut roster = worker.roster.borrow_mut();
        let roster = &mut *roster;
        let entry = roster.free.pop().unwrap_or_else(|| {
            roster.entries.push(Entry::default());
            u32::try_from(roster.entries.len() - 1).unwrap_or(u32::MAX)
        });
        roster.entries[entry as usize] =
            Entry { reads: port == Port::Reads, taken: true, ..Entry::default() };
        worker.shared.open_by_port[port.index()].enter();
        Self { worker: Rc::clone(&worker), entry, admitted, port }
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.worker.shared
    }

    /// This thread's counters of the service that the client asked for, by upstream.
    pub(super) fn counters(&self) -> &[UpstreamCount] {
        &self.worker.counters.of(self.port).upstreams
    }

    /// The service that the client asked for.
    pub(super) fn port(&self) -> Port {
        self.port
    }

    /// Notes who has said something, also where silence is not limited: a limit that comes later counts from here.
    pub(super) fn heard(&self, side: Side) {
        let word = LastWord { of: side, at: self.worker.second.get() };
        self.worker.roster.borrow_mut().entries[self.entry as usize].word = Some(word);
    }

    /// Whether the session is within the limit; one that is not may only be refused or cancel something.
    pub(super) fn admitted(&self) -> bool {
        self.admitted
    }

    /// From now on orders to cut the sessions of `upstream` concern this one; `None`: of no upstream.
    pub(super) fn concern(&self, upstream: Option<usize>) {
        let mut roster = self.worker.roster.borrow_mut();
        let entry = &mut roster.entries[self.entry as usize];
        entry.upstream = upstream.and_then(|upstream| u16::try_from(upstream).ok());
        // An order about another upstream is no longer of interest.
        if matches!(entry.cut, Some(CutOrder::RoleLost(_))) {
            entry.cut = None;
        }
    }

    /// The order to end, if there is one; otherwise the task is woken by the next.
    pub(super) fn poll_cut(&self, context: &mut Context<'_>) -> Poll<CutOrder> {
        let mut roster = self.worker.roster.borrow_mut();
        let entry = &mut roster.entries[self.entry as usize];
        if let Some(order) = &entry.cut {
            return Poll::Ready(order.clone());
        }
        match &entry.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => entry.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for an order to end.
    pub(super) async fn cut(&self) -> CutOrder {
        std::future::poll_fn(|context| self.poll_cut(context)).await
    }

    /// Waits for the order to end that concerns every session, whatever its server.
    pub(super) async fn ends(&self) {
        while self.cut().await != CutOrder::ShuttingDown {
            self.concern(None);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut roster = self.worker.roster.borrow_mut();
        roster.entries[self.entry as usize] = Entry::default();
        roster.free.push(self.entry);
        drop(roster);
        self.worker.load.fetch_sub(1, Ordering::Relaxed);
        let shared = &self.worker.shared;
        shared.open_by_port[self.port.index()].leave();
        let limit = if self.admitted { &shared.open } else { &shared.beyond };
        limit.fetch_sub(1, Ordering::Relaxed);
    }
}
