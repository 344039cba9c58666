//! Processes told apart by id *and* start time, so that a recycled id is never signalled.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait::wait_for;

/// One process, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The id, seen from the machine's own PID namespace.
    pub pid: i32,
    /// Start in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub started: u64,
}

impl ProcessId {
    /// Looks up a process that lives now.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = Stat::read(pid).with_context(|| format!("process {pid}: no such process"))?;
        Ok(Self { pid, started: stat.started })
    }

    /// The calling process.
    pub fn own() -> Result<Self> {
        Self::of(Pid::this().as_raw())
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// Sends a signal if the process is still the recorded one. Returns whether it was sent.
    ///
    /// # Errors
    /// The signal is not permitted.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("send {signal} to process {}", self.pid)),
        }
    }

    /// Kills the process and waits until it is gone.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub fn kill_and_wait(&self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        wait_for(&format!("end of process {}", self.pid), limit, || {
            if self.is_alive() { Err("still there".to_owned()) } else { Ok(()) }
        })
    }
}

/// Lets the calling process hold as many files open as this machine allows it. Returns how many.
///
/// # Errors
/// The limit cannot be read.
pub fn raise_open_files() -> Result<u64> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if now < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")?;
    }
    Ok(most)
}

/// The few fields of `/proc/<pid>/stat` that the lab needs.
#[derive(Debug, Clone)]
pub(crate) struct Stat {
    /// Name of the program, at most 15 bytes.
    pub(crate) command: String,
    /// `R`, `S`, `T`, `Z` and so on.
    pub(crate) state: char,
    /// The parent, 0 when it is outside the PID namespace.
    pub(crate) parent: i32,
    /// Start in clock ticks since boot.
    pub(crate) started: u64,
}

impl Stat {
    /// Reads the entry of one process; nothing when it is gone.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and parentheses; the fields go on after the last closing one.
        let (head, rest) = text.rsplit_once(')')?;
        let command = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            command,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Ids of all processes that are visible here.
    pub(crate) fn all_pids() -> Vec<i32> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let mut pids: Vec<i32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_a_recycled_id_is_not() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        let other = ProcessId { started: own.started + 1, ..own };
        assert!(!other.is_alive());
        assert!(!other.signal(Signal::SIGKILL).unwrap());
    }
}
