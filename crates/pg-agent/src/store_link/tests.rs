//! The link on a store in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use ha_core::Incarnation;
use ha_core::record::GuardArming;
use ha_store::memory::Reach;
use ha_store::{Lease, MemoryStore, StoreError, StoreStatus, Watch};
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn name(text: &str) -> MemberName {
    text.parse().unwrap()
}

fn store() -> MemoryStore {
    MemoryStore::new(&"demo".parse().unwrap(), Duration::from_millis(500))
}

fn start(store: Arc<dyn Store>, renew_interval: Duration) -> (StoreLink, mpsc::Receiver<Event>) {
    let options = LinkOptions {
        prefix: "/matriarch/demo/".to_owned(),
        me: name("pg1"),
        lease_ttl: Duration::from_secs(10),
        member_ttl: Duration::from_secs(30),
        renew_interval,
    };
    let (events, events_in) = mpsc::channel(64);
    (StoreLink::start(store, options, events), events_in)
}

async fn until<T>(events: &mut mpsc::Receiver<Event>, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(events.recv().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(LIMIT, found).await.unwrap()
}

async fn ready(events: &mut mpsc::Receiver<Event>) {
    until(events, |event| (event == Event::Lease(LeaseNews::Ready)).then_some(())).await;
}

/// Leadership is taken up, or taken up again.
fn lead(epoch: u64) -> ha_decision::Txn {
    let record = LeaderRecord {
        member: name("pg1"),
        incarnation: Incarnation(1),
        epoch: Epoch(epoch),
        guard: GuardArming::Armed,
        extra: Default::default(),
    };
    ha_decision::Txn {
        purpose: "lead",
        compares: Vec::new(),
        puts: vec![(StoreKey::Leader, to_json(&record), LeaseChoice::Leadership)],
        deletes: Vec::new(),
    }
}

async fn confirmed(events: &mut mpsc::Receiver<Event>) -> Epoch {
    until(events, |event| match event {
        Event::Lease(LeaseNews::Renewed { leads, .. }) => leads,
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_leader_that_takes_up_again_has_its_lease_confirmed_at_once() {
    let store = store();
    let never = Duration::from_secs(3600);
    let (first, mut events) = start(Arc::new(store.clone()), never);
    ready(&mut events).await;
    let began = Instant::now();
    first.submit(OpId(1), lead(1));
    assert_eq!(confirmed(&mut events).await, Epoch(1));

    // Its agent restarts; the record hangs on the lease of the earlier life until it is written again.
    let (second, mut events) = start(Arc::new(store.another_client()), never);
    ready(&mut events).await;
    second.submit(OpId(1), lead(1));
    assert_eq!(confirmed(&mut events).await, Epoch(1));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// A store that takes transactions and shows nothing any more.
struct Blinded {
    store: MemoryStore,
    watched: MemoryStore,
    blind: AtomicBool,
}

#[async_trait]
impl Store for Blinded {
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        if self.blind.load(Ordering::SeqCst) {
            return Err(StoreError::Timeout { operation: "reading" });
        }
        self.store.snapshot().await
    }

    async fn txn(&self, txn: ha_store::Txn) -> ha_store::TxnOutcome {
        self.store.txn(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    fn watch(&self) -> Watch {
        self.watched.watch()
    }

    async fn status(&self) -> StoreStatus {
        self.store.status().await
    }
}

#[tokio::test]
async fn what_was_won_and_is_not_shown_is_unknown_after_a_while_and_seen_later() {
    let store = store();
    let blinded = Arc::new(Blinded { watched: store.another_client(), store, blind: AtomicBool::new(false) });
    let (link, mut events) = start(Arc::clone(&blinded) as Arc<dyn Store>, Duration::from_secs(2));
    ready(&mut events).await;
    blinded.watched.set_reach(Reach::Refused);
    blinded.blind.store(true, Ordering::SeqCst);
    let began = Instant::now();
    link.submit(OpId(5), lead(1));
    let outcome = until(&mut events, |event| match event {
        Event::TxnDone { id: OpId(5), outcome } => Some(outcome),
        Event::Store(view) => {
            assert!(view.leader.is_none(), "it was to be blind");
            None
        }
        _ => None,
    })
    .await;
    assert_eq!(outcome, TxnOutcome::Unknown);
    assert!(began.elapsed() < SHOWN_WITHIN * 2);

    blinded.watched.set_reach(Reach::Up);
    blinded.blind.store(false, Ordering::SeqCst);
    let epoch = until(&mut events, |event| match event {
        Event::Store(view) => view.leader.map(|leader| leader.record.epoch),
        _ => None,
    })
    .await;
    assert_eq!(epoch, Epoch(1));
}

#[tokio::test]
async fn what_another_member_knows_is_read_while_the_watch_hangs() {
    let store = store();
    let hanging = Arc::new(Blinded {
        watched: store.another_client(),
        store: store.another_client(),
        blind: AtomicBool::new(false),
    });
    let (link, mut events) = start(Arc::clone(&hanging) as Arc<dyn Store>, Duration::from_secs(3600));
    ready(&mut events).await;
    hanging.watched.set_reach(Reach::Refused);
    let elsewhere = ha_store::Txn::new().put("/matriarch/demo/leader", b"{}".to_vec());
    let ha_store::TxnOutcome::Won { revision } = store.txn(elsewhere).await else {
        panic!("nothing stands in its way")
    };
    link.read(revision);
    let shown = until(&mut events, |event| match event {
        Event::Store(view) => (view.revision >= revision).then_some(view.revision),
        _ => None,
    });
    assert_eq!(shown.await, revision);
}

#[tokio::test]
async fn a_history_record_is_completed_in_the_store() {
    let store = store();
    let key = "/matriarch/demo/history/00000002";
    let record = br#"{"epoch":2,"parent":1,"switch_lsn":"0/1","member":"pg1","reason":"why","newer":1}"#;
    assert!(store.txn(ha_store::Txn::new().put(key, record.to_vec())).await.is_won());
    let (link, mut events) = start(Arc::new(store.clone()), Duration::from_secs(2));
    let completion = ha_decision::HistoryCompletion {
        timeline: ha_core::Timeline(2),
        decided: MonoTime(1),
        phases: ha_core::phases::Phases { decide_ms: Some(7), ..Default::default() },
        forget: Vec::new(),
    };
    link.complete_history(completion, "2026-11-29T00:26:53.042Z".to_owned());
    let completed = until(&mut events, |event| match event {
        Event::Store(view) => view.history.values().find(|record| record.has_phases()).cloned(),
        _ => None,
    })
    .await;
    assert_eq!(completed.at(), Some("2026-11-29T00:26:53.042Z"));
    assert_eq!(completed.phases().and_then(|phases| phases.decide_ms), Some(7));
    assert_eq!(completed.extra["newer"], 1);
}
