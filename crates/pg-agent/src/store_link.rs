//! Between the decider and the consensus store: the watch becomes views, transactions get their leases and are reported
//! back, leases are kept, this member's own record is kept published.
//!
//! ```text
//!   watch ──────────► views ─────────┐
//!   leadership lease ► renewals ─────┼──► events ──► driver
//!   transactions ────► outcomes ─────┘
//!   member lease + record ► kept in the store
//!   history ─────────► completed in the store
//! ```
//!
//! It retries only what is idempotent (the member's own record, leases). What a transaction's unknown outcome means is
//! for the decider to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_core::cluster_view::{StoreKey, StoreView, to_json};
use ha_core::record::{LeaderRecord, MemberRecord};
use ha_core::{Epoch, MemberId, MemberName, MonoTime, Revision};
use ha_daemon::boottime;
use ha_decision::{Event, LeaseChoice, LeaseNews, OpId, TxnOutcome};
use ha_store::{KeepAlive, LeaseId, Put, Snapshot, Store, WatchEvent};
use tokio::sync::{Notify, mpsc, watch};

/// Pause between attempts at something that the store did not take.
const AGAIN: Duration = Duration::from_millis(300);

/// How long the store may take to show a transaction that was won. An election of etcd's fits in; a lease does not end
/// meanwhile. After it the outcome is reported as unknown, because nobody may act on a view that lacks it.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

/// How the link is set up.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Prefix of the cluster's keys, with the final slash.
    pub prefix: String,
    /// This member.
    pub me: MemberName,
    /// TTL of the leadership lease.
    pub lease_ttl: Duration,
    /// TTL of the member lease.
    pub member_ttl: Duration,
    /// How often both are renewed.
    pub renew_interval: Duration,
}

/// The running link.
#[derive(Debug)]
pub struct StoreLink {
    shared: Arc<Shared>,
    published: watch::Sender<Option<MemberRecord>>,
}

struct Shared {
    store: Arc<dyn Store>,
    options: LinkOptions,
    events: mpsc::Sender<Event>,
    leadership: Mutex<Option<LeaseId>>,
    member: Mutex<Option<LeaseId>>,
    renew_now: Notify,
    republish: Notify,
    newest: Mutex<(u64, Revision)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while one of these short locks is held leaves a whole value behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreLink {
    /// Begins to follow the store and to keep leases; events go to `events`.
    pub fn start(store: Arc<dyn Store>, options: LinkOptions, events: mpsc::Sender<Event>) -> Self {
        let shared = Arc::new(Shared {
            store,
            options,
            events,
            leadership: Mutex::new(None),
            member: Mutex::new(None),
            renew_now: Notify::new(),
            republish: Notify::new(),
            newest: Mutex::new((0, Revision(0))),
        });
        let (published, record) = watch::channel(None);
        tokio::spawn(Arc::clone(&shared).follow());
        tokio::spawn(Arc::clone(&shared).keep_leadership_lease());
        tokio::spawn(Arc::clone(&shared).keep_member_lease());
        tokio::spawn(Arc::clone(&shared).keep_published(record));
        Self { shared, published }
    }

    /// Submits a transaction in the background; its end comes as [`Event::TxnDone`].
    pub fn submit(&self, id: OpId, txn: ha_decision::Txn) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.run_txn(id, txn).await });
    }

    /// Reads in the background until a view of this revision was delivered, for as long as such a view may take.
    pub fn read(&self, at_least: Revision) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if tokio::time::timeout(SHOWN_WITHIN, shared.deliver_at_least(at_least)).await.is_err() {
                tracing::debug!(revision = at_least.0, "etcd does not show what another member knows");
            }
        });
    }

    /// Keeps the member's own record like this.
    pub fn publish(&self, record: MemberRecord) {
        self.published.send_replace(Some(record));
    }
}

impl Shared {
    async fn tell(&self, event: Event) {
        // A closed channel means that the driver has ended.
        drop(self.events.send(event).await);
    }

    /// Delivers a view unless a newer one was delivered.
    async fn deliver(&self, snapshot: &Snapshot, rolled_back: bool) {
        {
            let mut newest = lock(&self.newest);
            let older = snapshot.cluster_id == newest.0 && snapshot.revision < newest.1;
            if older && !rolled_back {
                return;
            }
            *newest = (snapshot.cluster_id, snapshot.revision);
        }
        let prefix = self.options.prefix.as_str();
        let entries = snapshot
            .entries
            .values()
            .filter_map(|e| e.key.strip_prefix(prefix).map(|key| (key, e.value.as_slice(), e.mod_revision)));
        let view = StoreView::read(snapshot.cluster_id, snapshot.revision, entries);
        if !view.members.contains_key(&self.options.me) {
            self.republish.notify_one();
        }
        if rolled_back {
            self.tell(Event::StoreRolledBack).await;
        }
        self.tell(Event::Store(Box::new(view))).await;
    }

    async fn follow(self: Arc<Self>) {
        let mut watch = self.store.watch();
        while let Some(event) = watch.next().await {
            match event {
                WatchEvent::Connected => {}
                WatchEvent::Disconnected { reason } => {
                    tracing::warn!(reason, "etcd cannot be watched");
                    self.tell(Event::StoreLost).await;
                }
                WatchEvent::Snapshot(snapshot) => self.deliver(&snapshot, false).await,
                WatchEvent::RolledBack { snapshot, .. } => self.deliver(&snapshot, true).await,
            }
        }
    }

    fn key(&self, key: &StoreKey) -> String {
        format!("{}{}", self.options.prefix, key.relative())
    }

    async fn run_txn(self: Arc<Self>, id: OpId, txn: ha_decision::Txn) {
        let purpose = txn.purpose;
        let outcome = match self.translate(txn).await {
            Ok(txn) => self.store.txn(txn).await,
            Err(reason) => {
                self.tell(Event::TxnDone { id, outcome: TxnOutcome::Refused { reason } }).await;
                return;
            }
        };
        let outcome = match outcome {
            ha_store::TxnOutcome::Won { revision } => {
                self.renew_now.notify_one();
                match tokio::time::timeout(SHOWN_WITHIN, self.deliver_at_least(revision)).await {
                    Ok(()) => TxnOutcome::Won { revision },
                    Err(_) => {
                        tracing::warn!(
                            purpose,
                            revision = revision.0,
                            "etcd does not show a transaction that was won"
                        );
                        TxnOutcome::Unknown
                    }
                }
            }
            ha_store::TxnOutcome::Lost { snapshot } => {
                self.deliver(&snapshot, false).await;
                TxnOutcome::Lost
            }
            ha_store::TxnOutcome::Refused { reason } => TxnOutcome::Refused { reason: reason.to_string() },
            ha_store::TxnOutcome::Unknown { reason } => {
                tracing::warn!(purpose, reason, "the outcome of a transaction is not known");
                TxnOutcome::Unknown
            }
        };
        self.tell(Event::TxnDone { id, outcome }).await;
    }

    /// Leases by name; an own lease that is not held makes the transaction pointless.
    async fn translate(&self, txn: ha_decision::Txn) -> Result<ha_store::Txn, String> {
        let mut translated = ha_store::Txn::new();
        for (key, revision) in &txn.compares {
            translated = translated.when(self.key(key), *revision);
        }
        for (key, value, choice) in txn.puts {
            let lease = match choice {
                LeaseChoice::None => None,
                LeaseChoice::Leadership => {
                    Some((*lock(&self.leadership)).ok_or("no leadership lease is held")?)
                }
                LeaseChoice::Member => Some((*lock(&self.member)).ok_or("no member lease is held")?),
                LeaseChoice::Fixed(ttl) => {
                    Some(self.store.grant(ttl).await.map_err(|e| format!("granting a lease: {e}"))?.id)
                }
            };
            translated.puts.push(Put { key: self.key(&key), value, lease });
        }
        for key in &txn.deletes {
            translated = translated.delete(self.key(key));
        }
        Ok(translated)
    }

    /// The decider must see what it won before it hears that it won. Never ends where the store never shows it.
    async fn deliver_at_least(&self, revision: Revision) {
        loop {
            if lock(&self.newest).1 >= revision {
                return;
            }
            match self.store.snapshot().await {
                Ok(snapshot) => {
                    self.deliver(&snapshot, false).await;
                    if snapshot.revision < revision {
                        // Another etcd cluster than the one that was spoken of, such as a restored one.
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "reading what was written");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Keeps a lease ready that a leader record can hang on. Deadlines are computed from the time *before* a renewal
    /// was sent, and count only if a linearizable read after it still shows the record on this lease.
    async fn keep_leadership_lease(self: Arc<Self>) {
        loop {
            let sent_at = boottime();
            let Ok(lease) = self.store.grant(self.options.lease_ttl).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            *lock(&self.leadership) = Some(lease.id);
            self.tell(Event::Lease(LeaseNews::Ready)).await;
            self.tell(Event::Lease(LeaseNews::Renewed { sent_at, leads: None })).await;
            self.renew_until_gone(lease.id, sent_at).await;
            *lock(&self.leadership) = None;
            self.tell(Event::Lease(LeaseNews::Gone)).await;
        }
    }

    async fn renew_until_gone(&self, lease: LeaseId, granted: MonoTime) {
        let mut last = granted;
        loop {
            // What was renewed is due after the interval; what could not be renewed, soon.
            let pause = if boottime().since(last) < self.options.renew_interval * 2 {
                self.options.renew_interval
            } else {
                AGAIN
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.renew_now.notified() => {}
            }
            let sent_at = boottime();
            match self.store.keep_alive(lease).await {
                Ok(KeepAlive::Renewed { .. }) => {
                    last = sent_at;
                    let leads = self.leads_with(lease).await;
                    self.tell(Event::Lease(LeaseNews::Renewed { sent_at, leads })).await;
                }
                Ok(KeepAlive::Gone) => return,
                Err(error) => {
                    tracing::debug!(%error, "renewing the leadership lease");
                    if boottime().since(last) > self.options.lease_ttl * 2 {
                        return;
                    }
                }
            }
        }
    }

    async fn leads_with(&self, lease: LeaseId) -> Option<Epoch> {
        let snapshot = self.store.snapshot().await.ok()?;
        let entry = snapshot.get(&self.key(&StoreKey::Leader)).filter(|e| e.lease == lease)?;
        let record: LeaderRecord = serde_json::from_slice(&entry.value).ok()?;
        let id = MemberId::new(record.member.clone(), record.incarnation);
        (id.name == self.options.me).then_some(record.epoch)
    }

    async fn keep_member_lease(self: Arc<Self>) {
        loop {
            let Ok(lease) = self.store.grant(self.options.member_ttl).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            *lock(&self.member) = Some(lease.id);
            self.republish.notify_one();
            let mut last = boottime();
            loop {
                tokio::time::sleep(self.options.renew_interval * 2).await;
                let sent_at = boottime();
                match self.store.keep_alive(lease.id).await {
                    Ok(KeepAlive::Renewed { .. }) => last = sent_at,
                    Ok(KeepAlive::Gone) => break,
                    Err(_) if boottime().since(last) > self.options.member_ttl * 2 => break,
                    Err(error) => tracing::debug!(%error, "renewing the member lease"),
                }
            }
            *lock(&self.member) = None;
        }
    }

    /// Writes the member's record when it changes, when it hangs on a new lease, and when it has vanished.
    async fn keep_published(self: Arc<Self>, mut record: watch::Receiver<Option<MemberRecord>>) {
        let mut written: Option<(MemberRecord, LeaseId)> = None;
        loop {
            tokio::select! {
                changed = record.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.republish.notified() => {}
            }
            loop {
                let wanted = record.borrow_and_update().clone();
                let (Some(wanted), Some(lease)) = (wanted, *lock(&self.member)) else { break };
                if self.is_published(&wanted, lease, written.as_ref()).await {
                    break;
                }
                let key = self.key(&StoreKey::Member(self.options.me.clone()));
                let txn = ha_store::Txn::new().put_leased(key, to_json(&wanted), lease);
                if self.store.txn(txn).await.is_won() {
                    written = Some((wanted, lease));
                } else {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn is_published(
        &self,
        wanted: &MemberRecord,
        lease: LeaseId,
        written: Option<&(MemberRecord, LeaseId)>,
    ) -> bool {
        if written.is_none_or(|(record, on)| record != wanted || *on != lease) {
            return false;
        }
        let key = self.key(&StoreKey::Member(self.options.me.clone()));
        // Unreadable store: what was written stands until the opposite is seen.
        self.store.snapshot().await.map_or(true, |s| s.get(&key).is_some())
    }
}

mod history;

#[cfg(test)]
mod tests;
