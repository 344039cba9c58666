//! An exact model of etcd as this crate uses it: deterministic, without clock, I/O or async. Time is passed in.
//!
//! It exists so that the simulator can try histories that a real etcd shows once a year: transactions applied after
//! their client gave up ([`Model::submit`], [`Model::apply`]), leader changes that give every lease its whole life
//! back, compaction under a watch, a restore from a backup. `tests/contract.rs` runs the same checks on this model
//! and on a real server, which is what makes the simulator's results worth something.
//!
//! What it takes from etcd (checked against the server's source and by the contract test): a store begins at
//! revision 1 and a write makes the next; a transaction's writes share one revision; a transaction that changes nothing
//! (also one that only deletes absent keys) makes none; compares are looked at before the leases of its puts.

mod history;
mod lease;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::{MonoTime, Revision};

pub use self::history::Compacted;
use self::history::History;
use self::lease::Leases;
pub(crate) use self::lease::whole_seconds;
use crate::store::{Entry, KeepAlive, Lease, LeaseId, Refusal, Snapshot, Txn, TxnOutcome};
use crate::watch::Change;

/// Names a transaction that was sent and whose fate is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The store has no leader (it lost its quorum, or an election is under way) and can answer nothing that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has no leader")]
pub struct NoLeader;

/// One etcd cluster, seen through one prefix. `Clone` is a backup: see [`Model::restore`].
#[derive(Debug, Clone)]
pub struct Model {
    prefix: String,
    cluster_id: u64,
    revision: Revision,
    entries: BTreeMap<String, Entry>,
    history: History,
    leases: Leases,
    pending: BTreeMap<RequestId, Txn>,
    next_request: u64,
    has_leader: bool,
    no_space: bool,
}

impl Model {
    /// An empty store with a leader. `prefix` limits snapshots and watches, not transactions. `election_timeout` is
    /// etcd's setting: one and a half of it, rounded up to seconds, is the shortest lease.
    pub fn new(prefix: impl Into<String>, cluster_id: u64, election_timeout: Duration) -> Self {
        Self {
            prefix: prefix.into(),
            cluster_id,
            revision: Revision(1),
            entries: BTreeMap::new(),
            history: History::default(),
            leases: Leases::new(election_timeout),
            pending: BTreeMap::new(),
            next_request: 1,
            has_leader: true,
            no_space: false,
        }
    }

    /// Lets time pass: leases that are due end, each at a revision of its own. All other methods that take `now` do
    /// this first. Time that goes back is ignored.
    pub fn advance(&mut self, now: MonoTime) {
        if !self.has_leader {
            return; // Only a leader counts time and revokes.
        }
        for due in self.leases.take_due(now) {
            self.delete_together(due);
        }
    }

    /// When [`Model::advance`] next has something to do, unless something happens before.
    pub fn next_timeout(&self) -> Option<MonoTime> {
        if self.has_leader { self.leases.next_due() } else { None }
    }

    /// The cluster id.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The revision of the newest write.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Everything below the prefix, without asking whether a read would be answered now.
    pub fn peek(&self) -> Snapshot {
        let entries =
            self.entries.range(self.prefix.clone()..).take_while(|(key, _)| key.starts_with(&self.prefix));
        Snapshot {
            cluster_id: self.cluster_id,
            revision: self.revision,
            entries: entries.map(|(key, entry)| (key.clone(), entry.clone())).collect(),
        }
    }

    /// A linearizable read of everything below the prefix.
    ///
    /// # Errors
    /// [`NoLeader`].
    pub fn snapshot(&mut self, now: MonoTime) -> Result<Snapshot, NoLeader> {
        self.advance(now);
        if self.has_leader { Ok(self.peek()) } else { Err(NoLeader) }
    }

    /// Sends a transaction without applying it: it is in the network, or in a queue of the server. It stays there,
    /// whatever its client believes, until it is applied or discarded.
    pub fn submit(&mut self, txn: Txn) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.pending.insert(id, txn);
        id
    }

    /// The transactions whose fate is open, oldest first. They may be applied in any order.
    pub fn pending(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.pending.keys().copied()
    }

    /// Applies a pending transaction now and returns the answer, which may or may not reach the client. `None` if there
    /// is no such request, or no leader (then it stays pending). Never [`TxnOutcome::Unknown`].
    pub fn apply(&mut self, now: MonoTime, id: RequestId) -> Option<TxnOutcome> {
        self.advance(now);
        if !self.has_leader {
            return None;
        }
        let txn = self.pending.remove(&id)?;
        Some(self.decide(&txn))
    }

    /// Loses a pending transaction for ever.
    pub fn discard(&mut self, id: RequestId) {
        self.pending.remove(&id);
    }

    /// Sends and applies at once. Without leader it is refused as never sent, as a server refuses calls that demand one.
    pub fn txn(&mut self, now: MonoTime, txn: &Txn) -> TxnOutcome {
        self.advance(now);
        if !self.has_leader {
            return TxnOutcome::Refused { reason: Refusal::NotSent(NoLeader.to_string()) };
        }
        self.decide(txn)
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`], or [`Refusal::NotSent`] without leader.
    pub fn grant(&mut self, now: MonoTime, ttl: Duration) -> Result<Lease, Refusal> {
        self.advance(now);
        if !self.has_leader {
            return Err(Refusal::NotSent(NoLeader.to_string()));
        }
        if self.no_space {
            return Err(Refusal::NoSpace);
        }
        Ok(self.leases.grant(now, ttl))
    }

    /// Renews a lease to its full time to live. A lease past its end is gone even while its keys still stand.
    ///
    /// # Errors
    /// [`NoLeader`].
    pub fn keep_alive(&mut self, now: MonoTime, lease: LeaseId) -> Result<KeepAlive, NoLeader> {
        self.advance(now);
        if self.has_leader { Ok(self.leases.keep_alive(now, lease)) } else { Err(NoLeader) }
    }

    /// Ends a lease and deletes its keys, at one revision.
    ///
    /// # Errors
    /// [`NoLeader`].
    pub fn revoke(&mut self, now: MonoTime, lease: LeaseId) -> Result<(), NoLeader> {
        self.advance(now);
        if !self.has_leader {
            return Err(NoLeader);
        }
        let keys = self.leases.end(lease);
        self.delete_together(keys);
        Ok(())
    }

    /// The changes below the prefix from revision `from` on (inclusive), oldest first.
    ///
    /// # Errors
    /// [`Compacted`] when the history no longer reaches back that far.
    pub fn changes_since(&self, from: Revision) -> Result<Vec<Change>, Compacted> {
        self.history.since(from, &self.prefix)
    }

    /// Forgets the history before `revision` (at most the present one).
    pub fn compact(&mut self, revision: Revision) {
        self.history.compact(revision.min(self.revision));
    }

    /// The leader is lost, or the quorum: nothing is applied and no lease ends until [`Model::elect_leader`].
    pub fn lose_leader(&mut self, now: MonoTime) {
        self.advance(now);
        self.has_leader = false;
    }

    /// A leader was elected. It knows nothing of how long leases have run: each gets its full time to live and one
    /// election timeout on top.
    pub fn elect_leader(&mut self, now: MonoTime) {
        self.advance(now);
        self.has_leader = true;
        self.leases.refresh_all(now);
    }

    /// Whether there is a leader.
    pub fn has_leader(&self) -> bool {
        self.has_leader
    }

    /// Raises or clears the alarm that stops grants and transactions with puts. Reads and renewals go on.
    pub fn set_no_space(&mut self, no_space: bool) {
        self.no_space = no_space;
    }

    /// Puts an older state back, as an operator restores a backup. Requests in flight are lost with the old servers'
    /// connections. A restore may or may not keep the cluster id; the revision goes back in any case.
    pub fn restore(&mut self, now: MonoTime, backup: &Self, cluster_id: u64) {
        let next_request = self.next_request;
        *self = backup.clone();
        self.cluster_id = cluster_id;
        self.next_request = next_request;
        self.pending.clear();
        self.has_leader = true;
        self.leases.refresh_all(now);
    }

    fn decide(&mut self, txn: &Txn) -> TxnOutcome {
        let refused = |reason| TxnOutcome::Refused { reason };
        if txn.names_a_key_twice() {
            return refused(Refusal::Invalid("duplicate key given in txn request".to_owned()));
        }
        if self.no_space && !txn.puts.is_empty() {
            return refused(Refusal::NoSpace);
        }
        let holds = |key: &str| self.entries.get(key).map_or(Revision(0), |entry| entry.mod_revision);
        if txn.compares.iter().any(|compare| holds(&compare.key) != compare.mod_revision) {
            return TxnOutcome::Lost { snapshot: self.peek() };
        }
        let unknown_lease = |lease: LeaseId| lease != LeaseId::NONE && !self.leases.exists(lease);
        if txn.puts.iter().filter_map(|put| put.lease).any(unknown_lease) {
            return refused(Refusal::LeaseNotFound);
        }
        self.write(txn);
        TxnOutcome::Won { revision: self.revision }
    }

    fn write(&mut self, txn: &Txn) {
        let revision = self.revision.next();
        let mut changes = Vec::new();
        for put in &txn.puts {
            let lease = put.lease.unwrap_or(LeaseId::NONE);
            self.leases.attach(&put.key, lease);
            let create_revision = self.entries.get(&put.key).map_or(revision, |old| old.create_revision);
            let value = put.value.clone();
            let entry = Entry { key: put.key.clone(), value, mod_revision: revision, create_revision, lease };
            self.entries.insert(put.key.clone(), entry.clone());
            changes.push(Change { revision, key: put.key.clone(), entry: Some(entry) });
        }
        changes.extend(self.remove(&txn.deletes, revision));
        self.commit(revision, changes);
    }

    fn delete_together(&mut self, keys: Vec<String>) {
        let revision = self.revision.next();
        let changes = self.remove(&keys, revision);
        self.commit(revision, changes);
    }

    fn remove(&mut self, keys: &[String], revision: Revision) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in keys {
            if self.entries.remove(key).is_some() {
                self.leases.attach(key, LeaseId::NONE);
                changes.push(Change { revision, key: key.clone(), entry: None });
            }
        }
        changes
    }

    /// A revision exists only if something changed at it.
    fn commit(&mut self, revision: Revision, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.revision = revision;
            self.history.extend(changes);
        }
    }
}
