//! The write-ahead log: a list of records; an LSN is the number of records before it.

use ha_core::{Lsn, Timeline};

/// One record. The id is unique in a run, so two logs agree on everything up to a record that both hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Unique in a run.
    pub id: u64,
    /// Timeline on which it was written.
    pub timeline: Timeline,
    /// What it is.
    pub kind: RecordKind,
}

/// Kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// What `initdb` and the creation of roles leave behind.
    Base,
    /// A commit.
    Commit,
    /// A small record of the agent.
    Mark,
    /// A checkpoint.
    Checkpoint,
    /// The checkpoint of a clean stop.
    Shutdown,
    /// End of recovery of a promotion: the first record of a timeline.
    Promotion,
}

/// A log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wal {
    records: Vec<Record>,
}

impl Wal {
    /// End of the log.
    pub fn end(&self) -> usize {
        self.records.len()
    }

    /// The records from `from` to `to`.
    pub fn slice(&self, from: usize, to: usize) -> &[Record] {
        &self.records[from.min(to)..to]
    }

    /// Adds records at the end.
    pub fn append(&mut self, records: &[Record]) {
        self.records.extend_from_slice(records);
    }

    /// Adds one record; returns the LSN after it.
    pub fn push(&mut self, record: Record) -> usize {
        self.records.push(record);
        self.records.len()
    }

    /// Forgets everything from `end` on.
    pub fn truncate(&mut self, end: usize) {
        self.records.truncate(end);
    }

    /// The record that ends at `lsn`.
    pub fn ending_at(&self, lsn: usize) -> Option<&Record> {
        lsn.checked_sub(1).and_then(|index| self.records.get(index))
    }

    /// Whether the record `id` ends at `lsn` here; then everything before it is here too.
    pub fn holds(&self, lsn: usize, id: u64) -> bool {
        self.ending_at(lsn).is_some_and(|r| r.id == id)
    }

    /// Timeline of the last record; 1 for an empty log.
    pub fn timeline(&self) -> Timeline {
        self.records.last().map_or(Timeline(1), |r| r.timeline)
    }

    /// Which timeline ended where, oldest first; without the last one.
    pub fn history(&self) -> Vec<(Timeline, usize)> {
        // Timelines only grow along a log, so each begins where a binary search finds it.
        let mut history = Vec::new();
        let mut at = 0;
        while at < self.records.len() {
            let timeline = self.records[at].timeline;
            let end = at + self.records[at..].partition_point(|r| r.timeline <= timeline);
            if end < self.records.len() {
                history.push((timeline, end));
            }
            at = end;
        }
        history
    }

    /// Where the timeline ended here: its switch point, or the end of the log for the present one. `None` when it is
    /// not in this log's history.
    pub fn end_of(&self, timeline: Timeline) -> Option<usize> {
        let begin = self.records.partition_point(|r| r.timeline < timeline);
        let end = self.records.partition_point(|r| r.timeline <= timeline);
        (begin < end).then_some(end)
    }

    /// How many records both logs have in common.
    pub fn common_with(&self, other: &Self) -> usize {
        // Equal ids mean equal prefixes, so the first difference can be searched for.
        let most = self.end().min(other.end());
        let (mut same, mut different) = (0, most + 1);
        while different - same > 1 {
            let middle = usize::midpoint(same, different);
            if self.records[middle - 1].id == other.records[middle - 1].id {
                same = middle;
            } else {
                different = middle;
            }
        }
        same
    }

    /// Where the last checkpoint record before `end` begins, and its timeline.
    pub fn last_checkpoint(&self, end: usize) -> Option<(usize, Timeline)> {
        let records = &self.records[..end.min(self.records.len())];
        let kinds = [RecordKind::Checkpoint, RecordKind::Shutdown, RecordKind::Base];
        records.iter().rposition(|r| kinds.contains(&r.kind)).map(|i| (i, records[i].timeline))
    }
}

/// An index as PostgreSQL's type.
pub fn lsn(end: usize) -> Lsn {
    Lsn(end as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(parts: &[(u32, u64)]) -> Wal {
        let mut wal = Wal::default();
        for &(timeline, id) in parts {
            wal.push(Record { id, timeline: Timeline(timeline), kind: RecordKind::Commit });
        }
        wal
    }

    #[test]
    fn history_names_each_timeline_and_its_end() {
        let wal = log(&[(1, 1), (1, 2), (3, 3), (4, 4), (4, 5)]);
        assert_eq!(wal.history(), [(Timeline(1), 2), (Timeline(3), 3)]);
        assert_eq!(wal.end_of(Timeline(1)), Some(2));
        assert_eq!(wal.end_of(Timeline(2)), None);
        assert_eq!(wal.end_of(Timeline(4)), Some(5));
    }

    #[test]
    fn the_common_part_ends_at_the_first_difference() {
        let a = log(&[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(a.common_with(&log(&[(1, 1), (1, 2), (2, 9), (2, 10)])), 2);
        assert_eq!(a.common_with(&a), 3);
        assert_eq!(a.common_with(&log(&[(1, 7)])), 0);
        assert_eq!(a.common_with(&Wal::default()), 0);
    }
}
