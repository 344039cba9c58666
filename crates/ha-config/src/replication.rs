//! `[replication]`: what commits wait for.

use std::time::Duration;

use ha_core::{MemberName, ReplicationMode};

use crate::cluster::DatabaseHost;
use crate::reader::Table;
use crate::units::parse_size;

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

impl Replication {
    pub(crate) fn read(table: &Table<'_>, databases: &[DatabaseHost]) -> Self {
        const S: fn(u64) -> Duration = Duration::from_secs;
        let default = Self::default();
        let mode = table.read("mode", "\"synchronous\", \"strict\" or \"asynchronous\"", |value| {
            value.as_str().and_then(|text| text.parse().ok())
        });
        let keep = table.read(
            "max_slot_wal_keep_size",
            "a size such as \"16GB\", at least \"1MB\", or \"unlimited\"",
            |value| match value.as_str()? {
                "unlimited" => Some(None),
                text => parse_size(text).filter(|size| *size >= 1 << 20).map(Some),
            },
        );
        Self {
            mode: mode.map_or(default.mode, |at| at.value),
            acks: table.number("acks", 1..=100).unwrap_or(default.acks),
            members: read_members(table, databases),
            maximum_lag_bytes: table.size("maximum_lag").unwrap_or(default.maximum_lag_bytes),
            rewind: table.boolean("rewind").unwrap_or(default.rewind),
            slots: table.boolean("slots").unwrap_or(default.slots),
            degrade_after: table.duration("degrade_after", S(1)..=S(3600)).unwrap_or(default.degrade_after),
            max_slot_wal_keep_size: keep.map_or(default.max_slot_wal_keep_size, |at| at.value),
        }
    }
}

fn read_members(table: &Table<'_>, databases: &[DatabaseHost]) -> Option<Vec<MemberName>> {
    let names: Vec<&str> = databases.iter().map(|host| host.name.as_str()).collect();
    let expected = format!("the name of a [[database]]: {}", names.join(", "));
    let given = table.list("members", &expected)?;
    let mut members: Vec<MemberName> = Vec::new();
    for entry in given {
        let known = databases.iter().find(|host| host.name.as_str() == entry.value);
        match known {
            Some(host) if members.contains(&host.name) => {
                let found = format!("{:?} a second time", entry.value);
                table.report.push(entry.line, entry.key, found, "each member once");
            }
            Some(host) => members.push(host.name.clone()),
            None => table.report.push(entry.line, entry.key, format!("{:?}", entry.value), &*expected),
        }
    }
    Some(members)
}
