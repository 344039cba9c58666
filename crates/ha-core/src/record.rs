//! The records below `/matriarch/<cluster>/` in etcd. JSON; log positions as text. Readers tolerate unknown fields and
//! writers keep them (`extra`), so that versions can be mixed during an upgrade. Golden files stand in
//! `tests/records/`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::{Epoch, Generation, Incarnation, MemberId, MemberName, Revision, SystemId};
use crate::mono_time::BootId;
use crate::replication_mode::ReplicationMode;
use crate::wal::{Lsn, Timeline};

/// Version of the protocol that this build speaks. A record says from which version on it may be read and written.
pub const PROTOCOL: u32 = 1;

/// Fields of newer versions that this one does not know; kept when a record is rewritten.
pub type Extra = BTreeMap<String, Value>;

/// A record together with the revision at which it was written: what a compare-and-swap needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub record: T,
    /// `mod_revision` of its key.
    pub revision: Revision,
}

/// `sync`: the authority. Who leads, at which epoch, and which members every acknowledged commit rests on. It has no
/// lease and is changed only by compare-and-swap on its revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// Protocol version of the writer.
    pub proto: u32,
    /// An agent below this version only observes.
    pub min_reader: u32,
    /// An agent below this version never writes, promises or leads.
    pub min_writer: u32,
    /// Drawn once at bootstrap; tells two clusters of one name apart.
    pub cluster_uuid: String,
    /// PostgreSQL's identifier of the data.
    pub system_id: SystemId,
    /// Number of the leadership.
    pub epoch: Epoch,
    /// Grows at each rewrite.
    #[serde(rename = "gen")]
    pub generation: Generation,
    /// Who leads.
    pub leader: LeaderId,
    /// What acknowledged commits rest on.
    pub policy: Policy,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The leader of an epoch as the sync record writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderId {
    /// Member name.
    pub member: MemberName,
    /// Incarnation of its data directory.
    pub incarnation: Incarnation,
}

impl From<MemberId> for LeaderId {
    fn from(id: MemberId) -> Self {
        Self { member: id.name, incarnation: id.incarnation }
    }
}

impl LeaderId {
    /// As a member identity.
    pub fn id(&self) -> MemberId {
        MemberId::new(self.member.clone(), self.incarnation)
    }
}

/// How acknowledged commits are covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// Every acknowledged commit is flushed on at least k of the listed members.
    Quorum,
    /// The leader alone holds everything; nobody else may lead without a human accepting loss.
    Pinned,
    /// Nothing is promised about standbys.
    Asynchronous,
}

/// Which members every acknowledged commit rests on. `epoch` below the record's epoch means that the leader is
/// *unestablished*: it must acknowledge nothing, and this is still the policy of an earlier leadership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Epoch whose leader the policy belongs to.
    pub epoch: Epoch,
    /// Kind of cover.
    pub kind: PolicyKind,
    /// The listed members; empty unless `kind` is quorum.
    pub members: BTreeSet<MemberId>,
    /// How many of them confirm each commit; 0 unless `kind` is quorum.
    pub k: u32,
}

impl Policy {
    /// A quorum policy; `k` is brought between 1 and the number of members.
    pub fn quorum(epoch: Epoch, members: BTreeSet<MemberId>, k: u32) -> Self {
        let most = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
        Self { epoch, kind: PolicyKind::Quorum, members, k: k.clamp(1, most) }
    }

    /// The leader alone holds everything.
    pub fn pinned(epoch: Epoch) -> Self {
        Self { epoch, kind: PolicyKind::Pinned, members: BTreeSet::new(), k: 0 }
    }

    /// Nothing is promised.
    pub fn asynchronous(epoch: Epoch) -> Self {
        Self { epoch, kind: PolicyKind::Asynchronous, members: BTreeSet::new(), k: 0 }
    }

    /// How many promises revoke every possible acknowledgement: n - k + 1. At least one even for a malformed policy.
    pub fn needed_promises(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.k as usize).max(1)
    }

    /// Whether this incarnation of the member is listed.
    pub fn lists(&self, member: &MemberId) -> bool {
        self.members.contains(member)
    }
}

impl SyncRecord {
    /// Whether the leader may acknowledge commits under its own epoch's policy.
    pub fn is_established(&self) -> bool {
        self.policy.epoch == self.epoch
    }

    /// Whether this incarnation leads.
    pub fn is_led_by(&self, member: &MemberId) -> bool {
        self.leader.member == member.name && self.leader.incarnation == member.incarnation
    }

    /// Whether commits of the leader wait for listed members (or for a first follower, when unestablished).
    pub fn waits_for_standbys(&self) -> bool {
        !self.is_established() || self.policy.kind == PolicyKind::Quorum
    }

    /// The same content one generation on: the smallest change that outdates every transaction built on the old one.
    #[must_use]
    pub fn bumped(&self) -> Self {
        Self { generation: self.generation.next(), ..self.clone() }
    }
}

/// `leader`: leased; who is alive in its leadership. Losing it does not end a leadership, the sync record does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Member name.
    pub member: MemberName,
    /// Incarnation of its data directory.
    pub incarnation: Incarnation,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether a guard holds a deadline for this leadership.
    pub guard: GuardArming,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether a leader's PostgreSQL is ended by a guard when the lease cannot be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardArming {
    /// A guard holds the deadline.
    Armed,
    /// No guard: nothing ends an isolated primary from outside.
    Unarmed,
}

/// `members/<name>`: under the member's own lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Protocol version of the agent.
    pub proto: u32,
    /// Version of the agent's program.
    pub version: String,
    /// Address that clients and standbys use for PostgreSQL.
    pub address: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// Life of the data directory, when there is one.
    pub incarnation: Option<Incarnation>,
    /// Identifier of the data, when there is any.
    pub system_id: Option<SystemId>,
    /// Digest of the member's cluster.toml; a difference between members is shown and warned about.
    pub file_digest: String,
    /// Boot of the machine.
    pub boot: BootId,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `history/<timeline>`: reserved in the transaction that decides a leadership, so that no timeline id gets two
/// histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Epoch that the timeline belongs to.
    pub epoch: Epoch,
    /// Timeline that it leaves.
    pub parent: Timeline,
    /// The winner's flushed position when it was decided.
    pub switch_lsn: Lsn,
    /// Who leads on it.
    pub member: MemberName,
    /// Why the leadership changed, in words.
    pub reason: String,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `initialize`: created by the member that may run `initdb`, under its lease; permanent once the cluster exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitializeRecord {
    /// Who runs or ran `initdb`.
    pub member: MemberName,
    /// Identifier of the data, once it exists.
    pub system_id: Option<SystemId>,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `config`: the policy of the running cluster. The file gives the first values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Wanted durability.
    pub mode: ReplicationMode,
    /// Wanted number of confirming standbys (k).
    pub acks: u32,
    /// Stay blocked until `acks` members qualify instead of beginning with fewer.
    pub strict_k: bool,
    /// After so long without any standby a synchronous leader pins itself, ms.
    pub degrade_after_ms: u64,
    /// A standby further behind is no candidate in asynchronous mode, bytes.
    pub maximum_lag_bytes: u64,
    /// How fast a lost leader is replaced; each member's own file where the record says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<FailoverTimes>,
    /// Whether a lost leader is replaced without a human.
    pub automatic: bool,
    /// Asynchronous mode: replace a leader whose guard was not armed.
    pub unfenced: bool,
    /// PostgreSQL parameters.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf` after the agent's own.
    pub hba: Vec<String>,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How fast a lost leader is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverTimes {
    /// Silence of the leader after which it is replaced, ms.
    pub detection_ms: u64,
    /// How long a candidate waits for promises before it asks again, ms.
    pub promise_timeout_ms: u64,
    /// After so long without a takeover a promise is aborted, ms.
    pub abort_after_ms: u64,
}

impl FailoverTimes {
    /// Below this a scheduler's pause or three lost datagrams would pass for the loss of a host, ms.
    pub const LEAST_DETECTION_MS: u64 = 300;

    /// What makes these times unusable together with the settings that they belong to; in words.
    pub fn problem(&self, degrade_after_ms: u64) -> Option<String> {
        if self.detection_ms < Self::LEAST_DETECTION_MS {
            return Some(format!(
                "detection_ms {} is below {} ms",
                self.detection_ms,
                Self::LEAST_DETECTION_MS
            ));
        }
        let takeover = self.detection_ms + self.promise_timeout_ms + self.abort_after_ms;
        (degrade_after_ms <= takeover).then(|| {
            format!(
                "degrade_after_ms {degrade_after_ms} is not more than detection_ms + promise_timeout_ms + abort_after_ms = {takeover}"
            )
        })
    }

    /// Silence of the leader after which it is replaced.
    pub fn detection(&self) -> Duration {
        Duration::from_millis(self.detection_ms)
    }

    /// How long a candidate waits for promises before it asks again.
    pub fn promise_timeout(&self) -> Duration {
        Duration::from_millis(self.promise_timeout_ms)
    }

    /// After so long without a takeover a promise is aborted.
    pub fn abort_after(&self) -> Duration {
        Duration::from_millis(self.abort_after_ms)
    }
}

impl ClusterSettings {
    /// How long a synchronous leader waits without any standby before it pins itself.
    pub fn degrade_after(&self) -> Duration {
        Duration::from_millis(self.degrade_after_ms)
    }
}

/// `maintenance`: maintenance mode is on while this key lives. It hangs on a lease of the asked length, so it ends by
/// itself, measured by the store's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceRecord {
    /// Why, as the operator said.
    pub reason: String,
    /// For how long it was asked, seconds.
    pub for_seconds: u64,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `switchover`: a planned change of leader is under way; proxies hold new work meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverRecord {
    /// Leader that hands over.
    pub from: MemberName,
    /// Who is to lead.
    pub to: MemberName,
    /// Epoch that ends.
    pub epoch: Epoch,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `status`: the last event of the leadership; written on events only, an idle cluster writes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRecord {
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// Timeline that it writes.
    pub timeline: Timeline,
    /// Its flushed position at the event.
    pub lsn: Lsn,
    /// What happened, in words.
    pub event: String,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}
