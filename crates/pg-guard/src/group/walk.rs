//! The group without any cgroup: whoever descends from the postmaster, lives in its PID namespace, or works in the data
//! directory. All of them are stopped first, so that none can fork away while they are killed, until two scans in a row
//! find nobody.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ha_core::guard_link::FenceMethod;

use crate::system_call::{pidfd_open, pidfd_send_signal};

/// Scans in one go; the decider repeats the whole soon enough.
const SCANS: usize = 8;

/// How processes are recognised.
#[derive(Debug)]
pub(super) struct Walk {
    data_dir: PathBuf,
    postmaster: Option<u32>,
    /// The namespace behind the fuse.
    namespace: Option<u64>,
    own: u32,
}

/// One process, as far as it matters.
#[derive(Debug)]
struct Process {
    pid: u32,
    parent: u32,
}

impl Walk {
    pub(super) fn new(data_dir: &Path) -> Self {
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self { data_dir, postmaster: None, namespace: None, own: std::process::id() }
    }

    /// Remembers the postmaster: whom it leaves behind is known by it.
    pub(super) fn note(&mut self, postmaster: u32) {
        self.postmaster = Some(postmaster);
        self.namespace = namespace(postmaster).filter(|inner| Some(*inner) != namespace(self.own));
    }

    pub(super) fn populated(&self) -> bool {
        !self.processes().is_empty()
    }

    /// Everybody of it, as found in one scan.
    pub(super) fn processes(&self) -> Vec<u32> {
        let all = living();
        let mut found: Vec<u32> = all.iter().filter(|process| self.is_root(process)).map(|p| p.pid).collect();
        // Children of those found, until there are no more.
        loop {
            let new =
                |p: &&Process| found.contains(&p.parent) && !found.contains(&p.pid) && p.pid != self.own;
            let more: Vec<u32> = all.iter().filter(new).map(|process| process.pid).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    fn is_root(&self, process: &Process) -> bool {
        let Process { pid, parent } = *process;
        if pid == self.own {
            return false;
        }
        self.postmaster == Some(pid)
            || self.namespace.is_some_and(|inner| namespace(pid) == Some(inner))
            || link(pid, "cwd").is_some_and(|cwd| cwd == self.data_dir) && is_postgres(pid)
            // Orphans come to the guard; its errands run its own program.
            || parent == self.own && link(pid, "exe").is_some_and(|exe| Some(exe) != link(self.own, "exe"))
    }

    /// Kills everybody; whoever is born meanwhile is found by the next scan.
    pub(super) fn kill_all(&self) -> FenceMethod {
        let mut empty = 0;
        for _ in 0..SCANS {
            let pinned: Vec<OwnedFd> =
                self.processes().into_iter().filter_map(|pid| pidfd_open(pid).ok()).collect();
            for signal in [libc::SIGSTOP, libc::SIGKILL] {
                for pidfd in &pinned {
                    // Gone already is as good.
                    drop(pidfd_send_signal(pidfd.as_fd(), signal));
                }
            }
            empty = if pinned.is_empty() { empty + 1 } else { 0 };
            if empty == 2 {
                break;
            }
        }
        FenceMethod::ProcessWalk
    }
}

/// All processes that run code.
fn living() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Process { pid, parent })
    })
    .collect()
}

fn link(pid: u32, name: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/{name}")).ok()
}

fn is_postgres(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("postgres"))
}

fn namespace(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|namespace| namespace.ino())
}
