//! A second workload, for what numbered rows cannot show: several clients count the same registers up, and each step is
//! logged in the same transaction. A lost update, two primaries or a history that was swapped show as a value given twice,
//! as a gap, or as a value that went back.

mod clients;
mod readers;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Statement};

use crate::client_load::{LoadOptions, Outcome, USER, judge, session};
use crate::clock;
use crate::lab::Lab;
use clients::{Clients, Progress};

pub use readers::{Read, Readers};
pub use verdict::{LoggedStep, RegisterVerdict, StaleRead, stale_reads};

/// Registers. Few, so that clients meet.
const KEYS: i32 = 6;
/// One step: the register and its log in one transaction.
const STEP: &str = "WITH next AS (UPDATE register SET value = value + 1 WHERE key = $1 RETURNING value) \
    INSERT INTO register_log (key, value, token) SELECT $1, value, $2 FROM next RETURNING value";

/// What a client did to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which register.
    pub key: i32,
    /// Unique for ever.
    pub token: i64,
    /// When it was sent, on the monotonic clock.
    pub invoked: Duration,
    /// When its end was known.
    pub ended: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The value that it was given, when it was acknowledged.
    pub value: Option<i64>,
}

#[derive(Debug)]
struct Shared {
    options: LoadOptions,
    next_token: AtomicU64,
    progress: Arc<Progress>,
}

/// Clients that count.
#[derive(Debug)]
pub struct Registers(Clients<Step>);

impl Registers {
    /// Makes the tables, all registers at zero. The write client's role must exist.
    ///
    /// # Errors
    /// The host refuses writes.
    pub fn prepare(lab: &Lab, primary: &str) -> Result<()> {
        lab.sql(
            primary,
            &format!(
                "DROP TABLE IF EXISTS register, register_log; \
                 CREATE TABLE register (key int PRIMARY KEY, value bigint NOT NULL); \
                 CREATE TABLE register_log (key int, value bigint, token bigint NOT NULL, PRIMARY KEY (key, value)); \
                 INSERT INTO register SELECT key, 0 FROM generate_series(1, {KEYS}) AS key; \
                 GRANT SELECT, UPDATE ON register TO {USER}; GRANT SELECT, INSERT ON register_log TO {USER}"
            ),
        )
        .map(drop)
    }

    /// Starts counting from the client host.
    ///
    /// # Errors
    /// The client host is off.
    pub fn start(lab: &Lab, options: LoadOptions) -> Result<Self> {
        let (count, progress) = (options.workers, Arc::<Progress>::default());
        let shared =
            Arc::new(Shared { options, next_token: AtomicU64::new(1), progress: Arc::clone(&progress) });
        Clients::start(lab, count, progress, move |index| work(Arc::clone(&shared), index)).map(Self)
    }

    /// Waits until `more` further steps are acknowledged.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub fn wait_for_acks(&self, more: u64, limit: Duration) -> Result<()> {
        self.0.wait_for_answers(more, limit)
    }

    /// Ends the clients and returns every step.
    ///
    /// # Errors
    /// They could not run at all.
    pub fn finish(self) -> Result<Vec<Step>> {
        self.0.finish()
    }
}

async fn work(shared: Arc<Shared>, index: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut host = index % shared.options.hosts.len().max(1);
    while shared.progress.goes_on() {
        match session(&shared.options, host, STEP).await {
            Some((client, statement)) => count(&shared, index, &client, &statement, &mut steps).await,
            None => {
                host = (host + 1) % shared.options.hosts.len();
                sleep(shared.options.between_rounds).await;
            }
        }
    }
    steps
}

/// Counts until the session ends, a step has no clear end, or the load is over.
async fn count(shared: &Shared, index: usize, client: &Client, statement: &Statement, steps: &mut Vec<Step>) {
    let mut turn = i32::try_from(index).unwrap_or(0);
    while shared.progress.goes_on() && !client.is_closed() {
        turn += 1;
        let key = turn % KEYS + 1;
        let token = shared.next_token.fetch_add(1, Ordering::Relaxed).cast_signed();
        let invoked = clock::now();
        let answer =
            timeout(shared.options.statement_limit, client.query_one(statement, &[&key, &token])).await;
        let mut step =
            Step { key, token, invoked, ended: clock::now(), outcome: Outcome::Unknown, value: None };
        match answer {
            Ok(Ok(row)) => {
                step.outcome = Outcome::Acked;
                step.value = row.try_get(0).ok();
                shared.progress.answered();
            }
            Ok(Err(error)) => step.outcome = judge(&error),
            Err(_) => {}
        }
        let goes_on = step.outcome == Outcome::Acked;
        steps.push(step);
        if !goes_on {
            return;
        }
        sleep(shared.options.pause).await;
    }
}

/// The registers as they are in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Every step, by register and value.
    pub log: Vec<LoggedStep>,
    /// The value of each register.
    pub values: Vec<(i32, i64)>,
}

/// Reads them and their log on one host.
///
/// # Errors
/// PostgreSQL does not answer there.
pub fn read(lab: &Lab, host: &str) -> Result<Counted> {
    let numbers = |line: &str| -> Result<Vec<i64>> {
        line.split('|').map(|text| text.parse().with_context(|| format!("number in {line:?}"))).collect()
    };
    let log = lab.sql(host, "SELECT key, value, token FROM register_log ORDER BY key, value")?;
    let log = log.lines().map(|line| {
        let numbers = numbers(line)?;
        Ok(LoggedStep { key: i32::try_from(numbers[0])?, value: numbers[1], token: numbers[2] })
    });
    let values = lab.sql(host, "SELECT key, value FROM register ORDER BY key")?;
    let values = values.lines().map(|line| {
        let numbers = numbers(line)?;
        Ok((i32::try_from(numbers[0])?, numbers[1]))
    });
    Ok(Counted { log: log.collect::<Result<_>>()?, values: values.collect::<Result<_>>()? })
}
