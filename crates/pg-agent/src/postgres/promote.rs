//! Promotes the server to the timeline that was reserved for it.

use std::time::{Duration, Instant};

use ha_core::Timeline;
use ha_decision::StopMode;
use rustix::process::Signal;

use super::configure::FILES_LIMIT;
use super::error::Error;
use super::process::Postmaster;
use super::{Postgres, timeline_history};

/// Replay of what is still to be replayed, and the end-of-recovery record.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the server is asked.
const POLL: Duration = Duration::from_millis(10);

impl Postgres {
    /// Places history files for ids that others have reserved, promotes, waits until the server is a primary on
    /// `timeline`. A server that comes up on another timeline is stopped at once.
    ///
    /// # Errors
    /// When PostgreSQL would take or has taken another timeline, or does not end recovery in time.
    pub async fn promote(&self, timeline: Timeline, taken: &[Timeline]) -> Result<(), Error> {
        let row = self.look().await.map_err(|reason| reason.into_error())?;
        if !row.in_recovery {
            return self.check_timeline(timeline).await;
        }
        let present = row.timeline();
        let taken = taken.to_vec();
        self.blocking("promoting", FILES_LIMIT, move |postgres| {
            let place = &postgres.place;
            timeline_history::place_placeholders(place, present, &taken)?;
            let next = timeline_history::next_timeline(place, present);
            if next != timeline {
                return Err(Error::State(format!(
                    "PostgreSQL would take timeline {next} after {present}, but {timeline} was reserved"
                )));
            }
            let postmaster = Postmaster::find(&place.paths.data_dir)
                .ok_or_else(|| Error::State("PostgreSQL does not run".to_owned()))?;
            // As pg_ctl does it: works when no connection can be had, too.
            let file = place.data("promote");
            std::fs::write(&file, "").map_err(Error::file("write", &file))?;
            postmaster.signal(Signal::USR1)
        })
        .await??;
        self.wait_primary().await?;
        self.check_timeline(timeline).await
    }

    async fn wait_primary(&self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let asked = self.reserved_value("promoting", "SELECT pg_is_in_recovery()").await;
            if asked.is_ok_and(|value| value.as_deref() == Some("f")) {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::Timeout { operation: "promoting", limit: LIMIT });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn check_timeline(&self, reserved: Timeline) -> Result<(), Error> {
        let row = self.look().await.map_err(|reason| reason.into_error())?;
        let actual = row.timeline();
        if actual == reserved {
            return Ok(());
        }
        let stopped = self.stop(StopMode::Immediate).await;
        Err(Error::State(format!(
            "PostgreSQL is a primary on timeline {actual}, but {reserved} was reserved; {}",
            match stopped {
                Ok(_) => "it was stopped".to_owned(),
                Err(error) => format!("it could not be stopped: {error}"),
            }
        )))
    }
}
