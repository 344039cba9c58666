//! The way of the bytes: listens, leads each session to a PostgreSQL that the table in force names, relays what both
//! sides say, and cuts sessions whose server lost its role. It decides nothing about the cluster: the table does.
//!
//! ```text
//!  clients -> first worker thread -> least loaded worker thread -> one task per session <-> PostgreSQL
//!  table_changed / cut / drain / cut_all ------^        counters, alive, reports <------'
//! ```

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ha_core::MemberName;
use ha_routing::balance::{Balance, Share};
use ha_routing::{Sessions, Table};
use ipnet::IpNet;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::client_tls::ClientTls;
use crate::read_lease::ReadLeases;

mod accept;
mod begin;
mod cancel;
mod cancel_keys;
mod client_stream;
mod counting;
mod farewell;
mod greeting;
mod handshake;
mod origin;
mod places;
mod processors;
mod pump;
mod reach;
mod relay;
mod scratch;
mod session;
mod session_log;
mod sockets;
mod worker;

use accept::{Accepting, Duty};
use cancel_keys::CancelKeys;
use places::{Limits, Places};
use session_log::SessionLog;
use worker::{Order, Shared, WorkerHandle};

/// A thread that showed no sign of life for this long is stuck. The floating address leaves then, so it is as long as vrrpd
/// bears silence: on a host with twenty runnable processes for each core, threads that were well waited half a second.
const STUCK_AFTER_MS: u64 = 1000;

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
    /// Whether each of these threads stays on a processor of its own, where there are as many.
    pub pin_threads: bool,
    /// Whether clients have another proxy to turn to. Then a full proxy answers 57P03, the only code that makes
    /// libpq go on to the next host of its list, otherwise 53300.
    pub other_proxies: bool,
    /// Members and their PostgreSQL, in the order of the table's `upstreams`.
    pub upstreams: Vec<(MemberName, SocketAddr)>,
    /// What each of them is to this proxy, in the same order; those beyond the end are as good as any.
    pub shares: Vec<Share>,
    /// Answers on the write port pass only while the leader has a lease here; none: they pass.
    pub read_leases: Option<Arc<ReadLeases>>,
    /// What clients see when their TLS ends here; `None`: it ends at PostgreSQL.
    pub tls: Option<Arc<ClientTls>>,
    /// Networks whose connections begin with a header of the PROXY protocol, and no others do.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The settings to begin with; [`DataPath::apply`] puts others in force.
    pub at_start: Settings,
}

/// What may change while the data path runs. Limits that shrink below what is open end no session; they count from the
/// next one on. Time-outs count for those that wait, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
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
    /// How long a client may stay silent after its server's last word; exact to a second.
    pub client_timeout: Option<Duration>,
    /// How long a server may stay silent after its client's last word; exact to a second.
    pub server_timeout: Option<Duration>,
    /// Whether a commit that did not wait for its standbys, because the wait was cancelled, is an error to the client
    /// instead of a success with a warning.
    pub refuse_cancelled_commits: bool,
    /// Whether a session that may lower `synchronous_commit` is ended.
    pub refuse_lowered_commits: bool,
    /// How sessions are spread when several PostgreSQL qualify.
    pub balance: Balance,
    /// Whether each session gets a line in the log when it ends.
    pub log_sessions: bool,
    /// Whether servers see a client's address behind its `application_name`.
    pub name_clients: bool,
    /// Whether a login without TLS is refused.
    pub require_tls: bool,
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
    /// Connections whose TLS ends at this proxy.
    pub tls_sessions_total: u64,
    /// Attempts at such TLS that failed.
    pub tls_failures_total: u64,
    /// Connections that were closed because they had no good header of the PROXY protocol.
    pub headers_refused_total: u64,
    /// Sessions that ended because the leader's read lease had run out.
    pub lease_cuts_total: u64,
    /// Ends of sessions that got no line because the log was too slow.
    pub lines_dropped: u64,
    /// The same by port: writes, reads.
    pub routes: [RouteCounters; 2],
}

impl Counters {
    /// What passed through an upstream, from both ports; nothing for one that there is not.
    pub fn upstream(&self, index: usize) -> UpstreamCounters {
        let mut sum = UpstreamCounters::default();
        self.routes.iter().filter_map(|route| route.upstreams.get(index)).for_each(|one| sum.add(one));
        sum
    }
}

/// What clients of one port did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteCounters {
    /// Client sessions open now, waiting ones included; and most of them at any time.
    pub sessions: Gauge,
    /// Of these, clients that wait.
    pub waiting: Gauge,
    /// Client sessions accepted since the start, refused ones included.
    pub sessions_total: u64,
    /// One entry per upstream, in the order of [`Options::upstreams`].
    pub upstreams: Vec<UpstreamCounters>,
}

/// A number that goes up and down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Gauge {
    /// Now.
    pub now: u32,
    /// Its largest value since the start.
    pub most: u32,
}

impl Gauge {
    pub(crate) fn set(&mut self, now: u32) {
        self.now = now;
        self.most = self.most.max(now);
    }
}

/// What passed through one PostgreSQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamCounters {
    /// Sessions that hold a place.
    pub sessions: Gauge,
    /// Sessions that were connected since the start.
    pub sessions_total: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Of these, how many were followed by another attempt with the same PostgreSQL.
    pub retries: u64,
    /// Of these, how many were followed by one with another PostgreSQL.
    pub redispatches: u64,
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

impl UpstreamCounters {
    fn add(&mut self, other: &Self) {
        // Both were not at their most at the same time, perhaps: this is a bound.
        self.sessions.now += other.sessions.now;
        self.sessions.most += other.sessions.most;
        self.sessions_total += other.sessions_total;
        self.connect_failures += other.connect_failures;
        self.retries += other.retries;
        self.redispatches += other.redispatches;
        self.sessions_cut += other.sessions_cut;
        self.bytes_to_upstream += other.bytes_to_upstream;
        self.bytes_to_client += other.bytes_to_client;
        self.connect.add(&other.connect);
        self.first_word.add(&other.first_word);
    }
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

impl Times {
    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, other)| *own += other);
        self.sum_us += other.sum_us;
    }
}

/// Listens for clients on `address`, which need not exist on this host yet.
///
/// # Errors
/// When it cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    sockets::listen(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Makes a socket that another process opened as [`listen`] makes them.
///
/// # Errors
/// When the kernel refuses a setting.
pub fn adopt(listener: &TcpListener) -> io::Result<()> {
    sockets::settle(&socket2::SockRef::from(listener))
}

/// The running data path. Dropping it ends its threads and every session at once.
#[derive(Debug)]
pub struct DataPath {
    shared: Arc<Shared>,
    workers: Arc<Vec<WorkerHandle>>,
    duty: watch::Sender<Duty>,
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
        let listeners = options.listeners.iter().map(|&(port, address)| Ok((port, listen(address)?)));
        let listeners = listeners.collect::<io::Result<_>>()?;
        let started = Self::start_on(listeners, options, table, reports)?;
        started.listen();
        Ok(started)
    }

    /// The same on sockets of [`listen`] or [`adopt`] in place of [`Options::listeners`]. Nobody is accepted before
    /// [`Self::listen`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start_on(
        listeners: Vec<(Port, TcpListener)>,
        options: Options,
        table: Arc<ArcSwap<Table>>,
        reports: UnboundedSender<SessionReport>,
    ) -> io::Result<Self> {
        sockets::raise_open_files(options.at_start.max_connections);
        let local_addresses =
            listeners.iter().map(|(_, listener)| listener.local_addr()).collect::<io::Result<Vec<_>>>()?;
        let workers = options.workers.max(1);
        let session_log = SessionLog::start(options.at_start.log_sessions)?;
        let shared = Arc::new(share(options, table, reports, session_log));
        let processors = if shared.options.pin_threads { processors::of(workers) } else { Vec::new() };
        let workers = (0..workers).map(|n| worker::spawn(n, processors.get(n).copied(), &shared));
        let workers = Arc::new(workers.collect::<io::Result<Vec<_>>>()?);
        let (duty, duty_seen) = watch::channel(Duty::Wait);
        accept(listeners, &workers, duty_seen)?;
        Ok(Self { shared, workers, duty, local_addresses })
    }

    /// Begins to accept clients.
    pub fn listen(&self) {
        self.duty.send_replace(Duty::Listen);
    }

    /// The addresses that are listened on, in the order of [`Options::listeners`].
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// The certificate that clients see, to be loaded again; `None` where TLS is passed through.
    pub fn client_tls(&self) -> Option<&Arc<ClientTls>> {
        self.shared.options.tls.as_ref()
    }

    /// Puts other settings in force.
    pub fn apply(&self, settings: Settings) {
        let before = self.shared.settings.load();
        if before.max_connections < settings.max_connections {
            sockets::raise_open_files(settings.max_connections);
        }
        let limits = Limits::of(&settings);
        self.shared.session_log.want(settings.log_sessions);
        self.shared.settings.store(Arc::new(settings));
        self.shared.places.change_limits(limits);
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    /// Call after the table was swapped: waiting sessions are led on at once.
    pub fn table_changed(&self) {
        self.shared.places.table_changed();
    }

    /// Ends the sessions of one upstream (index as in the table): with an ErrorResponse 57P01 where the session is
    /// not encrypted past this proxy and between two messages, else with a reset. Call after the table was swapped, so that no new
    /// session slips in behind.
    pub fn cut(&self, member_index: usize, which: Sessions, reason: &str) {
        let reason: Arc<str> = reason.into();
        self.order(|| Order::Cut { upstream: member_index, which, reason: Arc::clone(&reason) });
    }

    /// Stops listening. Sessions go on; ask [`Self::is_empty`] until none is left, or at the deadline [`Self::cut_all`].
    pub fn drain(&self) {
        self.duty.send_replace(Duty::Drain);
    }

    /// Ends the sessions that are idle outside a transaction, now and as soon as another one comes to be so, as
    /// [`Self::cut`] does. Where the session is encrypted that cannot be seen; it goes on.
    pub fn cut_idle(&self) {
        self.order(|| Order::CutIdle);
    }

    /// Ends every session, waiting ones too, as [`Self::cut`] does.
    pub fn cut_all(&self) {
        self.order(|| Order::CutAll);
    }

    /// Client sessions open now, waiting ones included.
    pub fn sessions(&self) -> u32 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Whether no client is left and none can come any more: the thread that accepts hears of [`Self::drain`] a moment later,
    /// and whom it accepts until then is served here or nowhere.
    pub fn is_empty(&self) -> bool {
        // In this order: whoever came through a door was counted before it closed.
        self.shared.doors.load(Ordering::Acquire) == 0
            && self.sessions() == 0
            && self.shared.beyond.load(Ordering::Relaxed) == 0
    }

    /// Sums what the workers counted.
    pub fn counters(&self) -> Counters {
        let mut routes = self.shared.places.counters();
        for (route, open) in routes.iter_mut().zip(&self.shared.open_by_port) {
            route.sessions = open.read();
        }
        let mut sum = Counters {
            sessions: self.sessions(),
            waiting: routes.iter().map(|route| route.waiting.now).sum(),
            lines_dropped: self.shared.lines_dropped.load(Ordering::Relaxed),
            routes,
            ..Counters::default()
        };
        for worker in self.workers.iter() {
            worker.counters.add_to(&mut sum);
        }
        sum
    }

    /// Whether every thread of the data path showed a sign of life within the last second. Never waits.
    pub fn alive(&self) -> bool {
        let now = self.shared.now_ms();
        let recent =
            |seen_ms: &AtomicU64| now.saturating_sub(seen_ms.load(Ordering::Relaxed)) <= STUCK_AFTER_MS;
        self.workers.iter().all(|worker| recent(&worker.seen_ms))
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
        self.duty.send_replace(Duty::Drain);
        self.order(|| Order::Stop);
        self.shared.session_log.flush();
    }
}

/// Lets the first worker accept.
fn accept(
    listeners: Vec<(Port, TcpListener)>,
    workers: &Arc<Vec<WorkerHandle>>,
    duty: watch::Receiver<Duty>,
) -> io::Result<()> {
    let (watched, outcome) = std::sync::mpsc::sync_channel(1);
    let accepting = Accepting { listeners, workers: Arc::clone(workers), duty, watched };
    let gone = || io::Error::other("the thread ended at once");
    let first = workers.first().ok_or_else(gone)?;
    first.orders.send(Order::Accept(Box::new(accepting))).map_err(|_| gone())?;
    outcome.recv().unwrap_or_else(|_| Err(gone()))
}

fn share(
    options: Options,
    table: Arc<ArcSwap<Table>>,
    reports: UnboundedSender<SessionReport>,
    session_log: SessionLog,
) -> Shared {
    let now = Instant::now();
    let mut shares = options.shares.clone();
    shares.resize(options.upstreams.len(), Share::default());
    let (limits, settings) = (Limits::of(&options.at_start), ArcSwap::from_pointee(options.at_start.clone()));
    let failing = options.upstreams.iter().map(|_| AtomicBool::new(false)).collect();
    Shared {
        failing,
        options,
        settings,
        places: Arc::new(Places::new(shares, limits, table, now)),
        cancel_keys: Arc::new(CancelKeys::default()),
        reports,
        open: AtomicU32::new(0),
        beyond: AtomicU32::new(0),
        doors: AtomicU32::new(0),
        open_by_port: Default::default(),
        session_log,
        lines_dropped: AtomicU64::new(0),
        started: now,
    }
}
