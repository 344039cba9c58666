//! The contract of the consensus store. Each function below runs on the in-memory model and on a real etcd: only as
//! long as both pass does a simulation on the model say anything about the real thing. Tests of what only the etcd
//! implementation has (endpoints, TLS) are at the end.

#[path = "contract/etcd_only.rs"]
mod etcd_only;
#[path = "contract/etcd_server.rs"]
mod etcd_server;
#[path = "contract/relay.rs"]
mod relay;
#[path = "contract/world.rs"]
mod world;

use ha_core::cluster_view::StoreKey;
use std::time::Duration;

use ha_core::Revision;
use ha_store::{KeepAlive, LeaseId, Refusal, Snapshot, Store, StoreError, Txn, TxnOutcome, WatchEvent};
use tokio::time::{Instant, sleep};

use crate::world::{
    CALL_DEADLINE, EtcdWorld, ModelWorld, PATIENCE, World, keys, next_that, until_answering, until_value,
};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod on_the_model {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(&ModelWorld::start().await).await; })*
        }
        mod on_etcd {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(&EtcdWorld::start().await).await; })*
        }
    };
}

contract!(
    an_absent_key_compares_as_zero,
    of_two_that_compare_the_same_revision_one_wins,
    a_transaction_happens_whole_or_not_at_all,
    refusals_are_definite,
    a_snapshot_is_one_moment_below_the_prefix,
    deleting_what_is_absent_moves_no_revision,
    a_lease_has_whole_seconds_and_a_minimum,
    an_ended_lease_takes_its_keys_along,
    a_renewed_lease_keeps_its_keys,
    a_revoked_lease_is_gone_at_once,
    a_key_put_again_leaves_its_former_lease,
    a_watch_tells_every_change_in_order,
    a_watch_survives_compaction_behind_its_back,
    a_watch_says_when_it_is_blind_and_when_it_sees_again,
    a_watch_notices_that_the_store_went_back,
    a_transaction_without_answer_is_unknown_until_the_revision_moves,
    without_connection_a_transaction_is_not_sent,
    calls_end_within_their_deadline,
    everything_works_again_after_a_restart,
);

async fn won(store: &dyn Store, txn: Txn) -> Revision {
    match store.txn(txn).await {
        TxnOutcome::Won { revision } => revision,
        other => panic!("expected a win, got {other:?}"),
    }
}

async fn lost(store: &dyn Store, txn: Txn) -> Snapshot {
    match store.txn(txn).await {
        TxnOutcome::Lost { snapshot } => snapshot,
        other => panic!("expected a loss, got {other:?}"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    let snapshot = store.snapshot().await.expect("a read");
    snapshot.get(key).map(|entry| String::from_utf8(entry.value.clone()).expect("text"))
}

async fn an_absent_key_compares_as_zero(world: &dyn World) {
    let (store, sync) = (world.store(), keys().key(&StoreKey::Sync));
    let first = won(store, Txn::new().when_absent(&sync).put(&sync, "1")).await;
    let seen = lost(store, Txn::new().when_absent(&sync).put(&sync, "2")).await;
    assert_eq!(seen.mod_revision(&sync), first);
    assert_eq!(seen.get(&sync).expect("the key").value, b"1");

    won(store, Txn::new().when(&sync, first).delete(&sync)).await;
    won(store, Txn::new().when_absent(&sync).put(&sync, "3")).await;
}

async fn of_two_that_compare_the_same_revision_one_wins(world: &dyn World) {
    let sync = keys().key(&StoreKey::Sync);
    let start = won(world.store(), Txn::new().put(&sync, "start")).await;
    let attempt = |who: &str| Txn::new().when(&sync, start).put(&sync, who);
    let (a, b) = tokio::join!(world.store().txn(attempt("a")), world.other().txn(attempt("b")));
    let (winner, loser, revision) = match (a, b) {
        (TxnOutcome::Won { revision }, TxnOutcome::Lost { snapshot }) => ("a", snapshot, revision),
        (TxnOutcome::Lost { snapshot }, TxnOutcome::Won { revision }) => ("b", snapshot, revision),
        other => panic!("expected one winner and one loser, got {other:?}"),
    };
    assert_eq!(loser.mod_revision(&sync), revision);
    assert_eq!(value(world.store(), &sync).await.as_deref(), Some(winner));
}

async fn a_transaction_happens_whole_or_not_at_all(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let (sync, leader, status) =
        (keys.key(&StoreKey::Sync), keys.key(&StoreKey::Leader), keys.key(&StoreKey::Status));
    let start = won(store, Txn::new().put(&sync, "1").put(&status, "old")).await;
    let change = |expected| {
        let both = Txn::new().when(&sync, expected).when_absent(&leader);
        both.put(&sync, "2").put(&leader, "a").delete(&status)
    };
    let seen = lost(store, change(start.next())).await;
    assert_eq!(seen, store.snapshot().await.expect("a read"), "the loser sees what stands");
    assert_eq!(seen.entries.len(), 2);

    let revision = won(store, change(start)).await;
    let seen = store.snapshot().await.expect("a read");
    assert_eq!((seen.mod_revision(&sync), seen.mod_revision(&leader)), (revision, revision));
    assert_eq!(seen.mod_revision(&status), Revision(0));
    assert_eq!(seen.get(&sync).expect("the key").create_revision, start);
    assert_eq!(revision, start.next(), "all writes share one revision");
}

async fn refusals_are_definite(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let nobody = LeaseId(0x0123_4567);
    let refused = store
        .txn(Txn::new().put(keys.key(&StoreKey::Sync), "1").put_leased(
            keys.key(&StoreKey::Leader),
            "a",
            nobody,
        ))
        .await;
    assert_eq!(refused, TxnOutcome::Refused { reason: Refusal::LeaseNotFound });
    for twice in [
        Txn::new().put(keys.key(&StoreKey::Sync), "1").put(keys.key(&StoreKey::Sync), "2"),
        Txn::new().put(keys.key(&StoreKey::Sync), "1").delete(keys.key(&StoreKey::Sync)),
    ] {
        let refused = store.txn(twice).await;
        assert!(matches!(refused, TxnOutcome::Refused { reason: Refusal::Invalid(_) }), "{refused:?}");
    }
    assert!(store.snapshot().await.expect("a read").entries.is_empty());

    // The comparison is looked at before the lease.
    lost(
        store,
        Txn::new().when(keys.key(&StoreKey::Leader), Revision(99)).put_leased(
            keys.key(&StoreKey::Leader),
            "a",
            nobody,
        ),
    )
    .await;
}

async fn a_snapshot_is_one_moment_below_the_prefix(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let first = won(store, Txn::new().put(keys.key(&StoreKey::Sync), "1")).await;
    let second = won(store, Txn::new().put(keys.key(&StoreKey::Config), "{}")).await;
    let elsewhere = won(store, Txn::new().put("/matriarch/contract2/sync", "not ours")).await;
    assert_eq!((second, elsewhere), (first.next(), second.next()));

    let seen = store.snapshot().await.expect("a read");
    assert_eq!(seen.revision, elsewhere, "the revision is the store's");
    assert_eq!(
        seen.entries.keys().collect::<Vec<_>>(),
        [&keys.key(&StoreKey::Config), &keys.key(&StoreKey::Sync)]
    );
    assert_eq!(seen.mod_revision(&keys.key(&StoreKey::Sync)), first);
    let again = won(store, Txn::new().put(keys.key(&StoreKey::Sync), "2")).await;
    let entry =
        store.snapshot().await.expect("a read").get(&keys.key(&StoreKey::Sync)).expect("the key").clone();
    assert_eq!((entry.create_revision, entry.mod_revision, entry.lease), (first, again, LeaseId::NONE));
}

async fn deleting_what_is_absent_moves_no_revision(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let before = store.snapshot().await.expect("a read").revision;
    let absent = Txn::new()
        .delete(keys.key(&StoreKey::Sync))
        .delete(keys.key(&StoreKey::Leader))
        .delete(keys.key(&StoreKey::Leader));
    assert_eq!(won(store, absent).await, before);
    assert_eq!(won(store, Txn::new().put(keys.key(&StoreKey::Sync), "1")).await, before.next());
    assert_eq!(won(store, Txn::new().delete(keys.key(&StoreKey::Sync))).await, before.next().next());
}

async fn a_lease_has_whole_seconds_and_a_minimum(world: &dyn World) {
    // One and a half election timeouts of one second, rounded up.
    assert_eq!(world.store().grant(Duration::from_millis(100)).await.expect("a lease").ttl.as_secs(), 2);
    let lease = world.store().grant(Duration::from_millis(4_200)).await.expect("a lease");
    assert_eq!(lease.ttl.as_secs(), 5);
    let renewed = world.store().keep_alive(lease.id).await.expect("a renewal");
    assert_eq!(renewed, KeepAlive::Renewed { ttl: lease.ttl });
}

async fn an_ended_lease_takes_its_keys_along(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let mut watch = store.watch();
    let asked = Instant::now();
    let lease = store.grant(Duration::from_secs(2)).await.expect("a lease");
    let both = Txn::new().put_leased(keys.key(&StoreKey::Leader), "a", lease.id).put_leased(
        keys.key(&StoreKey::Status),
        "b",
        lease.id,
    );
    let written = won(store, both).await;
    until_value(&mut watch, &keys.key(&StoreKey::Leader), Some("a")).await;
    let ended = until_value(&mut watch, &keys.key(&StoreKey::Leader), None).await;
    assert!(asked.elapsed() >= lease.ttl, "not before its time: {:?}", asked.elapsed());
    assert_eq!(ended, written.next(), "both keys at one revision");
    assert!(store.snapshot().await.expect("a read").entries.is_empty());
    assert_eq!(store.keep_alive(lease.id).await.expect("an answer"), KeepAlive::Gone);
}

async fn a_renewed_lease_keeps_its_keys(world: &dyn World) {
    let (store, leader) = (world.store(), keys().key(&StoreKey::Leader));
    let lease = store.grant(Duration::from_secs(3)).await.expect("a lease");
    won(store, Txn::new().put_leased(&leader, "a", lease.id)).await;
    let before = store.snapshot().await.expect("a read");
    let until = Instant::now() + lease.ttl * 2;
    while Instant::now() < until {
        let renewed = store.keep_alive(lease.id).await.expect("a renewal");
        assert_eq!(renewed, KeepAlive::Renewed { ttl: lease.ttl });
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(store.snapshot().await.expect("a read"), before, "renewals are no writes");
}

async fn a_revoked_lease_is_gone_at_once(world: &dyn World) {
    let (store, leader) = (world.store(), keys().key(&StoreKey::Leader));
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    won(store, Txn::new().put_leased(&leader, "a", lease.id)).await;
    assert!(matches!(store.keep_alive(lease.id).await, Ok(KeepAlive::Renewed { .. })));
    world.other().revoke(lease.id).await.expect("revoked");
    assert_eq!(value(store, &leader).await, None);
    // Twice: through what the first renewal left standing, and anew.
    assert_eq!(store.keep_alive(lease.id).await.expect("an answer"), KeepAlive::Gone);
    assert_eq!(store.keep_alive(lease.id).await.expect("an answer"), KeepAlive::Gone);
    store.revoke(lease.id).await.expect("revoking again is no error");
}

async fn a_key_put_again_leaves_its_former_lease(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let old = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let new = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let first = Txn::new().put_leased(keys.key(&StoreKey::Leader), "a", old.id).put_leased(
        keys.key(&StoreKey::Status),
        "a",
        old.id,
    );
    won(store, first.put_leased(keys.key(&StoreKey::Config), "a", old.id)).await;
    won(
        store,
        Txn::new().put_leased(keys.key(&StoreKey::Leader), "b", new.id).put(keys.key(&StoreKey::Status), "b"),
    )
    .await;
    store.revoke(old.id).await.expect("revoked");
    let seen = store.snapshot().await.expect("a read");
    assert_eq!(seen.get(&keys.key(&StoreKey::Leader)).expect("kept").lease, new.id);
    assert_eq!(seen.get(&keys.key(&StoreKey::Status)).expect("kept").lease, LeaseId::NONE);
    assert!(seen.get(&keys.key(&StoreKey::Config)).is_none(), "the only key that the old lease still had");
}

async fn a_watch_tells_every_change_in_order(world: &dyn World) {
    const CHANGES: u32 = 30;
    let sync = keys().key(&StoreKey::Sync);
    let mut watch = world.store().watch();
    assert_eq!(watch.next().await, Some(WatchEvent::Connected));
    let first = next_that(&mut watch, |_| true).await;
    let WatchEvent::Snapshot(first) = first else { panic!("expected a snapshot, got {first:?}") };
    assert!(first.entries.is_empty());
    // The stream stands as soon as a first change came through it; from then on none may be missing.
    won(world.other(), Txn::new().put(&sync, "0")).await;
    let mut revision = until_value(&mut watch, &sync, Some("0")).await;
    for change in 1..=CHANGES {
        won(world.other(), Txn::new().put(&sync, change.to_string())).await;
    }
    won(world.other(), Txn::new().delete(&sync)).await;
    for change in 1..=CHANGES + 1 {
        let event = next_that(&mut watch, |_| true).await;
        let WatchEvent::Snapshot(seen) = event else { panic!("expected a snapshot, got {event:?}") };
        assert_eq!(seen.revision, revision.next());
        revision = seen.revision;
        let value = seen.get(&sync).map(|entry| entry.value.clone());
        let expected = (change <= CHANGES).then(|| change.to_string().into_bytes());
        assert_eq!(value, expected);
    }
}

async fn a_watch_survives_compaction_behind_its_back(world: &dyn World) {
    let sync = keys().key(&StoreKey::Sync);
    won(world.other(), Txn::new().put(&sync, "seen")).await;
    let mut watch = world.store().watch();
    until_value(&mut watch, &sync, Some("seen")).await;
    world.cut();
    for value in ["missed", "missed too", "newest"] {
        won(world.other(), Txn::new().put(&sync, value)).await;
    }
    world.compact().await;
    world.join().await;
    until_value(&mut watch, &sync, Some("newest")).await;
    won(world.other(), Txn::new().put(&sync, "after")).await;
    until_value(&mut watch, &sync, Some("after")).await;
}

async fn a_watch_says_when_it_is_blind_and_when_it_sees_again(world: &dyn World) {
    let sync = keys().key(&StoreKey::Sync);
    won(world.other(), Txn::new().put(&sync, "1")).await;
    let mut watch = world.store().watch();
    until_value(&mut watch, &sync, Some("1")).await;
    world.cut();
    next_that(&mut watch, |event| matches!(event, WatchEvent::Disconnected { .. })).await;
    world.join().await;
    // Nothing changed meanwhile, and it says so with the snapshot.
    assert_eq!(next_that(&mut watch, |_| true).await, WatchEvent::Connected);
    until_value(&mut watch, &sync, Some("1")).await;

    world.freeze();
    next_that(&mut watch, |event| matches!(event, WatchEvent::Disconnected { .. })).await;
    world.thaw();
    next_that(&mut watch, |event| matches!(event, WatchEvent::Connected)).await;
}

async fn a_watch_notices_that_the_store_went_back(world: &dyn World) {
    let sync = keys().key(&StoreKey::Sync);
    won(world.store(), Txn::new().put(&sync, "backed up")).await;
    world.back_up().await;
    until_answering(world.store()).await;
    for value in ["lost", "lost too"] {
        won(world.store(), Txn::new().put(&sync, value)).await;
    }
    let mut watch = world.store().watch();
    let had = until_value(&mut watch, &sync, Some("lost too")).await;
    world.restore().await;
    let told = next_that(&mut watch, |event| matches!(event, WatchEvent::RolledBack { .. })).await;
    let WatchEvent::RolledBack { had_revision, snapshot, .. } = told else { panic!("{told:?}") };
    assert_eq!(had_revision, had);
    assert!(snapshot.revision < had);
    assert_eq!(snapshot.get(&sync).expect("the key").value, b"backed up");
    // And the watch goes on in the past that is now the present.
    until_answering(world.store()).await;
    won(world.store(), Txn::new().put(&sync, "new life")).await;
    until_value(&mut watch, &sync, Some("new life")).await;
}

async fn a_transaction_without_answer_is_unknown_until_the_revision_moves(world: &dyn World) {
    let (store, sync) = (world.store(), keys().key(&StoreKey::Sync));
    let start = won(store, Txn::new().put(&sync, "start")).await;
    world.freeze();
    let outcome = store.txn(Txn::new().when(&sync, start).put(&sync, "late")).await;
    assert!(matches!(outcome, TxnOutcome::Unknown { .. }), "{outcome:?}");
    world.thaw();

    // Whatever stands there now: after a transaction that moves the revision the late one can only lose.
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the outcome could not be resolved");
        let Ok(seen) = store.snapshot().await else { continue };
        let now = seen.get(&sync).expect("the key");
        assert!(now.value == b"start" || now.value == b"late", "{now:?}");
        if store.txn(Txn::new().when(&sync, now.mod_revision).put(&sync, "resolved")).await.is_won() {
            break;
        }
    }
    let outcome = store.txn(Txn::new().when(&sync, start).put(&sync, "late")).await;
    assert!(matches!(outcome, TxnOutcome::Lost { .. }), "{outcome:?}");
    assert_eq!(value(store, &sync).await.as_deref(), Some("resolved"));
}

async fn without_connection_a_transaction_is_not_sent(world: &dyn World) {
    let (store, sync) = (world.store(), keys().key(&StoreKey::Sync));
    won(store, Txn::new().put(&sync, "1")).await;
    world.cut();
    // The first call after the cut may find a connection that just broke; soon none is left.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.txn(Txn::new().put(&sync, "2")).await {
            TxnOutcome::Refused { reason: Refusal::NotSent(_) } => break,
            TxnOutcome::Unknown { .. } => assert!(Instant::now() < deadline, "never definite"),
            other => panic!("expected that nothing is sent, got {other:?}"),
        }
    }
    let read = store.snapshot().await;
    assert!(matches!(&read, Err(error) if error.is_transient()), "{read:?}");
    world.join().await;
    until_answering(store).await;
    won(store, Txn::new().put(&sync, "3")).await;
}

async fn calls_end_within_their_deadline(world: &dyn World) {
    let store = world.store();
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    world.freeze();
    let asked = Instant::now();
    let (read, granted, renewed, revoked, outcome) = tokio::join!(
        store.snapshot(),
        store.grant(Duration::from_secs(2)),
        store.keep_alive(lease.id),
        store.revoke(LeaseId(7)),
        store.txn(Txn::new().put(keys().key(&StoreKey::Sync), "1")),
    );
    assert!(asked.elapsed() < CALL_DEADLINE * 2, "took {:?}", asked.elapsed());
    for error in [read.err(), granted.err(), renewed.err(), revoked.err()] {
        assert!(matches!(error, Some(StoreError::Timeout { .. })), "{error:?}");
    }
    assert!(matches!(outcome, TxnOutcome::Unknown { .. }), "{outcome:?}");
    world.thaw();
    until_answering(store).await;
    let renewed = store.keep_alive(lease.id).await.expect("a renewal");
    assert_eq!(renewed, KeepAlive::Renewed { ttl: lease.ttl });
}

async fn everything_works_again_after_a_restart(world: &dyn World) {
    let (store, keys) = (world.store(), keys());
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let written = won(store, Txn::new().put_leased(keys.key(&StoreKey::Leader), "a", lease.id)).await;
    let mut watch = store.watch();
    until_value(&mut watch, &keys.key(&StoreKey::Leader), Some("a")).await;
    world.restart().await;
    until_answering(store).await;
    assert_eq!(store.snapshot().await.expect("a read").mod_revision(&keys.key(&StoreKey::Leader)), written);
    let renewed = store.keep_alive(lease.id).await.expect("a renewal");
    assert_eq!(renewed, KeepAlive::Renewed { ttl: lease.ttl });
    let next = won(
        store,
        Txn::new().when(keys.key(&StoreKey::Leader), written).put(keys.key(&StoreKey::Leader), "b"),
    )
    .await;
    assert_eq!(until_value(&mut watch, &keys.key(&StoreKey::Leader), Some("b")).await, next);
}
