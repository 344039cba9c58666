//! The write client: several connections that insert numbered rows, one per transaction, and remember every attempt.
//!
//! It connects as libpq does with several hosts and `target_session_attrs=read-write`: one host after the other, each with
//! a limit for the whole connection set-up. Every number is tried once, so each attempt has one of three ends: acknowledged,
//! refused for certain, or unknown. A time-out only drops the connection and never cancels: PostgreSQL answers a cancelled
//! wait for a standby with success, which would look like an acknowledgement.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::clock;
use crate::front::WRITE_PORT;
use crate::lab::Lab;
use crate::topology::CLIENT;
use crate::wait::wait_for;

/// Role of the write client; [`Load::prepare`] makes it. Worth nothing outside a lab.
pub const USER: &str = "app";
/// Its password.
pub const PASSWORD: &str = "app-of-the-lab";
/// The table of numbered rows.
pub(crate) const TABLE: &str = "appload";

/// One row, with the timeline on which it was written.
const INSERT: &str = "INSERT INTO appload (id, worker, timeline) VALUES ($1, $2, \
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int) RETURNING timeline";
/// How long workers may take to finish their last attempt when the load ends.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

/// What the write client does.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Hosts in the order in which they are tried; each worker begins at another one.
    pub hosts: Vec<(String, Ipv4Addr)>,
    /// PostgreSQL's port, or a proxy's.
    pub port: u16,
    /// Connections. Several, so that one that hangs does not hide that others work.
    pub workers: usize,
    /// Pause between two rows of one worker.
    pub pause: Duration,
    /// First number; two loads on one table need ranges of their own.
    pub first_id: u64,
    /// Limit of one TCP connect. Short where the address moves: a lost first packet is repeated only after a second.
    pub tcp_limit: Duration,
    /// Limit of one connection set-up, a proxy's waiting for a primary included.
    pub connect_limit: Duration,
    /// After so long without an acknowledgement of what it sent a connection is dead.
    pub silence_limit: Duration,
    /// After this long without an answer an attempt is unknown.
    pub statement_limit: Duration,
    /// Pause after all hosts refused, so that a cluster without a primary is not flooded by connects.
    pub between_rounds: Duration,
    /// Whether the sessions give up the promise that an acknowledged commit survives (`synchronous_commit = local`).
    pub local_commits: bool,
}

impl LoadOptions {
    /// Eight connections to all database hosts of a lab, a few hundred rows a second.
    ///
    /// # Errors
    /// The lab has a host without address.
    pub fn all_hosts(lab: &Lab) -> Result<Self> {
        Self::hosts(lab, &lab.databases())
    }

    /// The same to some hosts only.
    ///
    /// # Errors
    /// There is no such host.
    pub fn hosts(lab: &Lab, hosts: &[&str]) -> Result<Self> {
        let hosts = hosts.iter().map(|&name| Ok((name.to_owned(), lab.address(name)?)));
        Ok(Self {
            hosts: hosts.collect::<Result<_>>()?,
            port: 5432,
            workers: 8,
            pause: Duration::from_millis(15),
            first_id: 1,
            tcp_limit: Duration::from_secs(1),
            connect_limit: Duration::from_secs(1),
            silence_limit: Duration::from_secs(1),
            statement_limit: Duration::from_secs(5),
            between_rounds: Duration::from_millis(20),
            local_commits: false,
        })
    }

    /// The same through one address that moves between proxies: connects and sessions are given up
    /// early, so that a move costs the client little more than the address itself.
    ///
    /// # Errors
    /// The cluster file names no floating address.
    pub fn through_vip(lab: &Lab) -> Result<Self> {
        Ok(Self::through("vip", lab.vip()?))
    }

    /// The same through one proxy's port for writes.
    pub fn through(name: &str, address: Ipv4Addr) -> Self {
        Self {
            hosts: vec![(name.to_owned(), address)],
            port: WRITE_PORT,
            workers: 8,
            pause: Duration::from_millis(15),
            first_id: 1,
            tcp_limit: Duration::from_millis(150),
            connect_limit: Duration::from_secs(12),
            silence_limit: Duration::from_millis(300),
            statement_limit: Duration::from_secs(5),
            between_rounds: Duration::from_millis(20),
            local_commits: false,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The server answered with success: the row must survive everything.
    Acked,
    /// The server refused: the row must not be there.
    Failed,
    /// No answer, or one that leaves it open.
    Unknown,
}

/// One row that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Its number.
    pub id: u64,
    /// Which connection.
    pub worker: usize,
    /// The host that was asked.
    pub host: String,
    /// Timeline on which it was written; 0 unless acknowledged.
    pub timeline: u32,
    /// When it was sent, on the monotonic clock.
    #[serde(rename = "invoked_ns", serialize_with = "nanoseconds")]
    pub invoked: Duration,
    /// When its end was known.
    #[serde(rename = "ended_ns", serialize_with = "nanoseconds")]
    pub ended: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// What the server or the network said.
    pub error: Option<String>,
}

fn nanoseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(time.as_nanos())
}

#[derive(Debug)]
struct Shared {
    options: LoadOptions,
    next_id: AtomicU64,
    acked: AtomicU64,
    stop: AtomicBool,
}

/// A write client at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Result<Vec<Attempt>>>>,
}

impl Load {
    /// Makes the client's role and table on the primary.
    ///
    /// # Errors
    /// The host refuses writes.
    pub fn prepare(lab: &Lab, primary: &str) -> Result<()> {
        lab.sql(
            primary,
            &format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{USER}') \
                 THEN CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; END IF; END $$; \
                 CREATE TABLE IF NOT EXISTS {TABLE} (id bigint PRIMARY KEY, worker int NOT NULL, timeline int NOT NULL, \
                 written timestamptz NOT NULL DEFAULT clock_timestamp()); \
                 GRANT SELECT, INSERT ON {TABLE} TO {USER}"
            ),
        )
        .map(drop)
    }

    /// Starts writing from the client host. The table must exist.
    ///
    /// # Errors
    /// The client host is off.
    pub fn start(lab: &Lab, options: LoadOptions) -> Result<Self> {
        let shared = Arc::new(Shared {
            next_id: AtomicU64::new(options.first_id),
            options,
            acked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = lab.spawn_in_network_of(CLIENT, move || run(for_thread))?;
        Ok(Self { shared, thread })
    }

    /// How many rows were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Waits until `more` further rows are acknowledged.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub fn wait_for_acks(&self, more: u64, limit: Duration) -> Result<()> {
        let wanted = self.acked() + more;
        wait_for(&format!("{more} more acknowledged rows"), limit, || {
            let acked = self.acked();
            if acked >= wanted { Ok(()) } else { Err(format!("{} of {more}", more - (wanted - acked))) }
        })
    }

    /// Ends the load and returns every attempt, by number.
    ///
    /// # Errors
    /// The client could not run at all.
    pub fn finish(self) -> Result<Vec<Attempt>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join().map_err(|_| anyhow::anyhow!("the write client panicked"))?;
        let mut attempts = joined??;
        attempts.sort_by_key(|attempt| attempt.id);
        Ok(attempts)
    }
}

fn run(shared: Arc<Shared>) -> Result<Vec<Attempt>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the write client's runtime")?;
    runtime.block_on(async {
        let mut workers = Vec::new();
        for index in 0..shared.options.workers {
            workers.push(tokio::spawn(work(Arc::clone(&shared), index)));
        }
        let mut attempts = Vec::new();
        for worker in workers {
            attempts.extend(worker.await.context("a worker of the write client")?);
        }
        Ok(attempts)
    })
}

async fn work(shared: Arc<Shared>, index: usize) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut host = index % shared.options.hosts.len().max(1);
    while !shared.stop.load(Ordering::Relaxed) {
        match session(&shared.options, host, INSERT).await {
            Some((client, insert)) => {
                write_rows(&shared, index, host, &client, &insert, &mut attempts).await;
            }
            None => {
                host = (host + 1) % shared.options.hosts.len();
                if host == index % shared.options.hosts.len() {
                    sleep(shared.options.between_rounds).await;
                }
            }
        }
    }
    attempts
}

/// One host: a session that accepts writes, with a statement prepared, or nothing.
pub(crate) async fn session(
    options: &LoadOptions,
    host: usize,
    statement: &str,
) -> Option<(Client, Statement)> {
    let (_, address) = options.hosts.get(host)?;
    let mut config = Config::new();
    config
        .host(address.to_string())
        .port(options.port)
        .user(USER)
        .password(PASSWORD)
        .dbname("postgres")
        .application_name("lab-write-client")
        .ssl_mode(SslMode::Disable)
        .connect_timeout(options.tcp_limit)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        // A powered-off server says nothing: give up unacknowledged bytes soon, idle connections after two seconds.
        .tcp_user_timeout(options.silence_limit)
        .keepalives_idle(Duration::from_secs(1))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(1);
    if options.local_commits {
        config.options("-c synchronous_commit=local");
    }
    let set_up = async {
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::spawn(async move {
            // How it ended is seen by the statement that was under way.
            connection.await.ok();
        });
        let statement = client.prepare(statement).await.ok()?;
        Some((client, statement))
    };
    timeout(options.connect_limit, set_up).await.ok()?
}

/// Writes until the session ends, an attempt has no clear end, or the load is over.
async fn write_rows(
    shared: &Shared,
    worker: usize,
    host: usize,
    client: &Client,
    insert: &Statement,
    attempts: &mut Vec<Attempt>,
) {
    while !shared.stop.load(Ordering::Relaxed) && !client.is_closed() {
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let mut attempt = Attempt {
            id,
            worker,
            host: shared.options.hosts[host].0.clone(),
            timeline: 0,
            invoked: clock::now(),
            ended: Duration::ZERO,
            outcome: Outcome::Unknown,
            error: None,
        };
        let (number, worker) = (id.cast_signed(), i32::try_from(worker).unwrap_or(i32::MAX));
        let row = async { client.query_one(insert, &[&number, &worker]).await };
        let answer = tokio::select! {
            answer = row => Some(answer),
            () = give_up(shared, attempt.invoked) => None,
        };
        attempt.ended = clock::now();
        match answer {
            Some(Ok(row)) => {
                attempt.outcome = Outcome::Acked;
                attempt.timeline =
                    row.try_get::<_, i32>(0).ok().and_then(|id| id.try_into().ok()).unwrap_or(0);
                shared.acked.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(error)) => {
                attempt.outcome = judge(&error);
                attempt.error = Some(describe(&error));
            }
            None => attempt.error = Some("no answer".to_owned()),
        }
        let goes_on = attempt.outcome == Outcome::Acked;
        attempts.push(attempt);
        if !goes_on {
            return;
        }
        sleep(shared.options.pause).await;
    }
}

/// Ends when an attempt has waited long enough: its own limit, and less when the load is over.
async fn give_up(shared: &Shared, invoked: Duration) {
    let mut over_since = None;
    loop {
        sleep(Duration::from_millis(50)).await;
        let now = clock::now();
        if shared.stop.load(Ordering::Relaxed) && now >= *over_since.get_or_insert(now) + LAST_ATTEMPT {
            return;
        }
        if now >= invoked + shared.options.statement_limit {
            return;
        }
    }
}

/// A refusal is certain only when the server says so, ends the statement and not the session: a session that is ended
/// while it waits for a standby has committed already.
pub(crate) fn judge(error: &tokio_postgres::Error) -> Outcome {
    let Some(answer) = error.as_db_error() else { return Outcome::Unknown };
    let ends_statement = answer.parsed_severity() == Some(Severity::Error);
    let shutting_down = [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::QUERY_CANCELED];
    if ends_statement && !shutting_down.contains(&answer.code()) { Outcome::Failed } else { Outcome::Unknown }
}

pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => format!("{} {}", answer.code().code(), answer.message()),
        None => error.to_string(),
    }
}
