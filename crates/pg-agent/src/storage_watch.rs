//! Whether storage answers: a small write of the agent's own, made durable every second in the data directory, and in that
//! of the WAL where it is another file system.
//!
//! Each runs on a thread of its own, which may hang for ever; the agent only looks how long it has been at it. A server
//! whose disk has died still answers what it has in memory, so nobody else would notice.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_core::MonoTime;
use ha_daemon::boottime;
use ha_decision::{Event, StorageNews};
use tokio::sync::mpsc;

/// Between two writes.
const EVERY: Duration = Duration::from_secs(1);
/// How often the agent looks.
const LOOK: Duration = Duration::from_millis(250);
/// Written to; PostgreSQL knows nothing of it, and a copy of it does no harm.
const FILE: &str = "matriarch.storage_probe";
/// There is nothing to watch before a data directory is complete: initdb and pg_basebackup want it empty.
const WHOLE: &str = "global/pg_control";
/// Enough for a few system calls; the default of 2 MiB would only look bad in process lists.
const STACK_BYTES: usize = 64 * 1024;

/// What one thread is at.
#[derive(Debug, Default)]
struct Progress {
    /// Since when it waits for storage.
    since: Option<MonoTime>,
    /// Its last write failed.
    failed: Option<String>,
}

/// One place that is written to.
#[derive(Debug)]
struct Probe {
    dir: PathBuf,
    progress: Mutex<Progress>,
}

impl Probe {
    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is wrong with it, if anything.
    fn judge(&self, now: MonoTime, timeout: Duration) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = progress.since.is_some_and(|since| now.since(since) >= timeout);
        let dir = self.dir.display();
        if hangs {
            return Some(format!("a write in {dir} has not ended for {} s", timeout.as_secs_f64()));
        }
        progress.failed.as_ref().map(|error| format!("a write in {dir} failed: {error}"))
    }
}

/// Begins to watch, until the agent ends. `timeout` is how long a write may take.
///
/// # Errors
/// When no thread can be started.
pub fn start(data_dir: &Path, timeout: Duration, events: mpsc::Sender<Event>) -> io::Result<()> {
    let mut probes = Vec::new();
    for dir in [data_dir.to_owned(), data_dir.join("pg_wal")] {
        let probe = Arc::new(Probe { dir, progress: Mutex::default() });
        let (own, whole) = (Arc::clone(&probe), data_dir.to_owned());
        let thread = std::thread::Builder::new().name("storage".into()).stack_size(STACK_BYTES);
        drop(thread.spawn(move || write_for_ever(&own, &whole))?);
        probes.push(probe);
    }
    tokio::spawn(async move {
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = boottime();
            let found = probes.iter().find_map(|probe| probe.judge(now, timeout));
            if found == told {
                continue;
            }
            let news = match &found {
                Some(what) => StorageNews::Hangs { what: what.clone() },
                None => StorageNews::Answers,
            };
            told = found;
            if events.send(Event::Storage(news)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn write_for_ever(probe: &Probe, data_dir: &Path) {
    for round in 0_u64.. {
        probe.note(|progress| progress.since = Some(boottime()));
        let outcome = write_once(&probe.dir, data_dir, round);
        probe.note(|progress| {
            progress.since = None;
            progress.failed = outcome.err().filter(is_of_storage).map(|error| error.to_string());
        });
        std::thread::sleep(EVERY);
    }
}

/// A full disk takes reads and frees itself; PostgreSQL says what it needs to about it.
fn is_of_storage(error: &io::Error) -> bool {
    use io::ErrorKind;
    !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
    )
}

fn write_once(dir: &Path, data_dir: &Path, round: u64) -> io::Result<()> {
    // An error of the look itself is no answer: `exists` would take it for a directory that is not complete.
    if !data_dir.join(WHOLE).try_exists()? {
        return Ok(());
    }
    let other_file_system = dir != data_dir && fs::metadata(dir)?.dev() != fs::metadata(data_dir)?.dev();
    if dir != data_dir && !other_file_system {
        return Ok(());
    }
    let file: File =
        File::options().create(true).write(true).truncate(false).mode(0o600).open(dir.join(FILE))?;
    file.write_all_at(&round.to_le_bytes(), 0)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_into_a_directory_that_is_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        write_once(dir.path(), dir.path(), 1).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::create_dir(dir.path().join("global")).unwrap();
        fs::write(dir.path().join(WHOLE), "").unwrap();
        fs::create_dir(dir.path().join("pg_wal")).unwrap();
        write_once(dir.path(), dir.path(), 1).unwrap();
        assert!(dir.path().join(FILE).exists());
        write_once(&dir.path().join("pg_wal"), dir.path(), 1).unwrap();
        assert!(!dir.path().join("pg_wal").join(FILE).exists(), "the same file system is written to once");
    }

    #[test]
    fn a_look_that_fails_is_no_directory_that_is_not_complete() {
        // ENAMETOOLONG, in place of the I/O error of a dead disk.
        let unreadable = Path::new("/").join("x".repeat(300));
        assert!(write_once(&unreadable, &unreadable, 1).is_err_and(|error| is_of_storage(&error)));
    }

    #[test]
    fn a_write_that_does_not_end_or_fails_is_told_and_a_full_disk_is_not() {
        let probe = Probe { dir: "/data".into(), progress: Mutex::default() };
        let (now, limit) = (MonoTime(100_000_000_000), Duration::from_secs(10));
        assert_eq!(probe.judge(now, limit), None);
        probe.note(|progress| progress.since = Some(now.minus(Duration::from_secs(9))));
        assert_eq!(probe.judge(now, limit), None);
        let words = probe.judge(now + Duration::from_secs(1), limit).unwrap();
        assert!(words.contains("/data") && words.contains("10 s"), "{words}");
        probe
            .note(|progress| *progress = Progress { since: None, failed: Some("Input/output error".into()) });
        assert!(probe.judge(now, limit).unwrap().contains("Input/output error"));
        assert!(!is_of_storage(&io::Error::from_raw_os_error(28)), "ENOSPC");
        assert!(is_of_storage(&io::Error::from_raw_os_error(5)), "EIO");
        assert!(is_of_storage(&io::Error::from_raw_os_error(30)), "EROFS");
    }
}
