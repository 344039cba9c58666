//! What operators ask for, and the typed refusals.

use std::time::Duration;

use ha_core::peer_message::PromiseRefusal;
use ha_core::{Lsn, MemberName};

/// How a leader that hands over makes sure that nothing it acknowledged is missing at its successor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SwitchoverMethod {
    /// It stops PostgreSQL cleanly: everything is sent, and it comes back as a standby without a rewind.
    #[default]
    CleanStop,
    /// It shuts clients out and waits until the successor has the end of what they wrote, then is replaced while it
    /// runs. Shorter where a stop takes long; what PostgreSQL writes by itself meanwhile makes a rewind probable. Only
    /// with a quorum, whose promises end what it could still confirm.
    ShutOut,
}

/// An operator's request to this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Planned change of leader; to the leader's agent.
    Switchover {
        /// Who is to lead; the best standby if none.
        candidate: Option<MemberName>,
        /// What becomes of the old leader's PostgreSQL before it.
        method: SwitchoverMethod,
    },
    /// Manual failover; to the candidate's agent.
    Failover {
        /// Go on without the promises that would prove that nothing is lost.
        accept_data_loss: bool,
    },
    /// Restart this member's PostgreSQL.
    Restart,
    /// Read the configuration again.
    Reload,
    /// Maintenance mode.
    Pause {
        /// For how long.
        duration: Duration,
        /// Why.
        reason: String,
    },
    /// End of maintenance mode.
    Resume,
    /// Throw this member's data away and clone it again.
    Reinitialize,
}

/// A request was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestDone {
    /// As asked.
    Done,
    /// The new leader.
    Leads {
        /// Who.
        member: MemberName,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only the leader can do that.
    #[error("this member does not lead; {}", match leader { Some(l) => format!("ask {l}"), None => "nobody does".to_owned() })]
    NotLeader {
        /// Who leads.
        leader: Option<MemberName>,
    },
    /// No such member.
    #[error("{member} is no member of this cluster; members are {known}")]
    UnknownMember {
        /// Asked for.
        member: MemberName,
        /// All names.
        known: String,
    },
    /// The candidate leads already.
    #[error("{member} leads already")]
    LeadsAlready {
        /// Who.
        member: MemberName,
    },
    /// The candidate may lack acknowledged commits.
    #[error(
        "{member} is not in the synchronous list, so it may lack acknowledged commits; listed are: {listed}"
    )]
    NotListed {
        /// Who.
        member: MemberName,
        /// The list.
        listed: String,
    },
    /// The candidate is tagged nofailover.
    #[error("{member} is tagged nofailover")]
    NoFailover {
        /// Who.
        member: MemberName,
    },
    /// The candidate does not stream.
    #[error("{member} does not stream from the leader")]
    NotStreaming {
        /// Who.
        member: MemberName,
    },
    /// The candidate is too far behind.
    #[error("{member} is {behind_bytes} bytes behind, at {at}")]
    TooFarBehind {
        /// Who.
        member: MemberName,
        /// Bytes.
        behind_bytes: u64,
        /// Its position.
        at: Lsn,
    },
    /// The candidate's agent does not answer.
    #[error("the agent of {member} does not answer")]
    AgentSilent {
        /// Who.
        member: MemberName,
    },
    /// No standby qualifies.
    #[error("no standby qualifies: {why}")]
    NoCandidate {
        /// All reasons.
        why: String,
    },
    /// There is no quorum whose promises could replace the clean stop, or none without the old leader.
    #[error(
        "no quorum of standbys remains for the successor until the old leader is back, so only a clean stop will do; leave --without-stop out"
    )]
    NeedsCleanStop,
    /// The cluster has a leader that is alive.
    #[error("{leader} leads and is alive; use switchover")]
    LeaderAlive {
        /// Who.
        leader: MemberName,
    },
    /// The leader is pinned: it alone holds the last acknowledged commits.
    #[error(
        "{leader} is pinned and alone holds the last acknowledged commits; only --accept-data-loss goes on without it"
    )]
    Pinned {
        /// Who.
        leader: MemberName,
    },
    /// The lease of the leader has not run out yet.
    #[error("the lease of {leader} has not run out yet; try again when it has")]
    LeaseNotOver {
        /// Who.
        leader: MemberName,
    },
    /// Promises are missing.
    #[error(
        "promises of {missing} are missing: {needed} of the listed members must promise, {have} did; bring one of them back, or use --accept-data-loss"
    )]
    PromisesMissing {
        /// Names with the reason that each gave.
        missing: String,
        /// Needed.
        needed: usize,
        /// Had.
        have: usize,
    },
    /// The store cannot be reached.
    #[error("etcd cannot be reached, so nothing can be decided")]
    StoreUnreachable,
    /// Something else is going on.
    #[error("busy: {what}")]
    Busy {
        /// What.
        what: String,
    },
    /// It took too long and was called off.
    #[error("called off after {seconds} s: {why}")]
    CalledOff {
        /// Limit.
        seconds: u64,
        /// Why.
        why: String,
    },
    /// The member leads or holds the last copy.
    #[error("{why}")]
    Protected {
        /// What it protects.
        why: String,
    },
    /// A peer refused.
    #[error("{member} refused: {refusal}")]
    PeerRefused {
        /// Who.
        member: MemberName,
        /// Why.
        refusal: PromiseRefusal,
    },
    /// The job failed.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
    },
}
