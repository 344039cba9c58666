//! What the driver reports.

use ha_core::{Epoch, Lsn, MemberName, Revision, Timeline};

use crate::setup::Setup;
use crate::table::AdminState;

/// What an agent says its member is to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimedRole {
    /// Of no use to clients now.
    None,
    /// It leads by the sync record.
    Leader,
    /// It follows, and its PostgreSQL answers as a standby.
    Standby,
}

/// One claim of an agent, as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub member: MemberName,
    /// Grows by one with each claim on one stream, from 1.
    pub sequence: u64,
    /// What it is.
    pub role: ClaimedRole,
    /// Leader: epoch of its leadership. Otherwise epoch of the newest sync record it knows; 0 without one.
    pub epoch: Epoch,
    /// Revision of the newest sync record it knows; 0 without one.
    pub revision: Revision,
    /// Leader: commits are acknowledged under its own policy.
    pub established: bool,
    /// Leader: its PostgreSQL takes client commits and its deadline lies ahead.
    pub takes_writes: bool,
    /// Leader: a planned change of leader is about to stop it; new sessions wait for the successor.
    pub holding: bool,
    /// Planned change of leader: who is to lead next.
    pub successor: Option<MemberName>,
    /// Standby: it may be given read sessions.
    pub takes_reads: bool,
    /// `None` when unknown, which it is while PostgreSQL does not run.
    pub timeline: Option<Timeline>,
    /// Primary: flushed. Standby: replayed. `None` when unknown, which it is while PostgreSQL does not run.
    pub position: Option<Lsn>,
    /// Standby: bytes behind the newest position that the leader reported.
    pub lag_bytes: Option<u64>,
    /// Who leads by the newest sync record it knows.
    pub leader: Option<MemberName>,
    /// Why it takes no writes or reads, or what it does, in words.
    pub reason: String,
    /// The newest sync record it knows lists it: commits are confirmed by it, among others.
    pub synchronous: bool,
    /// Maintenance mode is on.
    pub maintenance: bool,
}

impl Claim {
    /// Whether the agent knows enough for its claim to count. An agent that has just started and has seen no sync
    /// record can say nothing about its member's role: taking its word for "leads no more" would cut the sessions of a
    /// healthy leader at each restart of its agent.
    pub fn is_informed(&self) -> bool {
        self.role != ClaimedRole::None || self.epoch != Epoch(0) || self.revision != Revision(0)
    }

    /// Whether it says that PostgreSQL does not run: of no use, and neither timeline nor position known.
    pub fn says_postgres_is_down(&self) -> bool {
        self.is_informed()
            && self.role == ClaimedRole::None
            && self.timeline.is_none()
            && self.position.is_none()
    }
}

/// What a health check of an agent's (or Patroni's) REST interface found: `OPTIONS /primary`, then `OPTIONS /replica`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// `/primary` answered 200.
    Primary,
    /// `/replica` answered 200.
    Standby,
    /// Both answered, neither with 200: a definite negative.
    Neither,
    /// No answer in time, a refused connection, or no HTTP.
    NoAnswer {
        /// What happened instead.
        why: String,
    },
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An agent pushed a claim.
    Claimed(Claim),
    /// The stream of claims ended. Says nothing about PostgreSQL.
    StreamLost {
        /// Whose.
        member: MemberName,
        /// How it ended.
        why: String,
    },
    /// The whole process stood still: whatever was heard before is too old to open anything.
    StoodStill,
    /// A health check ended.
    Checked {
        /// Whose.
        member: MemberName,
        /// What it found.
        check: Check,
    },
    /// A session could not be connected to a PostgreSQL.
    ConnectFailed {
        /// Which.
        member: MemberName,
        /// Why.
        why: String,
    },
    /// An operator wants a member in this state, until the process ends or another word comes.
    Administered {
        /// Which.
        member: MemberName,
        /// How.
        state: AdminState,
    },
    /// Other limits are in force from now on.
    Reconfigured(Box<Setup>),
    /// A session was connected to a PostgreSQL.
    Connected {
        /// Which.
        member: MemberName,
    },
}
