//! New sessions from the client host: which server answers through an address, once or every few milliseconds.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::client_load::{PASSWORD, USER, describe};
use crate::clock;
use crate::lab::Lab;
use crate::topology::CLIENT;

/// Role without password that [`sampling_rules`] lets in: a login by password costs more than all the rest of a session.
pub const SAMPLER: &str = "sampler";

/// Role with the right to replicate, for whoever makes it: the lines of [`sampling_rules`] let it in by password.
pub const WAL_READER: &str = "wal_reader";

/// Lines of `[postgres] hba` that let the sampler's role in, and everybody else as by default.
pub fn sampling_rules() -> String {
    format!(
        "\n[postgres]\nhba = [\"host all {SAMPLER} samenet trust\", \"host all all samenet scram-sha-256\", \
         \"local all all scram-sha-256\", \"host replication {WAL_READER} samenet scram-sha-256\"]\n"
    )
}

/// SQL that makes the sampler's role, and a table for it to write to.
pub fn sampling_role() -> String {
    format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SAMPLER}') \
         THEN CREATE ROLE {SAMPLER} LOGIN; END IF; END $$; \
         CREATE TABLE IF NOT EXISTS sampled (written timestamptz DEFAULT clock_timestamp()); \
         GRANT INSERT, SELECT ON sampled TO {SAMPLER}"
    )
}

/// Sessions of one way that wait for an answer at the same time; while so many do, no other begins. They would all wait for
/// the same, and a server that begins fewer sessions than are asked for would never again answer one in time.
const WAITING: usize = 32;

/// Who answered a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The server's own address.
    pub server: Ipv4Addr,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// When it answered, on its own wall clock (all hosts of a lab have the same), since 1970.
    pub at: Duration,
}

/// One attempt at a new session.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The name of the way that was taken.
    pub through: String,
    /// When the connect began, on the monotonic clock.
    pub asked: Duration,
    /// When the answer, or its refusal, was there.
    pub ended: Duration,
    /// The answer, or what the server or the network said instead.
    pub answer: Result<Answer, String>,
}

/// How often, and by which ways.
#[derive(Debug, Clone)]
pub struct SampleOptions {
    /// Names and addresses.
    pub through: Vec<(String, SocketAddrV4)>,
    /// Pause between the beginnings of two sessions; the ways take turns, and one that has too many without an answer lets
    /// its turn pass.
    pub interval: Duration,
    /// Limit of one session. Longer than a proxy holds it.
    pub limit: Duration,
}

/// A sampler at work.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<Vec<Sample>>>>,
}

impl Sampler {
    /// Starts sampling from the client host. The role must exist ([`sampling_role`]).
    ///
    /// # Errors
    /// The client host is off.
    pub fn start(lab: &Lab, options: SampleOptions) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&stop);
        let thread = lab.spawn_in_network_of(CLIENT, move || run(&options, &for_thread))?;
        Ok(Self { stop, thread })
    }

    /// Ends sampling and returns every attempt, by the time of its end.
    ///
    /// # Errors
    /// The sampler could not run.
    pub fn finish(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        let mut samples = joined??;
        samples.sort_by_key(|sample| sample.ended);
        Ok(samples)
    }
}

/// Writes every sample as a line, for whoever wants to look closer.
///
/// # Errors
/// The file cannot be written.
pub fn write_samples(samples: &[Sample], path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for Sample { through, asked, ended, answer } in samples {
        writeln!(out, "{:.3} {:.3} {through} {answer:?}", asked.as_secs_f64(), ended.as_secs_f64())?;
    }
    out.flush().with_context(|| format!("write {}", path.display()))
}

fn run(options: &SampleOptions, stop: &AtomicBool) -> Result<Vec<Sample>> {
    runtime()?.block_on(async {
        let mut ticks = interval(options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = Vec::new();
        let ways: Vec<_> =
            options.through.iter().map(|way| (way, Arc::new(Semaphore::new(WAITING)))).collect();
        for ((name, address), places) in ways.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            ticks.tick().await;
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
            let (name, address, limit) = (name.clone(), *address, options.limit);
            tasks.push(tokio::spawn(async move {
                let _place = place;
                let asked = clock::now();
                let answer = ask(address, SAMPLER, None, limit).await;
                Sample { through: name, asked, ended: clock::now(), answer }
            }));
        }
        let mut samples = Vec::new();
        for task in tasks {
            samples.push(task.await.context("a sample")?);
        }
        Ok(samples)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a client's runtime")
}

/// One session: who answers.
async fn ask(
    address: SocketAddrV4,
    user: &str,
    password: Option<&str>,
    limit: Duration,
) -> Result<Answer, String> {
    let session = async {
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(user)
            .dbname("postgres")
            .application_name("lab-sampler")
            .ssl_mode(SslMode::Disable);
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = config.connect(NoTls).await.map_err(|error| describe(&error))?;
        let connection = tokio::spawn(connection);
        let answer = client
            .simple_query(
                "SELECT host(inet_server_addr()), pg_is_in_recovery(), extract(epoch FROM clock_timestamp())",
            )
            .await
            .map_err(|error| describe(&error));
        drop(client);
        // Ends by itself: the client said good-bye.
        connection.await.ok();
        let answer = answer?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or("no row")?;
        let server = row.get(0).and_then(|text| text.parse().ok()).ok_or("no server address")?;
        let at = row.get(2).and_then(|text| text.parse().ok()).ok_or("no time")?;
        Ok(Answer { server, in_recovery: row.get(1) == Some("t"), at: Duration::from_secs_f64(at) })
    };
    timeout(limit, session).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

impl Lab {
    /// One session of the write client's role (see [`crate::client_load::Load::prepare`]) through an address and port.
    ///
    /// # Errors
    /// Refused, or no answer within `limit`; the message is the server's or the network's.
    pub fn session_through(&self, address: Ipv4Addr, port: u16, limit: Duration) -> Result<Answer> {
        let address = SocketAddrV4::new(address, port);
        let thread = self.spawn_in_network_of(CLIENT, move || -> Result<Answer> {
            let asked = ask(address, USER, Some(PASSWORD), limit);
            runtime()?.block_on(asked).map_err(|text| anyhow::anyhow!("{text}"))
        })?;
        let joined = thread.join().map_err(|_| anyhow::anyhow!("a session panicked"))?;
        joined?.with_context(|| format!("session through {}", SocketAddr::V4(address)))
    }
}
