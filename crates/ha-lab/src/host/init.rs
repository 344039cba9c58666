//! The first process of a host.
//!
//! ```text
//! control.sock  request ─┐
//! SIGCHLD       a process ended ─┼─> one loop ─> supervisor, signals, disk
//! deadline      restart or kill due ─┤
//! standard input  closed: the keeper is gone ─┘ ─> exit, which ends every process of the host
//! ```

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, read, sethostname};
use serde_json::Value;

use super::supervisor::{Supervisor, postmaster};
use super::{ballast, file_system, find};
use crate::control::{self, HostRequest, HostStatus};
use crate::lab_dir::{HOST_SOCKET, LabDir};
use crate::switch;
use crate::topology::Role;

/// Body of a host's first process: returns when the keeper is gone.
///
/// # Errors
/// The host could not be set up.
pub(crate) fn run(lab: &Path, name: &str) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for the anchor's death")?;
    let lab = LabDir::new(lab)?;
    let plan = lab.plan()?;
    let host = find(&lab, name)?;
    let listener = control::listen(&lab.host(name), HOST_SOCKET)?;
    listener.set_nonblocking(true).context("make the control socket non-blocking")?;
    sethostname(name).context("set the host name")?;
    file_system::enter(&lab, &plan, &host)?;

    // The keeper plugs the cable in and says so with one byte.
    let mut byte = [0];
    if read(std::io::stdin(), &mut byte).context("wait for the cable")? == 0 {
        return Ok(());
    }
    switch::configure_host(&host)?;

    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().context("block SIGCHLD")?;
    let children = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("make a signal descriptor")?;
    let masked: Vec<String> = plan
        .masked
        .iter()
        .filter_map(|entry| entry.strip_prefix(&format!("{name}/")).map(str::to_owned))
        .collect();
    let mut supervisor = Supervisor::new(&host.units, &masked, &plan.log_filter)?;
    supervisor.start_all();
    serve(&mut supervisor, &listener, &children, host.role)
}

fn serve(
    supervisor: &mut Supervisor,
    listener: &UnixListener,
    children: &SignalFd,
    role: Role,
) -> Result<()> {
    let stdin = std::io::stdin();
    loop {
        let timeout = supervisor.next_deadline().map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        let mut waits = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        waits.extend(supervisor.ears().map(|ear| PollFd::new(ear, PollFlags::POLLIN)));
        match poll(&mut waits, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for events"),
        }
        if waits[2].any() == Some(true) {
            return Ok(());
        }
        while let Ok(Some(_)) = children.read_signal() {}
        // First: an old main process says who follows it before it ends.
        supervisor.hear();
        reap(supervisor);
        supervisor.act(Instant::now());
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).context("make a connection blocking")?;
            // A client that went away is its own problem.
            control::answer(stream, |request| serve_one(supervisor, request, role)).ok();
        }
    }
}

/// Reaps everything that ended. The status is looked at first and taken second, so that an unreaped main process still
/// holds its id while the supervisor may signal it.
fn reap(supervisor: &mut Supervisor) {
    while let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
    {
        if matches!(status, WaitStatus::StillAlive) {
            return;
        }
        let Some(pid) = status.pid() else { return };
        supervisor.reaped(status);
        waitpid(Pid::from_raw(pid.as_raw()), Some(WaitPidFlag::WNOHANG)).ok();
    }
}

fn serve_one(supervisor: &mut Supervisor, request: HostRequest, role: Role) -> Result<Value> {
    match request {
        HostRequest::Status => {
            let postmaster = if role == Role::Database { postmaster() } else { None };
            return Ok(serde_json::to_value(HostStatus { units: supervisor.status(), postmaster })?);
        }
        HostRequest::Start(unit) | HostRequest::Unmask(unit) => supervisor.start(&unit)?,
        HostRequest::Stop(unit) => supervisor.stop(&unit)?,
        HostRequest::Mask(unit) => supervisor.mask(&unit)?,
        HostRequest::Signal { unit, signal } => supervisor.signal(&unit, &signal)?,
        HostRequest::FillDisk => return Ok(Value::from(ballast::fill()?)),
        HostRequest::FreeDisk => ballast::free()?,
    }
    Ok(Value::Null)
}
