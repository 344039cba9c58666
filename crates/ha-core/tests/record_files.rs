//! What stands in etcd and on disk, byte for byte. A changed golden file is a changed format: running clusters must be
//! able to read both.

use ha_core::Revision;
use ha_core::cluster_view::{StoreView, to_json};
use ha_core::node_state::NodeState;
use ha_core::record::{
    ClusterSettings, HistoryRecord, InitializeRecord, LeaderRecord, MaintenanceRecord, MemberRecord,
    PolicyKind, SwitchoverRecord, SyncRecord,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn survives<T: Serialize + DeserializeOwned>(golden: &str) -> T {
    let record: T = serde_json::from_str(golden).expect("the golden file reads");
    let written = String::from_utf8(to_json(&record)).expect("JSON is UTF-8");
    assert_eq!(written, golden.trim_end());
    record
}

#[test]
fn every_record_is_written_as_it_was_read() {
    let sync: SyncRecord = survives(include_str!("records/sync.json"));
    assert!(sync.is_established() && sync.policy.needed_promises() == 2);
    survives::<LeaderRecord>(include_str!("records/leader.json"));
    survives::<MemberRecord>(include_str!("records/member.json"));
    survives::<HistoryRecord>(include_str!("records/history.json"));
    survives::<HistoryRecord>(include_str!("records/history-with-phases.json"));
    survives::<ClusterSettings>(include_str!("records/config.json"));
    survives::<InitializeRecord>(include_str!("records/initialize.json"));
    survives::<MaintenanceRecord>(include_str!("records/maintenance.json"));
    survives::<SwitchoverRecord>(include_str!("records/switchover.json"));
    survives::<NodeState>(include_str!("records/node-state.json"));
}

#[test]
fn a_history_is_completed_once_known_and_forgets_only_how_it_went() {
    let golden = include_str!("records/history-with-phases.json");
    let told: HistoryRecord = serde_json::from_str(golden).unwrap();
    let phases = told.phases().expect("phases");
    assert_eq!((told.at(), phases.steps.stop_ms), (Some("2026-11-29T00:26:53.042Z"), Some(190)));
    let mut completed: HistoryRecord = serde_json::from_str(include_str!("records/history.json")).unwrap();
    assert!(completed.at().is_none() && completed.phases().is_none() && !completed.has_phases());
    completed.complete("2026-11-29T00:26:53.042Z", &phases);
    assert_eq!(completed.extra, told.extra);
    completed.forget_phases();
    assert!(completed.at().is_some() && !completed.has_phases());
}

#[test]
fn a_story_in_other_words_makes_no_record_unreadable_and_is_kept() {
    let other =
        include_str!("records/history-with-phases.json").replace("\"detect_ms\":4", "\"detect_ms\":\"4 ms\"");
    let view = StoreView::read(1, Revision(5), [("history/00000002", other.as_bytes(), Revision(5))]);
    let record = view.history.values().next().expect("the record");
    assert!(view.unreadable.is_none() && record.phases().is_none() && record.has_phases());
    assert_eq!(String::from_utf8(to_json(record)).unwrap(), other.trim_end());
}

#[test]
fn unknown_fields_are_kept_on_rewrite() {
    let sync: SyncRecord = survives(include_str!("records/sync-pinned-newer.json"));
    assert_eq!(sync.policy.kind, PolicyKind::Pinned);
    let rewritten = String::from_utf8(to_json(&sync.bumped())).unwrap();
    assert!(
        rewritten.contains(r#""from_a_newer_version":{"kept":true}"#) && rewritten.contains(r#""gen":10"#)
    );
}

#[test]
fn a_record_that_cannot_be_read_is_not_taken_for_absent() {
    let broken = StoreView::read(1, Revision(5), [("sync", b"{".as_slice(), Revision(5))]);
    assert!(broken.unreadable.is_some() && !broken.may_write());
    let newer = include_str!("records/sync.json").replace("\"min_reader\":1", "\"min_reader\":2");
    let newer = StoreView::read(1, Revision(5), [("sync", newer.as_bytes(), Revision(5))]);
    assert!(newer.unreadable.unwrap().contains("protocol 2"));
    let writer = include_str!("records/sync.json").replace("\"min_writer\":1", "\"min_writer\":2");
    let writer = StoreView::read(1, Revision(5), [("sync", writer.as_bytes(), Revision(5))]);
    assert!(writer.unreadable.is_none() && !writer.may_write());
}
