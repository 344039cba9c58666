//! What the decider knows and does, for REST, `hactl`, metrics and tests.

use std::collections::BTreeMap;

use ha_core::peer_message::PeerState;
use ha_core::record::Policy;
use ha_core::{Epoch, Generation, MemberId, MemberName, MonoTime, Revision};

use crate::counts::Counts;
use crate::read_lease::ReadLease;

/// A picture of one decider.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// This member, with its incarnation once it has data.
    pub me: MemberName,
    /// Its incarnation.
    pub id: Option<MemberId>,
    /// Who leads by the sync record.
    pub leader: Option<MemberId>,
    /// Epoch of the sync record.
    pub epoch: Epoch,
    /// Generation of the sync record.
    pub generation: Generation,
    /// Revision of the sync record.
    pub revision: Revision,
    /// Policy in force.
    pub policy: Option<Policy>,
    /// Whether the leader may acknowledge under its own policy.
    pub established: bool,
    /// Role as users know it.
    pub role: MemberRole,
    /// This member leads, its PostgreSQL is a primary that takes client commits, and its deadline lies ahead.
    pub serves_writes: bool,
    /// Until when the guard lets it lead; none when nothing is armed.
    pub deadline: Option<MonoTime>,
    /// Until when nobody else can lead, for linearizable reads; none while that cannot be said, or is not wanted.
    pub read_lease: Option<ReadLease>,
    /// Whether a guard holds that deadline.
    pub guard_armed: bool,
    /// What it does or waits for, in words.
    pub doing: String,
    /// Why it cannot go on without help, in words.
    pub blocked: Option<String>,
    /// States that a human must see: pinned, unprotected, rolled back store.
    pub alarms: Vec<String>,
    /// Maintenance mode with its reason.
    pub paused: Option<String>,
    /// Whether the store answers.
    pub store_connected: bool,
    /// Other members as last heard, and whether their stream lives.
    pub peers: BTreeMap<MemberName, PeerStatus>,
    /// A planned change of leader is under way here.
    pub switching_over: bool,
    /// A planned change of leader stops this leader: new sessions should wait for the successor. Ends when it is called
    /// off or somebody else leads.
    pub holding: bool,
    /// Planned change of leader: who is to lead next.
    pub successor: Option<MemberName>,
    /// What was counted since the agent started.
    pub counts: Counts,
    /// PostgreSQL runs as a primary since before this agent started, and whether that is right is not known yet. It is
    /// too early to tell clients that it is not: they would be cut off for nothing.
    pub undecided: bool,
}

/// Another member as last heard.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// What it said.
    pub state: PeerState,
    /// When.
    pub heard_at: MonoTime,
    /// Whether its stream lives. Without it the member counts as silent, however short that may be.
    pub connected: bool,
}

/// Role as `hactl list` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Named by the sync record.
    Leader,
    /// Listed: every acknowledged commit may rest on it.
    SyncStandby,
    /// A standby that is not listed.
    Replica,
    /// No data yet.
    Uninitialized,
}

impl MemberRole {
    /// The words users know.
    pub fn title(self) -> &'static str {
        match self {
            Self::Leader => "Leader",
            Self::SyncStandby => "Sync Standby",
            Self::Replica => "Replica",
            Self::Uninitialized => "Uninitialized",
        }
    }
}
