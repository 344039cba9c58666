//! What passed in each of the last seconds.

use std::collections::VecDeque;

use ha_core::MonoTime;
use serde::Serialize;

/// Two minutes.
const KEPT: usize = 120;

/// What passed: in all, or in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// Sessions that began.
    pub sessions: u64,
    /// Bytes from clients.
    pub bytes_to_upstreams: u64,
    /// Bytes to clients.
    pub bytes_to_clients: u64,
}

/// The last seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(MonoTime, Rate)>,
    kept: VecDeque<Rate>,
}

impl Rates {
    /// These are the totals of now.
    pub(super) fn take(&mut self, now: MonoTime, totals: Rate) {
        if let Some((at, before)) = self.last {
            // Whoever looks late counts what passed since, but shows it as what it was in a second.
            let millis = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX).max(1);
            let each = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1000) / millis;
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(Rate {
                sessions: each(totals.sessions, before.sessions),
                bytes_to_upstreams: each(totals.bytes_to_upstreams, before.bytes_to_upstreams),
                bytes_to_clients: each(totals.bytes_to_clients, before.bytes_to_clients),
            });
        }
        self.last = Some((now, totals));
    }

    /// Oldest first.
    pub(super) fn list(&self) -> Vec<Rate> {
        self.kept.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(n: u64) -> Rate {
        Rate { sessions: n, bytes_to_upstreams: 10 * n, bytes_to_clients: 100 * n }
    }

    #[test]
    fn each_second_has_what_passed_in_it_and_a_late_look_is_spread() {
        let mut rates = Rates::default();
        let second = 1_000_000_000;
        rates.take(MonoTime(5 * second), totals(7));
        assert!(rates.list().is_empty(), "nothing to compare with yet");
        rates.take(MonoTime(6 * second), totals(9));
        rates.take(MonoTime(10 * second), totals(17));
        assert_eq!(rates.list(), [totals(2), totals(2)]);
    }

    #[test]
    fn two_minutes_are_kept() {
        let mut rates = Rates::default();
        for second in 0..=200 {
            rates.take(MonoTime(second * 1_000_000_000), totals(second * second));
        }
        assert_eq!(rates.list().len(), KEPT);
        assert_eq!(rates.list().last(), Some(&totals(200 * 200 - 199 * 199)));
    }
}
