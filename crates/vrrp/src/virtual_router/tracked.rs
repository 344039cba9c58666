//! The priority: of the tier of the proxy's health, or of weights, and what follows when what is tracked changes.

use ha_core::MonoTime;

use super::VirtualRouter;
use crate::priority::{self, LEAVING_BY_WEIGHTS, OWNER, PriorityModel, Tier};
use crate::reason::{Cause, Reason};
use crate::setup::Tuning;
use crate::state::State;
use crate::timers::Timer;
use crate::track::Tracking;
use crate::tracking::ProxyHealth;

impl VirtualRouter {
    pub(super) fn priority(&self) -> u8 {
        match self.setup.model {
            PriorityModel::Tiers => {
                priority::effective(self.health(), if self.aside { 0 } else { self.setup.preference })
            }
            // Whether the proxy lives counts where it is tracked; that the host is to be left counts always.
            PriorityModel::Weights { .. } if self.is_to_be_left() => LEAVING_BY_WEIGHTS,
            PriorityModel::Weights { base } => self.tracking.priority(base),
        }
    }

    fn is_to_be_left(&self) -> bool {
        self.drained || self.proxy == ProxyHealth::Draining || (self.aside && self.state == State::Active)
    }

    /// Whether the address is this host's whenever it can have it.
    pub(super) fn is_owner(&self) -> bool {
        matches!(self.setup.model, PriorityModel::Weights { base: OWNER }) && !self.is_to_be_left()
    }

    /// Whether an Active with this priority is so much worse off that this router takes over whatever the preemption mode.
    pub(super) fn is_worse(&self, priority: u8) -> bool {
        match self.setup.model {
            PriorityModel::Tiers => Tier::of_priority(priority) < self.tier(),
            PriorityModel::Weights { .. } => priority <= LEAVING_BY_WEIGHTS && self.priority() > priority,
        }
    }

    /// Whether this router may take the address from an Active with this priority that is no worse off than it.
    pub(super) fn may_preempt(&self, priority: u8) -> bool {
        let serves = match self.setup.model {
            // When no proxy serves, or none has a primary, moving the address would help nobody.
            PriorityModel::Tiers => self.tier() == Tier::Serving && self.primary,
            PriorityModel::Weights { .. } => true,
        };
        let wants = self.setup.preempt || self.is_owner();
        wants && !self.aside && !self.maintenance && priority < self.priority() && serves
    }

    /// Whether `priority` is better by so much that a router which is asked to take over does.
    pub(super) fn is_better(&self, priority: u8, than: u8) -> bool {
        match self.setup.model {
            PriorityModel::Tiers => Tier::of_priority(priority) > Tier::of_priority(than),
            PriorityModel::Weights { .. } => priority > than,
        }
    }

    /// Whether the own priority has become worse by so much that others are asked to take over.
    pub(super) fn has_fallen(&self, from: u8, to: u8) -> bool {
        self.is_better(from, to)
    }

    pub(super) fn tracking_changed(&mut self, now: MonoTime, tracking: Tracking) {
        let from = self.priority();
        self.tracking = tracking;
        let to = self.priority();
        match (self.state, self.tracking.fault.clone()) {
            (State::Active, _) if self.stopping => return,
            (State::Active | State::Backup, Some(what)) => {
                if self.holds_address {
                    self.send(now, 0);
                    self.drop_address();
                }
                self.timers.clear_all();
                self.change(now, State::Fault, Cause::TrackFailed { what });
                return;
            }
            (State::Fault, None) if self.missing().is_none() => {
                self.begin(now, Cause::TracksWell);
                return;
            }
            _ => {}
        }
        self.priority_moved(now, from, to);
    }

    pub(super) fn tuned(&mut self, now: MonoTime, tuning: Tuning) {
        if tuning == self.setup.tuning() {
            return;
        }
        let from = self.priority();
        self.setup = self.setup.clone().tuned(tuning);
        self.note(Reason::Tuned);
        let to = self.priority();
        // Whether and how long it waits to take the address back is decided anew.
        self.timers.clear(Timer::Preempt);
        if self.state == State::Backup {
            self.reconsider(now);
        }
        if !self.stopping {
            self.priority_moved(now, from, to);
        }
    }

    fn priority_moved(&mut self, now: MonoTime, from: u8, to: u8) {
        if from == to {
            return;
        }
        self.note(Reason::PriorityTracked { from, to });
        match self.state {
            State::Active => {
                self.advertise(now);
                if self.has_fallen(from, to) && !self.maintenance {
                    self.ask_the_best_peer();
                }
            }
            State::Backup => self.reconsider(now),
            _ => {}
        }
    }
}
