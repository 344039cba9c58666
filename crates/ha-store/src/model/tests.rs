use std::time::Duration;

use ha_core::{MonoTime, Revision};

use super::*;

const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

fn model() -> Model {
    Model::new("/c/", 7, ELECTION_TIMEOUT)
}

fn at(millis: u64) -> MonoTime {
    MonoTime(millis * 1_000_000)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn put(key: &str, value: &str) -> Txn {
    Txn::new().put(key, value)
}

#[track_caller]
fn won(outcome: TxnOutcome) -> Revision {
    match outcome {
        TxnOutcome::Won { revision } => revision,
        other => panic!("expected a win, got {other:?}"),
    }
}

#[track_caller]
fn lost(outcome: TxnOutcome) -> Snapshot {
    match outcome {
        TxnOutcome::Lost { snapshot } => snapshot,
        other => panic!("expected a loss, got {other:?}"),
    }
}

#[test]
fn a_late_transaction_is_applied_after_its_client_read_the_old_value() {
    let mut model = model();
    let revision = won(model.txn(at(0), &put("/c/sync", "old")));
    let late = model.submit(Txn::new().when("/c/sync", revision).put("/c/sync", "late"));
    let read = model.snapshot(at(10)).unwrap();
    assert_eq!(read.get("/c/sync").unwrap().value, b"old");

    assert!(model.apply(at(20), late).unwrap().is_won());
    assert_eq!(model.peek().get("/c/sync").unwrap().value, b"late");
    assert_eq!(model.apply(at(30), late), None, "it happens once");
}

#[test]
fn moving_the_compared_revision_makes_a_late_transaction_lose() {
    let mut model = model();
    let revision = won(model.txn(at(0), &put("/c/sync", "old")));
    let late = model.submit(Txn::new().when("/c/sync", revision).put("/c/sync", "late"));
    won(model.txn(at(0), &Txn::new().when("/c/sync", revision).put("/c/sync", "old, bumped")));
    let seen = lost(model.apply(at(1), late).unwrap());
    assert_eq!(seen.get("/c/sync").unwrap().value, b"old, bumped");
}

#[test]
fn without_a_leader_nothing_is_applied_and_no_lease_ends() {
    let mut model = model();
    let lease = model.grant(at(0), seconds(2)).unwrap();
    won(model.txn(at(0), &Txn::new().put_leased("/c/leader", "a", lease.id)));
    let waiting = model.submit(put("/c/x", "1"));
    model.lose_leader(at(1_900));

    assert_eq!(model.apply(at(60_000), waiting), None);
    assert_eq!(model.snapshot(at(60_000)), Err(NoLeader));
    assert_eq!(model.keep_alive(at(60_000), lease.id), Err(NoLeader));
    assert_eq!(model.next_timeout(), None);
    assert!(matches!(
        model.txn(at(60_000), &put("/c/y", "1")),
        TxnOutcome::Refused { reason: Refusal::NotSent(_) }
    ));

    model.elect_leader(at(60_000));
    assert!(model.apply(at(60_000), waiting).unwrap().is_won());
    // Full time to live plus one election timeout, counted from the election.
    assert!(model.snapshot(at(62_999)).unwrap().get("/c/leader").is_some());
    assert!(model.snapshot(at(63_000)).unwrap().get("/c/leader").is_none());
}

#[test]
fn a_lease_has_whole_seconds_and_a_minimum() {
    let mut model = model();
    assert_eq!(model.grant(at(0), Duration::from_millis(10)).unwrap().ttl, seconds(2));
    assert_eq!(model.grant(at(0), Duration::from_millis(3_001)).unwrap().ttl, seconds(4));
    let mut quick = Model::new("/c/", 7, Duration::from_millis(500));
    assert_eq!(quick.grant(at(0), Duration::ZERO).unwrap().ttl, seconds(1));
}

#[test]
fn keys_vanish_at_the_scan_after_their_lease_ended_and_each_lease_has_its_own_revision() {
    let mut model = model();
    let first = model.grant(at(100), seconds(2)).unwrap();
    let second = model.grant(at(200), seconds(2)).unwrap();
    won(model.txn(at(200), &Txn::new().put_leased("/c/b", "1", first.id).put_leased("/c/a", "1", first.id)));
    let before = won(model.txn(at(200), &Txn::new().put_leased("/c/z", "1", second.id)));
    assert_eq!(model.next_timeout(), Some(at(2_500)));
    assert_eq!(model.snapshot(at(2_499)).unwrap().entries.len(), 3);
    assert_eq!(
        model.keep_alive(at(2_499), first.id),
        Ok(KeepAlive::Gone),
        "ended, though its keys still stand"
    );

    model.advance(at(2_500));
    assert!(model.peek().entries.is_empty());
    let changes = model.changes_since(before.next()).unwrap();
    let seen: Vec<(u64, &str)> =
        changes.iter().map(|change| (change.revision.0 - before.0, change.key.as_str())).collect();
    assert_eq!(seen, [(1, "/c/a"), (1, "/c/b"), (2, "/c/z")]);
}

#[test]
fn a_lease_without_keys_ends_without_a_revision() {
    let mut model = model();
    model.grant(at(0), seconds(2)).unwrap();
    model.advance(at(10_000));
    assert_eq!(model.revision(), Revision(1));
    assert_eq!(model.next_timeout(), None);
}

#[test]
fn a_key_put_under_another_lease_or_none_outlives_the_first() {
    let mut model = model();
    let old = model.grant(at(0), seconds(2)).unwrap();
    let new = model.grant(at(0), seconds(20)).unwrap();
    won(model.txn(at(0), &Txn::new().put_leased("/c/leader", "a", old.id).put_leased("/c/x", "a", old.id)));
    won(model.txn(at(1), &Txn::new().put_leased("/c/leader", "b", new.id).put("/c/x", "b")));
    let later = model.snapshot(at(5_000)).unwrap();
    assert_eq!(later.get("/c/leader").unwrap().lease, new.id);
    assert_eq!(later.get("/c/x").unwrap().lease, LeaseId::NONE);
}

#[test]
fn a_deleted_key_that_is_written_again_is_not_deleted_by_its_former_lease() {
    let mut model = model();
    let lease = model.grant(at(0), seconds(2)).unwrap();
    won(model.txn(at(0), &Txn::new().put_leased("/c/k", "1", lease.id)));
    won(model.txn(at(0), &Txn::new().delete("/c/k")));
    let created = won(model.txn(at(0), &put("/c/k", "2")));
    let later = model.snapshot(at(5_000)).unwrap();
    assert_eq!(later.get("/c/k").unwrap().create_revision, created);
}

#[test]
fn compares_come_before_leases_and_refusals_write_nothing() {
    let mut model = model();
    let before = model.revision();
    let nobody = LeaseId(99);
    lost(model.txn(at(0), &Txn::new().when("/c/k", Revision(5)).put_leased("/c/k", "1", nobody)));
    let refused = model.txn(at(0), &Txn::new().put("/c/a", "1").put_leased("/c/k", "1", nobody));
    assert_eq!(refused, TxnOutcome::Refused { reason: Refusal::LeaseNotFound });
    for twice in [put("/c/k", "1").put("/c/k", "2"), put("/c/k", "1").delete("/c/k")] {
        assert!(matches!(model.txn(at(0), &twice), TxnOutcome::Refused { reason: Refusal::Invalid(_) }));
    }
    assert_eq!(model.revision(), before);
    assert!(model.peek().entries.is_empty());
}

#[test]
fn out_of_space_stops_puts_and_grants_but_not_deletes_reads_and_renewals() {
    let mut model = model();
    let lease = model.grant(at(0), seconds(5)).unwrap();
    won(model.txn(at(0), &put("/c/k", "1")));
    model.set_no_space(true);
    assert_eq!(model.txn(at(1), &put("/c/k", "2")), TxnOutcome::Refused { reason: Refusal::NoSpace });
    assert_eq!(model.grant(at(1), seconds(5)), Err(Refusal::NoSpace));
    assert!(matches!(model.keep_alive(at(1), lease.id), Ok(KeepAlive::Renewed { .. })));
    won(model.txn(at(1), &Txn::new().delete("/c/k")));
    assert!(model.snapshot(at(1)).unwrap().entries.is_empty());
}

#[test]
fn a_watch_from_before_the_compaction_is_told_so() {
    let mut model = model();
    for value in ["1", "2", "3"] {
        won(model.txn(at(0), &put("/c/k", value)));
    }
    won(model.txn(at(0), &put("/other/k", "1")));
    model.compact(Revision(3));
    assert_eq!(model.changes_since(Revision(2)), Err(Compacted { compact_revision: Revision(3) }));
    let kept = model.changes_since(Revision(3)).unwrap();
    assert_eq!(kept.len(), 2, "the other prefix is not ours: {kept:?}");
    model.compact(Revision(1_000));
    assert!(model.changes_since(model.revision()).is_ok(), "never compacted beyond the present");
}

#[test]
fn a_restore_takes_revisions_back_and_drops_what_was_in_flight() {
    let mut model = model();
    won(model.txn(at(0), &put("/c/k", "1")));
    let backup = model.clone();
    won(model.txn(at(0), &put("/c/k", "2")));
    let in_flight = model.submit(put("/c/k", "3"));
    model.restore(at(5), &backup, 8);
    assert_eq!(model.apply(at(6), in_flight), None);
    let seen = model.snapshot(at(6)).unwrap();
    assert_eq!((seen.cluster_id, seen.revision), (8, Revision(2)));
    assert_eq!(seen.get("/c/k").unwrap().value, b"1");
    assert_ne!(model.submit(put("/c/k", "4")), in_flight, "request names are never used again");
}

#[test]
fn deleting_what_is_absent_makes_no_revision() {
    let mut model = model();
    assert_eq!(won(model.txn(at(0), &Txn::new().delete("/c/k").delete("/c/l"))), Revision(1));
    assert_eq!(won(model.txn(at(0), &Txn::new())), Revision(1));
}

#[test]
fn a_snapshot_carried_on_by_changes_equals_a_fresh_one() {
    let mut model = model();
    let mut followed = model.peek();
    won(model.txn(at(0), &put("/c/a", "1").put("/c/b", "1")));
    won(model.txn(at(0), &put("/c/a", "2").delete("/c/b")));
    let changes = model.changes_since(followed.revision.next()).unwrap();
    for change in &changes {
        followed.apply(change);
    }
    assert_eq!(followed, model.peek());
    followed.apply(&changes[0]);
    assert_eq!(followed, model.peek(), "an old change does nothing");
}
