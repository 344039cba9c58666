//! All timers. They are set anew at every decision, so a timer whose reason is gone simply is not there any more.

use std::collections::BTreeMap;

use ha_core::MonoTime;

/// What a wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Time to tell the other agents how this member is.
    Gossip,
    /// A leader that gives out read leases sends its next beat, or may change its list.
    ReadLease,
    /// A primary must be ended before its lease can run out.
    Demote,
    /// A failed job may be tried again.
    RetryJob,
    /// A lost or refused transaction may be tried again.
    RetryTxn,
    /// Bootstrap need not wait any longer for silent members.
    BootstrapGrace,
    /// A listed standby has been away long enough to be removed from the list.
    Shrink,
    /// A leader without standbys pins itself.
    Degrade,
    /// Promises are asked for again, or are complete enough.
    Election,
    /// The leader may have been silent for long enough.
    Suspicion,
    /// A promise that led to nothing is aborted.
    AbortPromise,
    /// A planned change of leader repeats its request or is called off.
    Switchover,
    /// The guard has not answered.
    Guard,
    /// Storage is trusted again, or the guard has refused for long.
    Fitness,
    /// The story of a change of leader is told, or written again.
    Story,
}

/// The timers that are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers(BTreeMap<Timer, MonoTime>);

impl Timers {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Sets a timer; an earlier time that is already set stays.
    pub(crate) fn set(&mut self, timer: Timer, at: MonoTime) {
        let slot = self.0.entry(timer).or_insert(at);
        *slot = (*slot).min(at);
    }

    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.0.values().min().copied()
    }
}
