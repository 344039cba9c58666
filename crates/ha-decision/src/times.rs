//! How fast a lost leader is replaced: the cluster's values where it has usable ones, else those of this member's file.

use std::time::Duration;

use ha_core::record::FailoverTimes;

use crate::decider::Decider;

impl Decider {
    fn times(&self) -> Option<FailoverTimes> {
        self.settings().times.filter(|times| times.problem(self.settings().degrade_after_ms).is_none())
    }

    /// What is wrong with the cluster's values; the file's are used then.
    pub(crate) fn unusable_times(&self) -> Option<String> {
        self.settings().times.and_then(|times| times.problem(self.settings().degrade_after_ms))
    }

    /// Silence of the leader after which it is replaced; also what heartbeats announce.
    pub fn detection(&self) -> Duration {
        self.times().map_or(self.setup.timings.detection, |times| times.detection())
    }

    /// How long a candidate waits for promises before it asks again.
    pub(crate) fn promise_timeout(&self) -> Duration {
        self.times().map_or(self.setup.timings.promise_timeout, |times| times.promise_timeout())
    }

    /// After so long without a takeover a promise is aborted.
    pub(crate) fn abort_after(&self) -> Duration {
        self.times().map_or(self.setup.timings.abort_after, |times| times.abort_after())
    }
}
