//! `[routing]`: the proxies.

use std::time::Duration;

use ipnet::IpNet;

use crate::networks;
use crate::reader::Table;
use crate::tls_end::TlsEnd;

/// Settings of pg-proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Port that leads to the primary.
    pub write_port: u16,
    /// Port that leads to the standbys.
    pub read_port: u16,
    /// Port of the status page, metrics and health.
    pub status_port: u16,
    /// Port of the gRPC interface.
    pub grpc_port: u16,
    /// Largest number of client sessions of one proxy; one more is refused.
    pub max_connections: u32,
    /// Largest number of sessions of one proxy with one PostgreSQL; the next ones wait.
    pub upstream_connections: u32,
    /// How long a session waits for a place at a PostgreSQL.
    pub queue_timeout: Duration,
    /// How long a new session waits for a PostgreSQL with the wanted role.
    pub hold_timeout: Duration,
    /// How long what was heard of a member counts without any sign of life: so long the last known leader gets new sessions.
    pub stale_limit: Duration,
    /// How long a connection to PostgreSQL may take.
    pub connect_timeout: Duration,
    /// How long a client may stay silent after its server's last word; none: for ever.
    pub client_timeout: Option<Duration>,
    /// How long a server may stay silent after its client's last word; none: for ever.
    pub server_timeout: Option<Duration>,
    /// How often an agent that does not push its role is asked for it.
    pub check_interval: Duration,
    /// How long such a question may take.
    pub check_timeout: Duration,
    /// Checks in a row that must pass before a PostgreSQL is used on their word alone.
    pub check_rise: u32,
    /// Checks in a row without any answer after which it is not used for new sessions.
    pub check_fall: u32,
    /// How long sessions may go on after the proxy was asked to end.
    pub drain_timeout: Duration,
    /// How long sessions may go on in a process after another one took over its sockets.
    pub upgrade_timeout: Duration,
    /// A standby that is further behind gets no new reads, bytes; none: however far.
    pub maximum_read_lag_bytes: Option<u64>,
    /// Whether reads go to the leader while no standby can take them.
    pub read_from_leader: bool,
    /// What becomes of a commit whose wait for its standbys was cancelled.
    pub cancelled_commits: Doubtful,
    /// What becomes of a session that may lower `synchronous_commit`.
    pub lowered_commits: Doubtful,
    /// What an answer on the write port is worth.
    pub reads: ReadConsistency,
    /// How reads are spread.
    pub balance: Balance,
    /// Whether each session gets a line in the proxy's log when it ends.
    pub log_sessions: bool,
    /// Whether PostgreSQL sees a client's address behind its `application_name`.
    pub name_clients: bool,
    /// Whether each thread that relays stays on a processor of its own.
    pub pin_threads: bool,
    /// Who ends the TLS of clients.
    pub tls: TlsEnd,
    /// Whether clients without TLS are refused.
    pub require_tls: bool,
    /// Networks whose connections begin with a header of the PROXY protocol, and no others do.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// What becomes of something that weakens the guarantee of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubtful {
    /// It passes as PostgreSQL has it.
    Pass,
    /// The client gets an error, and the session ends.
    Refuse,
}

/// What an answer on the write port is worth while leadership changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadConsistency {
    /// What the leader answers is passed on; an old leader that does not know that it was replaced may answer for a moment.
    Fresh,
    /// An answer is passed on only while nobody else can lead.
    Linearizable,
}

/// How reads are spread over the standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// To the standby with the fewest sessions.
    LeastConnections,
    /// To each in turn.
    RoundRobin,
    /// To the one of two drawn ones that has fewer sessions.
    Random,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            write_port: 5000,
            read_port: 5001,
            status_port: 7000,
            grpc_port: 7001,
            max_connections: 2000,
            upstream_connections: 200,
            queue_timeout: Duration::from_secs(10),
            hold_timeout: Duration::from_secs(10),
            stale_limit: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            client_timeout: None,
            server_timeout: None,
            check_interval: Duration::from_millis(500),
            check_timeout: Duration::from_secs(1),
            check_rise: 2,
            check_fall: 3,
            drain_timeout: Duration::from_secs(30),
            upgrade_timeout: Duration::from_secs(3600),
            maximum_read_lag_bytes: None,
            read_from_leader: false,
            cancelled_commits: Doubtful::Refuse,
            lowered_commits: Doubtful::Pass,
            reads: ReadConsistency::Fresh,
            balance: Balance::RoundRobin,
            log_sessions: true,
            name_clients: false,
            pin_threads: true,
            tls: TlsEnd::PassThrough,
            require_tls: false,
            proxy_protocol_from: Vec::new(),
        }
    }
}

impl Routing {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let silence = || MS(1_000)..=MS(7 * 24 * 3_600_000);
        let default = Self::default();
        let doubtful = |key| {
            let read = table.read(key, "\"pass\" or \"refuse\"", |value| match value.as_str()? {
                "pass" => Some(Doubtful::Pass),
                "refuse" => Some(Doubtful::Refuse),
                _ => None,
            });
            read.map(|at| at.value)
        };
        let names = "\"round-robin\", \"least-connections\" or \"random\"";
        let balance = table.read("balance", names, |value| match value.as_str()? {
            "least-connections" => Some(Balance::LeastConnections),
            "round-robin" => Some(Balance::RoundRobin),
            "random" => Some(Balance::Random),
            _ => None,
        });
        let reads = table.read("reads", "\"fresh\" or \"linearizable\"", |value| match value.as_str()? {
            "fresh" => Some(ReadConsistency::Fresh),
            "linearizable" => Some(ReadConsistency::Linearizable),
            _ => None,
        });
        Self {
            write_port: table.port("write_port").unwrap_or(default.write_port),
            read_port: table.port("read_port").unwrap_or(default.read_port),
            status_port: table.port("status_port").unwrap_or(default.status_port),
            grpc_port: table.port("grpc_port").unwrap_or(default.grpc_port),
            max_connections: table
                .number("max_connections", 1..=1_000_000)
                .unwrap_or(default.max_connections),
            upstream_connections: table
                .number("upstream_connections", 1..=1_000_000)
                .unwrap_or(default.upstream_connections),
            queue_timeout: table
                .duration("queue_timeout", MS(0)..=MS(600_000))
                .unwrap_or(default.queue_timeout),
            hold_timeout: table.duration("hold_timeout", MS(0)..=MS(600_000)).unwrap_or(default.hold_timeout),
            stale_limit: table.duration("stale_limit", MS(1500)..=MS(600_000)).unwrap_or(default.stale_limit),
            connect_timeout: table
                .duration("connect_timeout", MS(50)..=MS(60_000))
                .unwrap_or(default.connect_timeout),
            client_timeout: table.duration("client_timeout", silence()),
            server_timeout: table.duration("server_timeout", silence()),
            check_interval: table
                .duration("check_interval", MS(50)..=MS(60_000))
                .unwrap_or(default.check_interval),
            check_timeout: table
                .duration("check_timeout", MS(50)..=MS(60_000))
                .unwrap_or(default.check_timeout),
            check_rise: table.number("check_rise", 1..=100).unwrap_or(default.check_rise),
            check_fall: table.number("check_fall", 1..=100).unwrap_or(default.check_fall),
            drain_timeout: table
                .duration("drain_timeout", MS(0)..=MS(3_600_000))
                .unwrap_or(default.drain_timeout),
            upgrade_timeout: table
                .duration("upgrade_timeout", MS(0)..=MS(7 * 24 * 3_600_000))
                .unwrap_or(default.upgrade_timeout),
            maximum_read_lag_bytes: table.size("maximum_read_lag"),
            read_from_leader: table.boolean("read_from_leader").unwrap_or(default.read_from_leader),
            cancelled_commits: doubtful("cancelled_commits").unwrap_or(default.cancelled_commits),
            lowered_commits: doubtful("lowered_commits").unwrap_or(default.lowered_commits),
            reads: reads.map_or(default.reads, |at| at.value),
            balance: balance.map_or(default.balance, |at| at.value),
            log_sessions: table.boolean("log_sessions").unwrap_or(default.log_sessions),
            name_clients: table.boolean("name_clients").unwrap_or(default.name_clients),
            pin_threads: table.boolean("pin_threads").unwrap_or(default.pin_threads),
            tls: TlsEnd::read(table),
            require_tls: table.boolean("require_tls").unwrap_or(default.require_tls),
            proxy_protocol_from: networks::read(table, "proxy_protocol_from"),
        }
    }

    /// The ports that a proxy listens on, with their keys.
    pub(crate) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("write_port", self.write_port),
            ("read_port", self.read_port),
            ("status_port", self.status_port),
            ("grpc_port", self.grpc_port),
        ]
    }
}
