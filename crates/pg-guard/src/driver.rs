//! Waits, feeds the decider, and carries out what it says.
//!
//! ```text
//!   timerfd (BOOTTIME, absolute) ──┐                        ┌─> cgroup.kill
//!   signalfd: TERM, INT, CHLD ─────┤                        ├─> state (not on disk), then answers to peers
//!   cgroup.events ─────────────────┤    handle_event        ├─> launcher, inspector (errands)
//!   postmaster's pidfd ────────────┼──> handle_timeout ─────┼─> SIGINT to the postmaster
//!   errands' pipes ────────────────┤    poll_action         ├─> the fuse's deadline, the watchdog device
//!   fuse's socket ─────────────────┤                        ├─> record of fences (disk; nothing runs by then)
//!   socket, peers ─────────────────┘                        └─> log (another thread)
//! ```
//!
//! Nothing here waits for anything but `poll`: no disk, no log, no peer can hold a kill back.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ha_config::LayerMode;
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
use crate::clock::{boot_id, now};
use crate::errand::Errand;
use crate::fuse;
use crate::fuse_link::{FuseLink, Held};
use crate::group::Group;
use crate::journal::Journal;
use crate::launcher;
use crate::log_line::{Level, Log};
use crate::place::Place;
use crate::postmaster::{Origin, Postmaster};
use crate::real_time;
use crate::watchdog::Watchdog;

/// Refusals logged per second; the rest of a flood only costs its answers.
const REFUSALS_LOGGED: u32 = 10;
/// How often to look for the end of what no event tells.
const LOOK: Duration = Duration::from_millis(50);

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
    watchdog: Watchdog,
    postmaster: Option<Postmaster>,
    launch: Option<Errand>,
    inspection: Option<Errand>,
    probe: Option<Errand>,
    fuse: Option<FuseLink>,
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
    Probe,
    Fuse,
    Listener,
    Peer(PeerId),
}

impl<'a> Driver<'a> {
    fn begin(place: &'a Place, log: &'a Log) -> anyhow::Result<Self> {
        let boot_id = boot_id()?;
        let journal = Journal::open(&place.run_dir, &place.state_dir)?;
        let (mut group, why) = Group::open(place)?;
        why.iter().for_each(|why| log.line(Level::Warn, why));
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
        if let Some(postmaster) = &postmaster {
            group.note(postmaster.pid);
        }
        let fuse = if populated { FuseLink::find(&place.fuse_socket()) } else { None };
        let link = AgentLink::listen(&place.socket, place.uid, place.gid)?;
        let (layers, degraded) = strength(&group, log);
        let look = Look {
            boot_id: boot_id.clone(),
            layers,
            degraded,
            required: place.required_layers(),
            fuse_wanted: place.fuse != LayerMode::Off,
            fuse_live: fuse.is_some(),
            state,
            fenced,
            populated,
            postmaster: postmaster.as_ref().map(|postmaster| postmaster.pid),
        };
        log.line(Level::Info, &format!("version {} group={}", env!("CARGO_PKG_VERSION"), group.place()));
        let watchdog = Watchdog::new(&place.watchdog_device, &place.run_dir, &boot_id);
        let name = place.watchdog_device.display().to_string();
        let watch = Watch::begin(now(), place.limits, look).with_watchdog(
            now(),
            place.watchdog_rules,
            name,
            watchdog.left_running(),
        );
        let refusals = (now(), 0);
        let mut driver = Self {
            place,
            log,
            boot_id,
            watch,
            group,
            journal,
            link,
            watchdog,
            postmaster,
            launch: None,
            inspection: None,
            probe: None,
            fuse,
            timer,
            signals,
            refusals,
            done: false,
        };
        if place.fuse != LayerMode::Off {
            driver.begin_probe();
        }
        driver.work();
        Ok(driver)
    }

    fn begin_probe(&mut self) {
        match Errand::probe_fuse() {
            Ok(probe) => self.probe = Some(probe),
            Err(error) => {
                let failure = Some(format!("try it out: {error}"));
                self.watch.handle_event(now(), Event::FuseProbed { failure });
            }
        }
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> anyhow::Result<()> {
        if self.watch.poll_timeout().is_some_and(|at| at <= now()) {
            self.watch.handle_timeout(now());
            self.work();
        }
        if self.looks_now_and_then() && !self.group.populated() {
            self.event(Event::GroupChanged { populated: false });
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
                Source::Probe => self.read_probe(),
                Source::Fuse => self.hear_fuse(),
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
        let look = self.looks_now_and_then().then(|| now() + LOOK);
        let Some(at) = self.watch.poll_timeout().into_iter().chain(look).min() else {
            return self.timer.unset().context("unset the timer");
        };
        let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        // Zero would disarm it; a time that is past fires at once.
        let time = TimeSpec::new(seconds.try_into().unwrap_or(i64::MAX), i64::try_from(nanos.max(1))?);
        self.timer
            .set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .context("set the timer")
    }

    /// Whether something is expected to end of which nothing but a look can tell.
    fn looks_now_and_then(&self) -> bool {
        let told = self.group.events().is_some() || self.postmaster.is_some() || self.launch.is_some();
        !told && self.watch.is_populated()
    }

    fn wait(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Timer, self.timer.as_fd(), PollFlags::POLLIN),
            (Source::Signals, self.signals.as_fd(), PollFlags::POLLIN),
            (Source::Listener, self.link.listener.as_fd(), PollFlags::POLLIN),
        ];
        sources.extend(self.group.events().map(|events| (Source::Group, events, PollFlags::POLLPRI)));
        // Before the signals are taken, an errand that has ended must have been heard.
        let errands = [
            (Source::Launch, &self.launch),
            (Source::Inspection, &self.inspection),
            (Source::Probe, &self.probe),
        ];
        for (source, errand) in errands {
            if let Some(errand) = errand {
                sources.insert(0, (source, errand.output().as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(ended) = self.postmaster.as_ref().and_then(Postmaster::end) {
            sources.push((Source::Postmaster, ended, PollFlags::POLLIN));
        }
        if let Some(fuse) = &self.fuse {
            sources.push((Source::Fuse, fuse.stream.as_fd(), PollFlags::POLLIN));
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
                Action::Launch { settings, fused } => self.launch(&settings, fused),
                Action::SetFuse(deadline) => {
                    if self.fuse.take_if(|fuse| !fuse.tell(deadline)).is_some() {
                        self.watch.handle_event(now(), Event::FuseLost);
                    }
                }
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
                Action::Watchdog(action) => {
                    let event = self.watchdog.carry_out(action);
                    self.watch.handle_event(now(), Event::Watchdog(event));
                }
                Action::Note(reason) => self.note(&reason),
                Action::Exit => self.done = true,
            }
        }
    }

    fn launch(&mut self, settings: &[(String, String)], fused: bool) {
        let begun = if fused {
            FuseLink::open(&self.place.fuse_socket()).and_then(|(listener, link)| {
                let errand = Errand::launch_fused(self.place, &self.group, settings, listener)?;
                Ok((errand, Some(link)))
            })
        } else {
            Errand::launch(self.place, &self.group, settings).map(|errand| (errand, None))
        };
        match begun {
            Ok((errand, link)) => (self.launch, self.fuse) = (Some(errand), link),
            Err(error) => {
                let (text, populated) = (format!("start the launcher: {error}"), self.group.populated());
                self.watch.handle_event(now(), Event::LaunchFailed { text, populated });
            }
        }
    }

    /// The launcher has become the postmaster, or there is none. Without a fuse its output ends with either; with one it
    /// goes on.
    fn read_launch(&mut self) {
        let Some(launch) = &mut self.launch else { return };
        let ended = launch.read();
        let is_exec = launch.said().lines().any(|line| line == launcher::EXEC);
        let tells = ended || launch.is_fused() && is_exec;
        if !tells {
            return;
        }
        let Some(launch) = self.launch.take() else { return };
        let said = launch.said();
        let number = |prefix: &str| said.lines().find_map(|line| line.strip_prefix(prefix)?.parse().ok());
        let began = if launch.is_fused() { is_exec } else { said.lines().last() == Some(launcher::EXEC) };
        let postmaster = match number(launcher::POSTMASTER).and_then(|pid| u32::try_from(pid).ok()) {
            _ if !began => None,
            Some(pid) => Some(Postmaster::behind_fuse(pid, &self.group, launch)),
            None => Postmaster::started(launch.pid()).ok(),
        };
        let Some(postmaster) = postmaster else {
            let text = complaint(&said).unwrap_or("the launcher ended without a word").to_owned();
            self.event(Event::LaunchFailed { text, populated: self.group.populated() });
            return;
        };
        let pid = postmaster.pid;
        self.postmaster = Some(postmaster);
        self.group.note(pid);
        self.event(Event::Launched { pid, system_id: number(launcher::SYSTEM) });
        // What has been read already makes nobody wake up.
        self.postmaster_ended();
    }

    fn read_inspection(&mut self) {
        let Some(inspection) = self.inspection.take_if(|inspection| inspection.read()) else { return };
        let standby = match inspection.said().trim() {
            launcher::STANDBY => Some(true),
            launcher::PRIMARY => Some(false),
            _ => None,
        };
        self.event(Event::Inspected { standby });
    }

    fn read_probe(&mut self) {
        let Some(probe) = self.probe.take_if(|probe| probe.read()) else { return };
        let said = probe.said().trim().to_owned();
        self.event(Event::FuseProbed { failure: (said != fuse::POSSIBLE).then_some(said) });
    }

    fn hear_fuse(&mut self) {
        let Some(fuse) = &self.fuse else { return };
        let (said, gone) = fuse.hear();
        for Held { deadline, tied } in said {
            self.event(Event::FuseSaid { deadline, tied });
        }
        if gone {
            self.fuse = None;
            self.event(Event::FuseLost);
        }
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
        launch.read();
        let text = complaint(&launch.said()).map(str::to_owned);
        let text = text.unwrap_or_else(|| format!("the launcher ended: {outcome}"));
        self.event(Event::LaunchFailed { text, populated: self.group.populated() });
    }

    /// One that an earlier guard has started is nobody's child here; its own children are reaped by init. One behind a
    /// fuse is reaped by the init of its namespace, which tells how it ended, unless it was killed itself.
    fn postmaster_ended(&mut self) {
        let Some(postmaster) = &mut self.postmaster else { return };
        let outcome = match &mut postmaster.origin {
            Origin::Child => return self.reap(),
            Origin::Found => ExitOutcome::Unknown,
            Origin::Fused(launch) => {
                let over = launch.read();
                match outcome(&launch.said()) {
                    Some(outcome) => outcome,
                    None if over => ExitOutcome::Unknown,
                    None => return,
                }
            }
        };
        self.postmaster = None;
        self.event(Event::PostmasterExited { outcome, populated: self.group.populated() });
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
            Reason::Watchdog(reason) if reason.is_trouble() => Level::Warn,
            Reason::Killing(_) | Reason::FoundUnprotected { .. } | Reason::HoldEnded { .. } => Level::Warn,
            _ => Level::Info,
        };
        self.log.line(level, &reason.to_string());
    }

    fn end(self) {
        self.link.remove();
        drop(std::fs::remove_file(self.place.fuse_socket()));
        self.group.remove();
        self.log.line(Level::Info, "stopped");
    }
}

fn strength(group: &Group, log: &Log) -> (Layers, Degraded) {
    let (layers, degraded) = real_time::prepare(log);
    if group.has_kill() {
        return (layers.with(Layers::CGROUP_KILL), degraded);
    }
    group.shortcoming().into_iter().for_each(|text| log.line(Level::Warn, text));
    (layers, degraded.with(Degraded::NO_CGROUP_KILL))
}

/// What a launch that failed has said last.
fn complaint(said: &str) -> Option<&str> {
    let marks = [launcher::EXEC, launcher::SYSTEM, launcher::POSTMASTER, launcher::ENDED];
    said.lines().rfind(|line| !marks.iter().any(|mark| line.starts_with(mark)))
}

/// How the postmaster ended, in the words of its namespace's init.
fn outcome(said: &str) -> Option<ExitOutcome> {
    let how = said.lines().find_map(|line| line.strip_prefix(launcher::ENDED))?;
    match how.split_once(' ')? {
        ("code", value) => value.parse().ok().map(ExitOutcome::Code),
        ("signal", value) => value.parse().ok().map(ExitOutcome::Signal),
        _ => None,
    }
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
