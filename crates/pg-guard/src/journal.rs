//! What the guard writes down: its state for a successor of the same boot (not on disk, so it never waits), and the
//! latest fence for ever (on disk, only after everything has been killed).

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ha_core::{BootId, Epoch, Generation};
use ha_fencing::{Leadership, State};
use nix::fcntl::{Flock, FlockArg};

/// The durable record: which leadership, of which system.
pub(crate) type FenceRecord = (Leadership, Option<u64>);

/// Both files. Holding it also means to be the only guard here.
#[derive(Debug)]
pub(crate) struct Journal {
    state: PathBuf,
    record_dir: PathBuf,
    _only_guard: Flock<File>,
}

impl Journal {
    /// Creates the directories and takes the lock.
    pub(crate) fn open(run_dir: &Path, record_dir: &Path) -> anyhow::Result<Self> {
        make_dir(run_dir, 0o755)?;
        make_dir(record_dir, 0o700)?;
        let lock_path = run_dir.join("guard.lock");
        let lock = private(&lock_path, false).with_context(|| format!("open {}", lock_path.display()))?;
        let Ok(only_guard) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!("another pg-guard runs here: it holds the lock of {}", lock_path.display());
        };
        let (state, record_dir) = (run_dir.join("guard.state"), record_dir.to_owned());
        Ok(Self { state, record_dir, _only_guard: only_guard })
    }

    /// The state of an earlier guard, `None` if there is none. What is not understood is an error: the caller says so
    /// and treats it as lost.
    pub(crate) fn load_state(&self, boot_id: &BootId) -> anyhow::Result<Option<State>> {
        let text = match fs::read_to_string(&self.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", self.state.display()))?,
        };
        State::from_text(&text, boot_id).map(Some).with_context(|| format!("read {}", self.state.display()))
    }

    /// Replaces the state. No fsync: it must survive the guard, not the machine.
    pub(crate) fn save_state(&self, state: &State, boot_id: &BootId) -> io::Result<()> {
        let new = self.state.with_extension("state.new");
        let written = private(&new, true)
            .and_then(|mut file| file.write_all(state.to_text(boot_id).as_bytes()))
            .and_then(|()| fs::rename(&new, &self.state));
        if written.is_err() {
            // An old state would be worse than none: it may know nothing of what is armed now.
            drop(fs::remove_file(&self.state));
        }
        written
    }

    /// The latest fence that was recorded.
    pub(crate) fn load_fence(&self) -> anyhow::Result<Option<FenceRecord>> {
        let path = self.record();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        parse_fence(&text).map(Some).with_context(|| {
            format!("read {}: expected \"epoch N generation N system N|-\"; remove it if no old leader can come back", path.display())
        })
    }

    /// Records a fence durably.
    pub(crate) fn save_fence(&self, (leadership, system_id): FenceRecord) -> io::Result<()> {
        let system = system_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let Leadership { epoch, generation } = leadership;
        let text = format!("epoch {epoch} generation {generation} system {system}\n");
        let (path, new) = (self.record(), self.record_dir.join("fenced.new"));
        let mut file = private(&new, true)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.record_dir)?.sync_all()
    }

    fn record(&self) -> PathBuf {
        self.record_dir.join("fenced")
    }
}

fn parse_fence(text: &str) -> Option<FenceRecord> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["epoch", epoch, "generation", generation, "system", system] = words[..] else { return None };
    let leadership =
        Leadership { epoch: Epoch(epoch.parse().ok()?), generation: Generation(generation.parse().ok()?) };
    let system_id = if system == "-" { None } else { Some(system.parse().ok()?) };
    Some((leadership, system_id))
}

fn private(path: &Path, truncate: bool) -> io::Result<File> {
    File::options().create(true).write(true).truncate(truncate).mode(0o600).open(path)
}

fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    if !path.is_dir() {
        let create = || {
            DirBuilder::new().recursive(true).mode(mode).create(path)?;
            fs::set_permissions(path, Permissions::from_mode(mode)) // whatever the umask is
        };
        create().with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_record_reads_back() {
        let leadership = Leadership { epoch: Epoch(5), generation: Generation(9) };
        assert_eq!(parse_fence("epoch 5 generation 9 system 77\n"), Some((leadership, Some(77))));
        assert_eq!(parse_fence("epoch 5 generation 9 system -\n"), Some((leadership, None)));
        for bad in ["", "epoch 5", "epoch x generation 9 system -", "epoch 5 generation 9 system - more"] {
            assert_eq!(parse_fence(bad), None, "{bad:?}");
        }
    }
}
