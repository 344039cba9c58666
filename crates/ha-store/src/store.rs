//! What a consensus store offers: one consistent view, compare-and-swap transactions, leases, a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use ha_core::Revision;

use crate::error::StoreError;
use crate::watch::Watch;

/// Names a lease. Zero means "no lease", as in etcd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The key has no lease and lives until it is deleted.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One key with its value and its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// The value; its meaning is not the store's concern.
    pub value: Vec<u8>,
    /// The revision of the last write to the key.
    pub mod_revision: Revision,
    /// The revision at which the key came into being (again).
    pub create_revision: Revision,
    /// The lease that the last write attached; [`LeaseId::NONE`] if none.
    pub lease: LeaseId,
}

/// Everything below the cluster's prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Which etcd cluster answered. Another value than before means that the store was replaced.
    pub cluster_id: u64,
    /// The revision at which all entries were true together.
    pub revision: Revision,
    /// The entries by whole key.
    pub entries: BTreeMap<String, Entry>,
}

impl Snapshot {
    /// The entry of a whole key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The revision to compare with so that a transaction wins only if `key` is still as seen here; 0 if absent.
    pub fn mod_revision(&self, key: &str) -> Revision {
        self.get(key).map_or(Revision(0), |entry| entry.mod_revision)
    }
}

/// A condition of a transaction: the key was last written at exactly this revision; 0 means that it is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The whole key.
    pub key: String,
    /// Its expected `mod_revision`; 0 = absent.
    pub mod_revision: Revision,
}

/// A write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The whole key.
    pub key: String,
    /// The value to store.
    pub value: Vec<u8>,
    /// The lease to attach. `None` detaches the key from whatever lease it had.
    pub lease: Option<LeaseId>,
}

/// A compare-and-swap: when every compare holds, all puts and deletes happen at one revision, otherwise nothing does.
/// No key may be put twice, or put and deleted, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of these must hold.
    pub compares: Vec<Compare>,
    /// Keys to write.
    pub puts: Vec<Put>,
    /// Keys to delete; deleting an absent key is no error.
    pub deletes: Vec<String>,
}

impl Txn {
    /// An unconditional transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition that `key` was last written at `mod_revision`; 0 means that it is absent.
    #[must_use]
    pub fn when(mut self, key: impl Into<String>, mod_revision: Revision) -> Self {
        self.compares.push(Compare { key: key.into(), mod_revision });
        self
    }

    /// Adds the condition that `key` is absent.
    #[must_use]
    pub fn when_absent(self, key: impl Into<String>) -> Self {
        self.when(key, Revision(0))
    }

    /// Writes `key` without lease.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.puts.push(Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Writes `key` under `lease`.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        self.puts.push(Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// Deletes `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.deletes.push(key.into());
        self
    }

    /// Whether a key is put twice, or put and deleted. Stores refuse such a transaction ([`Refusal::Invalid`]).
    pub fn names_a_key_twice(&self) -> bool {
        let mut written = BTreeSet::new();
        let put_twice = self.puts.iter().any(|put| !written.insert(put.key.as_str()));
        put_twice || self.deletes.iter().any(|key| written.contains(key.as_str()))
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Every compare held and all writes happened, at this revision (the `mod_revision` of the keys put).
    Won {
        /// The revision of the writes.
        revision: Revision,
    },
    /// A compare did not hold and nothing was written. What stood in the store at that moment comes along.
    Lost {
        /// Everything below the prefix, at the revision at which the compare failed.
        snapshot: Snapshot,
    },
    /// Definitely nothing was written, and nothing will be.
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// Not done, done, or done *later*: a read that shows the old value proves nothing. Resolve it with a transaction
    /// that moves the revision which this one compared.
    Unknown {
        /// What is known of the failure.
        reason: String,
    },
}

impl TxnOutcome {
    /// Whether the transaction is known to have happened.
    pub fn is_won(&self) -> bool {
        matches!(self, Self::Won { .. })
    }
}

/// Why a transaction was definitely not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A put names a lease that does not exist (any more).
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// The store is out of space and takes no writes until an operator acts.
    #[error("the store is out of space")]
    NoSpace,
    /// The transaction is malformed, for instance writes a key twice.
    #[error("the store calls the transaction invalid: {0}")]
    Invalid(String),
    /// The store is overloaded and took no further request.
    #[error("the store is overloaded: {0}")]
    Overloaded(String),
    /// The store does not accept our credentials. This is not a partition.
    #[error("the store does not accept our credentials: {0}")]
    Unauthenticated(String),
    /// The store knows us and forbids this.
    #[error("the store forbids the transaction: {0}")]
    PermissionDenied(String),
    /// No endpoint was reachable, so the transaction never left this process.
    #[error("the transaction was never sent: {0}")]
    NotSent(String),
}

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// The time to live as granted: whole seconds, and not less than the store's minimum. Count it from the moment
    /// at which the request was *sent*.
    pub ttl: Duration,
}

/// The answer to a lease renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// The lease lives for `ttl` from some moment after the call began: count it from the start of the call.
    Renewed {
        /// The whole time to live.
        ttl: Duration,
    },
    /// The lease has ended; its keys are, or are being, deleted.
    Gone,
}

/// What one etcd member says of itself, or why it did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The endpoint that was asked.
    pub endpoint: String,
    /// The server's version; empty if it did not answer.
    pub version: String,
    /// The member's id.
    pub member_id: u64,
    /// The id of the member that it takes for the leader; 0 = none.
    pub leader_id: u64,
    /// Size of its database file in bytes.
    pub db_size_bytes: u64,
    /// Alarms and other complaints of the member, or why it did not answer.
    pub problems: Vec<String>,
}

impl MemberStatus {
    /// Whether this version may answer a renewal of an ended lease with success, or end living leases after a stall:
    /// fixed in 3.4.38, 3.5.23 and 3.6.5. False if the version is not known.
    pub fn has_lease_defects(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
            (Some(3), Some(minor), Some(patch)) => match minor {
                0..4 => true,
                4 => patch < 38,
                5 => patch < 23,
                6 => patch < 5,
                _ => false,
            },
            _ => false,
        }
    }
}

/// The answers of all members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// One per configured endpoint, in that order.
    pub members: Vec<MemberStatus>,
}

/// A consensus store, seen through the prefix of one cluster. Every call ends within the store's own deadline.
/// Cheap to share; dropping a call's future leaves the outcome of a write unknown.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads everything below the prefix, linearizably: it shows every write that was confirmed before the call.
    ///
    /// # Errors
    /// [`StoreError`] if no member could answer in time; nothing was changed.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Does all of `txn` or nothing of it.
    async fn txn(&self, txn: Txn) -> TxnOutcome;

    /// Makes a lease of at least `ttl` (rounded up to whole seconds and to the store's minimum).
    ///
    /// # Errors
    /// [`StoreError`]; a lease may have come into being nevertheless, and ends by itself.
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError>;

    /// Renews a lease to its full time to live. `Renewed` is only ever the answer to *this* call.
    ///
    /// # Errors
    /// [`StoreError`] if no answer came in time; the lease may or may not have been renewed.
    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError>;

    /// Ends a lease now and deletes its keys. A lease that does not exist is no error.
    ///
    /// # Errors
    /// [`StoreError`]; the lease may have ended nevertheless, or end later.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Follows everything below the prefix. See [`WatchEvent`](crate::WatchEvent) for what comes when. A hint to look,
    /// never a proof: decisions need [`Store::snapshot`] or a transaction. Must be called inside a tokio runtime.
    fn watch(&self) -> Watch;

    /// Asks each member for its version, leader and alarms, for warnings and display.
    async fn status(&self) -> StoreStatus;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_lease_defects_are_known() {
        let defect = |version: &str| {
            let version = version.to_owned();
            let (endpoint, problems) = (String::new(), Vec::new());
            MemberStatus { endpoint, version, member_id: 1, leader_id: 1, db_size_bytes: 0, problems }
                .has_lease_defects()
        };
        assert!(["3.3.27", "3.4.23", "3.5.22", "3.6.4"].into_iter().all(defect));
        assert!(!["3.4.38", "3.5.23", "3.6.5", "3.7.0", "4.0.0", "", "model"].into_iter().any(defect));
    }
}
