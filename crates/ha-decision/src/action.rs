//! What the driver must do, in the order given. The decider never waits.

use std::time::Duration;

use ha_core::cluster_view::StoreKey;
use ha_core::node_state::NodeState;
use ha_core::peer_message::PeerMessage;
use ha_core::record::MemberRecord;
use ha_core::{Epoch, Generation, MemberName, MonoTime, Revision};

use crate::history::HistoryCompletion;
use crate::job::Job;
use crate::reason::Reason;
use crate::request::{Refusal, RequestDone};

/// Identifies a transaction, a job, a hold or a wait for proxies until its end is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Identifies an operator's request until it is replied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the node state durable (write, fsync, rename, fsync the directory). No later action may begin before this
    /// is done; if it fails, the agent must stop.
    Persist(NodeState),
    /// Submit a transaction; report [`Event::TxnDone`](crate::Event::TxnDone). One at a time.
    Txn {
        /// For the report.
        id: OpId,
        /// What.
        txn: Txn,
    },
    /// Begin a job; report [`Event::JobDone`](crate::Event::JobDone). One at a time.
    Job {
        /// For the report.
        id: OpId,
        /// What.
        job: Job,
    },
    /// Send to another agent; dropped when its stream is down.
    Send {
        /// To whom.
        to: MemberName,
        /// What.
        message: PeerMessage,
    },
    /// Tell the guard.
    Guard(GuardCommand),
    /// Read the store now instead of waiting for its watch, because another member knows this revision of it; report
    /// [`Event::Store`](crate::Event::Store). Given up after a moment: the watch goes on regardless.
    ReadStore {
        /// What the view is to show at least.
        at_least: Revision,
    },
    /// Keep this member's own record in the store like this, under its member lease; retried until done.
    Publish(MemberRecord),
    /// Answer an operator.
    Reply {
        /// Which request.
        id: RequestId,
        /// The answer.
        answer: Result<RequestDone, Refusal>,
    },
    /// Report [`Event::SessionsHeld`](crate::Event::SessionsHeld) when every connected proxy has put a claim with
    /// `holding` in force; at once when none is connected. The decider goes on without it after a moment.
    HoldSessions {
        /// For the report.
        id: OpId,
    },
    /// Report [`Event::Rerouted`](crate::Event::Rerouted) when every connected proxy has put a claim in force by which this
    /// member takes writes; at once when none is connected. The decider goes on without it.
    AwaitRouting {
        /// For the report.
        id: OpId,
    },
    /// Complete a history record in the store, off every critical path: nothing is reported, and a failure needs no
    /// attention, because the decider asks again until it sees the record complete.
    CompleteHistory(Box<HistoryCompletion>),
    /// Keep slots for these members on the local server and advance inactive ones to what the member has confirmed.
    KeepSlots {
        /// Member and its flushed position, when it is known.
        members: Vec<(MemberName, Option<ha_core::Lsn>)>,
    },
    /// Look at PostgreSQL now instead of at the next round; report [`Event::Postgres`](crate::Event::Postgres).
    Observe,
    /// Tell humans why something changed. Once per change.
    Note(Reason),
}

/// A command to the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardCommand {
    /// Hold this deadline for a new leadership.
    Arm {
        /// Epoch.
        epoch: Epoch,
        /// Generation of the sync record by which it was won or taken up again.
        generation: Generation,
        /// When PostgreSQL must be dead.
        deadline: MonoTime,
    },
    /// Move the deadline forward.
    Renew {
        /// Epoch.
        epoch: Epoch,
        /// New deadline.
        deadline: MonoTime,
    },
    /// Nothing is left to fence, or what runs is a standby.
    Release {
        /// Epoch.
        epoch: Epoch,
    },
    /// Do not act before this instant (maintenance mode; the guard allows one hour at most).
    Hold {
        /// Epoch.
        epoch: Epoch,
        /// Until when.
        until: MonoTime,
    },
}

/// A transaction: all compares hold and everything is written, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// What it is for; in logs.
    pub purpose: &'static str,
    /// Expected `mod_revision` of keys; 0 = absent.
    pub compares: Vec<(StoreKey, Revision)>,
    /// Key, JSON value, lease.
    pub puts: Vec<(StoreKey, Vec<u8>, LeaseChoice)>,
    /// Keys to delete.
    pub deletes: Vec<StoreKey>,
}

/// Which lease a key hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChoice {
    /// None: it stays.
    None,
    /// The leadership lease of this agent.
    Leadership,
    /// The member lease of this agent.
    Member,
    /// A new lease of this length that nobody renews.
    Fixed(Duration),
}
