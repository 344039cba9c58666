//! Writes the agent-owned files and makes the server read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ha_decision::ServerSettings;
use rustix::process::Signal;

use super::error::Error;
use super::place::{INCLUDE_FILE, Place};
use super::process::Postmaster;
use super::{Applied, Postgres, UserSettings, access_file, config_file, durable_file, locked, pass_file};

/// How long the files may take to write.
pub(crate) const FILES_LIMIT: Duration = Duration::from_secs(10);
/// How long a server that answers may take to read them.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(5);

/// Counts writes of the agent-owned files: odd while one is under way. Files that are compared with what was written
/// meanwhile differ from it although nobody else touched them.
#[derive(Debug, Default)]
pub(crate) struct Writes(AtomicU64);

/// A write under way; ends when dropped, however the write ends.
struct Writing<'a>(&'a AtomicU64);

impl Writes {
    fn begin(&self) -> Writing<'_> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Writing(&self.0)
    }

    /// The same number before and after a comparison: what it found is no write of the agent's own. Nothing while one is
    /// under way.
    pub(crate) fn settled(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|count| count % 2 == 0)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Postgres {
    /// Writes the files and reloads; ends when the server has read them. A server that does not accept connections
    /// yet gets the signal and reads them in its own time.
    ///
    /// # Errors
    /// When a file cannot be written, or the server does not show the new values in time.
    pub async fn configure(&self, settings: ServerSettings) -> Result<(), Error> {
        self.write_files(&settings).await?;
        self.reload().await?;
        let upstream = settings.upstream.clone();
        let read = self.wait_read(&settings).await;
        // The old pass file is needed no more once nobody can be told to use it.
        self.blocking("removing old pass files", FILES_LIMIT, move |p| {
            pass_file::prune(&p.place, upstream.as_ref())
        })
        .await??;
        read
    }

    /// Writes everything that the server reads at a start or reload.
    pub(crate) async fn write_files(&self, settings: &ServerSettings) -> Result<(), Error> {
        let settings = settings.clone();
        self.blocking("writing the configuration", FILES_LIMIT, move |postgres| {
            let user = locked(&postgres.user).clone();
            let _writing = postgres.writes.begin();
            write_all(&postgres.place, &user, &settings)?;
            *locked(&postgres.applied) = Some(Applied { settings });
            Ok(())
        })
        .await?
    }

    /// Tells a running postmaster to read its files.
    pub(crate) async fn reload(&self) -> Result<(), Error> {
        self.blocking("reloading", FILES_LIMIT, |postgres| {
            match Postmaster::find(&postgres.place.paths.data_dir) {
                Some(postmaster) => postmaster.signal(Signal::HUP),
                None => Ok(()),
            }
        })
        .await?
    }

    /// Waits until a session sees the watched settings as they were written. Each process of the server reads the file
    /// by itself; what walsenders use shows in their `sync_priority`.
    async fn wait_read(&self, settings: &ServerSettings) -> Result<(), Error> {
        let owned = config_file::owned_values(&self.place, settings);
        let begun = Instant::now();
        loop {
            let Ok(asked) = tokio::time::timeout(READ_LIMIT, self.look()).await else {
                return Err(Error::Timeout { operation: "reading the new settings back", limit: READ_LIMIT });
            };
            let stale = match asked {
                Ok(row) => config_file::WATCHED
                    .iter()
                    .find(|name| row.settings.get(**name) != owned.get(**name))
                    .map(|name| format!("PostgreSQL does not show the new value of {name}")),
                Err(super::session::NoSession::NotReady | super::session::NoSession::Nobody) => None,
                Err(other) => Some(other.into_error().to_string()),
            };
            match stale {
                None => return Ok(()),
                Some(stale) if begun.elapsed() > READ_LIMIT => return Err(Error::State(stale)),
                Some(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// Pass file first, then what names it.
fn write_all(place: &Place, user: &UserSettings, settings: &ServerSettings) -> Result<(), Error> {
    if let Some(upstream) = &settings.upstream {
        pass_file::write(place, upstream)?;
    }
    access_file::write(place, user, settings.access)?;
    let text = config_file::text(&config_file::values(place, user, settings));
    durable_file::replace_if_changed(&place.data(INCLUDE_FILE), &text, 0o600)?;
    config_file::ensure_include(place)?;
    config_file::strip_auto_conf(place).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_around_a_write_does_not_count() {
        let writes = Writes::default();
        let before = writes.settled();
        assert!(before.is_some());
        let writing = writes.begin();
        assert_eq!(writes.settled(), None);
        drop(writing);
        assert!(writes.settled().is_some_and(|after| Some(after) != before));
    }
}
