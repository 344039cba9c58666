//! Clients that read all registers again and again, for the question whether an answer was old when it was asked for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::clients::{Clients, Progress};
use crate::client_load::{LoadOptions, session};
use crate::clock;
use crate::lab::Lab;

/// One statement, so one snapshot.
const READ: &str = "SELECT key, value FROM register";

/// An answer that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Read {
    /// When it was asked for, on the monotonic clock.
    pub invoked: Duration,
    /// When it was there.
    pub ended: Duration,
    /// Registers and their values.
    pub values: Vec<(i32, i64)>,
}

/// Readers at work.
#[derive(Debug)]
pub struct Readers(Clients<Read>);

impl Readers {
    /// Starts reading from the client host. The registers must exist (see [`super::Registers::prepare`]).
    ///
    /// # Errors
    /// The client host is off.
    pub fn start(lab: &Lab, options: LoadOptions) -> Result<Self> {
        let (count, options, progress) = (options.workers, Arc::new(options), Arc::<Progress>::default());
        let for_clients = Arc::clone(&progress);
        let work = move |_| work(Arc::clone(&options), Arc::clone(&for_clients));
        Clients::start(lab, count, progress, work).map(Self)
    }

    /// Waits until `more` further reads are answered.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub fn wait_for_answers(&self, more: u64, limit: Duration) -> Result<()> {
        self.0.wait_for_answers(more, limit)
    }

    /// Ends the readers and returns every answer.
    ///
    /// # Errors
    /// They could not run at all.
    pub fn finish(self) -> Result<Vec<Read>> {
        self.0.finish()
    }
}

async fn work(options: Arc<LoadOptions>, progress: Arc<Progress>) -> Vec<Read> {
    let mut reads = Vec::new();
    while progress.goes_on() {
        let Some((client, statement)) = session(&options, 0, READ).await else {
            sleep(options.between_rounds).await;
            continue;
        };
        while progress.goes_on() {
            let invoked = clock::now();
            let answer = timeout(options.statement_limit, client.query(&statement, &[])).await;
            let Ok(Ok(rows)) = answer else { break };
            let values = rows.iter().filter_map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)));
            reads.push(Read { invoked, ended: clock::now(), values: values.collect() });
            progress.answered();
            sleep(options.pause).await;
        }
    }
    reads
}
