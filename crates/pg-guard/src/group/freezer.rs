//! The group as a directory of the freezer of cgroup v1, where there is no v2: frozen, nothing in it can fork while each
//! process is sent SIGKILL; thawed, all of them end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ha_core::guard_link::FenceMethod;

use super::{enter, kill_each, listed, own_name, reachable};

/// How often and how long the freezing is waited for; a process that hangs in the kernel never freezes.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// The group.
#[derive(Debug)]
pub(super) struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    /// Opens the group, creating it where it does not exist.
    pub(super) fn open(name: &str) -> anyhow::Result<Self> {
        let points = reachable(|kind, options| {
            kind == "cgroup" && options.split(',').any(|option| option == "freezer")
        })?;
        let Some(point) = points.first() else { bail!("the freezer of cgroup v1 is not mounted") };
        let dir = point.join("matriarch").join(own_name(name)?);
        fs::create_dir_all(&dir).with_context(|| format!("create the group {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether any process is in it. What cannot be seen counts as yes.
    pub(super) fn populated(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
            || !self.dir.join("cgroup.procs").exists()
    }

    /// Kills everything in it, once. What is frozen runs no code; what an earlier guard has left frozen is thawed here.
    pub(super) fn kill_all(&self) -> FenceMethod {
        let state = self.dir.join("freezer.state");
        if fs::write(&state, "FROZEN").is_ok() {
            for _ in 0..LOOKS {
                if fs::read_to_string(&state).is_ok_and(|now| now.trim() == "FROZEN") {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
        kill_each(&self.processes());
        // A signal reaches a process of v1 only when it is thawed.
        drop(fs::write(&state, "THAWED"));
        FenceMethod::Freezer
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        listed(&self.dir)
    }

    pub(super) fn add(&self, pid: u32) -> std::io::Result<()> {
        enter(&self.dir, pid)
    }
}
