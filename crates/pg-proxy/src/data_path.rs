//! The way of the bytes: listens, leads each session to a PostgreSQL that the table in force names, relays what both
//! sides say, and cuts sessions whose server lost its role. It decides nothing about the cluster: the table does.
//!
//! ```text
//!  clients -> accept thread -> least loaded worker thread -> one task per session <-> PostgreSQL
//!  table_changed / cut / drain / cut_all ------^        counters, alive, reports <------'
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ha_core::MemberName;
use ha_routing::balance::Balance;
use ha_routing::{Sessions, Table};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::read_lease::ReadLeases;

mod accept;
mod begin;
mod cancel;
mod cancel_keys;
mod counting;
mod farewell;
mod greeting;
mod message_boundary;
mod places;
mod pump;
mod reach;
mod relay;
mod scratch;
mod session;
mod session_log;
mod sockets;
mod worker;

use accept::Duty;
use cancel_keys::CancelKeys;
use places::{Limits, Places};
use session_log::SessionLog;
use worker::{Order, Shared, WorkerHandle};

/// A thread that showed no sign of life for this long is stuck.
const STUCK_AFTER_MS: u64 = 500;

/// Which of the two services a client asked for by the port it connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// Leads to the primary.
    Writes,
    /// Leads to the standbys.
    Reads,
}

/// What the data path needs to know at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses to listen on; they need not exist on this host yet. Port 0 takes any free one, see
    /// [`DataPath::local_addresses`].
    pub listeners: Vec<(Port, SocketAddr)>,
    /// Threads that relay; at least one.
    pub workers: usize,
    /// Largest number of client sessions, waiting ones included; one more is told so and closed.
    pub max_connections: u32,
    /// Largest number of sessions with one PostgreSQL; the next ones wait in the order of their arrival.
    pub upstream_connections: u32,
    /// How long a session waits for a place at a PostgreSQL.
    pub queue_timeout: Duration,
    /// How long a session waits for a PostgreSQL with the wanted role.
    pub hold_timeout: Duration,
    /// How long one attempt to connect to a PostgreSQL may take.
    pub connect_timeout: Duration,
    /// How sessions are spread when several PostgreSQL qualify.
    pub balance: Balance,
    /// Whether clients have another proxy to turn to. Then a full proxy answers 57P03, the only code that makes
    /// libpq go on to the next host of its list, otherwise 53300.
    pub other_proxies: bool,
    /// Whether each session gets a line in the log when it ends.
    pub log_sessions: bool,
    /// Answers on the write port pass only while the leader has a lease here; none: they pass.
    pub read_leases: Option<Arc<ReadLeases>>,
    /// Members and their PostgreSQL, in the order of the table's `upstreams`.
    pub upstreams: Vec<(MemberName, SocketAddr)>,
}

/// What the data path tells the driver about a PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionReport {
    /// A session could not be connected, or the server answered that it starts up or shuts down.
    ConnectFailed {
        /// Whose PostgreSQL.
        member: MemberName,
        /// What happened, in words.
        why: String,
    },
    /// A session was connected, the first one after a failure.
    Connected {
        /// Whose PostgreSQL.
        member: MemberName,
    },
}

/// What passed so far and what is open now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Client sessions open now, waiting ones included.
    pub sessions: u32,
    /// Of these, clients that wait for a place or for a PostgreSQL with the wanted role.
    pub waiting: u32,
    /// Client sessions accepted since the start, refused ones included.
    pub sessions_total: u64,
    /// Clients that were refused with an error.
    pub refused_total: u64,
    /// Cancel requests.
    pub cancels_total: u64,
    /// Sessions that ended because the leader's read lease had run out.
    pub lease_cuts_total: u64,
    /// Ends of sessions that got no line because the log was too slow.
    pub lines_dropped: u64,
    /// One entry per upstream, in the order of [`Options::upstreams`].
    pub upstreams: Vec<UpstreamCounters>,
}

/// What passed through one PostgreSQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamCounters {
    /// Sessions that hold a place now.
    pub sessions: u32,
    /// Sessions that were connected since the start.
    pub sessions_total: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Sessions that were cut on the driver's order.
    pub sessions_cut: u64,
    /// Bytes relayed from clients.
    pub bytes_to_upstream: u64,
    /// Bytes relayed to clients.
    pub bytes_to_client: u64,
    /// How long connections to it took.
    pub connect: Times,
    /// From a client's arrival until it had said its first word, waiting included.
    pub first_word: Times,
}

/// Upper bounds of the buckets of [`Times`], microseconds; longer times are in a last bucket of their own.
pub const TIME_BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// How often something took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Counts, not cumulated, by [`TIME_BUCKETS_US`].
    pub buckets: [u64; TIME_BUCKETS_US.len() + 1],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

/// The running data path. Dropping it ends its threads and every session at once.
#[derive(Debug)]
pub struct DataPath {
    shared: Arc<Shared>,
    workers: Arc<Vec<WorkerHandle>>,
    duty: watch::Sender<Duty>,
    accept_seen_ms: Arc<AtomicU64>,
    local_addresses: Vec<SocketAddr>,
}

impl DataPath {
    /// Raises the limit of open files, listens, and starts the threads.
    ///
    /// # Errors
    /// When an address cannot be listened on or a thread cannot be started.
    pub fn start(
        options: Options,
        table: Arc<ArcSwap<Table>>,
        reports: UnboundedSender<SessionReport>,
    ) -> io::Result<Self> {
        sockets::raise_open_files(options.max_connections);
        let mut listeners = Vec::new();
        for &(port, address) in &options.listeners {
            let listener = sockets::listen(address).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            listeners.push((port, listener));
        }
        let local_addresses =
            listeners.iter().map(|(_, listener)| listener.local_addr()).collect::<io::Result<Vec<_>>>()?;
        let workers = options.workers.max(1);
        let session_log = SessionLog::start(options.log_sessions)?;
        let shared = Arc::new(share(options, table, reports, session_log));
        let workers = (0..workers).map(|number| worker::spawn(number, &shared));
        let workers = Arc::new(workers.collect::<io::Result<Vec<_>>>()?);
        let (duty, duty_seen) = watch::channel(Duty::Listen);
        let accept_seen_ms = Arc::new(AtomicU64::new(shared.now_ms()));
        accept::spawn(
            listeners,
            Arc::clone(&shared),
            Arc::clone(&workers),
            duty_seen,
            Arc::clone(&accept_seen_ms),
        )?;
        Ok(Self { shared, workers, duty, accept_seen_ms, local_addresses })
    }

    /// The addresses that are listened on, in the order of [`Options::listeners`].
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// Call after the table was swapped: waiting sessions are led on at once.
    pub fn table_changed(&self) {
        self.shared.places.table_changed();
    }

    /// Ends the sessions of one upstream (index as in the table): with an ErrorResponse 57P01 where the session is
    /// not encrypted and between two messages, else with a reset. Call after the table was swapped, so that no new
    /// session slips in behind.
    pub fn cut(&self, member_index: usize, which: Sessions, reason: &str) {
        let reason: Arc<str> = reason.into();
        self.order(|| Order::Cut { upstream: member_index, which, reason: Arc::clone(&reason) });
    }

    /// Stops listening. Sessions go on; ask [`Self::sessions`] until none is left, then or at the deadline
    /// [`Self::cut_all`].
    pub fn drain(&self) {
        self.duty.send_replace(Duty::Drain);
    }

    /// Ends every session, waiting ones too, as [`Self::cut`] does.
    pub fn cut_all(&self) {
        self.order(|| Order::CutAll);
    }

    /// Client sessions open now, waiting ones included.
    pub fn sessions(&self) -> u32 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Sums what the workers counted.
    pub fn counters(&self) -> Counters {
        let sessions = self.shared.places.sessions();
        let of = |sessions| UpstreamCounters { sessions, ..UpstreamCounters::default() };
        let mut sum = Counters {
            sessions: self.sessions(),
            waiting: u32::try_from(self.shared.places.waiting()).unwrap_or(u32::MAX),
            lines_dropped: self.shared.lines_dropped.load(Ordering::Relaxed),
            upstreams: sessions.into_iter().map(of).collect(),
            ..Counters::default()
        };
        for worker in self.workers.iter() {
            worker.counters.add_to(&mut sum);
        }
        sum
    }

    /// Whether every thread of the data path showed a sign of life within the last 500 ms. Never waits.
    pub fn alive(&self) -> bool {
        let now = self.shared.now_ms();
        let recent =
            |seen_ms: &AtomicU64| now.saturating_sub(seen_ms.load(Ordering::Relaxed)) <= STUCK_AFTER_MS;
        recent(&self.accept_seen_ms) && self.workers.iter().all(|worker| recent(&worker.seen_ms))
    }

    fn order(&self, order: impl Fn() -> Order) {
        for worker in self.workers.iter() {
            // A worker that is gone has no sessions.
            drop(worker.orders.send(order()));
        }
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        self.duty.send_replace(Duty::Stop);
        self.order(|| Order::Stop);
    }
}

fn share(
    options: Options,
    table: Arc<ArcSwap<Table>>,
    reports: UnboundedSender<SessionReport>,
    session_log: SessionLog,
) -> Shared {
    let now = Instant::now();
    let limits = Limits {
        upstreams: options.upstreams.len(),
        upstream_connections: options.upstream_connections,
        queue_timeout: options.queue_timeout,
        hold_timeout: options.hold_timeout,
        balance: options.balance,
    };
    let failing = options.upstreams.iter().map(|_| AtomicBool::new(false)).collect();
    Shared {
        failing,
        options,
        places: Arc::new(Places::new(limits, table, now)),
        cancel_keys: Arc::new(CancelKeys::default()),
        reports,
        open: AtomicU32::new(0),
        beyond: AtomicU32::new(0),
        session_log,
        lines_dropped: AtomicU64::new(0),
        started: now,
    }
}
