//! The fuse: a process of its own, between the guard and PostgreSQL, that lives and dies by the kernel's hand.
//!
//! ```text
//!   guard ──fork──> fuse ──fork, new PID namespace──> init ──fork──> postmaster ──> all others
//!                    │ timer (BOOTTIME, absolute): SIGKILL to itself │
//!                    └── its death: SIGKILL to init ─────────────────┘ whose death ends the whole namespace
//! ```
//!
//! When the timer expires the kernel kills the fuse, with it the namespace's init, and with that every process inside,
//! whatever session or parent it has: no program has to run for it, and a fuse that is stopped dies as well. A fuse
//! that is stopped or starved only misses renewals, which makes the deadline come earlier. The guard's own death changes
//! nothing: the next guard finds the socket.
//!
//! For a standby no timer is set and init does not depend on the fuse.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ha_core::MonoTime;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_name;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socketpair, sockopt::PeerCredentials};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, setsid};

use crate::args::FuseOrder;
use crate::capability::{self, Capability};
use crate::fuse_link::{Held, LENGTH};
use crate::namespace_init::{self, Tie};
use crate::real_time;
use crate::system_call::{DeathTimer, clone_with_number, fork};

/// The process's name in process lists.
const NAME: &std::ffi::CStr = c"pg-guard-fuse";

/// What the probe says when nothing stands in the way.
pub(crate) const POSSIBLE: &str = "possible";

/// Becomes the fuse of a new PostgreSQL; returns when that has ended. What it cannot do is said on standard output,
/// like the launcher's words.
pub(crate) fn run(order: &FuseOrder) -> ExitCode {
    let report = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    match report.context("keep the report open").and_then(|report| burn(order, report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "pg-guard: fuse: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn burn(order: &FuseOrder, report: File) -> anyhow::Result<()> {
    let mut fuse = match Fuse::prepare(order, &report) {
        Ok(fuse) => fuse,
        Err(error) => {
            drop(writeln!(&report, "the kernel fuse: {error:#}"));
            return Err(error);
        }
    };
    // Its end is the end of the report: only init and the launcher inside may hold it open.
    drop(report);
    fuse.begin()?;
    while fuse.turn()? {}
    Ok(())
}

struct Fuse {
    timer: DeathTimer,
    listener: UnixListener,
    guard: Option<UnixStream>,
    init: Pid,
    tie: Tie,
    signals: SignalFd,
    deadline: Option<MonoTime>,
}

/// What woke it.
enum Source {
    Signals,
    Listener,
    Guard,
    Init,
}

impl Fuse {
    fn prepare(order: &FuseOrder, report: &File) -> anyhow::Result<Self> {
        // A name in process lists is a comfort, priority and locked memory as well: late only means early.
        let _ = set_name(NAME);
        let _ = setsid();
        drop(fs::write("/proc/self/oom_score_adj", "-1000"));
        let signals: SigSet =
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
        signals.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).context("open a signalfd")?;
        let listener = io::stdin().as_fd().try_clone_to_owned().context("take the socket")?;
        let listener = UnixListener::from(listener);
        let nothing = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
        dup2_stdin(&nothing).context("redirect standard input")?;
        dup2_stdout(&nothing).context("redirect standard output")?;
        let timer = DeathTimer::new().context("make a timer")?;
        unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
        let (own, inner) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context("make a socket pair")?;
        let init = match fork().context("fork")? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let report = report.try_clone().context("keep the report open")?;
                drop((own, listener, signals, timer));
                namespace_init::run(&order.launch, inner.into(), report);
            }
        };
        drop(inner);
        real_time::prepare_quietly();
        let mut tie = Tie::new(own.into());
        // Nothing runs inside before it is in the group and depends on this process.
        tie.wait_tied().context("wait for the namespace's init")?;
        if let Some(group) = &order.group {
            let write = || File::options().write(true).open(group)?.write_all(init.to_string().as_bytes());
            write().with_context(|| format!("move the namespace into {}", group.display()))?;
        }
        capability::keep(&[Capability::IpcLock]).context("drop capabilities")?;
        Ok(Self { timer, listener, guard: None, init, tie, signals, deadline: None })
    }

    /// The guard's first word comes before the postmaster's first step.
    fn begin(&mut self) -> anyhow::Result<()> {
        let mut guard = loop {
            if let Some(guard) = self.accept() {
                break guard;
            }
        };
        let mut bytes = [0; LENGTH + 1];
        let length = guard.read(&mut bytes).context("hear the guard")?;
        let Some(wanted) = Held::from_bytes(&bytes[..length]) else {
            bail!("the guard took its order back");
        };
        guard.set_nonblocking(true).context("do not wait for the guard")?;
        self.guard = Some(guard);
        self.timer.set(wanted.deadline).context("set the timer")?;
        self.deadline = wanted.deadline;
        self.tie.go(self.init).context("start the namespace's init")?;
        self.change(wanted)
    }

    /// Waits for something and deals with it; false when PostgreSQL has ended.
    fn turn(&mut self) -> anyhow::Result<bool> {
        for source in self.wait()? {
            match source {
                Source::Signals => {
                    while let Ok(Some(_)) = self.signals.read_signal() {}
                    if self.init_ended() {
                        return Ok(false);
                    }
                }
                // The newest guard is the one that counts.
                Source::Listener => {
                    let newest = self.accept().filter(|guard| guard.set_nonblocking(true).is_ok());
                    self.guard = newest.or(self.guard.take());
                }
                Source::Guard => self.hear_guard()?,
                Source::Init => {
                    if self.tie.hear() {
                        self.say();
                    }
                }
            }
        }
        Ok(true)
    }

    fn wait(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> =
            vec![(Source::Signals, self.signals.as_fd()), (Source::Listener, self.listener.as_fd())];
        sources.extend(self.tie.as_fd().map(|fd| (Source::Init, fd)));
        sources.extend(self.guard.as_ref().map(|guard| (Source::Guard, guard.as_fd())));
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready: Vec<bool> =
            polled.iter().map(|poll| poll.revents().is_some_and(|events| !events.is_empty())).collect();
        drop(polled);
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|((source, _), ready)| ready.then_some(source))
            .collect())
    }

    /// A guard; only root may be one.
    fn accept(&self) -> Option<UnixStream> {
        let (stream, _) = self.listener.accept().ok()?;
        getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0).then_some(stream)
    }

    fn hear_guard(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; LENGTH + 1];
        let Some(guard) = &mut self.guard else { return Ok(()) };
        match guard.read(&mut bytes) {
            // Its end means nothing: the deadline stands.
            Ok(0) => self.guard = None,
            Ok(length) => {
                if let Some(wanted) = Held::from_bytes(&bytes[..length]) {
                    self.timer.set(wanted.deadline).context("set the timer")?;
                    self.deadline = wanted.deadline;
                    self.change(wanted)?;
                }
            }
            Err(error) if is_temporary(&error) => {}
            Err(_) => self.guard = None,
        }
        Ok(())
    }

    /// Lets init depend on this process, or not; the guard hears of it when init has said so.
    fn change(&mut self, wanted: Held) -> anyhow::Result<()> {
        self.tie.want(wanted.tied).context("speak to the namespace's init")?;
        self.say();
        Ok(())
    }

    /// Tells the guard what is held, unless init has still to answer.
    fn say(&mut self) {
        let Some(tied) = self.tie.settled() else { return };
        let held = Held { deadline: self.deadline, tied };
        if let Some(guard) = &mut self.guard
            && !guard.write(&held.to_bytes()).is_ok_and(|length| length == LENGTH)
        {
            self.guard = None;
        }
    }

    fn init_ended(&self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == self.init => {
                    return true;
                }
                Ok(WaitStatus::StillAlive) => return false,
                Err(Errno::ECHILD) => return true,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Tries everything that a fuse needs, with nothing inside, and says on standard output why it cannot be.
pub(crate) fn probe() -> ExitCode {
    let verdict = try_all().map_or_else(|error| format!("{error:#}"), |()| POSSIBLE.to_owned());
    drop(writeln!(io::stdout(), "{verdict}"));
    ExitCode::SUCCESS
}

fn try_all() -> anyhow::Result<()> {
    drop(DeathTimer::new().context("make a timer")?);
    unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
    let own = Path::new("/proc/self").read_link().context("read /proc/self")?;
    let own: i32 = own.to_string_lossy().parse().context("read /proc/self")?;
    let code = |done: bool| i32::from(!done);
    match fork().context("fork")? {
        ForkResult::Child => {
            let inside = namespace_init::numbers(own).find_map(|number| match clone_with_number(number) {
                Ok(None) => std::process::exit(0),
                Err(error) if namespace_init::is_taken(&error) => None,
                other => Some(other),
            });
            std::process::exit(code(matches!(inside, Some(Ok(Some(_))))));
        }
        ForkResult::Parent { child } => match waitpid(child, None).context("wait for the trial")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => bail!("a process number cannot be chosen (clone3 with set_tid, Linux 5.5)"),
        },
    }
}
