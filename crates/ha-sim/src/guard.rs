//! The guard of a host: the real decider of pg-guard over the model's server. It holds a deadline, starts PostgreSQL and
//! ends it when the deadline passes, and survives the agent; its own program may be killed and come back.

use std::time::Duration;

use ha_core::guard_link::{
    Armed, Degraded, ExitOutcome, Fence, FenceMethod, Layers, NoPrimary, Reply, Request,
};
use ha_core::{BootId, Epoch, MonoTime};
use ha_decision::{Event, GuardCommand, GuardNeed, GuardNews};
use ha_fencing::{Action, Event as Seen, KillCause, Leadership, Limits, Look, PeerId, State, Watch};

use crate::clock::{MS, US};
use crate::host::Host;
use crate::mutant::Mutant;
use crate::world::{Ev, World};

/// A guard's program: what it holds in memory, and what it keeps for its successor.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The decider; none while the program does not run.
    watch: Option<Watch>,
    /// The state file: survives the program, not a reboot.
    saved: Option<State>,
    /// The durable record of the latest fence.
    fenced: Option<(Leadership, Option<u64>)>,
    /// Number of the last request.
    seq: u64,
    /// Global time of the wake-up that counts.
    due: Option<u64>,
    /// The program does not run before this global time.
    pub(crate) down_until: u64,
}

impl Guard {
    /// After a power loss only what was written durably is left.
    pub(crate) fn loses_power(&mut self) {
        *self = Self { fenced: self.fenced.take(), ..Self::default() };
    }

    /// Whether it would end a primary whose deadline has passed: it runs, and no operator holds it back.
    pub(crate) fn watches(&self, now: MonoTime) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.status(now).hold_until.is_none_or(|until| now >= until))
    }
}

impl World {
    /// The program starts, on what its predecessor left and what runs; false when it runs already or may not.
    pub(crate) fn guard_begins(&mut self, host: usize) -> bool {
        let now = self.now();
        let limits = self.guard_limits();
        let h = &mut self.hosts[host];
        let wanted = self.plan.guard == GuardNeed::Required && h.powered && h.guard.down_until <= now;
        if !wanted || h.guard.watch.is_some() {
            return false;
        }
        let look = Look {
            boot_id: boot_of(h),
            layers: Layers::PROCESS,
            degraded: Degraded::default(),
            required: Layers::default(),
            // Outside of the model: the guard here is never stopped, only killed.
            fuse_wanted: false,
            fuse_live: false,
            state: h.guard.saved.clone(),
            fenced: h.guard.fenced,
            populated: h.server.is_some(),
            postmaster: h.server.as_ref().map(|server| pid_of(server.life)),
        };
        h.guard.watch = Some(Watch::begin(h.time(now), limits, look));
        self.guard_works(host);
        self.guard_meets_agent(host);
        true
    }

    fn guard_limits(&self) -> Limits {
        let kill_lead = Duration::from_nanos(self.plan.kill_lead);
        Limits {
            kill_lead,
            max_ahead: self.plan.timings.lease_ttl + Duration::from_secs(1),
            stop_patience: Duration::from_secs(30),
            straggler_grace: Duration::from_secs(1),
            unprotected_grace: kill_lead,
        }
    }

    /// The program is killed; another one starts later.
    pub(crate) fn guard_dies(&mut self, host: usize, away: u64) {
        let until = self.now() + away;
        let h = &mut self.hosts[host];
        h.guard.down_until = h.guard.down_until.max(until);
        h.guard.watch = None;
        h.guard.due = None;
        let boot = h.boot;
        self.news(host, 0, Event::Guard(GuardNews::Unavailable));
        self.queue.after(away, Ev::GuardDue { host, boot });
    }

    /// A connection begins: what the guard holds is told, a fence first of all.
    pub(crate) fn guard_meets_agent(&mut self, host: usize) {
        let now = self.hosts[host].time(self.now());
        let Some(watch) = &self.hosts[host].guard.watch else {
            if self.plan.guard == GuardNeed::Required {
                self.news(host, 2 * MS, Event::Guard(GuardNews::Unavailable));
            }
            return;
        };
        let status = watch.status(now);
        if let Some(fence) = status.fence {
            self.guard_tells_fence(host, fence);
        }
        let held = status.armed.map_or(GuardNews::Reachable, armed);
        self.news(host, 3 * MS, Event::Guard(held));
    }

    /// The agent hears of the fence before the guard is told that it was noted.
    fn guard_tells_fence(&mut self, host: usize, fence: Fence) {
        let Some(agent) = self.hosts[host].agent.as_ref().map(|agent| agent.number) else { return };
        self.news(host, 2 * MS, Event::Guard(GuardNews::Fenced { epoch: fence.epoch }));
        self.queue.after(4 * MS, Ev::FenceNoted { host, agent, epoch: fence.epoch });
    }

    /// The agent that was told of a fence tells the guard so, if it still lives.
    pub(crate) fn fence_noted(&mut self, host: usize, agent: u64, epoch: Epoch) {
        if self.hosts[host].agent(agent).is_some() {
            self.guard_asked(host, |seq| Request::AcknowledgeFenced { seq, epoch });
        }
    }

    pub(crate) fn guard_command(&mut self, host: usize, command: &GuardCommand) {
        let delay = self.rng.between(200 * US, 5 * MS);
        let boot_id = boot_of(&self.hosts[host]);
        if let GuardCommand::Arm { deadline, .. } | GuardCommand::Renew { deadline, .. } = *command {
            self.deadline_is_set(host, deadline);
        }
        let (epoch, reply) = match *command {
            GuardCommand::Arm { epoch, generation, deadline } => {
                let arm = |seq| Request::Arm { seq, epoch, generation, deadline, boot_id };
                (epoch, self.guard_asked(host, arm))
            }
            GuardCommand::Renew { epoch, deadline } => {
                (epoch, self.guard_asked(host, |seq| Request::Renew { seq, epoch, deadline }))
            }
            GuardCommand::Release { epoch } => {
                let proof = self.proof_of_no_primary(host);
                (epoch, self.guard_asked(host, |seq| Request::Release { seq, epoch, proof }))
            }
            GuardCommand::Hold { epoch, until } => {
                (epoch, self.guard_asked(host, |seq| Request::Hold { seq, epoch, until }))
            }
        };
        let news = match reply {
            None => GuardNews::Unavailable,
            Some(Reply::Ack { armed: Some(held), .. }) => armed(held),
            Some(Reply::Refused { text, .. }) => GuardNews::Refused { epoch, reason: text },
            Some(_) => return,
        };
        self.news(host, delay, Event::Guard(news));
    }

    fn proof_of_no_primary(&self, host: usize) -> NoPrimary {
        let h = &self.hosts[host];
        let start = h.guard.watch.as_ref().map_or(0, |watch| watch.status(h.time(self.now())).start);
        if h.server.is_some() { NoPrimary::Standby { start } } else { NoPrimary::Empty }
    }

    /// Asks the guard to start PostgreSQL; without one the agent starts it itself.
    pub(crate) fn guard_starts_server(&mut self, host: usize) {
        if self.plan.guard == GuardNeed::Required {
            self.guard_asked(host, |seq| Request::Start { seq, settings: Vec::new() });
        } else {
            self.launch_server(host);
        }
    }

    /// The answer; none when the program does not run.
    fn guard_asked(&mut self, host: usize, request: impl FnOnce(u64) -> Request) -> Option<Reply> {
        let now = self.hosts[host].time(self.now());
        let h = &mut self.hosts[host];
        let peer = PeerId(h.agents);
        let populated = h.server.is_some();
        let watch = h.guard.watch.as_mut()?;
        h.guard.seq += 1;
        watch.handle_event(now, Seen::Requested { peer, request: request(h.guard.seq), populated });
        self.guard_works(host)
    }

    /// Tells the guard what happened to its group.
    pub(crate) fn guard_sees_exit(&mut self, host: usize) {
        let now = self.hosts[host].time(self.now());
        let exited = Seen::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: false };
        if let Some(watch) = &mut self.hosts[host].guard.watch {
            watch.handle_event(now, exited);
            self.guard_works(host);
        }
    }

    /// Carries out what the decider wants, in its order; gives the answer to a request.
    fn guard_works(&mut self, host: usize) -> Option<Reply> {
        let mut answer = None;
        while let Some(action) = self.hosts[host].guard.watch.as_mut().and_then(Watch::poll_action) {
            match action {
                Action::SaveState(state) => self.hosts[host].guard.saved = Some(state),
                Action::RecordFence { leadership, system_id } => {
                    self.hosts[host].guard.fenced = Some((leadership, system_id));
                }
                Action::Kill(cause) => self.guard_kills(host, &cause),
                Action::Launch { .. } => self.guard_launches(host),
                Action::Inspect => {
                    let data = &self.hosts[host].disk.data;
                    let standby = data.present().map(|directory| directory.standby_signal);
                    self.guard_told(host, Seen::Inspected { standby });
                }
                Action::Reply { reply, .. } => answer = Some(reply),
                Action::Notice(Reply::Fenced(fence)) => self.guard_tells_fence(host, fence),
                Action::Note(reason) => {
                    let name = self.host_name(host).to_owned();
                    self.say(|| format!("guard {name}: {reason}"));
                }
                // A connection of the simulation asks for no report, nobody stops a guard here, and there is neither a fuse
                // nor a watchdog.
                Action::Watchdog(_)
                | Action::Notice(_)
                | Action::Report { .. }
                | Action::AskToStop
                | Action::SetFuse(_)
                | Action::Exit => {}
            }
        }
        self.guard_schedules(host);
        answer
    }

    fn guard_told(&mut self, host: usize, seen: Seen) {
        let now = self.hosts[host].time(self.now());
        if let Some(watch) = &mut self.hosts[host].guard.watch {
            watch.handle_event(now, seen);
        }
    }

    fn guard_kills(&mut self, host: usize, cause: &KillCause) {
        if matches!(cause, KillCause::Deadline(_)) {
            self.tally.fenced += 1;
        }
        if self.mutant != Mutant::FenceWithoutKill {
            self.server_dies(host);
        }
        self.guard_told(host, Seen::Killed { how: FenceMethod::CgroupKill, populated: false });
    }

    fn guard_launches(&mut self, host: usize) {
        self.launch_server(host);
        let h = &self.hosts[host];
        let system_id = h.disk.data.present().map(|directory| directory.system_id.0);
        let seen = match &h.server {
            Some(server) => Seen::Launched { pid: pid_of(server.life), system_id },
            None => Seen::LaunchFailed { text: "no usable data directory".to_owned(), populated: false },
        };
        self.guard_told(host, seen);
    }

    fn guard_schedules(&mut self, host: usize) {
        let now = self.now();
        let h = &mut self.hosts[host];
        let wanted = h.guard.watch.as_ref().and_then(Watch::poll_timeout);
        let wanted = wanted.map(|at| h.clock.global(at).max(now));
        if wanted.is_none() || wanted == h.guard.due {
            h.guard.due = wanted;
            return;
        }
        h.guard.due = wanted;
        let boot = h.boot;
        if let Some(at) = wanted {
            self.queue.at(at, Ev::GuardDue { host, boot });
        }
    }

    pub(crate) fn guard_due(&mut self, host: usize, boot: u64) {
        let now = self.now();
        let h = &mut self.hosts[host];
        if h.boot != boot || !h.powered {
            return;
        }
        if h.guard.watch.is_none() {
            self.guard_begins(host);
            return;
        }
        if h.guard.due.is_none_or(|due| due > now) {
            return;
        }
        h.guard.due = None;
        // Reading a drifting clock rounds: a wake-up is never a nanosecond early.
        let time = MonoTime(h.time(now).0 + 1);
        if let Some(watch) = &mut h.guard.watch {
            watch.handle_timeout(time);
        }
        self.guard_works(host);
    }
}

fn boot_of(host: &Host) -> BootId {
    BootId(format!("{}-{}", host.name, host.boot))
}

/// Process id of the postmaster of this life.
fn pid_of(life: u64) -> u32 {
    u32::try_from(life).unwrap_or(u32::MAX)
}

fn armed(held: Armed) -> GuardNews {
    GuardNews::Armed { epoch: held.epoch, deadline: held.deadline }
}
