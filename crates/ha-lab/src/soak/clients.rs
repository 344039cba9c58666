//! Everybody who works through the proxies during a round of load.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::broken;
use crate::client_load::{Attempt, Load, LoadOptions};
use crate::front::{READ_PORT, WRITE_PORT};
use crate::lab::Lab;
use crate::sessions::SAMPLER;
use crate::topology::CLIENT;
use crate::wire::WireSession;

/// Sessions that do nothing.
const IDLE: usize = 300;
/// Clients that connect for each transaction, without TLS and with it.
const CONNECTING: usize = 4;
/// Threads whose clients are killed.
const KILLED: u64 = 2;
/// Limit of one session, longer than a proxy holds it.
const SESSION: Duration = Duration::from_secs(20);
/// Pause after a client of its kind: the machine has two cores, and the cluster needs them too.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause between two rounds of those who look after something.
const TURN: Duration = Duration::from_millis(300);
const WRITE: &str = "INSERT INTO sampled DEFAULT VALUES";
const READ: &str = "SELECT pg_is_in_recovery()";
/// How long psql with TLS lives before it is killed, seconds: most have connected by then, few have ended.
const LIVES: [&str; 3] = ["0.05", "0.1", "0.3"];

/// What came of the clients.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Rows that long sessions wrote.
    rows: AtomicU64,
    transactions: AtomicU64,
    refused: AtomicU64,
    with_tls: AtomicU64,
    cancelled: AtomicU64,
    killed: AtomicU64,
    idle_opened: AtomicU64,
}

impl Counts {
    fn all(&self) -> [(&'static str, &AtomicU64); 7] {
        [
            ("rows of long sessions", &self.rows),
            ("transactions with a connect each", &self.transactions),
            ("of them in TLS", &self.with_tls),
            ("that failed at a change", &self.refused),
            ("statements cancelled", &self.cancelled),
            ("clients killed", &self.killed),
            ("idle sessions opened", &self.idle_opened),
        ]
    }

    pub(super) fn add(&self, other: &Self) {
        for ((_, sum), (_, more)) in self.all().into_iter().zip(other.all()) {
            sum.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether every kind of client got what it wanted at least once.
    pub(super) fn all_happened(&self) -> bool {
        let mut wanted = self.all().into_iter().filter(|(name, _)| !name.contains("failed"));
        wanted.all(|(_, count)| count.load(Ordering::Relaxed) > 0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.all().map(|(name, count)| format!("{} {name}", count.load(Ordering::Relaxed)));
        write!(f, "{}", words.join(", "))
    }
}

/// What every client knows.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    counts: Counts,
    /// The floating address and the proxies' own.
    addresses: Vec<Ipv4Addr>,
}

impl Shared {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A proxy and one of its ports, in turn.
    pub(super) fn place(&self, turn: usize) -> SocketAddrV4 {
        let address = self.addresses[turn % self.addresses.len()];
        let port = if (turn / self.addresses.len()).is_multiple_of(2) { WRITE_PORT } else { READ_PORT };
        SocketAddrV4::new(address, port)
    }

    pub(super) fn one_killed(&self) {
        self.counts.killed.fetch_add(1, Ordering::Relaxed);
    }

    fn one_transaction(&self, done: bool) {
        let count = if done { &self.counts.transactions } else { &self.counts.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One client's work, until the load is over.
type Work = Box<dyn FnOnce(&Shared) -> Result<()> + Send>;

/// All of them.
#[derive(Debug)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    long: Load,
    threads: Vec<JoinHandle<Result<Result<()>>>>,
}

impl Clients {
    /// Lets them begin. The numbers of the long sessions' rows begin at `first_id`.
    pub(super) fn start(lab: &Lab, seed: u64, first_id: u64) -> Result<Self> {
        let mut addresses = vec![lab.vip()?];
        for proxy in lab.proxies() {
            addresses.push(lab.address(proxy)?);
        }
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), counts: Counts::default(), addresses });
        let long = LoadOptions {
            workers: 4,
            pause: Duration::from_millis(40),
            first_id,
            ..LoadOptions::through_vip(lab)?
        };
        let long = Load::start(lab, long)?;
        let mut threads = Vec::new();
        let mut begin = |run: Work| -> Result<()> {
            let shared = Arc::clone(&shared);
            threads.push(lab.spawn_in_network_of(CLIENT, move || run(&shared))?);
            Ok(())
        };
        begin(Box::new(connect_each_time))?;
        begin(Box::new(stay_idle))?;
        begin(Box::new(cancel))?;
        for number in 0..KILLED {
            begin(Box::new(move |shared| broken::run(shared, seed ^ (number << 32))))?;
        }
        let (polite, killed) = with_tls(lab)?;
        begin(Box::new(move |shared| run_psql(shared, polite, killed)))?;
        Ok(Self { shared, long, threads })
    }

    /// Ends them all, and adds the rows that were tried.
    pub(super) fn finish(self, attempts: &mut Vec<Attempt>) -> Result<Counts> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.counts.rows.fetch_add(self.long.acked(), Ordering::Relaxed);
        attempts.extend(self.long.finish()?);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))???;
        }
        let shared = Arc::into_inner(self.shared).context("a client goes on")?;
        Ok(shared.counts)
    }
}

fn connect_each_time(shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = |number: usize| async move {
            let mut turn = number;
            while shared.goes_on() {
                turn += 1;
                shared.one_transaction(timeout(SESSION, transaction(shared.place(turn))).await == Ok(true));
                sleep(PAUSE).await;
            }
        };
        let (a, b, c, d) = (client(0), client(1), client(2), client(CONNECTING - 1));
        tokio::join!(a, b, c, d);
    });
    Ok(())
}

/// One session with one transaction; whether it was done.
async fn transaction(place: SocketAddrV4) -> bool {
    let mut config = Config::new();
    config.host(place.ip().to_string()).port(place.port()).user(SAMPLER).dbname("postgres");
    config.application_name("lab-soak").ssl_mode(SslMode::Disable);
    let Ok((client, connection)) = config.connect(NoTls).await else { return false };
    let connection = tokio::spawn(connection);
    let sql = if place.port() == WRITE_PORT { WRITE } else { READ };
    let done = client.simple_query(sql).await.is_ok();
    drop(client);
    // Ends by itself: the client said good-bye.
    connection.await.ok();
    done
}

/// psql with TLS on both ports of all places, without an end of its own and with one that comes too soon.
fn with_tls(lab: &Lab) -> Result<(Vec<Command>, Vec<Command>)> {
    let (mut polite, mut killed) = (Vec::new(), Vec::new());
    for proxy in lab.proxies() {
        for (port, sql) in [(WRITE_PORT, WRITE), (READ_PORT, READ)] {
            let conninfo = format!(
                "host={} port={port} user={SAMPLER} dbname=postgres sslmode=require connect_timeout=15",
                lab.address(proxy)?
            );
            let psql = ["psql", "-X", "-qAtc", sql, &conninfo];
            polite.push(lab.command(CLIENT, "nobody", &psql)?);
            for life in LIVES {
                let psql = [&["timeout", "-s", "KILL", life][..], &psql].concat();
                killed.push(lab.command(CLIENT, "nobody", &psql)?);
            }
        }
    }
    for command in polite.iter_mut().chain(&mut killed) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    Ok((polite, killed))
}

fn run_psql(shared: &Shared, mut polite: Vec<Command>, mut killed: Vec<Command>) -> Result<()> {
    for turn in 0.. {
        if !shared.goes_on() {
            break;
        }
        let index = turn % polite.len();
        let done = polite[index].status().context("run psql")?.success();
        shared.one_transaction(done);
        shared.counts.with_tls.fetch_add(u64::from(done), Ordering::Relaxed);
        let index = turn % killed.len();
        if !killed[index].status().context("run psql")?.success() {
            shared.one_killed();
        }
    }
    Ok(())
}

/// Keeps so many sessions open; those that were cut are opened again.
fn stay_idle(shared: &Shared) -> Result<()> {
    let mut sessions: Vec<WireSession> = Vec::new();
    let mut turn = 0;
    while shared.goes_on() {
        sessions.retain(|session| session.still_waits().unwrap_or(false));
        while sessions.len() < IDLE && shared.goes_on() {
            turn += 1;
            match WireSession::log_in(shared.place(turn)) {
                Ok(session) => sessions.push(session),
                // Refused at a change: again after a while.
                Err(_) => break,
            }
            shared.counts.idle_opened.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(TURN);
    }
    Ok(())
}

/// Sessions whose statement is cancelled, by any proxy.
fn cancel(shared: &Shared) -> Result<()> {
    for turn in 0.. {
        if !shared.goes_on() {
            break;
        }
        let ended = WireSession::log_in(shared.place(turn)).and_then(|mut session| {
            session.send_query("SELECT pg_sleep(2)")?;
            let port = shared.place(turn).port();
            session.cancel_at(SocketAddrV4::new(*shared.place(turn + 1).ip(), port))?;
            // A request that comes before its query finds nothing to cancel.
            session.error(Duration::from_secs(3))
        });
        let cancelled = ended.is_ok_and(|sqlstate| sqlstate == "57014");
        shared.counts.cancelled.fetch_add(u64::from(cancelled), Ordering::Relaxed);
        thread::sleep(TURN);
    }
    Ok(())
}
