//! How long a server that failed is left alone.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Pauses after failures: 50 ms, doubling to 800 ms.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    until: Option<Instant>,
    pause: Duration,
    why: Option<String>,
}

impl Backoff {
    pub(super) fn pauses(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What failed last, if nothing worked since.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    pub(super) fn failed(&mut self, now: Instant, why: &str) {
        // Many sessions that fail together are one failure.
        if !self.pauses(now) {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.until = Some(now + self.pause);
        }
        self.why = Some(why.to_owned());
    }

    /// There is news: try again now.
    pub(super) fn lift(&mut self) {
        self.until = None;
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_moment_count_once_and_pauses_grow_to_a_limit() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert!(!backoff.pauses(start));
        backoff.failed(start, "refused");
        backoff.failed(start + Duration::from_millis(1), "refused");
        assert!(backoff.pauses(start + Duration::from_millis(49)));
        assert!(!backoff.pauses(start + Duration::from_millis(50)));
        let mut now = start;
        for _ in 0..8 {
            now += Duration::from_secs(1);
            backoff.failed(now, "refused");
        }
        assert!(backoff.pauses(now + Duration::from_millis(799)));
        assert!(!backoff.pauses(now + Duration::from_millis(800)));
        assert_eq!(backoff.why(), Some("refused"));
        backoff.reset();
        assert_eq!(backoff.why(), None);
    }
}
