//! The model as a [`Store`]: for the tests of other crates, with faults to order. Lives in tokio's time, so paused
//! time works.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ha_core::{ClusterName, MonoTime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;
use crate::follow::Follower;
use crate::keys::Keys;
use crate::model::{Model, NoLeader, RequestId};
use crate::store::{
    KeepAlive, Lease, LeaseId, MemberStatus, Refusal, Snapshot, Store, StoreStatus, Txn, TxnOutcome,
};
use crate::watch::{Watch, WatchEvent};

/// How the store looks to one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything works.
    Up,
    /// Connections are refused: calls fail at once, transactions are never sent.
    Refused,
    /// The store, or the network, is silent: calls run into their deadline. Transactions wait somewhere on the way and
    /// are applied, late, when the silence ends.
    Silent,
}

#[derive(Debug)]
struct Shared {
    model: Mutex<Model>,
    started: Instant,
    /// Bumped after anything that somebody may wait for.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Client {
    reach: Reach,
    lose_answers: u32,
    sent: BTreeSet<RequestId>,
    answers: BTreeMap<RequestId, TxnOutcome>,
}

/// A store in memory. Clones are the same client; [`MemoryStore::another_client`] is another one of the same store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    client: Arc<Mutex<Client>>,
    call_deadline: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store for `cluster`; calls end after `call_deadline`. Must be called inside a tokio runtime.
    pub fn new(cluster: &ClusterName, call_deadline: Duration) -> Self {
        let model = Model::new(Keys::new(cluster).prefix(), 1, Duration::from_secs(1));
        let shared =
            Shared { model: Mutex::new(model), started: Instant::now(), changed: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), client: new_client(), call_deadline }
    }

    /// Another client of the same store, with faults of its own.
    #[must_use]
    pub fn another_client(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), client: new_client(), call_deadline: self.call_deadline }
    }

    /// Works on the model itself: compact it, restore a backup, take its leader away.
    pub fn with_model<R>(&self, work: impl FnOnce(&mut Model, MonoTime) -> R) -> R {
        let result = work(&mut self.model(), self.now());
        self.signal();
        result
    }

    /// Changes how this client sees the store. When a silence ends, the transactions that waited in it are applied.
    pub fn set_reach(&self, reach: Reach) {
        let mut client = lock(&self.client);
        client.reach = reach;
        if reach == Reach::Up {
            let now = self.now();
            let mut model = self.model();
            for id in std::mem::take(&mut client.sent) {
                if let Some(outcome) = model.apply(now, id) {
                    client.answers.insert(id, outcome);
                }
            }
        }
        drop(client);
        self.signal();
    }

    /// Applies the next `count` transactions of this client, but answers [`TxnOutcome::Unknown`].
    pub fn lose_answers(&self, count: u32) {
        lock(&self.client).lose_answers = count;
    }

    fn now(&self) -> MonoTime {
        MonoTime(0) + self.shared.started.elapsed()
    }

    /// The model, at the present time.
    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = lock(&self.shared.model);
        model.advance(self.now());
        model
    }

    fn reach(&self) -> Reach {
        lock(&self.client).reach
    }

    fn signal(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Waits until the store answers this client.
    async fn answering(&self, operation: &'static str) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.call_deadline;
        let mut changed = self.shared.changed.subscribe();
        loop {
            match self.reach() {
                Reach::Up => return Ok(()),
                Reach::Refused => {
                    return Err(StoreError::Unavailable {
                        operation,
                        reason: "connection refused".to_owned(),
                    });
                }
                Reach::Silent => {
                    let waited = timeout_at(deadline, changed.changed()).await;
                    waited.map_err(|_| StoreError::Timeout { operation })?.ok();
                }
            }
        }
    }

    /// Waits for the answer to a transaction that was sent into silence.
    async fn late_answer(&self, id: RequestId) -> TxnOutcome {
        let deadline = Instant::now() + self.call_deadline;
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(outcome) = lock(&self.client).answers.remove(&id) {
                return outcome;
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                return TxnOutcome::Unknown { reason: "no answer in time".to_owned() };
            }
        }
    }

    async fn follow(self, events: mpsc::Sender<WatchEvent>) {
        let mut changed = self.shared.changed.subscribe();
        let mut follower = Follower::default();
        let mut connected = false;
        loop {
            changed.mark_unchanged();
            let (told, wake) = self.look(&mut follower, &mut connected);
            for event in told {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            // Both endings mean the same: look again.
            timeout_at(wake, changed.changed()).await.ok();
        }
    }

    /// One look of a watch: what is new, and when to look again at the latest.
    fn look(&self, follower: &mut Follower, connected: &mut bool) -> (Vec<WatchEvent>, Option<Instant>) {
        let up = self.reach() == Reach::Up;
        let model = self.model();
        let wake = model.next_timeout().map(|at| self.shared.started + (at - MonoTime(0)));
        let mut told = Vec::new();
        if !up || !model.has_leader() {
            if std::mem::replace(connected, false) {
                told.push(WatchEvent::Disconnected { reason: "the store is unavailable".to_owned() });
            }
            return (told, wake);
        }
        let announce = !std::mem::replace(connected, true);
        if announce {
            told.push(WatchEvent::Connected);
        } else if follower.follows(model.cluster_id())
            && let Ok(changes) = model.changes_since(follower.revision().next())
        {
            told.extend(follower.on_changes(&changes));
        }
        told.extend(follower.on_read(model.peek(), follower.revision(), announce));
        (told, wake)
    }
}

fn new_client() -> Arc<Mutex<Client>> {
    let client =
        Client { reach: Reach::Up, lose_answers: 0, sent: BTreeSet::new(), answers: BTreeMap::new() };
    Arc::new(Mutex::new(client))
}

fn no_leader(operation: &'static str) -> impl FnOnce(NoLeader) -> StoreError {
    move |error| StoreError::Unavailable { operation, reason: error.to_string() }
}

#[async_trait]
impl Store for MemoryStore {
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.answering("read").await?;
        self.model().snapshot(self.now()).map_err(no_leader("read"))
    }

    async fn txn(&self, txn: Txn) -> TxnOutcome {
        match self.reach() {
            Reach::Refused => {
                return TxnOutcome::Refused { reason: Refusal::NotSent("connection refused".to_owned()) };
            }
            Reach::Silent => {
                let id = self.model().submit(txn);
                lock(&self.client).sent.insert(id);
                return self.late_answer(id).await;
            }
            Reach::Up => {}
        }
        let outcome = self.model().txn(self.now(), &txn);
        self.signal();
        let mut client = lock(&self.client);
        if client.lose_answers > 0 {
            client.lose_answers -= 1;
            return TxnOutcome::Unknown { reason: "the answer was lost".to_owned() };
        }
        outcome
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.answering("lease grant").await?;
        let granted = self.model().grant(self.now(), ttl);
        self.signal();
        granted.map_err(|refusal| match refusal {
            Refusal::NoSpace => StoreError::NoSpace { operation: "lease grant" },
            other => StoreError::Unavailable { operation: "lease grant", reason: other.to_string() },
        })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        self.answering("lease renewal").await?;
        let renewed = self.model().keep_alive(self.now(), lease).map_err(no_leader("lease renewal"));
        self.signal();
        renewed
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.answering("lease revocation").await?;
        let revoked = self.model().revoke(self.now(), lease).map_err(no_leader("lease revocation"));
        self.signal();
        revoked
    }

    fn watch(&self) -> Watch {
        Watch::spawn(|events| self.clone().follow(events))
    }

    async fn status(&self) -> StoreStatus {
        let problems = match self.reach() {
            Reach::Up => Vec::new(),
            Reach::Refused | Reach::Silent => vec!["no answer".to_owned()],
        };
        let leader_id = u64::from(self.model().has_leader());
        let version = if problems.is_empty() { "model".to_owned() } else { String::new() };
        let endpoint = "memory".to_owned();
        let member = MemberStatus { endpoint, version, member_id: 1, leader_id, db_size_bytes: 0, problems };
        StoreStatus { members: vec![member] }
    }
}
