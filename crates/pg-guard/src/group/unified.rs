//! The group as a directory of cgroup v2, wherever that is mounted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ha_core::guard_link::FenceMethod;
use nix::mount::{MsFlags, mount};

use super::{enter, kill_each, listed, own_name, reachable};

/// Where the hierarchy is mounted by convention; the configured path is meant relative to it when it is elsewhere.
const CONVENTION: &str = "/sys/fs/cgroup";

/// The group, with everything open that a kill needs.
#[derive(Debug)]
pub(super) struct Unified {
    dir: PathBuf,
    /// Absent before Linux 5.14.
    kill: Option<File>,
    events: File,
}

impl Unified {
    /// Opens the group, creating it where it does not exist. `parent` is the configured directory; where the hierarchy
    /// is not mounted at all it is mounted below `run_dir`.
    pub(super) fn open(parent: &Path, name: &str, run_dir: &Path) -> anyhow::Result<Self> {
        let points = reachable(|kind, _| kind == "cgroup2")?;
        let parent = match locate(parent, &points) {
            Some(path) => path,
            None => mount_privately(run_dir)?.join(relative(parent)),
        };
        let dir = parent.join(own_name(name)?);
        fs::create_dir_all(&dir).with_context(|| format!("create the group {}", dir.display()))?;
        let path = dir.join("cgroup.events");
        if !path.exists() {
            bail!("guard.cgroup: {} is not in a cgroup v2 hierarchy", dir.display());
        }
        let events = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let kill = File::options().write(true).open(dir.join("cgroup.kill")).ok();
        Ok(Self { kill, events, dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Becomes ready (POLLPRI) when the group becomes empty or populated.
    pub(super) fn events(&self) -> &File {
        &self.events
    }

    pub(super) fn has_kill(&self) -> bool {
        self.kill.is_some()
    }

    /// Whether any process is in it. What cannot be seen counts as yes.
    pub(super) fn populated(&self) -> bool {
        let mut text = [0; 256];
        let Ok(length) = self.events.read_at(&mut text, 0) else { return true };
        let empty = b"populated 0";
        !text[..length].windows(empty.len()).any(|part| part == empty)
    }

    /// Kills everything in it, once.
    pub(super) fn kill_all(&self) -> FenceMethod {
        if let Some(file) = &self.kill
            && file.write_at(b"1", 0).is_ok()
        {
            return FenceMethod::CgroupKill;
        }
        kill_each(&self.processes());
        FenceMethod::SignalLoop
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        listed(&self.dir)
    }

    pub(super) fn add(&self, pid: u32) -> std::io::Result<()> {
        enter(&self.dir, pid)
    }
}

/// The configured directory in the hierarchy as it is mounted here.
fn locate(configured: &Path, mounts: &[PathBuf]) -> Option<PathBuf> {
    if mounts.iter().any(|point| configured.starts_with(point)) {
        return Some(configured.to_owned());
    }
    mounts.first().map(|point| point.join(relative(configured)))
}

fn relative(configured: &Path) -> &Path {
    let below = configured.strip_prefix(CONVENTION).or_else(|_| configured.strip_prefix("/"));
    below.unwrap_or(configured)
}

fn mount_privately(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let point = run_dir.join("cgroup");
    fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), &point, Some("cgroup2"), flags, None::<&str>)
        .with_context(|| format!("mount cgroup v2 at {}", point.display()))?;
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_where_the_hierarchy_is() {
        let configured = Path::new("/sys/fs/cgroup/matriarch");
        let hybrid = [PathBuf::from("/sys/fs/cgroup/unified")];
        assert_eq!(locate(configured, &hybrid).unwrap(), Path::new("/sys/fs/cgroup/unified/matriarch"));
        let pure = [PathBuf::from("/sys/fs/cgroup")];
        assert_eq!(locate(configured, &pure).unwrap(), configured);
        assert_eq!(locate(configured, &[]), None);
        assert_eq!(relative(Path::new("/elsewhere/x")), Path::new("elsewhere/x"));
    }
}
