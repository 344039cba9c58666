//! A store with two clients and the means to disturb it: one world on the model, one on a real etcd.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use ha_core::Revision;
use ha_store::memory::Reach;
use ha_store::model::Model;
use ha_store::{EtcdOptions, EtcdStore, Keys, MemoryStore, Store, Watch, WatchEvent};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::etcd_server::{EtcdServer, Setup};
use crate::relay::Relay;

pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(1);

/// Generous: the machine may be busy with other tests. Nothing waits this long when it works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[async_trait]
pub(crate) trait World: Sync {
    /// The client that is disturbed.
    fn store(&self) -> &dyn Store;
    /// A client that is disturbed only by what happens to the server.
    fn other(&self) -> &dyn Store;
    /// Forgets the history up to the present revision.
    async fn compact(&self);
    /// The server stops answering, without closing anything.
    fn freeze(&self);
    /// The server goes on.
    fn thaw(&self);
    /// The disturbed client's connections end and new ones are refused.
    fn cut(&self);
    /// They work again.
    async fn join(&self);
    /// The server crashes and comes back.
    async fn restart(&self);
    /// Keeps a copy of everything for [`World::restore`].
    async fn back_up(&self);
    /// Puts the copy back.
    async fn restore(&self);
}

pub(crate) fn keys() -> Keys {
    Keys::new(&"contract".parse().expect("a name"))
}

pub(crate) struct ModelWorld {
    store: MemoryStore,
    other: MemoryStore,
    backup: Mutex<Option<Model>>,
}

impl ModelWorld {
    pub(crate) async fn start() -> Self {
        let store = MemoryStore::new(&"contract".parse().expect("a name"), CALL_DEADLINE);
        let other = store.another_client();
        Self { store, other, backup: Mutex::new(None) }
    }
}

#[async_trait]
impl World for ModelWorld {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn other(&self) -> &dyn Store {
        &self.other
    }

    async fn compact(&self) {
        self.store.with_model(|model, _| model.compact(model.revision()));
    }

    fn freeze(&self) {
        self.store.set_reach(Reach::Silent);
    }

    fn thaw(&self) {
        self.store.set_reach(Reach::Up);
    }

    fn cut(&self) {
        self.store.set_reach(Reach::Refused);
    }

    async fn join(&self) {
        self.store.set_reach(Reach::Up);
    }

    async fn restart(&self) {
        self.store.with_model(Model::lose_leader);
        self.store.with_model(Model::elect_leader);
    }

    async fn back_up(&self) {
        *self.backup.lock().expect("the backup") = Some(self.store.with_model(|model, _| model.clone()));
    }

    async fn restore(&self) {
        let backup = self.backup.lock().expect("the backup").take().expect("a backup was made");
        self.store.with_model(|model, now| model.restore(now, &backup, backup.cluster_id()));
    }
}

pub(crate) struct EtcdWorld {
    pub(crate) server: EtcdServer,
    relay: Relay,
    store: EtcdStore,
    other: EtcdStore,
    backup: tokio::sync::Mutex<Option<TempDir>>,
}

impl EtcdWorld {
    pub(crate) async fn start() -> Self {
        let server = EtcdServer::start(Setup::default()).await;
        let relay = Relay::start(server.port()).await;
        let store = etcd_store(vec![relay.endpoint()]);
        let other = etcd_store(vec![server.endpoint()]);
        until_answering(&store).await;
        until_answering(&other).await;
        Self { server, relay, store, other, backup: tokio::sync::Mutex::new(None) }
    }
}

#[async_trait]
impl World for EtcdWorld {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn other(&self) -> &dyn Store {
        &self.other
    }

    async fn compact(&self) {
        let revision = self.other.snapshot().await.expect("the present revision").revision;
        let mut client =
            etcd_client::Client::connect([self.server.endpoint()], None).await.expect("connecting");
        client.compact(i64::try_from(revision.0).expect("a revision"), None).await.expect("compacting");
    }

    fn freeze(&self) {
        self.server.freeze();
    }

    fn thaw(&self) {
        self.server.thaw();
    }

    fn cut(&self) {
        self.relay.cut();
    }

    async fn join(&self) {
        self.relay.join().await;
    }

    async fn restart(&self) {
        self.server.stop();
        self.server.start_again().await;
    }

    async fn back_up(&self) {
        *self.backup.lock().await = Some(self.server.back_up().await);
    }

    async fn restore(&self) {
        let backup = self.backup.lock().await.take().expect("a backup was made");
        self.server.restore(&backup).await;
    }
}

pub(crate) fn etcd_store(endpoints: Vec<String>) -> EtcdStore {
    let options = EtcdOptions::new(endpoints, None, CALL_DEADLINE);
    EtcdStore::new(&options, &keys()).expect("usable endpoints")
}

/// Waits until the store answers.
pub(crate) async fn until_answering(store: &dyn Store) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.snapshot().await {
        assert!(Instant::now() < deadline, "the store does not answer: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The next event of a watch that `wanted` accepts; the others are skipped.
pub(crate) async fn next_that(watch: &mut Watch, wanted: impl Fn(&WatchEvent) -> bool) -> WatchEvent {
    let search = async {
        loop {
            let event = watch.next().await.expect("the watch goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the event comes in time")
}

/// Waits for a snapshot in which `key` has `value` (or is absent); returns its revision.
pub(crate) async fn until_value(watch: &mut Watch, key: &str, value: Option<&str>) -> Revision {
    let found = |event: &WatchEvent| match event {
        WatchEvent::Snapshot(snapshot) => {
            snapshot.get(key).map(|entry| entry.value.as_slice()) == value.map(str::as_bytes)
        }
        _ => false,
    };
    match next_that(watch, found).await {
        WatchEvent::Snapshot(snapshot) => snapshot.revision,
        other => panic!("expected a snapshot, got {other:?}"),
    }
}
