//! An address that moves again and again is left where it is for longer and longer: each move ends sessions.

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::MonoTime;

/// Moves within this time are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// From so many on the delay grows.
const MANY: usize = 3;
/// What is doubled when the configuration has no delay.
const LEAST: Duration = Duration::from_secs(1);
/// Moves remembered: more cannot make the delay longer.
const REMEMBERED: usize = 32;

/// Moves of one address, as far as this host has seen them.
#[derive(Debug)]
pub(crate) struct Moves {
    at: VecDeque<MonoTime>,
}

impl Default for Moves {
    fn default() -> Self {
        Self { at: VecDeque::with_capacity(REMEMBERED) }
    }
}

impl Moves {
    pub(crate) fn moved(&mut self, now: MonoTime) {
        self.forget(now);
        if self.at.len() >= REMEMBERED {
            self.at.pop_front();
        }
        self.at.push_back(now);
    }

    /// How many there were lately.
    pub(crate) fn count(&self, now: MonoTime) -> usize {
        self.at.iter().filter(|at| now.since(**at) < WINDOW).count()
    }

    /// How long a preferred host waits: `delay`, doubled for the third move within ten minutes and each one more, up to
    /// `limit`.
    pub(crate) fn delay(&self, now: MonoTime, delay: Duration, limit: Duration) -> Duration {
        let count = self.count(now);
        if count < MANY || limit <= delay {
            return delay;
        }
        let doublings = u32::try_from(count - MANY + 1).unwrap_or(u32::MAX);
        delay.max(LEAST).saturating_mul(2_u32.saturating_pow(doublings)).min(limit)
    }

    fn forget(&mut self, now: MonoTime) {
        while self.at.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.at.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_move_in_ten_minutes_doubles_the_delay_and_quiet_forgets() {
        let secs = |secs: u64| Duration::from_secs(secs);
        let at = |seconds: u64| MonoTime(seconds * 1_000_000_000);
        let mut moves = Moves::default();
        let delays: Vec<Duration> = (0..8)
            .map(|second| {
                moves.moved(at(second));
                moves.delay(at(second), secs(30), secs(600))
            })
            .collect();
        assert_eq!(delays, [30, 30, 60, 120, 240, 480, 600, 600].map(secs));
        assert_eq!(moves.delay(at(7), secs(0), secs(600)), secs(64));
        assert_eq!(moves.delay(at(7), secs(30), secs(0)), secs(30), "switched off");
        assert_eq!(
            moves.delay(at(606), secs(30), secs(600)),
            secs(30),
            "one move is younger than ten minutes"
        );
        for second in 0..100 {
            moves.moved(at(700 + second));
        }
        assert!(moves.at.len() <= REMEMBERED);
    }
}
