//! One picture of this proxy for everybody who shows it: the status page, `/status.json`, metrics, gRPC. Made when
//! somebody asks; nothing is counted for it.

#[cfg(test)]
pub(crate) mod fixture;
mod rates;
mod statistics;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ha_config::Cluster;
use ha_core::{MemberName, MonoTime};
use ha_routing::balance::Balance;
use ha_routing::{AdminState, Route, RouteState, SeenRole, Source, Table};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::macros::format_description;

pub use rates::Rate;
use rates::Rates;
pub use statistics::{Availability, RouteStatistics, ServerStatistics, Standing};
use statistics::{Limits, Watched};

use crate::data_path::{Counters, DataPath, Settings, Times, UpstreamCounters};
use crate::replaced::ReplacedShown;

/// Decisions that are kept for people; the log has all of them.
const DECISIONS_KEPT: usize = 50;

/// The picture.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this proxy host.
    pub proxy: String,
    /// The process that serves; another one after an upgrade.
    pub process: u32,
    /// Version of this program.
    pub version: &'static str,
    /// Digest of the cluster file that is in force.
    pub file_digest: String,
    /// What became of reading it again.
    pub file: FileShown,
    /// How long it has run, ms.
    pub uptime_ms: u64,
    /// It takes leave.
    pub draining: bool,
    /// Every thread that serves sessions answers.
    pub workers_alive: bool,
    /// How often the routing has changed.
    pub generation: u64,
    /// Where new sessions for writes go.
    pub writes: RouteShown,
    /// Where new sessions for reads go.
    pub reads: RouteShown,
    /// Every PostgreSQL of the file, in its order.
    pub upstreams: Vec<UpstreamShown>,
    /// Client sessions open now.
    pub sessions: u32,
    /// Largest number of them.
    pub session_limit: u32,
    /// Clients that wait for a place or for a leader.
    pub waiting: u32,
    /// Client sessions since the start, refused ones included.
    pub sessions_total: u64,
    /// Clients that were refused.
    pub refused_total: u64,
    /// Cancel requests.
    pub cancels_total: u64,
    /// Connections whose TLS ends here.
    pub tls_sessions_total: u64,
    /// Attempts at such TLS that failed.
    pub tls_failures_total: u64,
    /// When the certificate that clients see ends, seconds since 1970; none where TLS is passed through.
    pub tls_certificate_ends: Option<i64>,
    /// Connections without the header of the PROXY protocol that they had to begin with.
    pub headers_refused_total: u64,
    /// Ends of sessions that the log was too slow for.
    pub lines_dropped: u64,
    /// What passed in each of the last seconds, oldest first.
    pub rates: Vec<Rate>,
    /// Sessions that ended because the leader's read lease had run out.
    pub lease_cuts_total: u64,
    /// Statistics by port: writes, reads.
    pub statistics: [RouteStatistics; 2],
    /// The newest decisions, newest first.
    pub decisions: Vec<Decision>,
    /// Processes that this one replaced and that still have sessions.
    pub replaced: Vec<ReplacedShown>,
    /// All proxies of the cluster, this one included.
    pub proxies: Vec<ProxyShown>,
}

/// What became of reading the cluster file again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileShown {
    /// How long ago the file that is in force was read, ms.
    pub read_ms_ago: u64,
    /// How often a changed file was taken over since the start.
    pub reloads_total: u64,
    /// How often one was refused.
    pub refused_total: u64,
    /// Why the file that lies there now is not in force; none when it is.
    pub refused: Option<String>,
    /// What it says otherwise than this process, which takes it over at its next start: `key: old -> new`.
    pub needs_restart: Vec<String>,
}

/// Where a port leads.
#[derive(Debug, Clone, Serialize)]
pub struct RouteShown {
    /// The port.
    pub port: u16,
    /// What it does with a new session.
    #[serde(serialize_with = "as_word")]
    pub state: RouteState,
    /// Members that new sessions go to.
    pub members: Vec<String>,
    /// Epoch of the leadership that this rests on; 0 without one.
    pub epoch: u64,
    /// Why, in words.
    pub reason: String,
    /// How long it has been so, ms.
    pub since_ms: u64,
}

/// One PostgreSQL.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamShown {
    /// Whose.
    pub member: String,
    /// Where sessions are connected to.
    pub address: String,
    /// What it seems to be.
    #[serde(serialize_with = "as_word")]
    pub role: SeenRole,
    /// How that is known.
    #[serde(serialize_with = "as_word")]
    pub source: Source,
    /// How long ago it was heard last, ms; none if never.
    pub heard_ms_ago: Option<u64>,
    /// Epoch that it named last.
    pub epoch: u64,
    /// Timeline that it named last.
    pub timeline: Option<u32>,
    /// It confirms commits.
    pub synchronous: bool,
    /// It may be given writes.
    pub takes_writes: bool,
    /// It may be given reads.
    pub takes_reads: bool,
    /// How far behind it is, when known.
    pub lag_bytes: Option<u64>,
    /// What an operator wants of it.
    #[serde(serialize_with = "as_word")]
    pub admin: AdminState,
    /// Why it is used or not, in words.
    pub reason: String,
    /// Sessions now.
    pub sessions: u32,
    /// Largest number of them.
    pub session_limit: u32,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Sessions that were cut because it lost its role.
    pub sessions_cut: u64,
    /// Bytes from clients.
    pub bytes_to_upstream: u64,
    /// Bytes to clients.
    pub bytes_to_client: u64,
    /// How long connections to it took; in the metrics.
    #[serde(skip)]
    pub connect: Times,
    /// From a client's arrival to its first word; in the metrics.
    #[serde(skip)]
    pub first_word: Times,
}

/// Something that was decided.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// When, by the wall clock of this host, RFC 3339.
    pub at: String,
    /// What and why.
    pub reason: String,
}

/// A proxy of the cluster.
#[derive(Debug, Clone, Serialize)]
pub struct ProxyShown {
    /// Its name.
    pub name: String,
    /// Its status page.
    pub url: String,
}

/// A word for a value, the same on the page, in JSON and in metrics.
pub trait Word: Copy {
    /// The word.
    fn word(self) -> &'static str;
}

impl Word for AdminState {
    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for RouteState {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Holding => "holding",
            Self::Refusing => "refusing",
        }
    }
}

impl Word for SeenRole {
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Leader => "leader",
            Self::Standby => "standby",
        }
    }
}

impl Word for Source {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Push => "push",
            Self::Poll => "poll",
        }
    }
}

fn as_word<W: Word, S: Serializer>(value: &W, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

/// What is known of the file.
#[derive(Debug)]
struct FileKnown {
    digest: String,
    read_at: MonoTime,
    shown: FileShown,
}

/// Makes pictures. Shared by the driver, which tells it what was decided, and by everybody who shows them.
#[derive(Debug)]
pub struct SnapshotSource {
    cluster: String,
    proxy: String,
    ports: (u16, u16),
    file: Mutex<FileKnown>,
    proxies: Vec<ProxyShown>,
    started: MonoTime,
    /// As the router sees it: its routes are in force, its ages newer than those of the table in force.
    table: ArcSwap<Table>,
    data: Arc<DataPath>,
    draining: AtomicBool,
    rates: Mutex<Rates>,
    watched: Mutex<Watched>,
    replaced: Mutex<Vec<ReplacedShown>>,
    decisions: Mutex<VecDeque<Decision>>,
}

impl SnapshotSource {
    /// A source for the proxy `proxy` of this cluster, started now.
    pub fn new(cluster: &Cluster, proxy: &MemberName, table: Arc<Table>, data: Arc<DataPath>) -> Self {
        let (routing, now) = (&cluster.routing, ha_daemon::boottime());
        let page = |address| std::net::SocketAddr::new(address, routing.status_port);
        let proxies = cluster.proxies.iter().map(|host| ProxyShown {
            name: host.name.to_string(),
            url: format!("http://{}/", page(host.address)),
        });
        Self {
            cluster: cluster.name.to_string(),
            proxy: proxy.to_string(),
            ports: (routing.write_port, routing.read_port),
            file: Mutex::new(FileKnown {
                digest: cluster.digest.clone(),
                read_at: now,
                shown: FileShown::default(),
            }),
            proxies: proxies.collect(),
            watched: Mutex::new(Watched::new(
                now,
                cluster.databases.iter().map(|host| host.tags.weight).collect(),
            )),
            started: now,
            table: ArcSwap::new(table),
            data,
            draining: AtomicBool::new(false),
            replaced: Mutex::default(),
            decisions: Mutex::new(VecDeque::with_capacity(DECISIONS_KEPT)),
            rates: Mutex::default(),
        }
    }

    /// What has passed by now. To be called each second.
    pub fn count(&self) {
        let counters = self.data.counters();
        let each = || counters.routes.iter().flat_map(|route| &route.upstreams);
        let sum = |of: fn(&UpstreamCounters) -> u64| each().map(of).sum();
        let totals = Rate {
            sessions: counters.sessions_total,
            bytes_to_upstreams: sum(|upstream| upstream.bytes_to_upstream),
            bytes_to_clients: sum(|upstream| upstream.bytes_to_client),
        };
        let now = ha_daemon::boottime();
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(now, totals);
        self.watched().count(now, &counters);
    }

    /// Something was decided.
    pub fn note(&self, reason: String) {
        let now = OffsetDateTime::from(SystemTime::now());
        let at = now.format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        ));
        let at = at.unwrap_or_default();
        let mut kept = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(DECISIONS_KEPT - 1);
        kept.push_front(Decision { at, reason });
    }

    /// Another file is in force; `needs_restart` says what of it is not.
    pub fn file_taken_over(&self, digest: &str, needs_restart: Vec<String>) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.digest = digest.to_owned();
        file.read_at = ha_daemon::boottime();
        file.shown.reloads_total += 1;
        file.shown.refused = None;
        file.shown.needs_restart = needs_restart;
    }

    /// The file was read again and changes nothing.
    pub fn file_unchanged(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.shown.refused = None;
    }

    /// The file that lies there now is not usable.
    pub fn file_refused(&self, why: String) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.shown.refused_total += 1;
        file.shown.refused = Some(why);
    }

    /// What is left of processes that were replaced.
    pub fn show_replaced(&self, replaced: Vec<ReplacedShown>) {
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = replaced;
    }

    /// The proxy takes leave from now on.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How the router sees things now.
    pub fn show(&self, table: Arc<Table>) {
        self.watched().see(ha_daemon::boottime(), &table);
        self.table.store(table);
    }

    /// A health check of this member, as the table counts them, was not answered.
    pub fn check_failed(&self, index: usize) {
        self.watched().check_failed(index);
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture of now.
    pub fn snapshot(&self) -> Snapshot {
        let now = ha_daemon::boottime();
        let table = self.table.load();
        let counters = self.data.counters();
        let route = |port, route: &Route| RouteShown {
            port,
            state: route.state,
            members: members(&table, route),
            epoch: route.epoch.0,
            reason: route.reason.clone(),
            since_ms: millis(now, route.since),
        };
        let (file_digest, file) = {
            let known = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            (
                known.digest.clone(),
                FileShown { read_ms_ago: millis(now, known.read_at), ..known.shown.clone() },
            )
        };
        let settings = self.data.settings();
        let decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            cluster: self.cluster.clone(),
            proxy: self.proxy.clone(),
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            file_digest,
            file,
            uptime_ms: millis(now, self.started),
            draining: self.draining.load(Ordering::Relaxed),
            workers_alive: self.data.alive(),
            generation: table.generation,
            writes: route(self.ports.0, &table.writes),
            reads: route(self.ports.1, &table.reads),
            upstreams: self.upstreams(&table, &counters, settings.upstream_connections, now),
            sessions: counters.sessions,
            session_limit: settings.max_connections,
            waiting: counters.waiting,
            sessions_total: counters.sessions_total,
            refused_total: counters.refused_total,
            cancels_total: counters.cancels_total,
            tls_sessions_total: counters.tls_sessions_total,
            tls_failures_total: counters.tls_failures_total,
            tls_certificate_ends: self.data.client_tls().and_then(|tls| tls.ends()),
            headers_refused_total: counters.headers_refused_total,
            lines_dropped: counters.lines_dropped,
            rates: self.rates.lock().unwrap_or_else(PoisonError::into_inner).list(),
            lease_cuts_total: counters.lease_cuts_total,
            statistics: self.watched().statistics(now, &table, &counters, limits(&settings)),
            decisions: decisions.iter().cloned().collect(),
            replaced: self.replaced.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            proxies: self.proxies.clone(),
        }
    }

    fn upstreams(&self, table: &Table, counters: &Counters, limit: u32, now: MonoTime) -> Vec<UpstreamShown> {
        let counted = (0..).map(|index| counters.upstream(index));
        let shown = table.upstreams.iter().zip(counted).map(|(view, counted)| UpstreamShown {
            member: view.member.to_string(),
            address: view.address.to_string(),
            role: view.role,
            source: view.source,
            heard_ms_ago: view.heard_at.map(|at| millis(now, at)),
            epoch: view.epoch.0,
            timeline: view.timeline.map(|timeline| timeline.0),
            synchronous: view.synchronous,
            takes_writes: view.takes_writes,
            takes_reads: view.takes_reads,
            lag_bytes: view.lag_bytes,
            admin: view.admin,
            reason: view.reason.clone(),
            sessions: counted.sessions.now,
            session_limit: limit,
            sessions_total: counted.sessions_total,
            connect_failures: counted.connect_failures,
            sessions_cut: counted.sessions_cut,
            bytes_to_upstream: counted.bytes_to_upstream,
            bytes_to_client: counted.bytes_to_client,
            connect: counted.connect,
            first_word: counted.first_word,
        });
        shown.collect()
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        max_connections: settings.max_connections,
        upstream_connections: settings.upstream_connections,
        algorithm: match settings.balance {
            Balance::RoundRobin => "roundrobin",
            Balance::LeastConnections => "leastconn",
            Balance::Random => "random",
        },
    }
}

fn members(table: &Table, route: &Route) -> Vec<String> {
    let views = route.upstreams.iter().filter_map(|index| table.upstreams.get(*index));
    views.map(|view| view.member.to_string()).collect()
}

fn millis(now: MonoTime, then: MonoTime) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}
