//! `pg_rewind`: turns a directory with a diverged end into one that can follow `source`.

use std::time::Duration;

use ha_core::Incarnation;
use ha_core::postgres_view::ControlState;
use ha_decision::{StopMode, Upstream};

use super::configure::FILES_LIMIT;
use super::error::Error;
use super::place::INCARNATION_FILE;
use super::program::Program;
use super::{Postgres, config_file, durable_file, pass_file};

/// Crash recovery, reading the diverged WAL and copying what differs.
const LIMIT: Duration = Duration::from_secs(3600);

/// What pg_rewind says before it has changed anything, when trying again may help.
const TRANSIENT: &[&str] = &[
    "connection to server",
    "could not connect to server",
    "source server must not be in recovery mode",
    "could not clear search_path",
];

impl Postgres {
    /// Stops the server if it runs, rewinds, writes the new incarnation; the server stays stopped.
    ///
    /// # Errors
    /// [`Error::NeedsClone`] when only a clone can help: pg_rewind has begun to change files, or it refused for good.
    pub async fn rewind(&self, source: &Upstream, incarnation: Incarnation) -> Result<(), Error> {
        self.stop(StopMode::Fast).await?;
        let control = self.control.read_again(&self.place).await?;
        let clean = matches!(control.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
        let upstream = source.clone();
        let passfile = self
            .blocking("preparing the rewind", FILES_LIMIT, move |postgres| {
                let place = &postgres.place;
                super::process::remove_stale_pid_file(&place.paths.data_dir)?;
                if !clean {
                    // pg_rewind then lets a single-user server recover first, and that refuses to be a standby.
                    durable_file::remove(&place.data("standby.signal"))?;
                    durable_file::remove(&place.data("recovery.signal"))?;
                }
                pass_file::write_for_job(place, &upstream)
            })
            .await??;
        let conninfo =
            config_file::conninfo(&self.place, source, &self.place.rewind_user) + " dbname=postgres";
        let rewound = Program::new(&self.place, "pg_rewind")
            .passfile(&passfile)
            .arg("--target-pgdata")
            .arg(&self.place.paths.data_dir)
            .arg("--source-server")
            .arg(conninfo)
            .run(LIMIT)
            .await;
        let finished = self.blocking("finishing the rewind", FILES_LIMIT, move |postgres| {
            durable_file::remove(&passfile)?;
            rewound.map_err(classify)?;
            postgres.make_own(incarnation)
        });
        finished.await?
    }

    /// The source's files came along; those that say whose directory this is become ours again. The slots were made
    /// for the diverged history.
    fn make_own(&self, incarnation: Incarnation) -> Result<(), Error> {
        let place = &self.place;
        for name in ["recovery.signal", "promote", "postmaster.opts"] {
            durable_file::remove(&place.data(name))?;
        }
        durable_file::replace(&place.data("standby.signal"), "", 0o600)?;
        let slots = place.data("pg_replslot");
        for entry in std::fs::read_dir(&slots).map_err(Error::file("list", &slots))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("m_") {
                std::fs::remove_dir_all(entry.path()).map_err(Error::file("remove", &entry.path()))?;
            }
        }
        durable_file::replace(&place.data(INCARNATION_FILE), &format!("{incarnation}\n"), 0o600)
    }
}

/// A failure that changed nothing may be tried again; after any other the directory may be half of each.
fn classify(error: Error) -> Error {
    match &error {
        Error::Program { detail, .. } => {
            let first_error = detail.find("error:").map_or(detail.as_str(), |at| &detail[at..]);
            let changed = detail.contains("rewinding from last common checkpoint");
            let transient = TRANSIENT.iter().any(|text| first_error.contains(text));
            if transient && !changed { error } else { Error::NeedsClone(detail.clone()) }
        }
        Error::Timeout { .. } => Error::NeedsClone(error.to_string()),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(detail: &str) -> Error {
        classify(Error::Program { program: "pg_rewind", detail: detail.to_owned() })
    }

    #[test]
    fn only_failures_before_the_first_change_may_be_tried_again() {
        let refused =
            "exit status: 1: pg_rewind: error: connection to server at \"10.0.0.1\" failed: refused";
        assert!(matches!(failed(refused), Error::Program { .. }));
        let cut_off = "exit status: 1: pg_rewind: rewinding from last common checkpoint at 0/3000060 | \
                       pg_rewind: error: connection to server was lost";
        assert!(matches!(failed(cut_off), Error::NeedsClone(_)));
        let no_ancestor =
            "exit status: 1: pg_rewind: error: could not find common ancestor of the source and target";
        assert!(matches!(failed(no_ancestor), Error::NeedsClone(_)));
    }
}
