//! What an agent sees of its PostgreSQL: one consistent observation, taken by the driver, judged by the decider.

use serde::{Deserialize, Serialize};

use crate::identity::{Epoch, Incarnation, SystemId};
use crate::mono_time::MonoTime;
use crate::standby_names::StandbyName;
use crate::wal::{Lsn, Timeline};

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresView {
    /// When the observation began.
    pub at: MonoTime,
    /// The data directory.
    pub data: DataDirectory,
    /// The server.
    pub process: PostgresProcess,
    /// The server refuses sessions because all are taken: it lives, whatever else cannot be seen.
    pub full: bool,
    /// The server is down, and its log says that its storage failed or was full when it ended.
    pub storage_failed: bool,
}

impl PostgresView {
    /// The server, when it answers.
    pub fn instance(&self) -> Option<&Instance> {
        match &self.process {
            PostgresProcess::Running(instance) => Some(instance),
            _ => None,
        }
    }
}

/// State of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDirectory {
    /// Missing or empty.
    Empty,
    /// Something is there that is no usable PostgreSQL data directory.
    Unusable {
        /// What was found.
        found: String,
    },
    /// A data directory.
    Present(DataFacts),
}

/// What `pg_controldata` and the incarnation file say
/// (<https://www.postgresql.org/docs/current/app-pgcontroldata.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFacts {
    /// Whose data it is.
    pub system_id: SystemId,
    /// The incarnation file in the directory.
    pub incarnation: Option<Incarnation>,
    /// How the server was when it last wrote the control file.
    pub state: ControlState,
    /// Timeline of the latest checkpoint.
    pub timeline: Timeline,
    /// Latest checkpoint's position; after a clean stop the start of the shutdown checkpoint record.
    pub checkpoint: Lsn,
    /// Minimum recovery ending location of a standby.
    pub minimum_recovery: Lsn,
    /// Whether `standby.signal` or `recovery.signal` is there: it starts as a standby.
    pub standby_signal: bool,
}

/// `Database cluster state` of the control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlState {
    /// Stopped cleanly as a primary.
    ShutDown,
    /// Stopped cleanly as a standby.
    ShutDownInRecovery,
    /// Running as a primary, or it crashed as one.
    InProduction,
    /// Running as a standby, or it crashed as one.
    InArchiveRecovery,
    /// Starting up, shutting down, or in crash recovery; or it crashed then.
    Unclean,
}

impl DataFacts {
    /// Whether this directory, started without a signal file, comes up as a primary: its last life was a primary's.
    pub fn is_primary_shaped(&self) -> bool {
        !self.standby_signal
            && matches!(
                self.state,
                ControlState::ShutDown | ControlState::InProduction | ControlState::Unclean
            )
    }
}

/// State of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresProcess {
    /// No process in its group.
    Stopped,
    /// Started, does not accept connections yet (or is stopping).
    Starting,
    /// Answers.
    Running(Box<Instance>),
    /// Alive by its process, but it does not answer in time; the last known state may still hold.
    Silent,
}

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Changes with every start of the postmaster (its process id and start time folded into one number).
    pub life: u64,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Timeline that it writes or replays; of a streaming standby that of the received WAL.
    pub timeline: Timeline,
    /// Primary: flushed position. Standby: received and flushed position, or replayed if that is further.
    pub flush: Lsn,
    /// Standby: replayed position. Primary: same as `flush`.
    pub replay: Lsn,
    /// The walreceiver, when one runs.
    pub receiver: Option<WalReceiver>,
    /// Connected walsenders (all, also those of backups).
    pub senders: Vec<WalSender>,
    /// `synchronous_standby_names` as a session sees it after the last reload.
    pub standby_names: String,
    /// Settings that the agent owns and that differ from what it wrote, by name.
    pub drifted: Vec<String>,
    /// Parameters that wait for a restart.
    pub pending_restart: Vec<String>,
    /// Timeline of the latest checkpoint; equals `timeline` once a promoted server has checkpointed.
    pub checkpoint_timeline: Timeline,
    /// Lines of the timeline's history file: which timeline ended where.
    pub history: Vec<(Timeline, Lsn)>,
    /// Version as `server_version_num`.
    pub version: u32,
}

/// The walreceiver of a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalReceiver {
    /// Process id.
    pub pid: u32,
    /// Whether `pg_stat_wal_receiver.status` is `streaming`.
    pub streaming: bool,
    /// Epoch of the leader that it follows, from its `application_name`.
    pub epoch: Option<Epoch>,
    /// Age of the last message from the primary, ms.
    pub last_message_age_ms: u64,
}

/// A walsender of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSender {
    /// Process id.
    pub pid: u32,
    /// The standby, when its `application_name` is one of ours.
    pub name: Option<StandbyName>,
    /// Whether `state` is `streaming`.
    pub streaming: bool,
    /// `flush_lsn`.
    pub flush: Lsn,
    /// `sync_priority`; 0 when it is not in the list that this walsender uses.
    pub sync_priority: u32,
    /// Another number with every message of the standby (its clock's time, so never compared with ours); 0 before the
    /// first.
    pub reply_mark: u64,
}

impl Instance {
    /// The walsender of a standby, if it is connected.
    pub fn sender_of(&self, name: &StandbyName) -> Option<&WalSender> {
        self.senders.iter().find(|s| s.name.as_ref() == Some(name))
    }
}
