//! Waits, feeds the decider, and carries out what it says.
//!
//! ```text
//!   timerfd (BOOTTIME, absolute) ──┐                        ┌─> cgroup.kill
//!   signalfd: TERM, INT, CHLD ─────┤                        ├─> state (not on disk), then answers to peers
//!   cgroup.events ─────────────────┤    handle_event        ├─> launcher, inspector (errands)
//!   postmaster's pidfd ────────────┼──> handle_timeout ─────┼─> SIGINT to the postmaster
//!   errands' pipes ────────────────┤    poll_action         ├─> record of fences (disk; nothing runs by then)
//!   socket, peers ─────────────────┘                        └─> log (another thread)
//! ```
//!
//! Nothing here waits for anything but `poll`: no disk, no log, no peer can hold a kill back.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, bail};
use ha_core::guard_link::{Degraded, ExitOutcome, Layers, Reply};
use ha_core::{BootId, MonoTime};
use ha_fencing::{Action, Event, Look, PeerId, Reason, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Uid, sysconf};

use crate::agent_link::AgentLink;
use crate::cgroup::Group;
use crate::clock::{boot_id, now};
use crate::errand::Errand;
use crate::journal::Journal;
use crate::launcher;
use crate::log_line::{Level, Log};
use crate::place::Place;
use crate::postmaster::Postmaster;
use crate::real_time;

/// Refusals logged per second; the rest of a flood only costs its answers.
const REFUSALS_LOGGED: u32 = 10;

/// Runs until told to stop.
pub(crate) fn run(place: &Place, log: &Log) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        bail!(
            "pg-guard needs root: it creates the group of PostgreSQL and must be able to kill what runs in it"
        );
    }
    let mut driver = Driver::begin(place, log)?;
    while !driver.done {
        driver.turn()?;
    }
    driver.end();
    Ok(())
}

/// Keeps the signals that the guard waits for from interrupting it, in this thread and all that it starts.
pub(crate) fn block_signals() -> anyhow::Result<()> {
    caught_signals().thread_block().context("block signals")
}

fn caught_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
}

struct Driver<'a> {
    place: &'a Place,
    log: &'a Log,
    boot_id: BootId,
    watch: Watch,
    group: Group,
    journal: Journal,
    link: AgentLink,
    postmaster: Option<Postmaster>,
    launch: Option<Errand>,
    inspection: Option<Errand>,
    timer: TimerFd,
    signals: SignalFd,
    refusals: (MonoTime, u32),
    done: bool,
}

/// What can wake the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Timer,
    Signals,
    Group,
    Postmaster,
    Launch,
    Inspection,
    Listener,
    Peer(PeerId),
}

impl<'a> Driver<'a> {
    fn begin(place: &'a Place, log: &'a Log) -> anyhow::Result<Self> {
        let boot_id = boot_id()?;
        let journal = Journal::open(&place.run_dir, &place.state_dir)?;
        let group = Group::open(&place.cgroup, &place.group_name, &place.run_dir)?;
        let signals = SignalFd::with_flags(&caught_signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("open a signalfd")?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .context("open a timerfd")?;
        // What outlives its postmaster becomes our child and is reaped: a zombie would keep its number and its place
        // in postmaster.pid.
        set_child_subreaper(true).context("become the reaper of orphans")?;
        let state = journal.load_state(&boot_id).unwrap_or_else(|error| {
            log.line(Level::Warn, &format!("the state of an earlier guard is of no use: {error:#}"));
            None
        });
        let fenced = journal.load_fence()?;
        let populated = group.populated();
        let postmaster = if populated {
            Postmaster::find(&group, state.as_ref().and_then(|state| state.postmaster))
        } else {
            None
        };
        let link = AgentLink::listen(&place.socket, place.uid, place.gid)?;
        let (layers, degraded) = strength(&group, log);
        let look = Look {
            boot_id: boot_id.clone(),
            layers,
            degraded,
            state,
            fenced,
            populated,
            postmaster: postmaster.as_ref().map(|postmaster| postmaster.pid),
        };
        log.line(
            Level::Info,
            &format!("version {} group={}", env!("CARGO_PKG_VERSION"), group.path().display()),
        );
        let watch = Watch::begin(now(), place.limits, look);
        let refusals = (now(), 0);
        let mut driver = Self {
            place,
            log,
            boot_id,
            watch,
            group,
            journal,
            link,
            postmaster,
            launch: None,
            inspection: None,
            timer,
            signals,
            refusals,
            done: false,
        };
        driver.work();
        Ok(driver)
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> anyhow::Result<()> {
        if self.watch.poll_timeout().is_some_and(|at| at <= now()) {
            self.watch.handle_timeout(now());
            self.work();
        }
        self.set_timer()?;
        for source in self.wait()? {
            match source {
                Source::Timer => drop(self.timer.wait()), // the next turn looks at the clock
                Source::Signals => self.take_signals(),
                Source::Group => self.event(Event::GroupChanged { populated: self.group.populated() }),
                Source::Postmaster => self.postmaster_ended(),
                Source::Launch => self.read_launch(),
                Source::Inspection => self.read_inspection(),
                Source::Listener => {
                    if let Some(closed) = self.link.accept() {
                        self.event(Event::PeerGone(closed));
                    }
                }
                Source::Peer(peer) => self.receive(peer),
            }
        }
        Ok(())
    }

    fn set_timer(&self) -> anyhow::Result<()> {
        let Some(at) = self.watch.poll_timeout() else {
            return self.timer.unset().context("unset the timer");
        };
        let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        // Zero would disarm it; a time that is past fires at once.
        let time = TimeSpec::new(seconds.try_into().unwrap_or(i64::MAX), i64::try_from(nanos.max(1))?);
        self.timer
            .set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .context("set the timer")
    }

    fn wait(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Timer, self.timer.as_fd(), PollFlags::POLLIN),
            (Source::Group, self.group.events().as_fd(), PollFlags::POLLPRI),
            (Source::Signals, self.signals.as_fd(), PollFlags::POLLIN),
            (Source::Listener, self.link.listener.as_fd(), PollFlags::POLLIN),
        ];
        // Before the signals are taken, an errand that has ended must have been heard.
        let errands = [(Source::Launch, &self.launch), (Source::Inspection, &self.inspection)];
        for (source, errand) in errands {
            if let Some(errand) = errand {
                sources.insert(0, (source, errand.output().as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(postmaster) = &self.postmaster {
            sources.push((Source::Postmaster, postmaster.pidfd.as_fd(), PollFlags::POLLIN));
        }
        for peer in &self.link.peers {
            sources.push((Source::Peer(peer.id), peer.stream.as_fd(), PollFlags::POLLIN));
        }
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = |poll: &PollFd<'_>| poll.revents().is_some_and(|events| !events.is_empty());
        Ok(sources
            .iter()
            .zip(&polled)
            .filter(|(_, poll)| ready(poll))
            .map(|((source, ..), _)| *source)
            .collect())
    }

    fn event(&mut self, event: Event) {
        self.watch.handle_event(now(), event);
        self.work();
    }

    /// Carries out everything that the decider asks for.
    fn work(&mut self) {
        while let Some(action) = self.watch.poll_action() {
            match action {
                Action::Kill(_) => {
                    if let Some(launch) = &self.launch {
                        launch.kill();
                    }
                    let how = self.group.kill_all();
                    let populated = self.group.populated();
                    self.watch.handle_event(now(), Event::Killed { how, populated });
                }
                Action::SaveState(state) => {
                    if self.journal.save_state(&state, &self.boot_id).is_err() {
                        self.watch.handle_event(now(), Event::StateNotSaved);
                    }
                }
                Action::RecordFence { leadership, system_id } => {
                    if let Err(error) = self.journal.save_fence((leadership, system_id)) {
                        self.log
                            .line(Level::Error, &format!("the fence could not be recorded on disk: {error}"));
                    }
                }
                Action::Launch { settings } => self.launch(&settings),
                Action::Inspect => match Errand::inspect(self.place) {
                    Ok(errand) => self.inspection = Some(errand),
                    Err(_) => self.watch.handle_event(now(), Event::Inspected { standby: None }),
                },
                Action::AskToStop => {
                    if let Some(postmaster) = &self.postmaster {
                        postmaster.ask_to_stop();
                    }
                }
                Action::Reply { peer, reply } => self.send(peer, &reply),
                Action::Report { peer, seq } => self.report(peer, seq),
                Action::Notice(reply) => {
                    let peers: Vec<PeerId> = self.link.peers.iter().map(|peer| peer.id).collect();
                    peers.into_iter().for_each(|peer| self.send(peer, &reply));
                }
                Action::Note(reason) => self.note(&reason),
                Action::Exit => self.done = true,
            }
        }
    }

    fn launch(&mut self, settings: &[(String, String)]) {
        match Errand::launch(self.place, &self.group, settings) {
            Ok(errand) => self.launch = Some(errand),
            Err(error) => {
                let (text, populated) = (format!("start the launcher: {error}"), self.group.populated());
                self.watch.handle_event(now(), Event::LaunchFailed { text, populated });
            }
        }
    }

    /// The launcher's output has ended: it has become the postmaster, or there is none.
    fn read_launch(&mut self) {
        let Some(said) = self.launch.as_mut().and_then(Errand::read) else { return };
        let Some(launch) = self.launch.take() else { return };
        let lines: Vec<&str> = said.lines().collect();
        let opened = Postmaster::started(launch.pid());
        match (lines.last(), opened) {
            (Some(&launcher::EXEC), Ok(postmaster)) => {
                let pid = postmaster.pid;
                self.postmaster = Some(postmaster);
                let system_id =
                    lines.iter().find_map(|line| line.strip_prefix(launcher::SYSTEM)?.parse().ok());
                self.event(Event::Launched { pid, system_id });
            }
            (last, _) => {
                let text = last.map_or("the launcher ended without a word", |text| *text).to_owned();
                self.event(Event::LaunchFailed { text, populated: self.group.populated() });
            }
        }
    }

    fn read_inspection(&mut self) {
        let Some(said) = self.inspection.as_mut().and_then(Errand::read) else { return };
        self.inspection = None;
        let standby = match said.trim() {
            launcher::STANDBY => Some(true),
            launcher::PRIMARY => Some(false),
            _ => None,
        };
        self.event(Event::Inspected { standby });
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let is = |wanted: Signal| u32::try_from(wanted as i32) == Ok(signal.ssi_signo);
            if is(Signal::SIGCHLD) {
                self.reap();
            } else if is(Signal::SIGTERM) || is(Signal::SIGINT) {
                self.event(Event::StopRequested { populated: self.group.populated() });
            }
        }
    }

    /// Reaps every child that has ended: errands, the postmaster, and orphans of it.
    fn reap(&mut self) {
        loop {
            let (pid, outcome) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitOutcome::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitOutcome::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            let pid = pid.as_raw().unsigned_abs();
            if self.launch.as_ref().is_some_and(|launch| launch.pid() == pid) {
                // It died; what it said last, if anything, has been waiting in the pipe.
                self.launch_died(outcome);
            } else if self.postmaster.as_ref().is_some_and(|postmaster| postmaster.pid == pid) {
                self.postmaster = None;
                self.event(Event::PostmasterExited { outcome, populated: self.group.populated() });
            }
        }
    }

    fn launch_died(&mut self, outcome: ExitOutcome) {
        let Some(mut launch) = self.launch.take() else { return };
        let said = launch.read().unwrap_or_default();
        let text = said.lines().rfind(|line| *line != launcher::EXEC).map(str::to_owned);
        let text = text.unwrap_or_else(|| format!("the launcher ended: {outcome}"));
        self.event(Event::LaunchFailed { text, populated: self.group.populated() });
    }

    /// One that an earlier guard has started is nobody's child here; its own children are reaped by init.
    fn postmaster_ended(&mut self) {
        if self.postmaster.take_if(|postmaster| !postmaster.own_child).is_some() {
            let populated = self.group.populated();
            self.event(Event::PostmasterExited { outcome: ExitOutcome::Unknown, populated });
        } else {
            self.reap();
        }
    }

    fn receive(&mut self, peer: PeerId) {
        let (requests, ended) = self.link.receive(peer);
        for request in requests {
            self.event(Event::Requested { peer, request, populated: self.group.populated() });
        }
        if ended {
            self.hang_up(peer);
        }
    }

    fn send(&mut self, peer: PeerId, reply: &Reply) {
        if !self.link.send(peer, reply) {
            self.hang_up(peer);
        }
    }

    fn hang_up(&mut self, peer: PeerId) {
        self.link.close(peer);
        self.watch.handle_event(now(), Event::PeerGone(peer));
    }

    fn report(&mut self, peer: PeerId, seq: u64) {
        let mut status = self.watch.status(now());
        status.resident_bytes = resident_bytes();
        status.rejected_messages = self.link.rejected;
        self.send(peer, &Reply::Status { seq, status });
    }

    fn note(&mut self, reason: &Reason) {
        let level = match reason {
            Reason::Refused { .. } => {
                let (since, count) = &mut self.refusals;
                if now().since(*since).as_secs() >= 1 {
                    (*since, *count) = (now(), 0);
                }
                *count += 1;
                if *count > REFUSALS_LOGGED {
                    return;
                }
                Level::Warn
            }
            Reason::StartFailed { .. } | Reason::StateNotWritten | Reason::NotEmpty { .. } => Level::Error,
            Reason::Killing(_) | Reason::FoundUnprotected { .. } | Reason::HoldEnded { .. } => Level::Warn,
            _ => Level::Info,
        };
        self.log.line(level, &reason.to_string());
    }

    fn end(self) {
        self.link.remove();
        self.group.remove();
        self.log.line(Level::Info, "stopped");
    }
}

fn strength(group: &Group, log: &Log) -> (Layers, Degraded) {
    let (layers, degraded) = real_time::prepare(log);
    if group.has_kill() {
        return (layers.with(Layers::CGROUP_KILL), degraded);
    }
    log.line(Level::Warn, "no cgroup.kill (Linux before 5.14): processes are killed one by one");
    (layers, degraded.with(Degraded::NO_CGROUP_KILL))
}

/// Second value of `/proc/self/statm`, in pages (proc(5)).
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or_default();
    let page = sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * page.unsigned_abs()
}
