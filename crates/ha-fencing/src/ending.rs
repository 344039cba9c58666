//! Killing until nothing is left, and the fence.

use std::time::Duration;

use ha_core::guard_link::{Fence, FenceMethod, Reply};
use ha_core::{Epoch, Generation, MonoTime};

use crate::action::{Action, KillCause};
use crate::lease::Leadership;
use crate::reason::Reason;
use crate::watch::Watch;

/// How soon a kill is repeated while the group is not empty.
const REPEAT: Duration = Duration::from_millis(10);
/// How soon once it has become clear that something hangs in the kernel; it cannot run user code any more.
const REPEAT_SLOWLY: Duration = Duration::from_millis(100);
/// When to say that the group is not empty.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// A kill in progress.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// When the first kill was given.
    pub(crate) since: MonoTime,
    /// When it is given again.
    pub(crate) next: MonoTime,
    /// It was said that processes are left.
    pub(crate) told_not_empty: bool,
}

impl Watch {
    /// The deadline has passed.
    pub(crate) fn fence(&mut self, now: MonoTime) {
        let leadership = self.state.lease.fence();
        self.unprotected_until = None;
        let Leadership { epoch, generation } = leadership.unwrap_or_default();
        let how = FenceMethod::CgroupKill; // corrected when the kill is reported
        self.state.fence = Some(Fence { epoch, generation, at: now, how, empty: false });
        self.end_all(now, KillCause::Deadline(epoch));
        self.save();
    }

    /// Kills everything, now and until nothing is left.
    pub(crate) fn end_all(&mut self, now: MonoTime, cause: KillCause) {
        self.push_first(Action::Kill(cause.clone()));
        self.note(Reason::Killing(cause));
        if self.ending.is_none() {
            self.ending = Some(Ending { since: now, next: now + REPEAT, told_not_empty: false });
        }
        // Even if nothing seemed to run: the report of the kill decides.
        self.populated = true;
    }

    pub(crate) fn repeat_kill(&mut self, now: MonoTime) {
        let Some(ending) = self.ending.as_mut().filter(|ending| ending.next <= now) else { return };
        let elapsed = now.since(ending.since);
        let slowly = elapsed > 2 * TELL_AFTER;
        ending.next = now + if slowly { REPEAT_SLOWLY } else { REPEAT };
        let tell =
            elapsed >= TELL_AFTER && !std::mem::replace(&mut ending.told_not_empty, elapsed >= TELL_AFTER);
        self.push_first(Action::Kill(match self.state.fence {
            Some(fence) if !fence.empty => KillCause::Deadline(fence.epoch),
            _ => KillCause::PostmasterGone,
        }));
        if tell {
            self.note(Reason::NotEmpty { elapsed_ms: elapsed.as_millis() });
            if let Some(fence) = self.state.fence {
                self.push(Action::Notice(Reply::Fenced(fence)));
            }
        }
    }

    /// The group is empty.
    pub(crate) fn complete_ending(&mut self, now: MonoTime) {
        let Some(ending) = self.ending.take() else { return };
        let Some(fence) = self.state.fence.as_mut().filter(|fence| !fence.empty) else { return };
        fence.empty = true;
        let fence = *fence;
        self.save();
        self.push(Action::Notice(Reply::Fenced(fence)));
        self.note(Reason::Fenced {
            epoch: fence.epoch,
            how: fence.how,
            elapsed_ms: now.since(ending.since).as_millis(),
        });
        if fence.epoch > Epoch(0) {
            let leadership = Leadership { epoch: fence.epoch, generation: fence.generation };
            self.push(Action::RecordFence { leadership, system_id: self.state.system_id });
        }
    }

    /// An agent has noted the fence, so PostgreSQL may be started again.
    pub(crate) fn forget_fence(&mut self) {
        if let Some(Fence { epoch, generation: Generation(_), .. }) = self.state.fence.take() {
            self.save();
            self.note(Reason::FenceAcknowledged { epoch });
        }
    }
}
