//! Clones another member. The copy grows beside the data directory and takes its place when it is complete, so an
//! interrupted clone costs nothing but time.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ha_core::Incarnation;
use ha_core::slot_name::slot_name;
use ha_decision::Upstream;

use super::error::Error;
use super::observe::is_empty;
use super::place::{INCARNATION_FILE, Place};
use super::process::Postmaster;
use super::program::Program;
use super::session::literal;
use super::{Postgres, config_file, durable_file, pass_file};

/// A copy takes as long as the data is large; this only ends one that nobody waits for any more.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Removing or moving whole directories.
const REMOVE_LIMIT: Duration = Duration::from_secs(1800);
/// One question to the source.
const ASK_LIMIT: Duration = Duration::from_secs(10);

impl Postgres {
    /// `pg_basebackup` from `source`; the server stays stopped. A directory that was there is renamed to
    /// `<directory>.old-<unix time>`; an older one of that kind is removed first.
    ///
    /// # Errors
    /// When the server runs, or a step fails.
    pub async fn clone_from(&self, source: &Upstream, incarnation: Incarnation) -> Result<(), Error> {
        let upstream = source.clone();
        let passfile = self
            .blocking("preparing the clone", REMOVE_LIMIT, move |postgres| {
                let place = &postgres.place;
                if Postmaster::find(&place.paths.data_dir).is_some() {
                    return Err(Error::State(
                        "PostgreSQL runs; it must be stopped before a clone".to_owned(),
                    ));
                }
                remove_directory(&growing(place))?;
                pass_file::write_for_job(place, &upstream)
            })
            .await??;
        let slot = self.free_slot(source, &passfile).await;
        let mut program = Program::new(&self.place, "pg_basebackup")
            .passfile(&passfile)
            .arg("--pgdata")
            .arg(growing(&self.place))
            .arg("--dbname")
            .arg(config_file::conninfo(&self.place, source, &self.place.replication_user))
            .args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
        if let Some(slot) = slot {
            program = program.arg(format!("--slot={slot}"));
        }
        let copied = program.run(COPY_LIMIT).await;
        let finished = self.blocking("finishing the clone", REMOVE_LIMIT, move |postgres| {
            let place = &postgres.place;
            durable_file::remove(&passfile)?;
            if let Err(error) = copied {
                remove_directory(&growing(place))?;
                return Err(error);
            }
            take_place(place, incarnation)
        });
        finished.await?
    }

    /// This member's slot on the source, when it is there and free: it keeps the WAL until the new standby streams.
    async fn free_slot(&self, source: &Upstream, passfile: &std::path::Path) -> Option<String> {
        let name = slot_name(&self.place.me);
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = {} AND slot_type = 'physical' AND NOT active",
            literal(&name)
        );
        match self.ask(source, passfile, &sql).await {
            Ok(answer) => (answer.trim() == "1" && self.place.slots).then_some(name),
            Err(error) => {
                tracing::debug!(%error, "the source was not asked for a slot");
                None
            }
        }
    }

    /// Asks another member as the rewind role.
    pub(crate) async fn ask(
        &self,
        source: &Upstream,
        passfile: &std::path::Path,
        sql: &str,
    ) -> Result<String, Error> {
        let place = &self.place;
        let conninfo = config_file::conninfo(place, source, &place.rewind_user) + " dbname=postgres";
        Program::new(place, "psql")
            .passfile(passfile)
            .args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", &conninfo, "-c", sql])
            .run(ASK_LIMIT)
            .await
    }
}

/// Makes a finished copy this member's data directory.
fn take_place(place: &Place, incarnation: Incarnation) -> Result<(), Error> {
    let copy = growing(place);
    // Files of the source's agent and of its role that must not be taken for ours.
    for name in ["recovery.signal", "promote", "postmaster.opts", "postmaster.pid"] {
        durable_file::remove(&copy.join(name))?;
    }
    // The control file still says "in production", as the source's did: the signal says that this copy is a standby.
    durable_file::replace(&copy.join("standby.signal"), "", 0o600)?;
    durable_file::replace(&copy.join(INCARNATION_FILE), &format!("{incarnation}\n"), 0o600)?;
    if !is_empty(&place.paths.data_dir)? {
        move_aside(place)?;
    } else if place.paths.data_dir.exists() {
        let path = &place.paths.data_dir;
        std::fs::remove_dir(path).map_err(Error::file("remove the empty directory", path))?;
    }
    let path = &place.paths.data_dir;
    std::fs::rename(&copy, path).map_err(Error::file("rename the finished copy to", path))?;
    match path.parent() {
        Some(parent) => durable_file::sync_directory(parent),
        None => Ok(()),
    }
}

/// Renames the data directory to `<directory>.old-<unix time>` and removes older ones: one is kept.
pub(crate) fn move_aside(place: &Place) -> Result<(), Error> {
    let path = &place.paths.data_dir;
    let prefix = sibling(place, ".old-");
    let parent = path.parent().unwrap_or(path);
    let older = std::fs::read_dir(parent).map_err(Error::file("list", parent))?;
    for entry in older.flatten() {
        if entry.path().to_string_lossy().starts_with(&*prefix.to_string_lossy()) {
            remove_directory(&entry.path())?;
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = sibling(place, &format!(".old-{seconds}"));
    tracing::info!(from = %path.display(), to = %aside.display(), "moving the old data directory aside");
    std::fs::rename(path, &aside).map_err(Error::file("move aside", path))?;
    durable_file::sync_directory(parent)
}

/// Where the copy grows.
fn growing(place: &Place) -> PathBuf {
    sibling(place, ".clone")
}

fn sibling(place: &Place, suffix: &str) -> PathBuf {
    let path = &place.paths.data_dir;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn remove_directory(path: &std::path::Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}
