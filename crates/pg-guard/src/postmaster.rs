//! The postmaster as the guard sees it.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::cgroup::Group;
use crate::system_call::{pidfd_open, pidfd_send_signal};

/// The running postmaster.
#[derive(Debug)]
pub(crate) struct Postmaster {
    pub(crate) pid: u32,
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
    /// Whether this guard is its parent, and so learns how it ended.
    pub(crate) own_child: bool,
}

impl Postmaster {
    /// One that this guard has started.
    pub(crate) fn started(pid: u32) -> std::io::Result<Self> {
        Ok(Self { pid, pidfd: pidfd_open(pid)?, own_child: true })
    }

    /// The one that an earlier guard has started: the process it named, if that is still in the group, or the one
    /// process that is the parent of others there while its own parent is outside.
    pub(crate) fn find(group: &Group, named: Option<u32>) -> Option<Self> {
        let processes = group.processes();
        let pid = match named {
            Some(pid) => Some(pid).filter(|pid| processes.contains(pid)),
            None => oldest_ancestor(&processes),
        }?;
        let pidfd = pidfd_open(pid).ok()?;
        // The number may have passed to another process just before it was opened; not if it is in the group still.
        group.processes().contains(&pid).then_some(Self { pid, pidfd, own_child: false })
    }

    /// A fast shutdown: no new connections, transactions are rolled back, then a checkpoint.
    pub(crate) fn ask_to_stop(&self) {
        // Fails only if it has ended, which is reported in its own way.
        drop(pidfd_send_signal(self.pidfd.as_fd(), libc::SIGINT));
    }
}

fn oldest_ancestor(processes: &[u32]) -> Option<u32> {
    let outsiders = processes.iter().filter(|pid| {
        parent(**pid).is_some_and(|parent| !processes.contains(&parent))
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("postgres"))
    });
    let children = |pid: u32| processes.iter().filter(|child| parent(**child) == Some(pid)).count();
    outsiders.copied().max_by_key(|pid| children(*pid))
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
