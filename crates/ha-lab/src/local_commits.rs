//! Commits of sessions that gave up the promise of durability (`synchronous_commit = local`). They may be lost at a change
//! of leader, but a primary that was replaced may acknowledge them only until its guard's deadline. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client_load::{Attempt, Outcome};

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalVerdict {
    /// Rows acknowledged.
    pub acked: usize,
    /// Acknowledged rows that are not there, which is legal for a primary that was replaced.
    pub lost: usize,
    /// The longest time from a newer primary's first acknowledgement to one by an older primary.
    pub latest: Duration,
    /// Acknowledged rows of the newest timeline that are not there: there must be none.
    pub lost_without_failover: Vec<u64>,
    /// Rows that an old primary acknowledged too late.
    pub too_late: Vec<u64>,
    /// Rows that are there and were refused, or that nobody tried.
    pub foreign: Vec<u64>,
}

/// When each timeline was first seen by a client, whatever that wrote.
pub fn first_answers<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> BTreeMap<u32, Duration> {
    let mut first: BTreeMap<u32, Duration> = BTreeMap::new();
    for attempt in attempts.filter(|attempt| attempt.outcome == Outcome::Acked) {
        let known = first.entry(attempt.timeline).or_insert(attempt.ended);
        *known = attempt.ended.min(*known);
    }
    first
}

impl LocalVerdict {
    /// `first` is when each timeline answered first, to any client; `bound` how long an old primary may live on.
    pub fn new(
        attempts: &[Attempt],
        rows: &BTreeSet<u64>,
        first: &BTreeMap<u32, Duration>,
        bound: Duration,
    ) -> Self {
        let newest = first.keys().next_back().copied().unwrap_or(0);
        let mut verdict = Self::default();
        let mut may_be = BTreeSet::new();
        for attempt in attempts {
            if attempt.outcome != Outcome::Failed {
                may_be.insert(attempt.id);
            }
            if attempt.outcome != Outcome::Acked {
                continue;
            }
            verdict.acked += 1;
            if !rows.contains(&attempt.id) {
                verdict.lost += 1;
                if attempt.timeline >= newest {
                    verdict.lost_without_failover.push(attempt.id);
                }
            }
            let replaced = first.range(attempt.timeline + 1..).map(|(_, at)| *at).min();
            let late = replaced.map_or(Duration::ZERO, |at| attempt.ended.saturating_sub(at));
            verdict.latest = verdict.latest.max(late);
            if late > bound {
                verdict.too_late.push(attempt.id);
            }
        }
        verdict.foreign = rows.difference(&may_be).copied().collect();
        verdict
    }

    /// # Errors
    /// An old primary acknowledged too late, or a row is lost or there that may not be.
    pub fn check(&self) -> Result<()> {
        let clean =
            self.lost_without_failover.is_empty() && self.too_late.is_empty() && self.foreign.is_empty();
        ensure!(clean, "local commits: {self:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(id: u64, timeline: u32, ended: u64) -> Attempt {
        let at = Duration::from_secs(ended);
        Attempt {
            id,
            worker: 0,
            host: "pg1".to_owned(),
            timeline,
            invoked: at,
            ended: at,
            outcome: Outcome::Acked,
            error: None,
        }
    }

    fn judge(attempts: &[Attempt], rows: &[u64]) -> LocalVerdict {
        let newer = [acked(100, 2, 20)];
        let first = first_answers(attempts.iter().chain(&newer));
        LocalVerdict::new(attempts, &rows.iter().copied().collect(), &first, Duration::from_secs(10))
    }

    #[test]
    fn an_old_primary_may_lose_and_answer_until_the_deadline() {
        let verdict = judge(&[acked(1, 1, 10), acked(2, 1, 29), acked(3, 2, 30)], &[1, 3]);
        verdict.check().unwrap();
        assert_eq!((verdict.acked, verdict.lost, verdict.latest), (3, 1, Duration::from_secs(9)));
    }

    #[test]
    fn later_answers_and_losses_of_the_newest_are_wrong() {
        let verdict = judge(&[acked(2, 1, 31), acked(3, 2, 30)], &[7]);
        assert_eq!(verdict.too_late, [2]);
        assert_eq!(verdict.lost_without_failover, [3]);
        assert_eq!(verdict.foreign, [7]);
        assert!(verdict.check().is_err());
    }
}
