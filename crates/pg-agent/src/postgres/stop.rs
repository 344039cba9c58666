//! Stops the server: fast, then immediate, then the kill of the whole group. Never smart: open sessions would go on
//! committing.

use std::time::{Duration, Instant};

use ha_core::Lsn;
use ha_core::postgres_view::ControlState;
use ha_decision::StopMode;
use rustix::process::Signal;

use super::error::Error;
use super::{Postgres, final_position};

/// How long a fast stop may take: the shutdown checkpoint and the standbys' confirmation of it.
const FAST_LIMIT: Duration = Duration::from_secs(20);
/// How long an immediate stop may take: it writes nothing, so what is longer hangs.
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(2);
/// How long children may outlive their postmaster before they are killed.
const CHILDREN_LIMIT: Duration = Duration::from_secs(1);
/// How long the kernel may take to end killed processes.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How often the group is looked at.
const POLL: Duration = Duration::from_millis(5);

impl Postgres {
    /// Stops the server; ends when no process is left. After a clean stop of a primary the result is the end of the
    /// shutdown checkpoint record.
    ///
    /// # Errors
    /// When processes survive even the kill.
    pub async fn stop(&self, mode: StopMode) -> Result<Option<Lsn>, Error> {
        let mut clean = mode == StopMode::Fast;
        if let Some(postmaster) = self.postmaster().await? {
            let gone = match mode {
                StopMode::Fast => {
                    postmaster.signal(Signal::INT)?;
                    postmaster.wait_gone(FAST_LIMIT).await?
                }
                StopMode::Immediate => false,
            };
            if !gone {
                clean = false;
                self.stop_immediately().await?;
            }
        }
        self.end_group().await?;
        *self.reserved.lock().await = None;
        if !clean {
            return Ok(None);
        }
        let control = self.control.read_again(&self.place).await?;
        if control.state != ControlState::ShutDown {
            return Ok(None);
        }
        let end = self.blocking("reading the last record", Duration::from_secs(5), move |postgres| {
            final_position::end_of_shutdown_checkpoint(&postgres.place, &control)
        });
        end.await?.map(Some)
    }

    async fn stop_immediately(&self) -> Result<(), Error> {
        if let Some(postmaster) = self.postmaster().await? {
            postmaster.signal(Signal::QUIT)?;
            postmaster.wait_gone(IMMEDIATE_LIMIT).await?;
        }
        Ok(())
    }

    /// Waits until the group is empty; kills what does not end by itself.
    async fn end_group(&self) -> Result<(), Error> {
        let begun = Instant::now();
        let mut killed = false;
        loop {
            if !self.any_alive().await? && !self.starter.is_populated().await.unwrap_or(false) {
                return Ok(());
            }
            if !killed && begun.elapsed() > CHILDREN_LIMIT {
                killed = true;
                let reason = "PostgreSQL did not end by itself after a stop";
                self.starter.kill_all(reason).await.map_err(Error::State)?;
            }
            if begun.elapsed() > KILL_LIMIT + CHILDREN_LIMIT {
                return Err(Error::State("processes of PostgreSQL survive SIGKILL".to_owned()));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
