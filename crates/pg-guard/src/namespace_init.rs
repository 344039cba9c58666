//! The first process of PostgreSQL's PID namespace. Its death is the death of all others inside; it reaps what they
//! leave, tells how the postmaster ended, and ends with it.
//!
//! Inside, processes have other numbers than outside; only the postmaster has the same in both, so that `postmaster.pid`
//! is right for everybody. The other numbers inside begin at half of `kernel.pid_max`, where a host hardly has any: a
//! number out of `pg_stat_activity` that is used outside by mistake then belongs to nobody.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ha_core::MonoTime;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, setsid};

use crate::args::LaunchOrder;
use crate::capability;
use crate::clock::now;
use crate::launcher::{self, ENDED, EXEC, POSTMASTER};
use crate::real_time;
use crate::system_call::clone_with_number;

/// The process's name in process lists.
const NAME: &std::ffi::CStr = c"pg-guard-init";
/// How long the others may outlive a postmaster that ended by itself: its log collector writes the last lines.
const GRACE: Duration = Duration::from_secs(1);
/// Process numbers that are tried for the postmaster before giving up.
const TRIES: i32 = 1000;
/// The lowest that the kernel gives to ordinary processes (Linux: RESERVED_PIDS).
const LOWEST: i32 = 300;

const TIE: u8 = b't';
const UNTIE: u8 = b'u';
const GO: u8 = b'g';

/// The fuse's end of the wire to its init.
#[derive(Debug)]
pub(crate) struct Tie {
    /// Gone with init, whose end is told by SIGCHLD.
    wire: Option<UnixStream>,
    /// What init was asked for last; it begins tied.
    wanted: bool,
    /// Questions that init has not answered. Its answers come in their order, so only the last one says how it is.
    unanswered: u32,
}

impl Tie {
    pub(crate) fn new(wire: UnixStream) -> Self {
        Self { wire: Some(wire), wanted: true, unanswered: 0 }
    }

    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wire.as_ref().map(AsFd::as_fd)
    }

    /// Waits until init depends on this process.
    pub(crate) fn wait_tied(&mut self) -> io::Result<()> {
        if self.read() == Some(TIE) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Lets it go on; it learns its own number outside.
    pub(crate) fn go(&mut self, number: Pid) -> io::Result<()> {
        let mut bytes = [GO, 0, 0, 0, 0];
        bytes[1..].copy_from_slice(&number.as_raw().to_le_bytes());
        self.send(&bytes)
    }

    /// Asks it to depend on this process, or not to, if that is not what it was asked for last.
    pub(crate) fn want(&mut self, tied: bool) -> io::Result<()> {
        if tied != self.wanted {
            self.send(&[if tied { TIE } else { UNTIE }])?;
            self.wanted = tied;
            self.unanswered += 1;
        }
        Ok(())
    }

    /// Hears an answer; false when there is none.
    pub(crate) fn hear(&mut self) -> bool {
        let heard = self.read().is_some();
        self.unanswered = self.unanswered.saturating_sub(u32::from(heard));
        heard
    }

    /// Whether init depends on this process; unknown while it has an answer to give.
    pub(crate) fn settled(&self) -> Option<bool> {
        (self.unanswered == 0).then_some(self.wanted)
    }

    fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.wire.as_mut()?.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            _ => {
                self.wire = None;
                None
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.as_mut().map_or(Ok(()), |wire| wire.write_all(bytes))
    }
}

/// Runs the namespace; never returns. `wire` leads to the fuse, `report` to the guard.
pub(crate) fn run(order: &LaunchOrder, wire: UnixStream, report: File) -> ! {
    if let Err(error) = live(order, wire, &report) {
        drop(writeln!(&report, "the namespace's init: {error:#}"));
        exit(1)
    }
    exit(0)
}

fn live(order: &LaunchOrder, mut wire: UnixStream, report: &File) -> anyhow::Result<()> {
    let _ = (set_name(NAME), setsid());
    // Its end is what kills all others: on a starved host, too, it must come at once. The postmaster does not inherit it.
    real_time::raise_quietly();
    // As root, which the PostgreSQL user can neither signal nor trace. The order of the next two lines lets the fuse know:
    // its death before the first is seen as the end of the wire, after it the kernel acts.
    set_pdeathsig(Signal::SIGKILL).context("depend on the fuse")?;
    wire.write_all(&[TIE]).context("speak to the fuse")?;
    let mut go = [0; 5];
    if wire.read(&mut go).context("wait for the fuse")? != go.len() || go[0] != GO {
        bail!("the fuse took its order back");
    }
    let outside = i32::from_le_bytes([go[1], go[2], go[3], go[4]]);
    // Not permitted in some containers; then numbers inside begin at 2.
    drop(fs::write("/proc/sys/kernel/ns_last_pid", (pid_max() / 2).to_string()));
    let (words, saying) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let Some(postmaster) = start(outside)? else { launcher::launch_inside(order, saying) };
    drop(saying);
    capability::keep(&[]).context("drop capabilities")?;
    let mask: SigSet = [Signal::SIGCHLD].into_iter().collect();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&mask, flags).context("open a signalfd")?;
    let mut words = File::from(words);
    let mut inside =
        Inside { wire: Some(wire), tied: true, report, signals, postmaster, said: vec![], ended: None };
    let mut launching = true;
    while !inside.is_over() {
        let (said, spoke) = inside.wait(launching.then_some(&words))?;
        if said && launching {
            launching = inside.pass_on(&mut words)?;
        }
        if spoke {
            inside.hear();
        }
        // Not before the launcher's words, which its end must not overtake.
        if !launching {
            inside.reap();
        }
    }
    Ok(())
}

/// Forks the postmaster-to-be, with a number that is free both inside and outside.
fn start(outside: i32) -> anyhow::Result<Option<Pid>> {
    for number in numbers(outside) {
        match clone_with_number(number) {
            Err(error) if is_taken(&error) => {}
            started => return started.context("start a process with a chosen number (clone3, Linux 5.5)"),
        }
    }
    bail!("no process number is free both inside and outside of the namespace")
}

/// Candidates for the postmaster's number: those that the kernel would soon give anyway.
pub(crate) fn numbers(outside: i32) -> impl Iterator<Item = i32> {
    let max = pid_max();
    let next = (outside + 1..outside + TRIES).filter(move |number| *number < max);
    next.chain(LOWEST..(LOWEST + TRIES).min(max))
}

pub(crate) fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EEXIST)
}

fn pid_max() -> i32 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(32_768)
}

struct Inside<'a> {
    wire: Option<UnixStream>,
    /// Whether the end of the fuse ends everything here.
    tied: bool,
    report: &'a File,
    signals: SignalFd,
    postmaster: Pid,
    /// What the launcher has said so far.
    said: Vec<u8>,
    /// When the postmaster ended, and whether others may still finish.
    ended: Option<(MonoTime, bool)>,
}

impl Inside<'_> {
    /// Whether to end, and with it everything inside.
    fn is_over(&self) -> bool {
        self.ended.is_some_and(|(at, graceful)| !graceful || now() >= at + GRACE)
    }

    /// Waits for something: whether the launcher has, and whether the fuse has said something.
    fn wait(&self, words: Option<&File>) -> anyhow::Result<(bool, bool)> {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.wire.as_ref().map(|wire| PollFd::new(wire.as_fd(), PollFlags::POLLIN)));
        polled.extend(words.map(|words| PollFd::new(words.as_fd(), PollFlags::POLLIN)));
        let left = self.ended.map(|(at, _)| GRACE.saturating_sub(now().since(at)));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = |index: usize| {
            polled.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        let wires = usize::from(self.wire.is_some());
        Ok((ready(1 + wires) && words.is_some(), wires == 1 && ready(1)))
    }

    /// The fuse's wishes, and its end. A dying process closes its files before the kernel signals its children: who let go
    /// on the end of the wire would outlive the fuse. So it ends what depends on the fuse, like the kernel.
    fn hear(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        let mut byte = [0];
        let wanted = match wire.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            _ => None,
        };
        let (done, tied) = match wanted {
            Some(TIE) => (set_pdeathsig(Signal::SIGKILL).is_ok() && wire.write_all(&[TIE]).is_ok(), true),
            Some(UNTIE) => (set_pdeathsig(None).is_ok() && wire.write_all(&[UNTIE]).is_ok(), false),
            _ => (false, self.tied),
        };
        self.tied = tied;
        if !done {
            self.wire = None;
            if tied {
                self.ended = Some((now(), false));
            }
        }
    }

    /// Passes the launcher's words on when it has become the postmaster (or failed); false from then on.
    fn pass_on(&mut self, words: &mut File) -> anyhow::Result<bool> {
        let mut part = [0; 512];
        let length = words.read(&mut part).context("hear the launcher")?;
        if length > 0 {
            self.said.extend_from_slice(&part[..length]);
            return Ok(true);
        }
        let mut said = String::from_utf8_lossy(&self.said).into_owned();
        if said.lines().last() == Some(EXEC) {
            said = format!("{POSTMASTER}{}\n{said}", self.postmaster);
        }
        (&mut &*self.report).write_all(said.as_bytes()).context("report")?;
        Ok(false)
    }

    /// Reaps everything that has ended inside.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, how, graceful) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("code {code}"), true),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal {}", signal as i32), false),
                Ok(WaitStatus::StillAlive) => return,
                Err(Errno::ECHILD) => {
                    if let Some((_, graceful)) = &mut self.ended {
                        *graceful = false;
                    }
                    return;
                }
                Ok(_) | Err(_) => continue,
            };
            if pid == self.postmaster {
                // The guard may be another one by now, which asks the kernel.
                drop((&mut &*self.report).write_all(format!("{ENDED}{how}\n").as_bytes()));
                self.ended = Some((now(), graceful));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guard lets go after a start and arms at once: what counts is the answer to the last question.
    #[test]
    fn an_arming_right_behind_a_release_counts_when_it_is_answered() {
        let (fuse, mut init) = UnixStream::pair().unwrap();
        let mut tie = Tie::new(fuse);
        assert_eq!(tie.settled(), Some(true));
        tie.want(true).unwrap();
        tie.want(false).unwrap();
        tie.want(true).unwrap();
        let mut asked = [0; 2];
        init.read_exact(&mut asked).unwrap();
        assert_eq!((asked, tie.settled()), ([UNTIE, TIE], None));
        init.write_all(&[UNTIE]).unwrap();
        assert!(tie.hear());
        assert_eq!(tie.settled(), None, "tied was asked for after it");
        init.write_all(&[TIE]).unwrap();
        assert!(tie.hear());
        assert_eq!(tie.settled(), Some(true));
    }

    /// The end of the wire is seen before the kernel's signal comes.
    #[test]
    fn the_end_of_the_wire_ends_what_depends_on_the_fuse_and_nothing_else() {
        let report = File::options().write(true).open("/dev/null").unwrap();
        for tied in [true, false] {
            let (mut fuse, wire) = UnixStream::pair().unwrap();
            let mut inside = Inside {
                wire: Some(wire),
                tied: true,
                report: &report,
                signals: SignalFd::new(&SigSet::empty()).unwrap(),
                postmaster: Pid::from_raw(1),
                said: vec![],
                ended: None,
            };
            if !tied {
                fuse.write_all(&[UNTIE]).unwrap();
                inside.hear();
            }
            drop(fuse);
            inside.hear();
            assert_eq!(inside.is_over(), tied);
        }
    }

    #[test]
    fn numbers_stay_below_the_kernels_limit() {
        let max = pid_max();
        assert!(numbers(max - 2).all(|number| number < max && number >= LOWEST.min(max - 1)));
        assert_eq!(numbers(500).next(), Some(501));
    }
}
