//! Changes of leadership as a message.

use ha_core::Timeline;
use ha_core::cluster_view::StoreView;
use ha_rpc::proto::{HistoryEntry, HistoryReply};

/// Oldest first: timelines only grow.
pub(super) fn make(view: &StoreView) -> HistoryReply {
    let entry = |(timeline, record): (&Timeline, &ha_core::record::HistoryRecord)| HistoryEntry {
        timeline: timeline.0,
        epoch: record.epoch.0,
        leader: record.member.to_string(),
        from_lsn: (record.parent != Timeline(0)).then_some(record.switch_lsn.0),
        reason: record.reason.clone(),
        at: record.extra.get("at").and_then(|at| at.as_str()).unwrap_or_default().to_owned(),
    };
    HistoryReply { entries: view.history.iter().map(entry).collect() }
}

#[cfg(test)]
mod tests {
    use ha_core::record::HistoryRecord;
    use ha_core::{Epoch, Lsn};

    use super::*;

    #[test]
    fn the_first_timeline_has_no_beginning_and_the_order_is_that_of_time() {
        let record = |epoch, parent, lsn, member: &str, reason: &str| HistoryRecord {
            epoch: Epoch(epoch),
            parent: Timeline(parent),
            switch_lsn: Lsn(lsn),
            member: member.parse().unwrap(),
            reason: reason.to_owned(),
            extra: Default::default(),
        };
        let mut view = StoreView::default();
        view.history.insert(Timeline(3), record(2, 1, 0x5000, "pg2", "the leader asked for it"));
        view.history.insert(Timeline(1), record(1, 0, 0, "pg1", "initdb"));
        let entries = make(&view).entries;
        let told: Vec<_> =
            entries.iter().map(|e| (e.timeline, e.epoch, e.leader.as_str(), e.from_lsn)).collect();
        assert_eq!(told, [(1, 1, "pg1", None), (3, 2, "pg2", Some(0x5000))]);
        assert_eq!((entries[1].reason.as_str(), entries[1].at.as_str()), ("the leader asked for it", ""));
    }
}
