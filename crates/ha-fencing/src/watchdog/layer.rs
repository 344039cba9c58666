//! The watchdog as a layer of the guard's decider.

use ha_core::MonoTime;
use ha_core::guard_link::{Degraded, Layers, RefusalCode};

use super::{Need, Said, Watchdog, WatchdogEvent, WatchdogRules};
use crate::action::Action;
use crate::event::PeerId;
use crate::lease::Leadership;
use crate::reason::{Reason, Refusal};
use crate::watch::Watch;

/// A request to hold a deadline, waiting for the device.
#[derive(Debug)]
pub(crate) struct Arming {
    asked: (PeerId, u64),
    leadership: Leadership,
    deadline: MonoTime,
}

impl Watch {
    /// Gives the guard a watchdog, called `name` in what is said. `left_running`: an earlier guard of this boot started
    /// the device and has not stopped it.
    #[must_use]
    pub fn with_watchdog(
        mut self,
        now: MonoTime,
        rules: WatchdogRules,
        name: String,
        left_running: bool,
    ) -> Self {
        self.watchdog = Watchdog::new(rules, name, left_running);
        self.settle_watchdog(now);
        self
    }

    fn watchdog_need(&self) -> Need {
        if self.ending.is_some() && self.state.fence.is_some() || self.unprotected_until.is_some() {
            return Need::Fence;
        }
        match self.state.lease.kill_at(&self.limits) {
            Some(at) => Need::Lease(at + self.limits.kill_lead + self.watchdog.after_deadline()),
            None => Need::Nothing,
        }
    }

    pub(crate) fn watchdog_timeout(&self) -> Option<MonoTime> {
        self.watchdog.poll_timeout(self.watchdog_need())
    }

    pub(crate) fn settle_watchdog(&mut self, now: MonoTime) {
        // While a request waits, the device is opened for it.
        if self.arming.is_none() {
            self.watchdog.settle(now, self.watchdog_need());
        }
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(said) = self.watchdog.take() {
            self.push(match said {
                Said::Do(action) => Action::Watchdog(action),
                Said::Note(reason) => Action::Note(Reason::Watchdog(reason)),
            });
        }
    }

    pub(crate) fn watchdog_event(&mut self, now: MonoTime, event: WatchdogEvent) {
        self.watchdog.handle_event(now, event);
        self.pass_on();
        if !self.watchdog.is_being_opened()
            && let Some(Arming { asked, leadership, deadline }) = self.arming.take()
        {
            let outcome = self.arm(now, asked, leadership, deadline);
            self.answer(asked, "arm", outcome);
        }
    }

    /// Starts the device for a deadline that is to be held. True when the answer comes after that.
    ///
    /// # Errors
    /// When the deadline may not be held anyway: that must not start a device.
    pub(crate) fn await_watchdog(
        &mut self,
        now: MonoTime,
        asked: (PeerId, u64),
        leadership: Leadership,
        deadline: MonoTime,
    ) -> Result<bool, Refusal> {
        let mut lease = self.state.lease;
        lease.arm(now, &self.limits, leadership, deadline)?;
        if self.arming.is_none() {
            if self.watchdog.is_required() {
                self.watchdog.try_at_once();
            }
            let held = lease.armed.map_or(deadline, |held| held.deadline);
            self.watchdog.settle(now, Need::Lease(held + self.watchdog.after_deadline()));
            self.pass_on();
        }
        if !self.watchdog.is_being_opened() {
            return Ok(false);
        }
        if let Some(before) = self.arming.replace(Arming { asked, leadership, deadline }) {
            let refusal = Refusal::new(RefusalCode::LayerMissing, "another request came meanwhile");
            self.answer(before.asked, "arm", Err(refusal));
        }
        Ok(true)
    }

    /// A deadline is promised, or moved, only with all that is required behind it.
    pub(crate) fn check_watchdog(&self) -> Result<(), Refusal> {
        match self.watchdog.missing() {
            Some(why) => Err(Refusal::new(RefusalCode::LayerMissing, why)),
            None => Ok(()),
        }
    }

    /// These layers, and the device if it stands behind a deadline now.
    pub(crate) fn with_watchdog_layer(&self, layers: Layers) -> Layers {
        if self.watchdog.is_behind() { layers.with(Layers::HARDWARE) } else { layers }
    }

    pub(crate) fn watchdog_degraded(&self) -> Degraded {
        if self.watchdog.is_degraded() { Degraded::WATCHDOG } else { Degraded::default() }
    }
}
