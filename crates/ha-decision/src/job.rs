//! Slow work on this member's PostgreSQL. One job runs at a time; its end comes back as
//! [`Event::JobDone`](crate::Event::JobDone) with the same id.

use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Epoch, Incarnation, Lsn, MemberName, SystemId, Timeline};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// `initdb` with checksums and SCRAM into an empty directory (what an interrupted `initdb` left is renamed first), write the incarnation file and the settings, start
    /// it closed, create the roles without waiting for standbys. Ends with [`JobOutput::Initialized`], server running
    /// as a primary. The job marker is already durable.
    Initialize {
        /// Life of the new directory.
        incarnation: Incarnation,
        /// Settings to start with.
        settings: ServerSettings,
    },
    /// `pg_basebackup` from `source` into an empty directory (an existing one is renamed first), write the incarnation
    /// file. Server stays stopped. The job marker is already durable.
    Clone {
        /// Where from.
        source: Upstream,
        /// Life of the new directory.
        incarnation: Incarnation,
    },
    /// Stop the server if it runs, `pg_rewind` from `source`, write the incarnation file. Server stays stopped. The
    /// job marker is already durable. Fails with [`JobFailure::needs_clone`] when only a clone can help.
    Rewind {
        /// Where from.
        source: Upstream,
        /// New life of the directory.
        incarnation: Incarnation,
    },
    /// Write the incarnation file of a directory that is adopted as it is.
    WriteIncarnation {
        /// Life of the directory.
        incarnation: Incarnation,
    },
    /// Write all agent-owned files and start the server through the guard; ends when it accepts connections.
    Start {
        /// Start as a standby (signal file present) or as a primary (none).
        standby: bool,
        /// Settings to start with.
        settings: ServerSettings,
    },
    /// Stop the server, escalating when `mode`'s bound passes: fast, immediate, the guard's kill of the whole group.
    /// Ends with [`JobOutput::Stopped`] when no process is left.
    Stop {
        /// How.
        mode: StopMode,
    },
    /// Write the agent-owned files and reload; ends when the server has read them.
    Configure {
        /// What is to hold.
        settings: ServerSettings,
    },
    /// Make it impossible to confirm anything more to the leader of `epoch` (`failover-safety` 4.4.1): remove the
    /// password file of that epoch (fsync), rewrite the settings without upstream and restore_command, reload,
    /// terminate the walreceiver, wait until it is gone and the position is exact. The promise is already durable.
    /// Ends with [`JobOutput::Revoked`].
    Revoke {
        /// Revoked epoch.
        epoch: Epoch,
        /// Settings without an upstream.
        settings: ServerSettings,
    },
    /// Place history files for timeline ids that were reserved by others, promote, wait until the server is a primary
    /// on `timeline`. The settings (and with them the standby names of the new epoch) are loaded already.
    Promote {
        /// Epoch that was won for it.
        epoch: Epoch,
        /// The reserved timeline; another result is a failure.
        timeline: Timeline,
        /// Smaller ids above the present timeline that were reserved by leaderships whose history is not here.
        taken: Vec<Timeline>,
    },
    /// Wait until the server provably makes new commits wait for standbys: a commit of the agent's own at
    /// `synchronous_commit = on` is seen waiting. The list in force must be the blocked name. Then flush a small
    /// record and end with [`JobOutput::Flushed`].
    ProveBlocked,
    /// Write a small record, flush it, end with [`JobOutput::Flushed`]: the position that the history barrier waits
    /// for.
    MarkBarrier,
    /// Shut clients out of a running primary: write the agent-owned files and reload, end every client's session (commits
    /// that wait end without an answer), then write and flush a small record and wait until `successor` has it. Ends
    /// with [`JobOutput::Flushed`].
    ShutOut {
        /// Closed settings.
        settings: ServerSettings,
        /// The standby that must have everything.
        successor: StandbyName,
    },
    /// Terminate these walsenders, so that none of them uses an older list; ends when they are gone.
    BounceSenders {
        /// Process ids.
        pids: Vec<u32>,
    },
    /// `CHECKPOINT`.
    Checkpoint,
    /// Commit a small record at `synchronous_commit = on`: proves that the quorum works and marks the epoch in WAL.
    MarkEpoch {
        /// The epoch.
        epoch: Epoch,
    },
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Fast: sessions end, everything is sent to the standbys, a shutdown checkpoint is written.
    Fast,
    /// Immediate: nothing is written; crash recovery at the next start. Always used when leadership was lost.
    Immediate,
}

/// The settings that the agent owns in a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `synchronous_standby_names`.
    pub standby_names: StandbyNames,
    /// Whom it streams from, when it is a standby.
    pub upstream: Option<Upstream>,
    /// Who may connect.
    pub access: Access,
}

/// Who may connect, by the agent-owned `pg_hba.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the agent, replication and rewind.
    Closed,
    /// Everybody whom the configuration lets in.
    Open,
    /// Leave the file as it is: the server was adopted from an earlier life of the agent, and nobody may be shut out
    /// or let in before it is known which is right.
    Keep,
}

/// A server to stream or copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The member.
    pub member: MemberName,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The name under which this member announces itself there (with the leader's epoch); also names the password
    /// file of that epoch.
    pub announced: StandbyName,
}

/// What a finished job reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutput {
    /// Done; nothing to report.
    Done,
    /// A new database exists.
    Initialized {
        /// Its identifier.
        system_id: SystemId,
        /// Flushed position after the roles were created.
        flush: Lsn,
    },
    /// The server is down.
    Stopped {
        /// End of the shutdown checkpoint record, when the stop was clean.
        final_lsn: Option<Lsn>,
    },
    /// The walreceiver is gone for good.
    Revoked {
        /// Timeline of the last WAL.
        timeline: Timeline,
        /// Exact end of the flushed WAL.
        flush: Lsn,
    },
    /// Flushed up to here.
    Flushed {
        /// Position.
        lsn: Lsn,
    },
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// What happened, for humans.
    pub message: String,
    /// Trying the same again cannot help: the directory must be cloned anew.
    pub needs_clone: bool,
    /// Storage failed or is full: hand over rather than retry.
    pub storage: bool,
}
