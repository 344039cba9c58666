//! Starts the server, always through the starter.

use std::time::{Duration, Instant};

use ha_core::postgres_view::ControlState;
use ha_decision::ServerSettings;

use super::configure::FILES_LIMIT;
use super::error::Error;
use super::session::NoSession;
use super::{Postgres, config_file, durable_file, locked, process, program, timeline_history};

/// How often the server is asked whether it accepts connections.
const POLL: Duration = Duration::from_millis(20);
/// How long the postmaster may take to show itself in its directory.
const APPEAR_LIMIT: Duration = Duration::from_secs(10);
/// A standby may need WAL that only another upstream has: then the decider must get its turn.
const STANDBY_LIMIT: Duration = Duration::from_secs(20);
/// Crash recovery of a primary takes as long as it takes; this only bounds a server that hangs.
const PRIMARY_LIMIT: Duration = Duration::from_secs(3600);
/// How much of the log's end is read after a failed start.
const LOG_TAIL: u64 = 8192;

impl Postgres {
    /// Writes all files and starts the server; ends when it accepts connections.
    ///
    /// # Errors
    /// When it does not start, ends again, or (a standby) does not accept connections in time.
    pub async fn start(&self, standby: bool, settings: &ServerSettings) -> Result<(), Error> {
        self.blocking("preparing the data directory", FILES_LIMIT, move |p| p.prepare_start(standby))
            .await??;
        self.write_files(settings).await?;
        let control = self.control.read_again(&self.place).await?;
        if standby && control.state == ControlState::Unclean {
            tracing::info!(
                "the data directory was left in the middle of a start or stop; recovery comes first"
            );
        }
        let arguments = {
            let user = locked(&self.user);
            config_file::start_arguments(&self.place, &user, standby.then_some(&control.floors))
        };
        let log_before = self.log_length();
        self.starter.start(arguments).await.map_err(Error::NotStarted)?;
        self.wait_accepting(standby, log_before).await
    }

    /// Signal files and leftovers.
    fn prepare_start(&self, standby: bool) -> Result<(), Error> {
        let place = &self.place;
        process::remove_stale_pid_file(&place.paths.data_dir)?;
        for leftover in ["recovery.signal", "promote", "backup_label.old"] {
            durable_file::remove(&place.data(leftover))?;
        }
        if standby {
            timeline_history::remove_unused_placeholders(place)?;
            durable_file::replace_if_changed(&place.data("standby.signal"), "", 0o600)?;
        } else {
            durable_file::remove(&place.data("standby.signal"))?;
        }
        Ok(())
    }

    async fn wait_accepting(&self, standby: bool, log_before: u64) -> Result<(), Error> {
        let begun = Instant::now();
        let limit = if standby { STANDBY_LIMIT } else { PRIMARY_LIMIT };
        let mut seen = false;
        loop {
            let alive = self.postmaster().await?.is_some();
            seen |= alive;
            if !alive && (seen || begun.elapsed() > APPEAR_LIMIT || self.is_group_empty().await?) {
                return Err(Error::NotStarted(self.log_since(log_before)));
            }
            let reason = match tokio::time::timeout(limit, self.look()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(NoSession::NotReady | NoSession::Nobody)) => {
                    "it does not accept connections yet".to_owned()
                }
                Ok(Err(other)) => other.into_error().to_string(),
                Err(_) => "it gives no answer".to_owned(),
            };
            if begun.elapsed() > limit {
                return Err(Error::State(format!(
                    "PostgreSQL was started {} s ago, but {reason}",
                    begun.elapsed().as_secs()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether a postmaster that was never seen has already given up, for instance over its port: it then ends before it
    /// writes its pid file.
    async fn is_group_empty(&self) -> Result<bool, Error> {
        Ok(!self.starter.is_populated().await.unwrap_or(true) && !self.any_alive().await?)
    }

    /// Length of the server's log.
    pub(crate) fn log_length(&self) -> u64 {
        std::fs::metadata(&self.place.paths.log_file).map_or(0, |meta| meta.len())
    }

    /// What the server has logged since, at most its end.
    pub(crate) fn log_since(&self, length: u64) -> String {
        use std::io::{Read, Seek, SeekFrom};
        let read = || -> std::io::Result<String> {
            let mut file = std::fs::File::open(&self.place.paths.log_file)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.max(end.saturating_sub(LOG_TAIL)).min(end)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().map(|text| program::tail(&text)).unwrap_or_default()
    }
}
