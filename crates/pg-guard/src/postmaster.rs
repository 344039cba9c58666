//! The postmaster as the guard sees it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::errand::Errand;
use crate::group::Group;
use crate::system_call::{pidfd_open, pidfd_send_signal};

/// The running postmaster.
#[derive(Debug)]
pub(crate) struct Postmaster {
    pub(crate) pid: u32,
    /// Readable when it has ended; absent when it ended at once.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) origin: Origin,
}

/// Whose child it is, and so who learns how it ended.
#[derive(Debug)]
pub(crate) enum Origin {
    /// This guard's.
    Child,
    /// Its namespace's init tells on the launcher's output.
    Fused(Errand),
    /// Started by an earlier guard.
    Found,
}

impl Postmaster {
    /// One that this guard has started.
    pub(crate) fn started(pid: u32) -> std::io::Result<Self> {
        Ok(Self { pid, pidfd: Some(pidfd_open(pid)?), origin: Origin::Child })
    }

    /// One whose launch behind a fuse this guard has ordered.
    pub(crate) fn behind_fuse(pid: u32, group: &Group, launch: Errand) -> Self {
        // Ended and reaped already, its number may be somebody else's.
        let pidfd = pidfd_open(pid).ok().filter(|_| group.processes().contains(&pid));
        Self { pid, pidfd, origin: Origin::Fused(launch) }
    }

    /// The one that an earlier guard has started: the process it named, if that is still in the group, or the one
    /// `postgres` there that is the parent of others but no child of one.
    pub(crate) fn find(group: &Group, named: Option<u32>) -> Option<Self> {
        let processes = group.processes();
        let pid = match named {
            Some(pid) => Some(pid).filter(|pid| processes.contains(pid)),
            None => oldest_ancestor(&processes),
        }?;
        let pidfd = pidfd_open(pid).ok()?;
        // The number may have passed to another process just before it was opened; not if it is in the group still.
        group.processes().contains(&pid).then_some(Self { pid, pidfd: Some(pidfd), origin: Origin::Found })
    }

    /// What becomes readable when it ends.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        match &self.origin {
            Origin::Fused(launch) => Some(launch.output().as_fd()),
            Origin::Child | Origin::Found => self.pidfd.as_ref().map(AsFd::as_fd),
        }
    }

    /// A fast shutdown: no new connections, transactions are rolled back, then a checkpoint.
    pub(crate) fn ask_to_stop(&self) {
        // Fails only if it has ended, which is reported in its own way.
        drop(self.pidfd.as_ref().map(|pidfd| pidfd_send_signal(pidfd.as_fd(), libc::SIGINT)));
    }
}

fn oldest_ancestor(processes: &[u32]) -> Option<u32> {
    let is_postgres = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("postgres"))
    };
    let all: Vec<u32> = processes.iter().copied().filter(is_postgres).collect();
    let firsts = all.iter().filter(|pid| parent(**pid).is_some_and(|parent| !all.contains(&parent)));
    let children = |pid: u32| all.iter().filter(|child| parent(**child) == Some(pid)).count();
    firsts.copied().max_by_key(|pid| children(*pid))
}

/// Field 4 of `/proc/PID/stat`, after the name in parentheses (proc(5)).
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_from_the_process_table() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(u32::MAX), None);
    }
}
