//! The processes of the server, as the kernel shows them, and signals to the postmaster.
//!
//! `postmaster.pid` alone proves nothing: after a crash its number may belong to any process of the same user, the agent
//! included. So a process counts only when it is a postmaster by its command line and works in this data directory.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::error::Error;

/// The postmaster, pinned: a signal can never reach another process that got its number.
#[derive(Debug)]
pub(crate) struct Postmaster {
    /// Process id.
    pub(crate) pid: u32,
    /// Changes with every start.
    pub(crate) life: u64,
    fd: OwnedFd,
}

/// Tells at once when the postmaster ends: a look now and then would lose the time between two looks.
#[derive(Debug, Default)]
pub(crate) struct EndWatch {
    watched: Mutex<Option<(u64, Arc<AsyncFd<OwnedFd>>)>>,
    changed: Notify,
}

impl EndWatch {
    #[allow(
        deprecated,
        reason = "sound for an OwnedFd, which keeps its descriptor as long as it lives; the successor needs unsafe code"
    )]
    /// From now on this postmaster is watched, until it has ended. Must be called in a runtime.
    pub(crate) fn follow(&self, postmaster: &Postmaster) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_some_and(|(life, _)| *life == postmaster.life) {
            return;
        }
        // Without it the regular looks notice the end, only later.
        let fd = postmaster.fd.try_clone().ok();
        *watched = fd
            .and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok())
            .map(|fd| (postmaster.life, Arc::new(fd)));
        self.changed.notify_one();
    }

    /// Ends once for each postmaster that ends; waits for one to watch while there is none.
    pub(crate) async fn ended(&self) {
        loop {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some((life, fd)) = watched else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                // A pidfd becomes readable when the process ends, also while nobody has reaped it yet.
                ready = fd.readable() => {
                    drop(ready.map(|mut guard| guard.retain_ready()));
                    self.watched.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(of, _)| *of == life);
                    return;
                }
                () = self.changed.notified() => {}
            }
        }
    }
}

/// What the postmaster writes about itself into `postmaster.pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaidState {
    /// It does not accept connections yet, or is going down.
    Starting,
    /// It accepts connections.
    Ready,
}

impl Postmaster {
    /// The postmaster of this directory, when one runs.
    pub(crate) fn find(data_dir: &Path) -> Option<Self> {
        let pid = pid_in_file(data_dir)?;
        let fd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        // After the descriptor is open the number cannot be reused unnoticed: what /proc says now is said of it.
        let process = Process::read(pid)?;
        (process.is_postmaster() && process.works_in(data_dir)).then(|| Self {
            pid,
            life: process.life(),
            fd,
        })
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::State(format!("signal to postmaster {}: {errno}", self.pid))),
        }
    }

    /// Waits until it is gone; `false` when `limit` passes first.
    pub(crate) async fn wait_gone(self, limit: Duration) -> Result<bool, Error> {
        let milliseconds = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let waited = tokio::task::spawn_blocking(move || {
            // A pidfd becomes readable when the process ends, also while nobody has reaped it yet.
            let mut watched = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            poll(&mut watched, milliseconds)
        });
        match waited.await {
            Ok(Ok(ready)) => Ok(ready > 0),
            // A signal to the agent: the caller looks again, and escalates at worst.
            Ok(Err(nix::errno::Errno::EINTR)) => Ok(false),
            Ok(Err(errno)) => Err(Error::State(format!("watching the postmaster: {errno}"))),
            Err(panicked) => Err(Error::State(format!("watching the postmaster: {panicked}"))),
        }
    }
}

/// Whether the postmaster says that it accepts connections (line 8 of `postmaster.pid`).
pub(crate) fn said_state(data_dir: &Path) -> SaidState {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    match text.lines().nth(7).map(str::trim) {
        Some("ready" | "standby") => SaidState::Ready,
        _ => SaidState::Starting,
    }
}

/// Whether any process of PostgreSQL still works in this directory; a postmaster's children may outlive it.
pub(crate) fn any_alive(data_dir: &Path) -> bool {
    processes().any(|process| process.name == "postgres" && process.works_in(data_dir))
}

/// Kills every process of PostgreSQL that works in this directory.
pub(crate) fn kill_all(data_dir: &Path) {
    for process in processes().filter(|process| process.name == "postgres" && process.works_in(data_dir)) {
        if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The walreceivers of this postmaster, also those that are still connecting.
pub(crate) fn walreceivers(postmaster: u32) -> Vec<u32> {
    processes()
        .filter(|process| process.parent == postmaster && process.has_role("walreceiver"))
        .map(|process| process.pid)
        .collect()
}

/// Ends a child of the server as `pg_terminate_backend` would, but also when no connection can be had.
pub(crate) fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
}

/// Removes a `postmaster.pid` that no postmaster of this directory stands behind: PostgreSQL refuses to start when its
/// number belongs to any other process of the same user.
pub(crate) fn remove_stale_pid_file(data_dir: &Path) -> Result<(), Error> {
    let path = data_dir.join("postmaster.pid");
    if !path.exists() {
        return Ok(());
    }
    if Postmaster::find(data_dir).is_some() || any_alive(data_dir) {
        return Err(Error::State("PostgreSQL is still running in the data directory".to_owned()));
    }
    super::durable_file::remove(&path).map(drop)
}

fn pid_in_file(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
}

/// One line of `/proc/<pid>/stat`, as far as it is used.
#[derive(Debug)]
struct Process {
    pid: u32,
    name: String,
    state: char,
    parent: u32,
    started: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state ppid ... starttime`; the name may hold spaces and parentheses.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            pid,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn works_in(&self, data_dir: &Path) -> bool {
        if matches!(self.state, 'Z' | 'X') {
            return false;
        }
        let cwd: Option<PathBuf> = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok();
        let real = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        cwd.is_some_and(|cwd| cwd == real)
    }

    /// A postmaster shows its command line; its children replace it by `postgres: what they do`.
    fn is_postmaster(&self) -> bool {
        matches!(self.name.as_str(), "postgres" | "postmaster") && !self.title().starts_with("postgres: ")
    }

    fn has_role(&self, role: &str) -> bool {
        self.title().split_whitespace().any(|word| word == role)
    }

    fn title(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    fn life(&self) -> u64 {
        u64::from(self.pid) << 40 ^ self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_anything() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10";
        let process = Process::parse(42, stat).unwrap();
        assert_eq!((process.parent, process.state, process.started), (7, 'S', 98765));
        assert_eq!(process.name, "a) b (c");
    }

    #[test]
    fn a_stale_pid_file_with_the_number_of_another_process_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert!(Postmaster::find(dir.path()).is_none());
        remove_stale_pid_file(dir.path()).unwrap();
        assert!(!file.exists());
    }
}
