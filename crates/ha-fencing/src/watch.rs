//! The decider: what the guard holds, and what it does about it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ha_core::guard_link::{Armed, Degraded, ExitOutcome, GuardStatus, Layers, Reply};
use ha_core::{BootId, Epoch, MonoTime};

use crate::action::{Action, KillCause};
use crate::ending::Ending;
use crate::event::{Event, PeerId};
use crate::fuse::Fuse;
use crate::lease::{Holding, Leadership, Limits};
use crate::reason::Reason;
use crate::state::State;
use crate::watchdog::Watchdog;
use crate::watchdog::layer::Arming;

/// What the program found when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The present boot.
    pub boot_id: BootId,
    /// What stands behind a deadline here.
    pub layers: Layers,
    /// What is worse than it should be here.
    pub degraded: Degraded,
    /// Without these nobody may begin to lead here.
    pub required: Layers,
    /// PostgreSQL gets a kernel fuse where that is possible.
    pub fuse_wanted: bool,
    /// The fuse of a running PostgreSQL answers.
    pub fuse_live: bool,
    /// The state of an earlier guard of this boot; `None` if there is none, or none that can be trusted.
    pub state: Option<State>,
    /// The durable record of the latest fence, and the system it belongs to.
    pub fenced: Option<(Leadership, Option<u64>)>,
    /// Whether any process is in the group.
    pub populated: bool,
    /// The postmaster in the group, if the program found one.
    pub postmaster: Option<u32>,
}

/// A start that has not ended yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launching {
    pub(crate) peer: PeerId,
    pub(crate) seq: u64,
}

/// The guard's decider. Feed it events and the times it asks for; carry out its actions in order.
#[derive(Debug)]
pub struct Watch {
    pub(crate) limits: Limits,
    pub(crate) boot_id: BootId,
    pub(crate) layers: Layers,
    pub(crate) degraded: Degraded,
    pub(crate) required: Layers,
    pub(crate) fuse: Fuse,
    pub(crate) state: State,
    pub(crate) populated: bool,
    /// Something was started and its complete end has not been told.
    pub(crate) occupied: bool,
    pub(crate) launching: Option<Launching>,
    /// A kill that is not known to be complete.
    pub(crate) ending: Option<Ending>,
    /// When what outlives its postmaster is killed.
    pub(crate) stragglers_until: Option<MonoTime>,
    /// Processes were found without state; when they are killed if nobody explains them.
    pub(crate) unprotected_until: Option<MonoTime>,
    pub(crate) stopping: bool,
    pub(crate) stop_until: Option<MonoTime>,
    /// Highest request number of each connection.
    pub(crate) last_seq: BTreeMap<PeerId, u64>,
    pub(crate) watchdog: Watchdog,
    /// A request that waits for the watchdog.
    pub(crate) arming: Option<Arming>,
    actions: VecDeque<Action>,
}

impl Watch {
    /// Begins with what the program found.
    pub fn begin(now: MonoTime, limits: Limits, look: Look) -> Self {
        let lost = look.state.is_none() && look.populated;
        let known = look.state.is_some();
        let mut state = look.state.unwrap_or_default();
        if let Some((fenced, system_id)) = look.fenced
            && (state.system_id.is_none() || system_id.is_none() || state.system_id == system_id)
        {
            state.lease.fenced = state.lease.fenced.max(Some(fenced));
            state.lease.highest = state.lease.highest.max(fenced.epoch);
            state.system_id = state.system_id.or(system_id);
        }
        let expected = std::mem::replace(&mut state.postmaster, look.postmaster);
        if look.postmaster.is_some() && expected != look.postmaster {
            state.start = next_start(state.start, now);
        }
        let mut watch = Self {
            limits,
            boot_id: look.boot_id,
            layers: look.layers,
            degraded: look.degraded,
            required: look.required,
            fuse: Fuse::new(look.fuse_wanted, look.fuse_live),
            state,
            populated: look.populated,
            occupied: look.populated,
            launching: None,
            ending: None,
            stragglers_until: None,
            unprotected_until: None,
            stopping: false,
            stop_until: None,
            last_seq: BTreeMap::new(),
            watchdog: Watchdog::off(),
            arming: None,
            actions: VecDeque::new(),
        };
        watch.take_over(now, known, lost);
        watch.supply_fuse();
        watch
    }

    fn take_over(&mut self, now: MonoTime, known: bool, lost: bool) {
        if lost {
            let kill_at = now + self.limits.unprotected_grace;
            self.unprotected_until = Some(kill_at);
            self.push(Action::Inspect);
            self.note(Reason::FoundUnprotected { kill_at });
            return;
        }
        if self.populated && self.state.fence.is_some() {
            self.end_all(now, KillCause::AfterFence);
        } else if self.populated && self.state.postmaster.is_none() {
            self.stragglers_until = Some(now);
        }
        self.note(if known {
            let armed = self.state.lease.armed.map(|h| (h.leadership.epoch, h.deadline));
            Reason::Adopted { postmaster: self.state.postmaster, armed }
        } else {
            Reason::BeganEmpty
        });
        self.save();
    }

    /// Something happened.
    pub fn handle_event(&mut self, now: MonoTime, event: Event) {
        match event {
            Event::Requested { peer, request, populated } => {
                self.populated = populated;
                self.handle_request(now, peer, request);
            }
            Event::PeerGone(peer) => {
                self.last_seq.remove(&peer);
            }
            Event::Launched { pid, system_id } => self.launched(now, pid, system_id),
            Event::LaunchFailed { text, populated } => {
                self.populated = populated;
                self.fuse.forget();
                if let Some(Launching { peer, seq }) = self.launching.take() {
                    self.note(Reason::StartFailed { text: text.clone() });
                    self.push(Action::Reply { peer, reply: Reply::StartFailed { seq, text } });
                }
            }
            Event::PostmasterExited { outcome, populated } => {
                self.populated = populated;
                self.exited(now, outcome);
            }
            Event::GroupChanged { populated } => self.populated = populated,
            Event::Killed { how, populated } => {
                self.populated = populated;
                if let Some(fence) = self.state.fence.as_mut().filter(|fence| !fence.empty) {
                    fence.how = how;
                }
            }
            Event::StateNotSaved => {
                if !self.degraded.contains(Degraded::STATE_NOT_WRITTEN) {
                    self.note(Reason::StateNotWritten);
                }
                self.degraded = self.degraded.with(Degraded::STATE_NOT_WRITTEN);
            }
            Event::Inspected { standby } => self.inspected(standby),
            Event::FuseProbed { failure } => self.fuse_probed(failure),
            Event::FuseSaid { deadline, tied } => self.fuse_said(deadline, tied),
            Event::FuseLost => self.fuse_lost(),
            Event::Watchdog(event) => self.watchdog_event(now, event),
            Event::StopRequested { populated } => {
                self.populated = populated;
                self.stop(now);
            }
        }
        self.settle(now);
        self.supply_fuse();
    }

    /// The time asked for has come.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        if self.kill_at().is_some_and(|at| at <= now) {
            self.fence(now);
        }
        self.repeat_kill(now);
        if self.stragglers_until.take_if(|at| *at <= now).is_some() && self.populated {
            self.end_all(now, KillCause::PostmasterGone);
        }
        if self.stop_until.take_if(|at| *at <= now).is_some() {
            self.end_all(now, KillCause::StopTooSlow);
        }
        if self.state.lease.hold_until.take_if(|at| *at <= now).is_some()
            && let Some(held) = self.state.lease.armed
        {
            let epoch = held.leadership.epoch;
            self.save();
            self.push(Action::Notice(Reply::HoldEnded { epoch }));
            self.note(Reason::HoldEnded { epoch });
        }
        self.fuse_timeout(now);
        self.settle(now);
        self.supply_fuse();
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let times = [
            self.kill_at(),
            self.ending.as_ref().map(|ending| ending.next),
            self.stragglers_until,
            self.stop_until,
            self.state.lease.hold_until,
            self.fuse.poll_timeout(),
            self.watchdog_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// The next thing to do; call until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether any process is known to be in the group.
    pub fn is_populated(&self) -> bool {
        self.populated
    }

    /// What is held and what runs. Memory and rejected messages are the program's to add.
    pub fn status(&self, now: MonoTime) -> GuardStatus {
        let mut degraded = self.degraded.with(self.watchdog_degraded());
        if self.unprotected_until.is_some() {
            degraded = degraded.with(Degraded::UNPROTECTED);
        }
        if self.fuse.is_missing(self.state.postmaster.is_some()) {
            degraded = degraded.with(Degraded::NO_KERNEL_FUSE);
        }
        if self.ending.as_ref().is_some_and(|ending| ending.told_not_empty) {
            degraded = degraded.with(Degraded::NOT_EMPTY_AFTER_FENCE);
        }
        GuardStatus {
            boot_id: self.boot_id.clone(),
            now,
            armed: self.armed(),
            hold_until: self.state.lease.hold_until,
            fenced_through: self.state.lease.fenced.map_or(Epoch(0), |fenced| fenced.epoch),
            fence: self.state.fence,
            postmaster: self.state.postmaster,
            start: self.state.start,
            populated: self.populated,
            layers: self.present_layers(),
            degraded,
            kill_lead: self.limits.kill_lead,
            watchdog: self.watchdog.status(),
            resident_bytes: 0,
            rejected_messages: 0,
        }
    }

    /// When everything is killed if nothing more comes.
    pub fn kill_at(&self) -> Option<MonoTime> {
        self.state.lease.kill_at(&self.limits).or(self.unprotected_until)
    }

    pub(crate) fn armed(&self) -> Option<Armed> {
        let Holding { leadership, deadline } = self.state.lease.armed?;
        Some(Armed { epoch: leadership.epoch, deadline })
    }

    fn launched(&mut self, now: MonoTime, pid: u32, system_id: Option<u64>) {
        self.state.postmaster = Some(pid);
        self.populated = true;
        self.occupied = true;
        if let (Some(old), Some(new)) = (self.state.system_id, system_id)
            && old != new
        {
            self.state.lease.forget_epochs();
            self.note(Reason::OtherSystem);
        }
        self.state.system_id = system_id.or(self.state.system_id);
        self.save();
        let start = self.state.start;
        self.note(Reason::Started { pid, start });
        if let Some(Launching { peer, seq }) = self.launching.take() {
            self.push(Action::Reply { peer, reply: Reply::Started { seq, pid, start } });
        }
        if self.stopping {
            self.push(Action::AskToStop);
        }
        if self.state.fence.is_some() {
            self.end_all(now, KillCause::AfterFence);
        }
    }

    fn exited(&mut self, now: MonoTime, outcome: ExitOutcome) {
        let Some(pid) = self.state.postmaster.take() else { return };
        self.save();
        self.note(Reason::Exited { pid, outcome });
        self.push(Action::Notice(Reply::Exited { pid, start: self.state.start, outcome }));
        if self.populated {
            // A killed postmaster leaves backends that go on committing until they wait for something.
            let grace = match outcome {
                ExitOutcome::Signal(_) => Duration::ZERO,
                ExitOutcome::Code(_) | ExitOutcome::Unknown => self.limits.straggler_grace,
            };
            self.stragglers_until = Some(now + grace);
        }
    }

    fn inspected(&mut self, standby: Option<bool>) {
        if standby == Some(true) && self.unprotected_until.take().is_some() {
            self.note(Reason::FoundStandby);
            self.save();
        }
    }

    fn stop(&mut self, now: MonoTime) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let running = self.populated || self.launching.is_some();
        self.note(Reason::Stopping { running });
        if running {
            self.stop_until = Some(now + self.limits.stop_patience);
            if self.state.postmaster.is_some() {
                self.push(Action::AskToStop);
            } else if self.launching.is_none() {
                self.end_all(now, KillCause::PostmasterGone);
            }
        }
    }

    /// Draws the conclusions that do not depend on which event came.
    fn settle(&mut self, now: MonoTime) {
        let done = self.settle_group(now);
        self.settle_watchdog(now);
        if done {
            self.watchdog.farewell();
            self.settle_watchdog(now);
            self.push(Action::Exit);
        }
    }

    /// Whether the guard was told to stop and nothing is left.
    fn settle_group(&mut self, now: MonoTime) -> bool {
        if self.populated {
            if self.state.fence.is_some() && self.ending.is_none() {
                self.end_all(now, KillCause::AfterFence);
            }
            return false;
        }
        self.stragglers_until = None;
        self.unprotected_until = None;
        self.complete_ending(now);
        if self.state.postmaster.is_some() || self.launching.is_some() {
            return false; // its end is still to be reported
        }
        self.fuse.forget();
        if std::mem::take(&mut self.occupied) {
            let start = self.state.start;
            self.note(Reason::Emptied { start });
            self.push(Action::Notice(Reply::Emptied { start }));
        }
        let done = self.stopping && self.ending.is_none();
        if done {
            self.stop_until = None;
            self.release("the guard stops and nothing runs");
        }
        done
    }

    pub(crate) fn release(&mut self, because: &'static str) {
        if let Some(held) = self.state.lease.armed {
            self.state.lease.disarm();
            self.save();
            self.note(Reason::Released { epoch: held.leadership.epoch, because });
        }
    }

    /// Saves the state; not while unprotected, because a successor must not trust what this guard does not know.
    pub(crate) fn save(&mut self) {
        if self.unprotected_until.is_none() {
            self.push(Action::SaveState(self.state.clone()));
        }
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// A kill overtakes everything that is still queued.
    pub(crate) fn push_first(&mut self, action: Action) {
        self.actions.push_front(action);
    }

    pub(crate) fn note(&mut self, reason: Reason) {
        self.push(Action::Note(reason));
    }
}

/// Start numbers grow even when the state was lost: they never fall behind the milliseconds since boot.
pub(crate) fn next_start(last: u64, now: MonoTime) -> u64 {
    (last + 1).max(now.0 / 1_000_000)
}
