//! `[replication]`: what commits wait for.

use std::time::Duration;

use ha_core::{MemberName, ReplicationMode};

/// What commits wait for and how far a standby may be behind. Initial values: the mode in force lives in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// The wanted durability of acknowledged commits.
    pub mode: ReplicationMode,
    /// How many standbys confirm each commit (k).
    pub acks: u32,
    /// Members that may be in the synchronous list; `None` = all without the tag `nosync`.
    pub members: Option<Vec<MemberName>>,
    /// Largest distance behind at which a member may be promoted in asynchronous mode, in bytes.
    pub maximum_lag_bytes: u64,
    /// Whether an old primary is rejoined by pg_rewind (otherwise by a new clone).
    pub rewind: bool,
    /// Whether each member gets a replication slot.
    pub slots: bool,
    /// In mode `synchronous`: without any standby for this long the leader pins itself and goes on alone.
    pub degrade_after: Duration,
    /// PostgreSQL's `max_slot_wal_keep_size` in bytes: what the slot of an absent standby may keep.
    /// `None` = unlimited (`-1`).
    pub max_slot_wal_keep_size: Option<u64>,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            mode: ReplicationMode::Synchronous,
            acks: 1,
            members: None,
            maximum_lag_bytes: 1024 * 1024,
            rewind: true,
            slots: true,
            degrade_after: Duration::from_secs(5),
            max_slot_wal_keep_size: Some(16 * 1024 * 1024 * 1024),
        }
    }
}
