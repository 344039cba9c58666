//! The guard as the agent sees it: holds a deadline, ends PostgreSQL when it passes, survives the agent.

use ha_core::{Epoch, MonoTime};
use ha_decision::{Event, GuardCommand, GuardNews};

use crate::clock::{MS, US};
use crate::host::Armed;
use crate::world::{Ev, World};

impl World {
    pub(crate) fn guard_command(&mut self, host: usize, command: &GuardCommand) {
        let delay = self.rng.between(200 * US, 5 * MS);
        if self.hosts[host].guard.down_until > self.now() {
            self.news(host, delay, Event::Guard(GuardNews::Unavailable));
            return;
        }
        let answer = match *command {
            GuardCommand::Arm { epoch, generation, deadline } => {
                Some(self.guard_arm(host, Armed { epoch, generation, deadline }))
            }
            GuardCommand::Renew { epoch, deadline } => Some(self.guard_renew(host, epoch, deadline)),
            GuardCommand::Release { epoch } => self.guard_release(host, epoch),
            GuardCommand::Hold { epoch, until } => {
                let guard = &mut self.hosts[host].guard;
                if guard.armed.is_some_and(|a| a.epoch == epoch) {
                    guard.hold_until = until;
                }
                None
            }
        };
        if let Some(answer) = answer {
            self.news(host, delay, Event::Guard(answer));
        }
    }

    fn guard_arm(&mut self, host: usize, asked: Armed) -> GuardNews {
        let Armed { epoch, generation, deadline } = asked;
        let now = self.hosts[host].time(self.now());
        let guard = &mut self.hosts[host].guard;
        let refused = |reason: &str| GuardNews::Refused { epoch, reason: reason.to_owned() };
        if deadline <= now {
            return refused("the deadline is past");
        }
        if let Some((fenced, at)) = guard.fenced
            && (epoch < fenced || epoch == fenced && generation <= at)
        {
            return refused("the epoch was fenced and has not been re-acquired since");
        }
        if let Some(armed) = guard.armed {
            if epoch < armed.epoch {
                return refused("a higher epoch is armed");
            }
            if epoch == armed.epoch && deadline <= armed.deadline {
                return GuardNews::Armed { epoch, deadline: armed.deadline };
            }
        }
        guard.armed = Some(asked);
        self.guard_schedule(host);
        GuardNews::Armed { epoch, deadline }
    }

    fn guard_renew(&mut self, host: usize, epoch: Epoch, deadline: MonoTime) -> GuardNews {
        let now = self.hosts[host].time(self.now());
        let guard = &mut self.hosts[host].guard;
        match &mut guard.armed {
            Some(armed) if armed.epoch == epoch && deadline > armed.deadline && deadline > now => {
                armed.deadline = deadline;
                self.guard_schedule(host);
                GuardNews::Armed { epoch, deadline }
            }
            Some(_) => GuardNews::Refused { epoch, reason: "another epoch, or not later".to_owned() },
            None => GuardNews::Refused { epoch, reason: "nothing is armed".to_owned() },
        }
    }

    fn guard_release(&mut self, host: usize, epoch: Epoch) -> Option<GuardNews> {
        if self.hosts[host].is_primary() {
            return Some(GuardNews::Refused { epoch, reason: "a primary may be running".to_owned() });
        }
        self.hosts[host].guard.armed = None;
        None
    }

    fn guard_schedule(&mut self, host: usize) {
        let Some(armed) = self.hosts[host].guard.armed else { return };
        let lead = self.rng.between(self.plan.kill_lead / 2, self.plan.kill_lead);
        let at = self.hosts[host].clock.global(armed.deadline).saturating_sub(lead);
        let boot = self.hosts[host].boot;
        self.queue.at(at, Ev::GuardDue { host, boot });
    }

    pub(crate) fn guard_due(&mut self, host: usize, boot: u64) {
        let now = self.now();
        let h = &self.hosts[host];
        let Some(armed) = h.guard.armed else { return };
        if h.boot != boot || !h.powered {
            return;
        }
        if h.guard.down_until > now {
            let back = h.guard.down_until;
            self.queue.at(back, Ev::GuardDue { host, boot });
            return;
        }
        let due = h.clock.global(armed.deadline).saturating_sub(self.plan.kill_lead);
        if now < due {
            return; // Renewed since; another one is scheduled.
        }
        let held = h.clock.global(h.guard.hold_until);
        if now < held {
            self.queue.at(held, Ev::GuardDue { host, boot });
            return;
        }
        let name = h.name.clone();
        self.say(|| format!("guard {name}: deadline of epoch {} passed, PostgreSQL is ended", armed.epoch));
        self.tally.fenced += 1;
        self.server_dies(host);
        let guard = &mut self.hosts[host].guard;
        guard.armed = None;
        guard.fenced = Some((armed.epoch, armed.generation));
        guard.untold = Some(armed.epoch);
        self.guard_tells(host);
    }

    /// Tells the agent of a fence that it does not know of.
    pub(crate) fn guard_tells(&mut self, host: usize) {
        if self.hosts[host].agent.is_some()
            && let Some(epoch) = self.hosts[host].guard.untold.take()
        {
            self.news(host, 2 * MS, Event::Guard(GuardNews::Fenced { epoch }));
        }
    }
}
