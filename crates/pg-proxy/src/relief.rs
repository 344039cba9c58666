//! When memory that a peak of sessions needed is given back.

use std::time::Duration;

use ha_core::MonoTime;

/// Fewer sessions leave nothing behind that is worth the walk through the heap.
const LEFT: u32 = 32;
/// How long the sessions must have stayed away. Clients that lost their server come back within a second or two, and then
/// memory given back would only be asked for again.
const STAY_AWAY: Duration = Duration::from_secs(2);

/// Follows the number of sessions from peak to lull.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    /// The most sessions since memory was given back.
    peak: u32,
    /// Since when there have been less than half as many.
    lull: Option<MonoTime>,
}

impl Relief {
    /// Takes note of how many sessions there are; whether memory is to be given back now. Once for each peak, and again for
    /// what is left of it when half of that goes as well.
    pub(crate) fn is_due(&mut self, now: MonoTime, sessions: u32) -> bool {
        self.peak = self.peak.max(sessions);
        if self.peak - sessions < LEFT || sessions > self.peak / 2 {
            self.lull = None;
            return false;
        }
        let since = *self.lull.get_or_insert(now);
        if now.since(since) < STAY_AWAY {
            return false;
        }
        (self.peak, self.lull) = (sessions, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many milliseconds.
    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    #[test]
    fn once_for_each_peak_when_its_sessions_stay_away() {
        let mut relief = Relief::default();
        assert!(!relief.is_due(at(0), 500));
        assert!(!relief.is_due(at(100), 10));
        assert!(!relief.is_due(at(2000), 12));
        assert!(relief.is_due(at(2100), 12));
        assert!(!relief.is_due(at(2200), 12));
        assert!(!relief.is_due(at(9000), 0));
        assert!(!relief.is_due(at(9100), 80));
        assert!(!relief.is_due(at(9200), 40));
        assert!(relief.is_due(at(11_200), 40));
        assert!(!relief.is_due(at(11_300), 0));
        assert!(relief.is_due(at(13_300), 0));
    }

    #[test]
    fn clients_that_come_back_keep_it() {
        let mut relief = Relief::default();
        for second in 0..100 {
            assert!(!relief.is_due(at(second * 1000), 500));
            assert!(!relief.is_due(at(second * 1000 + 100), 0));
        }
    }

    #[test]
    fn a_handful_of_sessions_is_no_peak() {
        let mut relief = Relief::default();
        for second in 0..100 {
            assert!(!relief.is_due(at(second * 1000), if second % 5 == 0 { LEFT - 1 } else { 0 }));
        }
    }
}
