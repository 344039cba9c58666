//! The control side's only loop: waits, hands events to the router, carries out what it says. It chooses nothing.
//!
//! ```text
//!  topology_watch ─ claims, streams lost ─┐            ┌─► table (swapped), data_path   new sessions, those that wait
//!  health_probe ─── answers ──────────────┤            ├─► data_path                    cuts
//!  rpc_service ──── operators' wishes ────┤            │
//!  data_path ────── connected, failed ────┼─► Router ──┼─► topology_watch               confirmations
//!  the router's own timeout ──────────────┘            ├─► health_probe                 checks
//!                                                      └─► log, snapshot                notes
//!  signals, succession ───────────────────────► Drain ──► data_path, exit
//!  config_watch ── the file, read again ──────► Router, data_path, health_probe, Drain
//!  every turn, ten times a second at least ──────────────► local_link, snapshot          how it is
//!                                                      └─► the C library's memory       after a peak
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_config::Cluster;
use ha_core::{MemberName, MonoTime};
use ha_daemon::{Asked, Signals, Watchdog, boottime};
use ha_routing::{Action, AdminState, Check, Event, Reason, RouteState, Router, Sessions, Table};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config_watch::FileRead;
use crate::data_path::{DataPath, SessionReport};
use crate::drain::{Drain, Step};
use crate::health_probe::HealthProbe;
use crate::local_link::LinkState;
use crate::phase::Phase;
use crate::relief::Relief;
use crate::replaced::Replaced;
use crate::snapshot::SnapshotSource;
use crate::succession::{Arrival, News, Succession};
use crate::topology_watch::{Heard, StreamNumber, TopologyWatch};

mod file;
mod replacement;

/// At the latest after this long the loop turns, so that readers of the local link can tell that it does.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// A loop that turns so much too late stood still with the whole process (SIGSTOP, a paused virtual machine). What waits
/// in its queues and sockets was true then.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Reports of sessions that are handled in one turn. A storm of connections must not hold back a claim by more than the
/// fraction of a millisecond that these take.
const REPORTS_AT_ONCE: usize = 256;

/// Everything that the driver drives.
#[derive(Debug)]
pub struct Parts {
    /// The table that the data path reads.
    pub table: Arc<ArcSwap<Table>>,
    /// The sessions.
    pub data: Arc<DataPath>,
    /// The streams to the agents.
    pub watch: TopologyWatch,
    /// The health checks.
    pub probe: HealthProbe,
    /// What vrrpd is told; dropped when a successor tells it.
    pub link: Option<watch::Sender<LinkState>>,
    /// What everybody else is told.
    pub snapshot: Arc<SnapshotSource>,
    /// How it takes leave.
    pub drain: Drain,
    /// The file that is in force.
    pub cluster: Cluster,
    /// To have the file read again.
    pub read_file: mpsc::Sender<()>,
    /// To have a successor.
    pub succession: Succession,
    /// The processes that this one replaces.
    pub replaced: Replaced,
    /// How far this process has come: the status page, gRPC and the local link are served by one process at a time.
    pub phase: watch::Sender<Phase>,
}

/// Where events come from.
#[derive(Debug)]
pub struct Sources {
    /// Claims.
    pub heard: mpsc::Receiver<Heard>,
    /// Answers to health checks.
    pub checks: mpsc::UnboundedReceiver<(MemberName, Check)>,
    /// Sessions.
    pub reports: mpsc::UnboundedReceiver<SessionReport>,
    /// Operators.
    pub wishes: mpsc::Receiver<Wish>,
    /// Signals of the supervisor.
    pub signals: Signals,
    /// SIGUSR2: the program at this one's path shall take over.
    pub upgrades: Signal,
    /// The successor.
    pub news: mpsc::Receiver<News>,
    /// The cluster file.
    pub files: mpsc::Receiver<FileRead>,
}

/// An operator wants a member in this state.
#[derive(Debug)]
pub struct Wish {
    /// Which.
    pub member: MemberName,
    /// How.
    pub state: AdminState,
    /// Told when the table that follows from it is in force.
    pub done: oneshot::Sender<()>,
}

/// The loop.
#[derive(Debug)]
pub struct Driver {
    router: Router,
    parts: Parts,
    /// Indexes of the members, as the data path counts them.
    indexes: BTreeMap<MemberName, usize>,
    /// Stream of each member's newest claim, which confirmations belong to.
    streams: BTreeMap<MemberName, StreamNumber>,
    /// Claims of these streams, or of earlier ones, are too old.
    too_old: BTreeMap<MemberName, StreamNumber>,
    turned_at: MonoTime,
    arrival: Arrival,
    relief: Relief,
    /// What was last said about the threads of the data path.
    alive: bool,
    watchdog: Option<Watchdog>,
}

impl Driver {
    /// A driver that has not begun to wait.
    pub fn new(router: Router, parts: Parts) -> Self {
        let upstreams = router.table();
        let names = upstreams.upstreams.iter().map(|view| view.member.clone());
        let indexes = names.enumerate().map(|(index, name)| (name, index)).collect();
        let (streams, too_old) = (BTreeMap::new(), BTreeMap::new());
        let turned_at = boottime();
        let arrival = Arrival::new(turned_at, parts.replaced.is_successor());
        let watchdog = Watchdog::from_environment(turned_at);
        let relief = Relief::default();
        Self { router, parts, indexes, streams, too_old, turned_at, arrival, relief, alive: true, watchdog }
    }

    /// Runs until a signal asked for the end and the sessions are gone; says which signal.
    pub async fn run(mut self, mut sources: Sources) -> &'static str {
        let mut reports = Vec::with_capacity(REPORTS_AT_ONCE);
        let mut asked_by = "";
        self.turned_at = boottime();
        loop {
            self.carry_out();
            self.show();
            if self.arrives_in_vain() {
                tracing::error!(
                    "the process that this one was to replace is gone: whoever supervises it starts another"
                );
                return "the end of its predecessor";
            }
            self.arrive();
            tokio::select! {
                Some(heard) = sources.heard.recv() => self.hear(heard),
                Some((member, check)) = sources.checks.recv() => {
                    self.parts.probe.answered(&member);
                    if let (Check::NoAnswer { .. }, Some(index)) = (&check, self.indexes.get(&member)) {
                        self.parts.snapshot.check_failed(*index);
                    }
                    self.router.handle_event(boottime(), Event::Checked { member, check });
                }
                1.. = sources.reports.recv_many(&mut reports, REPORTS_AT_ONCE) => {
                    for report in reports.drain(..) {
                        self.router.handle_event(boottime(), from_session(report));
                    }
                }
                Some(wish) = sources.wishes.recv() => self.fulfil(wish),
                asked = sources.signals.next() => match asked {
                    Asked::Shutdown(signal) => {
                        asked_by = signal;
                        self.leave(signal);
                    }
                    Asked::Reload => self.reload(),
                },
                Some(()) = sources.upgrades.recv() => self.upgrade(),
                Some(news) = sources.news.recv() => {
                    if let Some(why) = self.hear_of_successor(news) {
                        asked_by = why;
                    }
                }
                Some(read) = sources.files.recv() => self.take_file(read),
                () = tokio::time::sleep(self.wait()) => {}
            }
            self.notice_standstill();
            let now = boottime();
            if self.router.poll_timeout().is_some_and(|at| at <= now) {
                self.router.handle_timeout(now);
            }
            if self.take_leave(now) {
                return asked_by;
            }
            if self.relief.is_due(now, self.parts.data.sessions()) {
                let given = ha_daemon::memory::give_back();
                tracing::debug!(given, micros = boottime().since(now).as_micros(), "memory given back");
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed(now, self.parts.data.alive());
            }
        }
    }

    /// After a standstill nobody is believed by what waits in queues and sockets.
    fn notice_standstill(&mut self) {
        let now = boottime();
        let gap = now.since(std::mem::replace(&mut self.turned_at, now));
        if gap < STOOD_STILL {
            return;
        }
        tracing::warn!(
            gap_ms = gap.as_millis(),
            "this proxy stood still; what came meanwhile is not believed"
        );
        self.too_old = self.parts.watch.begin_anew();
        self.router.handle_event(now, Event::StoodStill);
    }

    fn wait(&self) -> Duration {
        let now = boottime();
        self.router.poll_timeout().map_or(LONGEST_WAIT, |at| at.since(now)).min(LONGEST_WAIT)
    }

    fn hear(&mut self, heard: Heard) {
        // Before the claim: it may have waited since long ago.
        self.notice_standstill();
        let event = match heard {
            Heard::Claimed { stream, claim }
                if self.too_old.get(&claim.member).is_some_and(|old| stream <= *old) =>
            {
                tracing::debug!(member = %claim.member, "a claim from before the standstill");
                return;
            }
            Heard::Claimed { stream, claim } => {
                tracing::trace!(?claim, "claim");
                self.streams.insert(claim.member.clone(), stream);
                Event::Claimed(claim)
            }
            Heard::Lost { member, why } => Event::StreamLost { member, why },
        };
        self.router.handle_event(boottime(), event);
    }

    fn fulfil(&mut self, Wish { member, state, done }: Wish) {
        self.router.handle_event(boottime(), Event::Administered { member, state });
        self.carry_out();
        // Whoever asked may have gone away; it is so all the same.
        let _ = done.send(());
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::PutInForce(table) => {
                    tracing::debug!(generation = table.generation, "a new table is in force");
                    self.parts.table.store(table);
                    self.parts.data.table_changed();
                }
                Action::Cut { member, which, reason } => self.cut(&member, which, &reason),
                Action::Check { member } => self.parts.probe.check(&member),
                Action::Confirm { member, sequence } => {
                    if let Some(stream) = self.streams.get(&member) {
                        self.parts.watch.confirm(&member, *stream, sequence);
                    }
                }
                Action::Note(reason) => self.note(&reason),
            }
        }
    }

    fn cut(&self, member: &MemberName, which: Sessions, reason: &Reason) {
        let Some(index) = self.indexes.get(member) else { return };
        tracing::info!(upstream = %member, ?which, %reason, "sessions are cut");
        self.parts.data.cut(*index, which, &reason.to_string());
    }

    fn note(&self, reason: &Reason) {
        if reason.needs_a_human() {
            tracing::error!("{reason}");
        } else {
            tracing::info!("{reason}");
        }
        self.parts.snapshot.note(reason.to_string());
    }

    fn leave(&mut self, signal: &'static str) {
        let again = self.parts.drain.has_begun();
        tracing::info!(signal, sessions = self.parts.data.sessions(), again, "asked to end");
        if !again {
            self.parts.snapshot.begin_draining();
            self.parts.succession.give_up();
            ha_daemon::notify_stopping();
        }
        // Whoever asks a process that was replaced means that one alone.
        if self.is_main() {
            self.parts.replaced.say_leaving();
        }
        if let Some(step) = self.parts.drain.ask(boottime()) {
            self.step(step);
        }
    }

    /// Does what is due of the leave-taking; whether the end has come.
    fn take_leave(&mut self, now: MonoTime) -> bool {
        while let Some(step) = self.parts.drain.next(now, self.parts.data.is_empty()) {
            if self.step(step) {
                return true;
            }
        }
        false
    }

    fn step(&self, step: Step) -> bool {
        let sessions = self.parts.data.sessions();
        match step {
            Step::StopListening => {
                tracing::info!(sessions, "no new sessions are taken; idle ones end");
                self.parts.data.drain();
                self.parts.succession.close_clients();
                self.parts.data.cut_idle();
            }
            Step::EndIdle => {
                tracing::info!(sessions, "idle sessions end");
                self.parts.data.cut_idle();
            }
            Step::CutAll => {
                tracing::warn!(sessions, "the sessions that are left are cut");
                self.parts.data.drain();
                self.parts.succession.close_clients();
                self.parts.data.cut_all();
            }
            Step::Exit => tracing::info!(sessions, "the last session ended"),
        }
        step == Step::Exit
    }

    fn show(&mut self) {
        let table = self.router.table();
        let alive = self.parts.data.alive();
        if alive != std::mem::replace(&mut self.alive, alive) {
            if alive {
                tracing::info!("every thread that serves answers again");
            } else {
                tracing::warn!("a thread that serves does not answer: the floating address may leave");
            }
        }
        let state = LinkState {
            serving: self.parts.drain.listens() && alive,
            draining: self.parts.drain.has_begun(),
            primary: table.writes.state == RouteState::Open,
            // With an open route that of its leader; the highest that was seen otherwise.
            epoch: table.writes.epoch.max(table.reads.epoch).0,
            maintenance: table.maintenance,
        };
        if let Some(link) = &self.parts.link {
            link.send_if_modified(|told| std::mem::replace(told, state) != state);
        }
        self.parts.snapshot.show(table);
        if self.is_main() {
            self.parts.replaced.hear();
            self.parts.snapshot.show_replaced(self.parts.replaced.shown());
        } else {
            self.parts.succession.report(self.parts.data.sessions());
        }
    }
}

fn from_session(report: SessionReport) -> Event {
    match report {
        SessionReport::ConnectFailed { member, why } => Event::ConnectFailed { member, why },
        SessionReport::Connected { member } => Event::Connected { member },
    }
}
