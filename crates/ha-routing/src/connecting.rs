//! Failed connects to one PostgreSQL: after one, a pause in which new sessions go elsewhere or wait.

use std::time::Duration;

use ha_core::MonoTime;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Four steps: 250, 500, 1000, 2000 ms.
const DOUBLINGS: u32 = 3;

/// How connecting goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Connecting {
    failures: u32,
    pause_ends: Option<MonoTime>,
    why: String,
}

impl Connecting {
    /// A connect failed. Says whether this begins a pause: many sessions that fail together are one failure.
    pub(crate) fn failed(&mut self, now: MonoTime, why: String) -> bool {
        self.why = why;
        if self.pauses(now) {
            return false;
        }
        self.pause_ends = Some(now + FIRST_PAUSE * 2_u32.pow(self.failures.min(DOUBLINGS)));
        self.failures = self.failures.saturating_add(1);
        true
    }

    /// A connect succeeded, or the server is another one than before.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether new sessions should wait or go elsewhere.
    pub(crate) fn pauses(&self, now: MonoTime) -> bool {
        self.pause_ends.is_some_and(|end| now < end)
    }

    /// When the last pause ends or ended.
    pub(crate) fn pause_ends(&self) -> Option<MonoTime> {
        self.pause_ends
    }

    /// Whether the last connect failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Why it failed last.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    #[test]
    fn pauses_double_up_to_two_seconds_and_end_with_a_success() {
        let mut connecting = Connecting::default();
        let mut now = at(1_000);
        for pause in [250, 500, 1_000, 2_000, 2_000] {
            assert!(connecting.failed(now, "refused".to_owned()));
            assert_eq!(connecting.pause_ends(), Some(now + Duration::from_millis(pause)));
            now = now + Duration::from_millis(pause);
            assert!(!connecting.pauses(now));
        }
        connecting.forget();
        assert!(!connecting.is_failing());
        assert!(connecting.failed(now, "refused".to_owned()));
        assert_eq!(connecting.pause_ends(), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn sessions_that_fail_together_are_one_failure() {
        let mut connecting = Connecting::default();
        assert!(connecting.failed(at(0), "refused".to_owned()));
        for ms in 1..200 {
            assert!(!connecting.failed(at(ms), "refused".to_owned()));
        }
        assert!(!connecting.pauses(at(250)));
    }
}
