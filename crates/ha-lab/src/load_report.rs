//! What the write client's attempts prove: nothing acknowledged is lost, and how long writes stood still.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::client_load::{Attempt, Outcome, TABLE};
use crate::lab::Lab;
use crate::wait::wait_for;

/// The longest pause between two acknowledgements around a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Last acknowledgement before the pause, on the monotonic clock.
    pub last_before: Duration,
    /// First acknowledgement after it.
    pub first_after: Duration,
}

impl Outage {
    /// How long writes stood still.
    pub fn length(&self) -> Duration {
        self.first_after.saturating_sub(self.last_before)
    }
}

/// The largest gap between two acknowledgements, the later of which came after `fault`. Nothing when no row was acknowledged
/// after the fault, or none before.
pub fn outage(attempts: &[Attempt], fault: Duration) -> Option<Outage> {
    let mut acks: Vec<Duration> = acked(attempts).map(|attempt| attempt.ended).collect();
    acks.sort_unstable();
    let pairs = acks.windows(2).filter(|pair| pair[1] > fault);
    pairs.map(|pair| Outage { last_before: pair[0], first_after: pair[1] }).max_by_key(Outage::length)
}

/// Acknowledgements of an older timeline for rows that were sent after a newer timeline had acknowledged one: two primaries
/// that both answered. Each with the newer row that convicts it.
pub fn double_acks(attempts: &[Attempt]) -> Vec<(u64, u64)> {
    // Per timeline the row that was acknowledged first.
    let mut first: BTreeMap<u32, &Attempt> = BTreeMap::new();
    for attempt in acked(attempts) {
        let known = first.entry(attempt.timeline).or_insert(attempt);
        if attempt.ended < known.ended {
            *known = attempt;
        }
    }
    let convicting = |old: &Attempt| {
        first
            .range(old.timeline + 1..)
            .map(|(_, newer)| *newer)
            .find(|newer| newer.ended < old.invoked)
            .map(|newer| (old.id, newer.id))
    };
    acked(attempts).filter_map(convicting).collect()
}

fn acked(attempts: &[Attempt]) -> impl Iterator<Item = &Attempt> {
    attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acked)
}

/// The attempts against the rows that are there in the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Rows tried.
    pub attempted: usize,
    /// Rows acknowledged.
    pub acked: usize,
    /// Rows refused for certain.
    pub failed: usize,
    /// Rows whose end the client could not know.
    pub unknown: usize,
    /// Unknown rows that are there.
    pub unknown_present: usize,
    /// Acknowledged rows that are not there: there must be none, ever.
    pub lost: Vec<u64>,
    /// Rows that nobody tried.
    pub invented: Vec<u64>,
    /// Rows that were refused and are there.
    pub refused_but_present: Vec<u64>,
    /// See [`double_acks`].
    pub double_acks: Vec<(u64, u64)>,
}

impl Verdict {
    /// Compares attempts with rows.
    pub fn new(attempts: &[Attempt], rows: &BTreeSet<u64>) -> Self {
        let mut verdict = Self { attempted: attempts.len(), ..Self::default() };
        let mut tried = BTreeSet::new();
        for attempt in attempts {
            tried.insert(attempt.id);
            let present = rows.contains(&attempt.id);
            match (attempt.outcome, present) {
                (Outcome::Acked, true) => verdict.acked += 1,
                (Outcome::Acked, false) => {
                    verdict.acked += 1;
                    verdict.lost.push(attempt.id);
                }
                (Outcome::Failed, present) => {
                    verdict.failed += 1;
                    if present {
                        verdict.refused_but_present.push(attempt.id);
                    }
                }
                (Outcome::Unknown, present) => {
                    verdict.unknown += 1;
                    verdict.unknown_present += usize::from(present);
                }
            }
        }
        verdict.invented = rows.difference(&tried).copied().collect();
        verdict.double_acks = double_acks(attempts);
        verdict
    }

    /// # Errors
    /// A row was lost, invented, refused but kept, or acknowledged by a primary that had been replaced.
    pub fn check(&self) -> Result<()> {
        ensure!(self.lost.is_empty(), "acknowledged rows were lost: {:?}\n{self}", self.lost);
        ensure!(self.invented.is_empty(), "rows that nobody wrote: {:?}\n{self}", self.invented);
        ensure!(
            self.refused_but_present.is_empty(),
            "rows that were refused are there: {:?}\n{self}",
            self.refused_but_present
        );
        ensure!(
            self.double_acks.is_empty(),
            "two primaries acknowledged (old row, newer row): {:?}\n{self}",
            self.double_acks
        );
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged {}, lost {} (refused {}, unknown {} of which {} are there)",
            self.acked,
            self.lost.len(),
            self.failed,
            self.unknown,
            self.unknown_present
        )
    }
}

/// The numbers in the table, read on one host.
///
/// # Errors
/// PostgreSQL does not answer there.
pub fn rows(lab: &Lab, host: &str) -> Result<BTreeSet<u64>> {
    let text = lab.sql(host, &format!("SELECT id FROM {TABLE} ORDER BY id"))?;
    text.lines().map(|line| line.parse().with_context(|| format!("row {line:?}"))).collect()
}

/// Waits until every other database host has exactly the rows of `leader`.
///
/// # Errors
/// A member has others after `limit`; the message says which are missing and which are too many.
pub fn same_rows_everywhere(lab: &Lab, leader: &str, limit: Duration) -> Result<BTreeSet<u64>> {
    let expected = rows(lab, leader)?;
    for member in lab.databases_except(&[leader]) {
        wait_for(&format!("{member} to have the rows of {leader}"), limit, || {
            let found = rows(lab, member).map_err(|error| format!("{error:#}"))?;
            if expected == found {
                return Ok(());
            }
            let missing: Vec<_> = expected.difference(&found).take(10).collect();
            let extra: Vec<_> = found.difference(&expected).take(10).collect();
            Err(format!(
                "{} of {} rows, missing {missing:?}, too many {extra:?}",
                found.len(),
                expected.len()
            ))
        })?;
    }
    Ok(expected)
}

/// Writes every attempt as a line of JSON, for whoever wants to look closer.
///
/// # Errors
/// The file cannot be written.
pub fn write_log(attempts: &[Attempt], path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for attempt in attempts {
        serde_json::to_writer(&mut out, attempt)?;
        out.write_all(b"\n")?;
    }
    out.flush().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, timeline: u32, invoked: u64, ended: u64, outcome: Outcome) -> Attempt {
        Attempt {
            id,
            worker: 0,
            host: "pg1".to_owned(),
            timeline,
            invoked: Duration::from_millis(invoked),
            ended: Duration::from_millis(ended),
            outcome,
            error: None,
        }
    }

    #[test]
    fn outage_is_the_largest_gap_that_ends_after_the_fault() {
        let times = [0, 5000, 5010, 5020, 6200, 6210];
        let attempts: Vec<_> = (0..).zip(times).map(|(id, t)| attempt(id, 1, t, t, Outcome::Acked)).collect();
        let found = outage(&attempts, Duration::from_millis(5015)).unwrap();
        assert_eq!(found.length(), Duration::from_millis(1180));
        assert!(outage(&attempts, Duration::from_millis(7000)).is_none());
    }

    #[test]
    fn verdict_tells_lost_from_unknown() {
        let attempts = [
            attempt(1, 1, 0, 1, Outcome::Acked),
            attempt(2, 1, 0, 1, Outcome::Acked),
            attempt(3, 0, 0, 1, Outcome::Unknown),
            attempt(4, 0, 0, 1, Outcome::Failed),
        ];
        let verdict = Verdict::new(&attempts, &BTreeSet::from([1, 3, 9]));
        assert_eq!((verdict.acked, verdict.failed, verdict.unknown), (2, 1, 1));
        assert_eq!(verdict.lost, [2]);
        assert_eq!(verdict.invented, [9]);
        assert_eq!(verdict.unknown_present, 1);
        assert!(verdict.check().is_err());
    }

    #[test]
    fn an_old_primary_that_acknowledges_a_row_sent_after_the_new_one_answered_is_convicted() {
        let late_but_legal = attempt(2, 1, 5, 30, Outcome::Acked);
        let newer = attempt(3, 2, 10, 20, Outcome::Acked);
        let illegal = attempt(4, 1, 25, 26, Outcome::Acked);
        assert!(double_acks(&[late_but_legal.clone(), newer.clone()]).is_empty());
        assert_eq!(double_acks(&[late_but_legal, newer, illegal]), [(4, 3)]);
    }
}
