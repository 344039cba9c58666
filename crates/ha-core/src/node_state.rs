//! What a member must not forget. Kept in `/var/lib/matriarch/<cluster>/node-state.json`, fsynced before anything
//! that depends on it is said or done.

use serde::{Deserialize, Serialize};

use crate::identity::{Epoch, Generation, Incarnation, MemberId, MemberName, Revision};
use crate::record::Extra;

/// Durable state of one member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeState {
    /// etcd cluster that `seen` speaks of; another one means that the store was replaced.
    pub store_cluster_id: u64,
    /// The newest state of the store that this member acted on.
    pub seen: Seen,
    /// Life of the data directory; the directory holds the same value.
    pub incarnation: Option<Incarnation>,
    /// Newest epoch that this life of the data directory has led. It holds everything that was ever acknowledged up to
    /// that epoch, whoever else is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub led: Option<Epoch>,
    /// The promise that binds this member, if any.
    pub promise: Option<Promise>,
    /// The longest time for which an answer to a beat has bound this member to refuse promises, or has let it believe as a
    /// leader that others are, milliseconds; 0 if none did. After a restart it does not know when that was.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_for_ms: u64,
    /// A job that rewrites the data directory and had not ended.
    pub job: Option<JobMarker>,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Highest values seen; the store showing less means that it was restored from a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Revision of the sync record.
    pub revision: Revision,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its generation.
    #[serde(rename = "gen")]
    pub generation: Generation,
}

/// "I shall confirm nothing more to the leader of this epoch": a revocation, not a vote. It is void only once the sync
/// record has moved past `revision`, or names a higher epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Epoch that is revoked.
    pub epoch: Epoch,
    /// Revision of the sync record that the promise is scoped to.
    pub revision: Revision,
    /// Who asked.
    pub candidate: MemberName,
}

/// A job that leaves the data directory unusable when it is interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMarker {
    /// What ran.
    pub kind: JobKind,
    /// Epoch at which it was begun.
    pub epoch: Epoch,
    /// Where it copied from; none for `initdb`.
    pub source: Option<MemberId>,
}

/// Kinds of journaled jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// `initdb`.
    Initdb,
    /// `pg_basebackup`.
    Clone,
    /// `pg_rewind`.
    Rewind,
}
