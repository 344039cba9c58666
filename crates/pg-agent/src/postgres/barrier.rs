//! Small records in the log: proof that commits wait, marks, checkpoints, and walsenders that must begin anew.

use std::time::{Duration, Instant};

use ha_core::{Epoch, Lsn};

use super::error::Error;
use super::session::{Commit, Session};
use super::{Postgres, session};

/// A statement on the reserved connection.
const STATEMENT_LIMIT: Duration = Duration::from_secs(2);
/// How long a waiting commit may take to be seen.
const PROOF_LIMIT: Duration = Duration::from_secs(3);
/// How long the quorum may take to confirm the mark of an epoch.
const MARK_LIMIT: Duration = Duration::from_secs(10);
/// How long ended walsenders may take to go.
const BOUNCE_LIMIT: Duration = Duration::from_secs(3);
/// A checkpoint writes everything that is dirty.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(1800);
/// How often the server is asked.
const POLL: Duration = Duration::from_millis(5);

impl Postgres {
    /// Sees a commit of the agent's own wait for standbys, ends it, then flushes a record; returns the flushed position.
    ///
    /// # Errors
    /// When the commit does not wait: the server acknowledges without standbys.
    pub async fn prove_blocked(&self) -> Result<Lsn, Error> {
        let probe = Session::connect(&self.place, Commit::Waits, None).await.map_err(|e| e.into_error())?;
        let pid = probe.value("probing", "SELECT pg_backend_pid()", STATEMENT_LIMIT).await?;
        let pid: u32 = pid
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::State("a session did not tell its process".to_owned()))?;
        let statement = message_sql("probe");
        let committed = probe.value("probing", &statement, PROOF_LIMIT + STATEMENT_LIMIT);
        let result = tokio::select! {
            _ = committed => Err(Error::State("a commit did not wait for standbys".to_owned())),
            seen = self.wait_sync_rep(pid) => seen,
        };
        // Ending the backend cuts the connection without a success; what it wrote is in the log already.
        self.reserved_value("ending the probe", &format!("SELECT pg_terminate_backend({pid})")).await?;
        result?;
        self.mark_barrier().await
    }

    async fn wait_sync_rep(&self, pid: u32) -> Result<(), Error> {
        let sql = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        let begun = Instant::now();
        loop {
            if self.reserved_value("probing", &sql).await?.as_deref() == Some("SyncRep") {
                return Ok(());
            }
            if begun.elapsed() > PROOF_LIMIT {
                return Err(Error::Timeout {
                    operation: "seeing a commit wait for standbys",
                    limit: PROOF_LIMIT,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Writes a record, flushes it here, returns the flushed position.
    ///
    /// # Errors
    /// When the server does not write.
    pub async fn mark_barrier(&self) -> Result<Lsn, Error> {
        self.reserved_value("writing a barrier", &message_sql("barrier")).await?;
        let lsn = self.reserved_value("writing a barrier", "SELECT pg_current_wal_flush_lsn()").await?;
        lsn.and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::State("PostgreSQL did not tell its flushed position".to_owned()))
    }

    /// Commits a record at `synchronous_commit = on`.
    ///
    /// # Errors
    /// When the quorum does not confirm it in time; the waiting session is then ended.
    pub async fn mark_epoch(&self, epoch: Epoch) -> Result<(), Error> {
        let session = Session::connect(&self.place, Commit::Waits, None).await.map_err(|e| e.into_error())?;
        let pid = session.value("marking the epoch", "SELECT pg_backend_pid()", STATEMENT_LIMIT).await?;
        let sql = message_sql(&format!("epoch {epoch}"));
        let marked = session.value("marking the epoch", &sql, MARK_LIMIT).await;
        if let (Err(Error::Timeout { .. }), Some(pid)) = (&marked, pid) {
            self.reserved_value("ending a waiting commit", &format!("SELECT pg_terminate_backend({pid})"))
                .await?;
        }
        marked.map(drop)
    }

    /// Ends these walsenders and waits until they are gone; their standbys connect anew.
    ///
    /// # Errors
    /// When one stays.
    pub async fn bounce_senders(&self, pids: &[u32]) -> Result<(), Error> {
        if pids.is_empty() {
            return Ok(());
        }
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let ours = format!("FROM pg_stat_replication WHERE pid IN ({list})");
        self.reserved_value("ending walsenders", &format!("SELECT count(pg_terminate_backend(pid)) {ours}"))
            .await?;
        let begun = Instant::now();
        loop {
            let left = self.reserved_value("ending walsenders", &format!("SELECT count(*) {ours}")).await?;
            if left.as_deref() == Some("0") {
                return Ok(());
            }
            if begun.elapsed() > BOUNCE_LIMIT {
                return Err(Error::Timeout { operation: "ending walsenders", limit: BOUNCE_LIMIT });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `CHECKPOINT`, on a connection of its own: the reserved one goes on observing.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        let session = Session::connect(&self.place, Commit::Local, None).await.map_err(|e| e.into_error())?;
        session.rows("checkpoint", "CHECKPOINT", CHECKPOINT_LIMIT).await.map(drop)
    }
}

fn message_sql(text: &str) -> String {
    format!("SELECT pg_logical_emit_message(true, 'matriarch', {})", session::literal(text))
}
