//! What the steps prove, held against the log that is there in the end. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Counted, Read, Step};
use crate::client_load::Outcome;

/// A line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedStep {
    /// Which register.
    pub key: i32,
    /// The value that it was given.
    pub value: i64,
    /// Whose step it was.
    pub token: i64,
}

/// What was found. Each list but the counts must be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterVerdict {
    /// Steps acknowledged.
    pub acked: usize,
    /// Steps refused for certain.
    pub failed: usize,
    /// Steps without a clear end.
    pub unknown: usize,
    /// Acknowledged steps (key, value) that the log does not have, or has as somebody else's.
    pub lost: Vec<(i32, i64)>,
    /// Values (key, value) that were acknowledged to two clients.
    pub given_twice: Vec<(i32, i64)>,
    /// Steps (key, value) that were sent after a step had been acknowledged whose value is not smaller.
    pub out_of_order: Vec<(i32, i64)>,
    /// Registers whose log is not 1, 2, 3 ... up to their value.
    pub gaps: Vec<i32>,
    /// Tokens in the log that were refused, that nobody sent, or that are there twice.
    pub foreign: Vec<i64>,
}

impl RegisterVerdict {
    /// Compares what the clients saw with what is there.
    pub fn new(steps: &[Step], Counted { log, values }: &Counted) -> Self {
        let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
        let mut verdict = Self {
            acked: count(Outcome::Acked),
            failed: count(Outcome::Failed),
            unknown: count(Outcome::Unknown),
            ..Self::default()
        };
        let logged: BTreeMap<(i32, i64), i64> =
            log.iter().map(|line| ((line.key, line.value), line.token)).collect();
        let mut given = BTreeSet::new();
        for (step, value) in acknowledged(steps) {
            if logged.get(&(step.key, value)) != Some(&step.token) {
                verdict.lost.push((step.key, value));
            }
            if !given.insert((step.key, value)) {
                verdict.given_twice.push((step.key, value));
            }
        }
        verdict.out_of_order = out_of_order(steps);
        for (key, value) in values {
            let seen = log.iter().filter(|line| line.key == *key).map(|line| line.value);
            if !seen.eq(1..=*value) {
                verdict.gaps.push(*key);
            }
        }
        let refused = |step: &Step| step.outcome == Outcome::Failed;
        let mut may_be: BTreeSet<i64> =
            steps.iter().filter(|step| !refused(step)).map(|step| step.token).collect();
        verdict.foreign = log.iter().map(|line| line.token).filter(|token| !may_be.remove(token)).collect();
        verdict
    }

    /// # Errors
    /// Something was lost, given twice, out of order, missing or foreign.
    pub fn check(&self) -> Result<()> {
        let clean = self.lost.is_empty()
            && self.given_twice.is_empty()
            && self.out_of_order.is_empty()
            && self.gaps.is_empty()
            && self.foreign.is_empty();
        ensure!(clean, "the registers' history is wrong: {self:?}");
        Ok(())
    }
}

impl fmt::Display for RegisterVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "registers: acknowledged {}, lost {}, given twice {}, out of order {} (refused {}, unknown {})",
            self.acked,
            self.lost.len(),
            self.given_twice.len(),
            self.out_of_order.len(),
            self.failed,
            self.unknown
        )
    }
}

fn acknowledged(steps: &[Step]) -> impl Iterator<Item = (&Step, i64)> {
    let acked = steps.iter().filter(|step| step.outcome == Outcome::Acked);
    acked.filter_map(|step| Some((step, step.value?)))
}

/// Steps that were sent when a value at least as great had been acknowledged already.
fn out_of_order(steps: &[Step]) -> Vec<(i32, i64)> {
    let mut by_key: BTreeMap<i32, Vec<(&Step, i64)>> = BTreeMap::new();
    for (step, value) in acknowledged(steps) {
        by_key.entry(step.key).or_default().push((step, value));
    }
    let mut wrong = Vec::new();
    for (key, steps) in by_key {
        let known = steps.iter().map(|(step, value)| (step.ended, *value)).collect();
        let begins = steps.iter().map(|(step, value)| (step.invoked, *value)).collect();
        let back = beside_what_was_known(known, begins).filter(|(_, value, known)| known >= value);
        wrong.extend(back.map(|(_, value, _)| (key, value)));
    }
    wrong
}

/// An answer that was old already when it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleRead {
    /// When it was asked for.
    pub invoked: Duration,
    /// Which register.
    pub key: i32,
    /// What the answer said.
    pub value: i64,
    /// What had been acknowledged to somebody, or shown to a reader, before.
    pub known: i64,
}

/// Answers that show less than what was known before they were asked for, by an acknowledged step or an earlier answer.
pub fn stale_reads(steps: &[Step], reads: &[Read]) -> Vec<StaleRead> {
    let mut known: BTreeMap<i32, Vec<(Duration, i64)>> = BTreeMap::new();
    let mut asked: BTreeMap<i32, Vec<(Duration, i64)>> = BTreeMap::new();
    for (step, value) in acknowledged(steps) {
        known.entry(step.key).or_default().push((step.ended, value));
    }
    for read in reads {
        for (key, value) in &read.values {
            known.entry(*key).or_default().push((read.ended, *value));
            asked.entry(*key).or_default().push((read.invoked, *value));
        }
    }
    let mut stale = Vec::new();
    for (key, asked) in asked {
        let known = known.remove(&key).unwrap_or_default();
        let old = beside_what_was_known(known, asked).filter(|(_, value, known)| value < known);
        stale.extend(old.map(|(invoked, value, known)| StaleRead { invoked, key, value, known }));
    }
    stale
}

/// Each beginning with its value, and the greatest value that was known before it; those before which none was are left out.
fn beside_what_was_known(
    mut known: Vec<(Duration, i64)>,
    mut begins: Vec<(Duration, i64)>,
) -> impl Iterator<Item = (Duration, i64, i64)> {
    known.sort_unstable();
    begins.sort_unstable();
    let mut known = known.into_iter().peekable();
    let mut highest = None;
    begins.into_iter().filter_map(move |(begun, value)| {
        while let Some((_, ended)) = known.next_if(|(at, _)| *at < begun) {
            highest = highest.max(Some(ended));
        }
        Some((begun, value, highest?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(token: i64, times: [u64; 2], outcome: Outcome, value: Option<i64>) -> Step {
        let [invoked, ended] = times.map(Duration::from_millis);
        Step { key: 1, token, invoked, ended, outcome, value }
    }

    fn acked(token: i64, times: [u64; 2], value: i64) -> Step {
        step(token, times, Outcome::Acked, Some(value))
    }

    /// One register with this value, and whose steps its log has.
    fn counted(tokens: &[i64], value: i64) -> Counted {
        let log = (1..).zip(tokens).map(|(value, token)| LoggedStep { key: 1, value, token: *token });
        Counted { log: log.collect(), values: vec![(1, value)] }
    }

    #[test]
    fn a_clean_history_with_an_unknown_step_that_happened() {
        let steps = [
            acked(10, [0, 5], 1),
            step(11, [6, 9], Outcome::Unknown, None),
            acked(12, [7, 12], 3),
            step(13, [13, 14], Outcome::Failed, None),
        ];
        let verdict = RegisterVerdict::new(&steps, &counted(&[10, 11, 12], 3));
        verdict.check().unwrap();
        assert_eq!((verdict.acked, verdict.failed, verdict.unknown), (2, 1, 1));
    }

    #[test]
    fn an_acknowledged_step_that_another_took_the_place_of_is_lost() {
        let steps = [acked(10, [0, 5], 1), acked(11, [10, 12], 1)];
        let verdict = RegisterVerdict::new(&steps, &counted(&[11], 1));
        assert_eq!(verdict.lost, [(1, 1)]);
        assert_eq!(verdict.given_twice, [(1, 1)]);
        assert_eq!(verdict.out_of_order, [(1, 1)]);
        assert!(verdict.check().is_err());
    }

    #[test]
    fn overlapping_steps_may_be_given_values_in_any_order() {
        let steps = [acked(10, [0, 20], 2), acked(11, [5, 30], 1)];
        RegisterVerdict::new(&steps, &counted(&[11, 10], 2)).check().unwrap();
    }

    #[test]
    fn a_step_sent_after_a_greater_value_was_acknowledged_went_back_in_time() {
        let steps = [acked(10, [0, 20], 2), acked(11, [21, 30], 1)];
        let verdict = RegisterVerdict::new(&steps, &counted(&[11, 10], 2));
        assert_eq!(verdict.out_of_order, [(1, 1)]);
    }

    fn read(times: [u64; 2], value: i64) -> Read {
        let [invoked, ended] = times.map(Duration::from_millis);
        Read { invoked, ended, values: vec![(1, value)] }
    }

    #[test]
    fn an_answer_may_show_any_state_between_its_question_and_its_arrival() {
        let steps = [acked(10, [0, 5], 1), acked(11, [6, 20], 2), step(12, [21, 30], Outcome::Unknown, None)];
        let reads =
            [read([6, 9], 1), read([7, 19], 2), read([8, 40], 1), read([21, 22], 2), read([23, 24], 3)];
        assert_eq!(stale_reads(&steps, &reads), []);
    }

    #[test]
    fn an_answer_without_a_step_that_was_acknowledged_before_the_question_is_stale() {
        let steps = [acked(10, [0, 5], 1), acked(11, [6, 20], 2)];
        let invoked = Duration::from_millis(21);
        let expected = StaleRead { invoked, key: 1, value: 1, known: 2 };
        assert_eq!(stale_reads(&steps, &[read([19, 30], 1), read([21, 22], 1)]), [expected]);
    }

    #[test]
    fn an_answer_with_less_than_an_earlier_one_showed_is_stale() {
        let steps = [acked(10, [0, 5], 1), step(11, [6, 20], Outcome::Unknown, None)];
        let stale = stale_reads(&steps, &[read([7, 8], 2), read([9, 10], 1)]);
        assert_eq!(stale.iter().map(|read| read.known).collect::<Vec<_>>(), [2]);
        let other = Read { values: vec![(2, 1)], ..read([9, 10], 1) };
        assert_eq!(stale_reads(&steps, &[read([7, 8], 2), other]), [], "of another register");
    }

    #[test]
    fn gaps_refused_and_foreign_steps_are_found() {
        let steps = [acked(10, [0, 5], 1), step(11, [6, 7], Outcome::Failed, None)];
        let verdict = RegisterVerdict::new(&steps, &counted(&[10, 11, 99], 4));
        assert_eq!(verdict.gaps, [1]);
        assert_eq!(verdict.foreign, [11, 99]);
    }
}
