//! How often silence alone may replace a leader. If each new leader falls silent too, the cause moves with the leadership
//! (load, a network that loses every second packet), and replacing leaders makes it worse. Beyond the budget the end of
//! the lease is waited for: that proves more than silence, and gives people time to read why.

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::peer_message::Trigger;
use ha_core::{Epoch, MonoTime};

use crate::decider::Decider;
use crate::reason::{Reason, trigger_words};
use crate::timers::Timer;

/// A leader gets at least this long before silence may replace it.
const APART: Duration = Duration::from_secs(10);
/// So many takeovers by silence are allowed within [`WINDOW`].
const MOST: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

/// Takeovers by silence that this member saw in the store since its agent started.
#[derive(Debug, Clone, Default)]
pub(crate) struct TakeoverBudget {
    seen: VecDeque<(Epoch, MonoTime)>,
    newest: Option<Epoch>,
}

impl Decider {
    /// The store shows a new epoch: was it won because somebody was silent?
    pub(crate) fn note_takeover(&mut self) {
        let Some(epoch) = self.sync().map(|sync| sync.record.epoch) else { return };
        let known = self.takeovers.newest.replace(epoch);
        if known.is_none_or(|known| epoch <= known) {
            // What happened before this agent looked for the first time has no time here.
            return;
        }
        let by_silence = self.store.view.as_ref().is_some_and(|view| {
            let silent = trigger_words(Trigger::LeaderSilent);
            view.history.values().any(|h| h.epoch == epoch && h.reason == silent)
        });
        if by_silence {
            if self.takeovers.seen.len() == MOST {
                self.takeovers.seen.pop_front();
            }
            self.takeovers.seen.push_back((epoch, self.now));
        }
    }

    /// Whether silence may replace the leader now; says so when it may not.
    pub(crate) fn silence_may_decide(&mut self) -> bool {
        let seen = &self.takeovers.seen;
        let last = seen.back().map(|(_, at)| *at + APART);
        let oldest = (seen.len() >= MOST).then(|| seen.front().map(|(_, at)| *at + WINDOW)).flatten();
        let Some(due) = last.max(oldest).filter(|due| *due > self.now) else { return true };
        self.timers.set(Timer::Election, due);
        let takeovers = seen.iter().filter(|(_, at)| self.now.since(*at) < WINDOW).count();
        self.blocked_by(Reason::TakeoversTooOften { takeovers });
        false
    }
}
