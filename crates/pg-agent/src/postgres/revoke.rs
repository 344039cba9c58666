//! Makes it impossible to confirm anything more to the leader of an epoch, and finds the exact end of the WAL that is
//! here.
//!
//! The order is the point (a reload is asynchronous, and a walreceiver may start once more with the old connection
//! string after it was ended): first the password file of the epoch vanishes durably, then the configuration changes,
//! then the walreceiver is ended. Whatever starts later with the old string cannot log in.

use std::time::{Duration, Instant};

use ha_core::postgres_view::ControlState;
use ha_core::{Epoch, Lsn, Timeline};
use ha_decision::ServerSettings;

use super::configure::FILES_LIMIT;
use super::error::Error;
use super::process;
use super::query::Row;
use super::{Postgres, pass_file};

/// How long the walreceiver may take to end, and replay to reach the end of what was received.
const LIMIT: Duration = Duration::from_secs(10);
/// How often the server is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How often a walreceiver is told to end.
const REPEAT: Duration = Duration::from_millis(100);

impl Postgres {
    /// Revokes `epoch`; returns timeline and end of the flushed WAL, exact. A stopped standby is started, without
    /// upstream, because only a running one knows.
    ///
    /// # Errors
    /// When a step fails or the position does not become exact in time. The revocation itself may then hold already.
    pub async fn revoke(&self, epoch: Epoch, settings: &ServerSettings) -> Result<(Timeline, Lsn), Error> {
        if settings.upstream.is_some() {
            return Err(Error::State("a revocation came with an upstream".to_owned()));
        }
        self.blocking("removing the pass file", FILES_LIMIT, move |p| pass_file::revoke(&p.place, epoch))
            .await??;
        match self.postmaster().await? {
            None => self.start_revoked(settings).await?,
            Some(postmaster) => {
                self.write_files(settings).await?;
                self.reload().await?;
                self.end_walreceiver(postmaster.pid).await?;
            }
        }
        self.exact_position().await
    }

    async fn start_revoked(&self, settings: &ServerSettings) -> Result<(), Error> {
        let control = self.control.read_again(&self.place).await?;
        let standby =
            matches!(control.state, ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery);
        if !standby && !self.place.data("standby.signal").exists() {
            return Err(Error::State(
                "the directory's last life was a primary's; it cannot promise as a standby".to_owned(),
            ));
        }
        self.start(true, settings).await
    }

    /// Ends walreceivers until none is seen twice in a row. By process, not by SQL: one that is still connecting shows in
    /// no view, and a server that is out of connections must be able to promise, too.
    async fn end_walreceiver(&self, postmaster: u32) -> Result<(), Error> {
        let begun = Instant::now();
        let mut told: Option<Instant> = None;
        let mut absent = 0;
        while absent < 2 {
            let receivers = self
                .blocking("looking for the walreceiver", FILES_LIMIT, move |_| {
                    process::walreceivers(postmaster)
                })
                .await?;
            if receivers.is_empty() {
                absent += 1;
            } else {
                absent = 0;
                if told.is_none_or(|at| at.elapsed() > REPEAT) {
                    told = Some(Instant::now());
                    receivers.iter().copied().for_each(process::terminate);
                }
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::Timeout { operation: "ending the walreceiver", limit: LIMIT });
            }
            tokio::time::sleep(if absent == 1 { Duration::from_millis(1) } else { POLL }).await;
        }
        Ok(())
    }

    /// Waits until the position can only grow by new WAL: everything received is replayed, or the startup process was
    /// seen waiting for WAL twice at the same replay position. "Does not move" alone proves nothing.
    async fn exact_position(&self) -> Result<(Timeline, Lsn), Error> {
        let begun = Instant::now();
        let mut parked_at: Option<Row> = None;
        loop {
            match tokio::time::timeout(LIMIT, self.look()).await {
                Ok(Ok(row)) => {
                    if !row.in_recovery {
                        return Err(Error::State("PostgreSQL runs as a primary".to_owned()));
                    }
                    if row.replay_paused {
                        self.resume_replay().await?;
                    }
                    let parked = row.receiver_pid.is_none() && row.is_parked();
                    if parked && parked_at.as_ref().is_some_and(|earlier| earlier.replay == row.replay) {
                        let flush =
                            row.flush.ok_or_else(|| Error::State("no WAL was replayed".to_owned()))?;
                        return Ok((row.timeline(), flush));
                    }
                    parked_at = parked.then_some(row);
                }
                Ok(Err(reason)) => {
                    tracing::debug!(?reason, "the position cannot be read yet");
                }
                Err(_) => {}
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::Timeout { operation: "waiting for the exact end of WAL", limit: LIMIT });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A delayed or paused replay would keep the position from becoming exact.
    async fn resume_replay(&self) -> Result<(), Error> {
        self.reserved_value("resuming replay", "SELECT pg_wal_replay_resume()").await.map(drop)
    }
}
