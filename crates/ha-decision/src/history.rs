//! The completion of a history record: when the leadership was decided, and how the change of leader went.
//!
//! The deciding transaction writes what decisions need. The rest is for people, is known only later, and is written once
//! by the new leader's agent. Records are never deleted: `election.rs` compares positions by the epoch that a timeline
//! belongs to, and `primary.rs` tells from them which timelines are taken, both for members that may come back after any
//! time and from any timeline. Only the phases, most of a record's bytes, are dropped from old ones.

use ha_core::cluster_view::{StoreKey, StoreView, to_json};
use ha_core::phases::Phases;
use ha_core::record::HistoryRecord;
use ha_core::{MonoTime, Timeline};

/// So many leaderships keep their phases. Every agent reads all records whenever something changes in etcd; with half a
/// kilobyte of phases each these are about 50 kB, and a hundred changes of leader are years of a healthy cluster.
const PHASES_KEPT: usize = 100;

/// What a history record is completed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCompletion {
    /// Whose record.
    pub timeline: Timeline,
    /// When the leadership was decided. The driver says what that is on the wall clock.
    pub decided: MonoTime,
    /// How it went.
    pub phases: Phases,
    /// Older records that lose their phases by this.
    pub forget: Vec<Timeline>,
}

impl HistoryCompletion {
    pub(crate) fn new(view: &StoreView, timeline: Timeline, decided: MonoTime, phases: Phases) -> Self {
        let told: Vec<_> = view.history.iter().filter(|(t, h)| **t != timeline && h.has_phases()).collect();
        let surplus = (told.len() + 1).saturating_sub(PHASES_KEPT);
        let forget = told.into_iter().take(surplus).map(|(t, _)| *t).collect();
        Self { timeline, decided, phases, forget }
    }

    /// The values to put, given the present ones; `at` is the time of the decision on the wall clock. Each must be
    /// written on the condition that the value it was made from still stands. None when there is nothing to write: the
    /// record is complete already, gone, or not readable.
    pub fn puts(
        &self,
        at: &str,
        mut present: impl FnMut(&StoreKey) -> Option<Vec<u8>>,
    ) -> Option<Vec<(StoreKey, Vec<u8>)>> {
        let mut read = |timeline: Timeline| {
            let key = StoreKey::History(timeline);
            let record: HistoryRecord = serde_json::from_slice(&present(&key)?).ok()?;
            Some((key, record))
        };
        let (key, mut record) = read(self.timeline).filter(|(_, record)| !record.has_phases())?;
        record.complete(at, &self.phases);
        let mut puts = vec![(key, to_json(&record))];
        for (key, mut record) in self.forget.iter().filter_map(|timeline| read(*timeline)) {
            if record.has_phases() {
                record.forget_phases();
                puts.push((key, to_json(&record)));
            }
        }
        Some(puts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ha_core::{Epoch, Lsn};

    use super::*;

    fn record(epoch: u64) -> HistoryRecord {
        HistoryRecord {
            epoch: Epoch(epoch),
            parent: Timeline(0),
            switch_lsn: Lsn(0),
            member: "pg1".parse().unwrap(),
            reason: String::new(),
            extra: Default::default(),
        }
    }

    fn history(told: u32) -> StoreView {
        let mut view = StoreView::default();
        for number in 1..=told {
            let mut record = record(u64::from(number));
            record.complete("then", &Phases::default());
            view.history.insert(Timeline(number), record);
        }
        view.history.insert(Timeline(told + 1), record(u64::from(told) + 1));
        view
    }

    #[test]
    fn phases_are_kept_for_the_newest_and_records_for_ever() {
        let kept = u32::try_from(PHASES_KEPT).unwrap();
        let of = |told: u32| {
            let completion =
                HistoryCompletion::new(&history(told), Timeline(told + 1), MonoTime(1), Phases::default());
            completion.forget
        };
        assert_eq!(of(kept - 1), []);
        assert_eq!(of(kept + 1), [Timeline(1), Timeline(2)]);
    }

    #[test]
    fn a_record_is_completed_once_and_keeps_what_others_wrote() {
        let view = history(2);
        let completion = HistoryCompletion {
            timeline: Timeline(3),
            decided: MonoTime(1),
            phases: Phases { decide_ms: Some(7), ..Phases::default() },
            forget: vec![Timeline(1)],
        };
        let mut stored: BTreeMap<_, _> =
            view.history.iter().map(|(t, record)| (StoreKey::History(*t), to_json(record))).collect();
        let newer = String::from_utf8(stored[&StoreKey::History(Timeline(3))].clone()).unwrap();
        stored.insert(
            StoreKey::History(Timeline(3)),
            newer.replace("\"reason\"", "\"new\":1,\"reason\"").into(),
        );
        let puts = completion.puts("now", |key| stored.get(key).cloned()).expect("something to write");
        stored.extend(puts);
        let read = |timeline: u32| -> HistoryRecord {
            serde_json::from_slice(&stored[&StoreKey::History(Timeline(timeline))]).unwrap()
        };
        assert_eq!((read(3).at(), read(3).phases()), (Some("now"), Some(completion.phases.clone())));
        assert_eq!(read(3).extra["new"], 1);
        assert!(!read(1).has_phases() && read(1).at().is_some() && read(2).has_phases());
        assert_eq!(completion.puts("later", |key| stored.get(key).cloned()), None);
        assert_eq!(completion.puts("later", |_| None), None, "what is gone is not written anew");
    }
}
