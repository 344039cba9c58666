//! What is on disk: log, control file, signal file, the agent-owned settings.

use std::collections::BTreeSet;

use ha_core::postgres_view::{ControlState, DataDirectory, DataFacts};
use ha_core::standby_names::StandbyNames;
use ha_core::{Incarnation, SystemId, Timeline};
use ha_decision::{Access, ServerSettings};

use super::wal::{Record, RecordKind, Wal, lsn};

/// A data directory or its absence.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing.
    Empty,
    /// Half of a copy.
    Broken,
    /// Usable.
    Present(Box<Directory>),
}

/// A usable data directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// Whose data.
    pub system_id: SystemId,
    /// The incarnation file.
    pub incarnation: Option<Incarnation>,
    /// The control file's state.
    pub state: ControlState,
    /// The log, including what was received and not flushed yet.
    pub wal: Wal,
    /// How much of it survives a power loss.
    pub flushed: usize,
    /// Where the latest checkpoint of the control file begins.
    pub checkpoint: usize,
    /// Its timeline.
    pub checkpoint_timeline: Timeline,
    /// `standby.signal` is there.
    pub standby_signal: bool,
    /// The agent-owned settings file.
    pub settings: ServerSettings,
    /// Timelines whose history files are here.
    pub history_files: BTreeSet<Timeline>,
}

/// Settings that let nobody in and nothing through.
pub fn closed_settings() -> ServerSettings {
    ServerSettings { standby_names: StandbyNames::blocked(), upstream: None, access: Access::Closed }
}

impl Directory {
    /// What `initdb` makes, with `base` as its first records.
    pub fn initialized(
        system_id: SystemId,
        incarnation: Incarnation,
        base: &[u64],
        settings: ServerSettings,
    ) -> Self {
        let mut wal = Wal::default();
        for &id in base {
            wal.push(Record { id, timeline: Timeline(1), kind: RecordKind::Base });
        }
        Self {
            system_id,
            incarnation: Some(incarnation),
            state: ControlState::InProduction,
            flushed: wal.end(),
            checkpoint: wal.end().saturating_sub(1),
            checkpoint_timeline: Timeline(1),
            wal,
            standby_signal: false,
            settings,
            history_files: BTreeSet::new(),
        }
    }

    /// What a base backup of this directory is, or a rewound one: the same log, a standby, nobody's settings.
    pub fn copied(&self, incarnation: Incarnation) -> Self {
        let mut wal = self.wal.clone();
        wal.truncate(self.flushed);
        Self {
            incarnation: Some(incarnation),
            state: ControlState::InArchiveRecovery,
            flushed: wal.end(),
            wal,
            standby_signal: true,
            settings: closed_settings(),
            ..self.clone()
        }
    }

    /// The timeline that a promotion takes: the first id without a history file.
    pub fn next_timeline(&self) -> Timeline {
        let mut next = self.wal.timeline().next();
        while self.history_files.contains(&next) {
            next = next.next();
        }
        next
    }

    /// Moves the control file's checkpoint to the last one in the log.
    pub fn note_checkpoint(&mut self) {
        if let Some((at, timeline)) = self.wal.last_checkpoint(self.wal.end()) {
            (self.checkpoint, self.checkpoint_timeline) = (at, timeline);
        }
    }

    /// As the agent sees it.
    pub fn facts(&self) -> DataFacts {
        DataFacts {
            system_id: self.system_id,
            incarnation: self.incarnation,
            state: self.state,
            timeline: self.checkpoint_timeline,
            checkpoint: lsn(self.checkpoint),
            minimum_recovery: lsn(self.flushed),
            standby_signal: self.standby_signal,
        }
    }
}

impl Data {
    /// The directory, if it is usable.
    pub fn present(&self) -> Option<&Directory> {
        if let Self::Present(directory) = self { Some(directory) } else { None }
    }

    /// The directory, if it is usable.
    pub fn present_mut(&mut self) -> Option<&mut Directory> {
        if let Self::Present(directory) = self { Some(directory) } else { None }
    }

    /// The power goes: what was not flushed is gone.
    pub fn lose_power(&mut self) {
        if let Self::Present(directory) = self {
            directory.wal.truncate(directory.flushed);
        }
    }

    /// As the agent sees it.
    pub fn facts(&self) -> DataDirectory {
        match self {
            Self::Empty => DataDirectory::Empty,
            Self::Broken => DataDirectory::Unusable { found: "half of a copy".to_owned() },
            Self::Present(directory) => DataDirectory::Present(directory.facts()),
        }
    }
}
