//! The deadline and the rules by which it may change.

use std::time::Duration;

use ha_core::guard_link::{HOLD_MAX, RefusalCode};
use ha_core::{Epoch, Generation, MonoTime};

use crate::reason::Refusal;

/// Durations that a guard works with; all from the configuration, except for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long before a deadline the kill is given.
    pub kill_lead: Duration,
    /// How far ahead a deadline may be: no lease is longer.
    pub max_ahead: Duration,
    /// How long a clean stop may take before the rest is killed.
    pub stop_patience: Duration,
    /// How long the others may outlive a postmaster that ended by itself (its log collector writes the last lines).
    pub straggler_grace: Duration,
    /// How long a primary that was found without any state may run until an agent arms it.
    pub unprotected_grace: Duration,
}

/// Which leadership: an epoch, and the generation of the sync record with which it was won or re-acquired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leadership {
    /// Its epoch.
    pub epoch: Epoch,
    /// Grows with each re-acquisition of the same epoch.
    pub generation: Generation,
}

/// A deadline held for a leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// For whom.
    pub leadership: Leadership,
    /// When nothing may run any more.
    pub deadline: MonoTime,
}

/// What is armed and what never may be again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    /// The deadline held, if any.
    pub armed: Option<Holding>,
    /// No fence before this time; only together with `armed`.
    pub hold_until: Option<MonoTime>,
    /// The highest epoch ever armed.
    pub highest: Epoch,
    /// The highest leadership that was fenced.
    pub fenced: Option<Leadership>,
}

impl Lease {
    /// When the kill is due, if nothing more comes.
    pub fn kill_at(&self, limits: &Limits) -> Option<MonoTime> {
        let deadline = self.armed?.deadline.minus(limits.kill_lead);
        Some(self.hold_until.map_or(deadline, |until| deadline.max(until)))
    }

    /// Holds a deadline for a leadership. For the epoch already armed, a deadline that is not later changes nothing.
    ///
    /// # Errors
    /// A lower epoch than any before, a fenced leadership, a deadline that no lease can give.
    pub fn arm(
        &mut self,
        now: MonoTime,
        limits: &Limits,
        leadership: Leadership,
        deadline: MonoTime,
    ) -> Result<(), Refusal> {
        let Leadership { epoch, generation } = leadership;
        if let Some(fenced) = self.fenced.filter(|fenced| leadership <= *fenced) {
            return Err(Refusal::new(
                RefusalCode::EpochFenced,
                format!(
                    "epoch {epoch} generation {generation} is not above epoch {} generation {}, which was fenced here",
                    fenced.epoch, fenced.generation
                ),
            ));
        }
        if epoch < self.highest {
            return Err(Refusal::new(
                RefusalCode::EpochTooLow,
                format!("epoch {epoch} is below epoch {}, which was armed here", self.highest),
            ));
        }
        check_reach(now, limits, deadline)?;
        self.highest = epoch;
        match &mut self.armed {
            Some(held) if held.leadership.epoch == epoch => {
                held.leadership.generation = held.leadership.generation.max(generation);
                held.deadline = held.deadline.max(deadline);
            }
            _ => {
                self.armed = Some(Holding { leadership, deadline });
                self.hold_until = None;
            }
        }
        Ok(())
    }

    /// Moves the deadline of the armed epoch forward.
    ///
    /// # Errors
    /// Another epoch, nothing armed, a deadline that is not later or that no lease can give.
    pub fn renew(
        &mut self,
        now: MonoTime,
        limits: &Limits,
        epoch: Epoch,
        deadline: MonoTime,
    ) -> Result<(), Refusal> {
        let held = self.held_for(epoch)?;
        if deadline <= held.deadline {
            return Err(Refusal::new(
                RefusalCode::DeadlineNotLater,
                format!("deadline {deadline} is not later than {}", held.deadline),
            ));
        }
        check_reach(now, limits, deadline)?;
        self.armed = Some(Holding { deadline, ..held });
        Ok(())
    }

    /// Keeps the fence back until `until`; a time that is past ends a hold.
    ///
    /// # Errors
    /// Another epoch, nothing armed, or longer than [`HOLD_MAX`].
    pub fn hold(&mut self, now: MonoTime, epoch: Epoch, until: MonoTime) -> Result<(), Refusal> {
        self.held_for(epoch)?;
        if until > now + HOLD_MAX {
            return Err(Refusal::new(
                RefusalCode::HoldTooLong,
                format!("a hold until {until} is more than {} s from {now}", HOLD_MAX.as_secs()),
            ));
        }
        self.hold_until = (until > now).then_some(until);
        Ok(())
    }

    /// The holding, if it is for this epoch.
    ///
    /// # Errors
    /// Nothing armed, or another epoch.
    pub fn held_for(&self, epoch: Epoch) -> Result<Holding, Refusal> {
        match self.armed {
            Some(held) if held.leadership.epoch == epoch => Ok(held),
            Some(held) => Err(Refusal::new(
                RefusalCode::OtherEpoch,
                format!("epoch {} is armed, not {epoch}", held.leadership.epoch),
            )),
            None if self.fenced.is_some_and(|fenced| epoch <= fenced.epoch) => {
                Err(Refusal::new(RefusalCode::EpochFenced, format!("epoch {epoch} was fenced here")))
            }
            None => Err(Refusal::new(RefusalCode::NotArmed, "no deadline is held".to_owned())),
        }
    }

    /// Holds no deadline any more. The caller has made sure that no primary can be running.
    pub(crate) fn disarm(&mut self) {
        self.armed = None;
        self.hold_until = None;
    }

    /// Ends the armed leadership for ever.
    pub(crate) fn fence(&mut self) -> Option<Leadership> {
        let leadership = self.armed?.leadership;
        self.disarm();
        self.fenced = self.fenced.max(Some(leadership));
        Some(leadership)
    }

    /// The data directory belongs to another cluster than the one that these epochs counted: they mean nothing now.
    pub(crate) fn forget_epochs(&mut self) {
        self.fenced = None;
        self.highest = self.armed.map_or(Epoch(0), |held| held.leadership.epoch);
    }
}

fn check_reach(now: MonoTime, limits: &Limits, deadline: MonoTime) -> Result<(), Refusal> {
    if deadline.minus(limits.kill_lead) <= now {
        // Accepting it would acknowledge a promise that is due already.
        return Err(Refusal::new(
            RefusalCode::DeadlinePast,
            format!("deadline {deadline} less {} ms is not after {now}", limits.kill_lead.as_millis()),
        ));
    }
    if deadline > now + limits.max_ahead {
        return Err(Refusal::new(
            RefusalCode::DeadlineTooFar,
            format!("deadline {deadline} is more than {} ms after {now}", limits.max_ahead.as_millis()),
        ));
    }
    Ok(())
}
