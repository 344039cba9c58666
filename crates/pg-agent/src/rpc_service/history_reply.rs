//! Changes of leadership as a message.

use ha_core::Timeline;
use ha_core::cluster_view::StoreView;
use ha_core::phases::Phases;
use ha_core::record::HistoryRecord;
use ha_rpc::proto::{HistoryEntry, HistoryReply, LeadershipPhases};

/// Oldest first: timelines only grow.
pub(super) fn make(view: &StoreView) -> HistoryReply {
    let entry = |(timeline, record): (&Timeline, &HistoryRecord)| HistoryEntry {
        timeline: timeline.0,
        epoch: record.epoch.0,
        leader: record.member.to_string(),
        from_lsn: (record.parent != Timeline(0)).then_some(record.switch_lsn.0),
        reason: record.reason.clone(),
        at: record.at().unwrap_or_default().to_owned(),
        phases: record.phases().map(phases),
    };
    HistoryReply { entries: view.history.iter().map(entry).collect() }
}

fn phases(told: Phases) -> LeadershipPhases {
    LeadershipPhases {
        trigger: told.trigger,
        checkpoint_ms: told.steps.checkpoint_ms,
        hold_ms: told.steps.hold_ms,
        stop_ms: told.steps.stop_ms,
        detect_ms: told.detect_ms,
        decide_ms: told.decide_ms,
        promote_ms: told.promote_ms,
        reattach_ms: told.reattach_ms,
        reroute_ms: told.reroute_ms,
        total_ms: told.total_ms,
        agent_silent_ms: told.agent_silent_ms,
        wal_silent_ms: told.wal_silent_ms,
        promises: told.promises.into_iter().map(|(who, ms)| (who.to_string(), ms)).collect(),
        refusals: told.refusals.into_iter().map(|(who, why)| (who.to_string(), why)).collect(),
        proxies: told.proxies,
    }
}

#[cfg(test)]
mod tests {
    use ha_core::peer_message::HandOverSteps;
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
        let mut completed = record(2, 1, 0x5000, "pg2", "the leader asked for it");
        let told = Phases {
            trigger: "leader_asked".to_owned(),
            decide_ms: Some(110),
            steps: HandOverSteps { stop_ms: Some(200), ..HandOverSteps::default() },
            promises: [("pg3".parse().unwrap(), 20)].into(),
            ..Phases::default()
        };
        completed.complete("2026-11-29T00:26:53.042Z", &told);
        view.history.insert(Timeline(3), completed);
        view.history.insert(Timeline(1), record(1, 0, 0, "pg1", "initdb"));
        let entries = make(&view).entries;
        let told: Vec<_> =
            entries.iter().map(|e| (e.timeline, e.epoch, e.leader.as_str(), e.from_lsn)).collect();
        assert_eq!(told, [(1, 1, "pg1", None), (3, 2, "pg2", Some(0x5000))]);
        assert_eq!((entries[0].at.as_str(), &entries[0].phases), ("", &None), "an older record");
        assert_eq!(entries[1].reason, "the leader asked for it");
        assert_eq!(entries[1].at, "2026-11-29T00:26:53.042Z");
        let phases = entries[1].phases.as_ref().expect("phases");
        assert_eq!((phases.decide_ms, phases.stop_ms, phases.detect_ms), (Some(110), Some(200), None));
        assert_eq!((phases.trigger.as_str(), phases.promises["pg3"]), ("leader_asked", 20));
    }
}
