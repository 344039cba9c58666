//! The store as the decider sees it: the last view, the transaction under way, and what to do when its outcome is not
//! known.
//!
//! An unknown outcome means not done, done, or *done later*. A read that shows the old value proves nothing. So nothing
//! is decided any more until the revision of the sync record has been moved on: that kills every request that was built
//! on an older revision.

use std::time::Duration;

use ha_core::cluster_view::{StoreKey, StoreView, to_json};
use ha_core::record::{GuardArming, LeaderRecord, SyncRecord, Versioned};
use ha_core::{MonoTime, Revision};

use crate::action::{Action, LeaseChoice, OpId, RequestId, Txn};
use crate::decider::Decider;
use crate::event::TxnOutcome;
use crate::phases::Won;
use crate::reason::Reason;
use crate::timers::Timer;

/// Pause after a transaction was refused or lost, so that two members do not race in a tight loop.
const RETRY_TXN: Duration = Duration::from_millis(100);

/// What a transaction is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TxnFor {
    Initialize,
    FoundCluster,
    Reacquire,
    RenewEpoch,
    ChangePolicy,
    TakeOver,
    Bump,
    ReleaseKey,
    Announce,
    Maintenance(RequestId),
}

#[derive(Debug, Clone)]
pub(crate) struct PendingTxn {
    pub(crate) id: OpId,
    pub(crate) purpose: &'static str,
    pub(crate) kind: TxnFor,
    /// It replaces the sync record, so an unknown outcome must be resolved.
    replaces_sync: bool,
}

/// The store side of a decider.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreSide {
    pub(crate) view: Option<StoreView>,
    pub(crate) connected: bool,
    pub(crate) rolled_back: bool,
    pub(crate) pending: Option<PendingTxn>,
    pub(crate) unresolved: bool,
    pub(crate) retry_at: MonoTime,
    /// The leader record as last seen, kept after its lease ran out: says whether that leader's guard was armed.
    pub(crate) last_leader: Option<LeaderRecord>,
    /// Since when the leader record is absent.
    pub(crate) leader_missing_since: Option<MonoTime>,
}

impl Decider {
    pub(crate) fn sync(&self) -> Option<&Versioned<SyncRecord>> {
        self.store.view.as_ref().and_then(|v| v.sync.as_ref())
    }

    pub(crate) fn sync_record(&self) -> Option<SyncRecord> {
        self.sync().map(|s| s.record.clone())
    }

    pub(crate) fn sync_revision(&self) -> Revision {
        self.store.view.as_ref().map_or(Revision(0), StoreView::sync_revision)
    }

    /// Whether a transaction may be submitted now.
    pub(crate) fn can_txn(&mut self) -> bool {
        let possible = self.store.connected
            && self.store.pending.is_none()
            && !self.store.unresolved
            && !self.store.rolled_back
            && self.store.view.as_ref().is_some_and(StoreView::may_write);
        if possible && self.now < self.store.retry_at {
            self.timers.set(Timer::RetryTxn, self.store.retry_at);
            return false;
        }
        possible
    }

    /// Whether another sync record than the one in the view may be in force by this member's own doing: then it is not known
    /// whose promises a successor needs.
    pub(crate) fn list_in_doubt(&self) -> bool {
        self.store.unresolved || self.store.pending.as_ref().is_some_and(|p| p.replaces_sync)
    }

    /// Submits a transaction; the caller has asked [`Self::can_txn`].
    pub(crate) fn submit(&mut self, kind: TxnFor, txn: Txn) {
        assert!(self.store.pending.is_none(), "one transaction at a time");
        let id = self.next_op();
        let replaces_sync = txn.puts.iter().any(|(key, ..)| *key == StoreKey::Sync)
            && txn.compares.iter().any(|(key, revision)| *key == StoreKey::Sync && revision.0 > 0);
        self.store.pending = Some(PendingTxn { id, purpose: txn.purpose, kind, replaces_sync });
        self.act(Action::Txn { id, txn });
    }

    /// A transaction that replaces the sync record, provided that it is still the one in the view.
    pub(crate) fn replace_sync(&self, purpose: &'static str, record: &SyncRecord) -> Txn {
        Txn {
            purpose,
            compares: vec![(StoreKey::Sync, self.sync_revision())],
            puts: vec![(StoreKey::Sync, to_json(record), LeaseChoice::None)],
            deletes: Vec::new(),
        }
    }

    /// The put of the leader record for this member.
    pub(crate) fn put_leader(&self, record: &SyncRecord) -> (StoreKey, Vec<u8>, LeaseChoice) {
        let leader = LeaderRecord {
            member: record.leader.member.clone(),
            incarnation: record.leader.incarnation,
            epoch: record.epoch,
            guard: if self.guard_will_arm() { GuardArming::Armed } else { GuardArming::Unarmed },
            extra: Default::default(),
        };
        (StoreKey::Leader, to_json(&leader), LeaseChoice::Leadership)
    }

    /// The last outcome was unknown: move the revision on before anything else.
    pub(crate) fn resolve_unknown(&mut self) {
        if !self.store.unresolved || !self.store.connected || self.store.pending.is_some() {
            return;
        }
        if self.now < self.store.retry_at {
            self.timers.set(Timer::RetryTxn, self.store.retry_at);
            return;
        }
        let Some(record) = self.sync_record() else { return };
        let led_by_me = self.me_id().is_some_and(|me| record.is_led_by(&me));
        let bumped = record.bumped();
        let mut txn = self.replace_sync("move the sync record on after an unknown outcome", &bumped);
        if led_by_me && self.lease.ready {
            txn.puts.push(self.put_leader(&bumped));
            self.submit(TxnFor::Reacquire, txn);
        } else {
            self.submit(TxnFor::Bump, txn);
        }
    }

    pub(crate) fn view_arrived(&mut self, view: StoreView) {
        if !self.store.connected && self.store.view.is_some() {
            self.note(Reason::StoreBack);
        }
        self.store.connected = true;
        self.store.rolled_back |= self.goes_back(&view);
        match &view.leader {
            Some(leader) => {
                self.store.last_leader = Some(leader.record.clone());
                self.store.leader_missing_since = None;
            }
            None => {
                self.store.leader_missing_since.get_or_insert(self.now);
            }
        }
        if !self.store.rolled_back {
            self.remember_seen(&view);
        }
        self.store.view = Some(view);
        self.note_takeover();
    }

    /// Whether the store shows less than this member acted on.
    fn goes_back(&self, view: &StoreView) -> bool {
        let seen = self.node.seen;
        match &view.sync {
            None => seen.epoch.0 > 0,
            Some(sync) => {
                // Revisions of another etcd cluster, as a restored snapshot is one, mean nothing; the generation grows
                // with every rewrite of the record, so it tells of an older list where the leader is still the same.
                sync.record.epoch < seen.epoch
                    || sync.record.generation < seen.generation
                    || (view.cluster_id == self.node.store_cluster_id && sync.revision < seen.revision)
            }
        }
    }

    fn remember_seen(&mut self, view: &StoreView) {
        let Some(sync) = &view.sync else { return };
        let mut node = self.node.clone();
        node.store_cluster_id = view.cluster_id;
        node.seen.revision = sync.revision;
        node.seen.epoch = sync.record.epoch;
        node.seen.generation = sync.record.generation;
        self.persist(node);
    }

    pub(crate) fn txn_done(&mut self, id: OpId, outcome: TxnOutcome) {
        let Some(pending) = self.store.pending.take_if(|p| p.id == id) else { return };
        let purpose = pending.purpose;
        let outcome = match outcome {
            // The view that comes with a success shows the record that was written. One that does not is of a store that
            // has gone back since, or was read before: nothing may be done by it.
            TxnOutcome::Won { revision } if pending.replaces_sync && self.sync_revision() < revision => {
                TxnOutcome::Unknown
            }
            known => known,
        };
        match &outcome {
            TxnOutcome::Won { .. } => {
                if pending.replaces_sync {
                    self.store.unresolved = false;
                }
                self.txn_won(pending.kind);
                return;
            }
            TxnOutcome::Lost => {
                // The sync record has moved past the revision that this and every older request compared.
                if pending.replaces_sync {
                    self.store.unresolved = false;
                }
                self.note(Reason::TxnLost { purpose });
            }
            TxnOutcome::Refused { reason } => {
                self.note(Reason::TxnRefused { purpose, why: reason.clone() });
            }
            TxnOutcome::Unknown => {
                if pending.replaces_sync {
                    self.store.unresolved = true;
                }
                self.note(Reason::TxnUnknown { purpose });
            }
        }
        self.store.retry_at = self.now + RETRY_TXN;
        self.txn_not_won(pending.kind, &outcome);
    }

    fn txn_won(&mut self, kind: TxnFor) {
        match kind {
            TxnFor::Initialize => self.initialize_won(),
            TxnFor::FoundCluster => self.cluster_founded(),
            TxnFor::Reacquire => {
                self.leadership_won("its agent took it up again");
                self.note_won(Won::Again);
            }
            TxnFor::RenewEpoch => {
                self.leadership_won("with a new epoch and timeline");
                self.note_won(Won::NewTimeline);
            }
            TxnFor::TakeOver => self.took_over(),
            TxnFor::ChangePolicy => self.policy_changed(),
            TxnFor::ReleaseKey => self.key_released(),
            TxnFor::Bump | TxnFor::Announce => {}
            TxnFor::Maintenance(request) => self.maintenance_written(request),
        }
    }

    fn txn_not_won(&mut self, kind: TxnFor, outcome: &TxnOutcome) {
        match kind {
            TxnFor::Maintenance(request) => self.maintenance_not_written(request, outcome),
            TxnFor::TakeOver => self.takeover_not_won(outcome),
            TxnFor::ChangePolicy => self.policy_not_changed(outcome),
            _ => {}
        }
    }
}
