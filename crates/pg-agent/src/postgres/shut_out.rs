//! Shuts clients out of a running primary, so that a successor can be sure to have everything that they wrote.
//!
//! A session that is still logging in when the new `pg_hba.conf` is read shows in no view of PostgreSQL before version 18.
//! It can write afterwards, but nobody confirms to it any more once the successor has its promises: only a commit below
//! `synchronous_commit = on` could be acknowledged and lost. Background workers (logical replication, extensions) are
//! not clients and go on.

use std::time::{Duration, Instant};

use ha_core::Lsn;
use ha_core::standby_names::StandbyName;
use ha_decision::ServerSettings;

use super::Postgres;
use super::error::Error;
use super::session::{APPLICATION_NAME, Commit, Session, literal};

/// How long all of it may take: a clean stop is the alternative, and clients wait.
const LIMIT: Duration = Duration::from_secs(2);
/// How often the server is asked.
const POLL: Duration = Duration::from_millis(5);

impl Postgres {
    /// Closes the server, ends the sessions of clients, flushes a record after the last of them, and waits until
    /// `successor` has it. Returns its position.
    ///
    /// # Errors
    /// When a session does not end, or the successor does not confirm in time. The server is closed then; who wants it
    /// open again must configure it.
    pub async fn shut_out(&self, settings: ServerSettings, successor: &StandbyName) -> Result<Lsn, Error> {
        let begun = Instant::now();
        let before = self.reserved_value("shutting clients out", "SELECT clock_timestamp()").await?;
        let before = before.ok_or_else(|| Error::State("PostgreSQL did not tell its time".to_owned()))?;
        self.configure(settings).await?;
        self.wait_closed(&before, begun).await?;
        self.end_clients(begun).await?;
        let end = self.mark_barrier().await?;
        let name = literal(&successor.to_string());
        let confirmed = format!(
            "SELECT 1 FROM pg_stat_replication WHERE application_name = {name} AND flush_lsn >= '{end}' LIMIT 1"
        );
        self.poll("waiting for the successor", begun, &confirmed, "1").await?;
        Ok(end)
    }

    /// A process inherits from the postmaster when the files were read last: a new session that shows a later time than
    /// before the reload proves that whoever connects from now on meets the new `pg_hba.conf`.
    async fn wait_closed(&self, before: &str, begun: Instant) -> Result<(), Error> {
        let sql = format!("SELECT pg_conf_load_time() > {}", literal(before));
        loop {
            let session =
                Session::connect(&self.place, Commit::Local, None).await.map_err(|e| e.into_error())?;
            let read = session.value("shutting clients out", &sql, LIMIT).await?;
            if read.as_deref() == Some("t") {
                return Ok(());
            }
            pause("reading the new pg_hba.conf", begun).await?;
        }
    }

    /// Ends the sessions of clients until none is left; a commit that waits for standbys ends without an answer.
    async fn end_clients(&self, begun: Instant) -> Result<(), Error> {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND NOT (client_addr IS NULL AND usename = {} AND application_name = {})",
            literal(&self.place.superuser),
            literal(APPLICATION_NAME),
        );
        self.poll("ending the sessions of clients", begun, &sql, "0").await
    }

    /// Asks until the answer is this.
    async fn poll(
        &self,
        operation: &'static str,
        begun: Instant,
        sql: &str,
        wanted: &str,
    ) -> Result<(), Error> {
        while self.reserved_value(operation, sql).await?.as_deref() != Some(wanted) {
            pause(operation, begun).await?;
        }
        Ok(())
    }
}

async fn pause(operation: &'static str, begun: Instant) -> Result<(), Error> {
    if begun.elapsed() > LIMIT {
        return Err(Error::Timeout { operation, limit: LIMIT });
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}
