//! What a member knows of the store: all records at one revision.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::identity::{MemberName, Revision};
use crate::record::{
    ClusterSettings, HistoryRecord, InitializeRecord, LeaderRecord, MaintenanceRecord, MemberRecord,
    PROTOCOL, StatusRecord, SwitchoverRecord, SyncRecord, Versioned,
};
use crate::wal::Timeline;

/// A key below the cluster's prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreKey {
    /// The authority.
    Sync,
    /// The leased leader record.
    Leader,
    /// A member's own record.
    Member(MemberName),
    /// A reserved timeline.
    History(Timeline),
    /// Policy of the running cluster.
    Config,
    /// Who may run `initdb`.
    Initialize,
    /// Last event.
    Status,
    /// A planned change of leader.
    Switchover,
    /// Maintenance mode.
    Maintenance,
}

impl StoreKey {
    /// The key relative to the cluster's prefix. Timelines have eight digits so that they sort.
    pub fn relative(&self) -> String {
        match self {
            Self::Sync => "sync".into(),
            Self::Leader => "leader".into(),
            Self::Member(name) => format!("members/{name}"),
            Self::History(timeline) => format!("history/{:08X}", timeline.0),
            Self::Config => "config".into(),
            Self::Initialize => "initialize".into(),
            Self::Status => "status".into(),
            Self::Switchover => "switchover".into(),
            Self::Maintenance => "maintenance".into(),
        }
    }
}

/// All records at one revision of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreView {
    /// etcd's cluster id.
    pub cluster_id: u64,
    /// Revision of the store at which this was read.
    pub revision: Revision,
    /// The authority.
    pub sync: Option<Versioned<SyncRecord>>,
    /// Who is alive in its leadership.
    pub leader: Option<Versioned<LeaderRecord>>,
    /// Members that are alive.
    pub members: BTreeMap<MemberName, MemberRecord>,
    /// Reserved timelines.
    pub history: BTreeMap<Timeline, HistoryRecord>,
    /// Policy.
    pub config: Option<Versioned<ClusterSettings>>,
    /// Who may run `initdb`.
    pub initialize: Option<Versioned<InitializeRecord>>,
    /// Last event.
    pub status: Option<Versioned<StatusRecord>>,
    /// Planned change of leader.
    pub switchover: Option<Versioned<SwitchoverRecord>>,
    /// Maintenance mode.
    pub maintenance: Option<Versioned<MaintenanceRecord>>,
    /// Why the view must not be acted upon: a record that cannot be read, or that asks for a newer reader.
    pub unreadable: Option<String>,
}

impl StoreView {
    /// Reads all entries below the prefix: `(relative key, value, mod_revision)`. Unknown keys are ignored. A record
    /// that cannot be read makes the view [`unreadable`](Self::unreadable) instead of silently absent, because "no sync
    /// record" would mean "no cluster yet".
    pub fn read<'a>(
        cluster_id: u64,
        revision: Revision,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8], Revision)>,
    ) -> Self {
        let mut view = Self { cluster_id, revision, ..Self::default() };
        for (key, value, at) in entries {
            if let Err(error) = view.take(key, value, at) {
                view.unreadable.get_or_insert_with(|| format!("record {key}: {error}"));
            }
        }
        if let Some(sync) = &view.sync
            && sync.record.min_reader > PROTOCOL
        {
            view.unreadable.get_or_insert_with(|| {
                format!(
                    "record sync asks for protocol {}, this agent speaks {PROTOCOL}",
                    sync.record.min_reader
                )
            });
        }
        view
    }

    fn take(&mut self, key: &str, value: &[u8], revision: Revision) -> Result<(), serde_json::Error> {
        fn versioned<T: DeserializeOwned>(
            value: &[u8],
            revision: Revision,
        ) -> Result<Option<Versioned<T>>, serde_json::Error> {
            Ok(Some(Versioned { record: serde_json::from_slice(value)?, revision }))
        }
        match key {
            "sync" => self.sync = versioned(value, revision)?,
            "leader" => self.leader = versioned(value, revision)?,
            "config" => self.config = versioned(value, revision)?,
            "initialize" => self.initialize = versioned(value, revision)?,
            "status" => self.status = versioned(value, revision)?,
            "switchover" => self.switchover = versioned(value, revision)?,
            "maintenance" => self.maintenance = versioned(value, revision)?,
            _ => {
                if let Some(name) = key.strip_prefix("members/") {
                    if let Ok(name) = name.parse() {
                        self.members.insert(name, serde_json::from_slice(value)?);
                    }
                } else if let Some(timeline) = key.strip_prefix("history/")
                    && let Ok(timeline) = u32::from_str_radix(timeline, 16)
                {
                    self.history.insert(Timeline(timeline), serde_json::from_slice(value)?);
                }
            }
        }
        Ok(())
    }

    /// Whether an agent of this version may write, promise or lead.
    pub fn may_write(&self) -> bool {
        self.unreadable.is_none() && self.sync.as_ref().is_none_or(|s| s.record.min_writer <= PROTOCOL)
    }

    /// `mod_revision` of the sync record; 0 when absent.
    pub fn sync_revision(&self) -> Revision {
        self.sync.as_ref().map_or(Revision(0), |s| s.revision)
    }

    /// `mod_revision` of the leader record; 0 when absent.
    pub fn leader_revision(&self) -> Revision {
        self.leader.as_ref().map_or(Revision(0), |l| l.revision)
    }

    /// The highest timeline that was ever reserved.
    pub fn highest_timeline(&self) -> Option<Timeline> {
        self.history.keys().next_back().copied()
    }
}

/// A record as the JSON text that goes into the store.
///
/// # Panics
/// Never for the records of this crate: their keys are strings and their numbers finite.
pub fn to_json<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and finite numbers")
}
