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
    survives::<ClusterSettings>(include_str!("records/config.json"));
    survives::<InitializeRecord>(include_str!("records/initialize.json"));
    survives::<MaintenanceRecord>(include_str!("records/maintenance.json"));
    survives::<SwitchoverRecord>(include_str!("records/switchover.json"));
    survives::<NodeState>(include_str!("records/node-state.json"));
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
