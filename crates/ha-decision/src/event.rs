//! What the driver reports.

use ha_core::cluster_view::StoreView;
use ha_core::heartbeat::Heartbeats;
use ha_core::peer_message::PeerMessage;
use ha_core::postgres_view::PostgresView;
use ha_core::{Epoch, MemberName, MonoTime, Revision};

use crate::action::{OpId, RequestId};
use crate::job::{JobFailure, JobOutput};
use crate::request::Request;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The store, as it was at some revision; never an older one than before.
    Store(Box<StoreView>),
    /// The store cannot be reached; the last view stands, but nothing can be decided.
    StoreLost,
    /// The store shows less than it did: it was restored from a backup.
    StoreRolledBack,
    /// A transaction ended. The driver has delivered a view that is at least as new before this, except when the
    /// outcome is unknown.
    TxnDone {
        /// Which.
        id: OpId,
        /// How.
        outcome: TxnOutcome,
    },
    /// About this member's leadership lease.
    Lease(LeaseNews),
    /// PostgreSQL as observed.
    Postgres(PostgresView),
    /// A job ended.
    JobDone {
        /// Which.
        id: OpId,
        /// How.
        result: Result<JobOutput, JobFailure>,
    },
    /// Every connected proxy holds new sessions.
    SessionsHeld {
        /// Of [`Action::HoldSessions`](crate::Action::HoldSessions).
        id: OpId,
        /// How many are connected.
        proxies: u32,
    },
    /// Every connected proxy leads new write sessions to this member.
    Rerouted {
        /// Of [`Action::AwaitRouting`](crate::Action::AwaitRouting).
        id: OpId,
        /// How many are connected.
        proxies: u32,
    },
    /// A message from another agent.
    Peer {
        /// Who.
        from: MemberName,
        /// What.
        message: PeerMessage,
    },
    /// What heartbeats say. Changes nothing by itself: given right before any other event or timeout, so that nothing is
    /// judged by an older picture.
    Heartbeats(Heartbeats),
    /// The stream from another agent ended.
    PeerLost {
        /// Who.
        from: MemberName,
    },
    /// From the guard.
    Guard(GuardNews),
    /// About the storage of the data directory and of the WAL.
    Storage(StorageNews),
    /// An operator's request.
    Request {
        /// For the reply.
        id: RequestId,
        /// What is wanted.
        request: Request,
    },
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// It was applied.
    Won {
        /// Revision that it made.
        revision: Revision,
    },
    /// A compare failed; it was not and will not be applied.
    Lost,
    /// The store answered that it did nothing (lease gone, no space); it will not be applied.
    Refused {
        /// What it said.
        reason: String,
    },
    /// No answer: not done, done, or *done later*.
    Unknown,
}

/// About the leadership lease that every agent holds ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseNews {
    /// A lease is held and can be attached to the leader record.
    Ready,
    /// It was renewed, and a linearizable read made after the renewal showed the leader record.
    Renewed {
        /// Taken *before* the renewal was sent: what deadlines are computed from.
        sent_at: MonoTime,
        /// The leader record names this member, its epoch, and hangs on this lease.
        leads: Option<Epoch>,
    },
    /// It ran out or was revoked.
    Gone,
}

/// About this member's storage, as small writes of the agent's own show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageNews {
    /// A write has not ended in time, or has failed.
    Hangs {
        /// Which, and how, in words.
        what: String,
    },
    /// Writes end in time again.
    Answers,
}

/// From the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardNews {
    /// It holds a deadline for the epoch.
    Armed {
        /// Epoch.
        epoch: Epoch,
        /// Deadline.
        deadline: MonoTime,
    },
    /// It refused; with its reason.
    Refused {
        /// Epoch of the request.
        epoch: Epoch,
        /// Its words.
        reason: String,
    },
    /// It ended PostgreSQL, because the deadline of the epoch passed.
    Fenced {
        /// Epoch.
        epoch: Epoch,
    },
    /// It can be reached again and holds no deadline.
    Reachable,
    /// It cannot be reached.
    Unavailable,
}
