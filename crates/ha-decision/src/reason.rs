//! Why something was decided or cannot be. The log, `hactl`, the status page and metrics print the same words.

use ha_core::peer_message::Trigger;
use ha_core::phases::{Phases, trigger_in_short};
use ha_core::{Epoch, Lsn, MemberName, SystemId, Timeline};

/// A decision's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No view of the store yet.
    #[error("waiting for the first answer of etcd")]
    StoreNotSeen,
    /// The store is away.
    #[error("etcd cannot be reached: the synchronous list is frozen and nobody is promoted")]
    StoreLost,
    /// The store answers again.
    #[error("etcd answers again")]
    StoreBack,
    /// The store shows less than this member acted on.
    #[error(
        "etcd shows an older state than this member acted on (restored from a backup?): no automatic decisions; a human must look"
    )]
    StoreRolledBack,
    /// The view must not be acted on.
    #[error("only observing: {why}")]
    ObservingOnly {
        /// What is wrong with it.
        why: String,
    },
    /// Waiting for other members before `initdb`.
    #[error("a new cluster: waiting for {missing} to report before one member runs initdb")]
    WaitingForReports {
        /// Names.
        missing: String,
    },
    /// Somebody else runs `initdb`.
    #[error("{member} initializes the cluster")]
    OtherInitializes {
        /// Who.
        member: MemberName,
    },
    /// This member runs `initdb`.
    #[error("won the right to initialize: running initdb")]
    Initializing,
    /// Data without a cluster.
    #[error(
        "the data directory holds system {found}, but etcd knows no cluster of this name: nothing is touched; empty the directory, or restore etcd's data"
    )]
    DataWithoutCluster {
        /// Its identifier.
        found: SystemId,
    },
    /// Another member has data.
    #[error(
        "{member} reports a data directory, but etcd knows no cluster of this name: no initdb while data exist; restore etcd's data or empty that directory"
    )]
    OtherHasData {
        /// Who.
        member: MemberName,
    },
    /// Data of another cluster.
    #[error(
        "the data directory belongs to system {found}, this cluster is system {expected}: nothing is touched; move the directory away to let this member be cloned"
    )]
    ForeignData {
        /// Found.
        found: SystemId,
        /// Expected.
        expected: SystemId,
    },
    /// Not a data directory.
    #[error(
        "the data directory is not usable: {found}; nothing is touched; move it away to let this member be cloned"
    )]
    UnusableData {
        /// What was found.
        found: String,
    },
    /// This member now leads.
    #[error("leads epoch {epoch}: {how}")]
    BecameLeader {
        /// Epoch.
        epoch: Epoch,
        /// How it came to it.
        how: &'static str,
    },
    /// How this member came to lead, when that is over.
    #[error(
        "leads epoch {epoch} on timeline {timeline} ({}): {phases}",
        trigger_in_short(&phases.trigger)
    )]
    LeadershipTold {
        /// Epoch.
        epoch: Epoch,
        /// Timeline.
        timeline: Timeline,
        /// What began it, and how long each phase took.
        phases: Box<Phases>,
    },
    /// Taking the leadership up again.
    #[error(
        "the sync record names this member: taking leadership of epoch {epoch} up again by compare-and-swap"
    )]
    Reacquiring {
        /// Epoch.
        epoch: Epoch,
    },
    /// Deposed.
    #[error("{leader} leads epoch {epoch}: ending PostgreSQL here at once")]
    Deposed {
        /// Who.
        leader: MemberName,
        /// Epoch.
        epoch: Epoch,
    },
    /// Fencing itself because the lease cannot be renewed.
    #[error(
        "the lease of epoch {epoch} cannot be confirmed in time: ending PostgreSQL before it can run out"
    )]
    LeaseRunsOut {
        /// Epoch.
        epoch: Epoch,
    },
    /// The guard ended PostgreSQL.
    #[error("the guard ended PostgreSQL because the deadline of epoch {epoch} passed")]
    Fenced {
        /// Epoch.
        epoch: Epoch,
    },
    /// Storage does not answer.
    #[error("storage does not answer: {what}; this member should not lead")]
    StorageHangs {
        /// Which, and how.
        what: String,
    },
    /// Storage answers again.
    #[error("storage answers again; it is trusted after a while")]
    StorageAnswers,
    /// The guard does not hold a deadline.
    #[error("waiting for the guard to hold a deadline before PostgreSQL may take writes: {why}")]
    WaitingForGuard {
        /// Its words.
        why: String,
    },
    /// Leading without a guard.
    #[error("leads without a guard: nothing ends PostgreSQL here if this agent dies")]
    Unprotected,
    /// Starting as the primary.
    #[error(
        "starting PostgreSQL as the primary of epoch {epoch}, closed until the post-recovery barrier has passed"
    )]
    StartingPrimary {
        /// Epoch.
        epoch: Epoch,
    },
    /// Promoting.
    #[error("promoting to timeline {timeline} for epoch {epoch}")]
    Promoting {
        /// Timeline.
        timeline: Timeline,
        /// Epoch.
        epoch: Epoch,
    },
    /// The primary ended by itself.
    #[error(
        "PostgreSQL ended without having been asked to: crash {crashes} as the primary within ten minutes"
    )]
    PrimaryCrashed {
        /// How many.
        crashes: usize,
    },
    /// It lives and does not answer.
    #[error("PostgreSQL lives by its process and has answered nothing for {seconds} s: ending it")]
    PrimarySilent {
        /// For how long.
        seconds: u64,
    },
    /// It crashes again and again.
    #[error(
        "BLOCKED for a moment: PostgreSQL crashed {crashes} times within ten minutes and nobody else can take over; it is started again after a pause; its log says why it crashes"
    )]
    CrashLoop {
        /// How many times.
        crashes: usize,
    },
    /// Waiting for the post-recovery barrier.
    #[error("closed until {k} listed standbys have confirmed everything up to the end of recovery")]
    WaitingForBarrier {
        /// How many.
        k: u32,
    },
    /// After a crash, with a change of the sync record on its way.
    #[error(
        "closed after a crash: etcd has not said whether the last change of the synchronous list holds, and so not which standbys must have confirmed what became visible"
    )]
    WaitingForOutcome,
    /// Waiting for a first follower.
    #[error("unestablished: nothing is acknowledged until a standby has attached and holds everything")]
    WaitingForFollower,
    /// Leading normally.
    #[error("leads; PostgreSQL takes writes")]
    Leading,
    /// Leading pinned.
    #[error(
        "PINNED: leads alone without any synchronous standby; if it is lost now, the last commits are lost or the cluster waits for it"
    )]
    LeadingPinned,
    /// Strict mode without standbys.
    #[error("strict: writes wait, no listed standby confirms")]
    StrictWaits,
    /// Waiting before pinning.
    #[error("writes wait: no listed standby confirms; pins itself if that lasts")]
    NoStandbyConfirms,
    /// The list changed.
    #[error("synchronous list: {what}")]
    ListChanges {
        /// Change in words.
        what: String,
    },
    /// Gives its key up because nobody hears it.
    #[error(
        "no standby and no other agent hears this leader: giving up the leader key so that the others may go on"
    )]
    IsolatedResigns,
    /// Asks to be replaced.
    #[error("asks the standbys to take over: {why}")]
    AsksToBeReplaced {
        /// Why.
        why: String,
    },
    /// Planned change.
    #[error("switchover to {to}: {stage}")]
    SwitchingOver {
        /// Who is to lead.
        to: MemberName,
        /// Stage in words.
        stage: &'static str,
    },
    /// Called off.
    #[error("switchover called off: {why}")]
    SwitchoverCalledOff {
        /// Why.
        why: String,
    },
    /// Cloning.
    #[error("cloning from {source_member}: {why}")]
    Cloning {
        /// Where from.
        source_member: MemberName,
        /// Why.
        why: &'static str,
    },
    /// Waiting to clone.
    #[error("waiting for a leader to clone from")]
    WaitingForCloneSource,
    /// Rewinding.
    #[error("rewinding onto {source_member}: {why}")]
    Rewinding {
        /// Where to.
        source_member: MemberName,
        /// Why.
        why: &'static str,
    },
    /// Waiting for the leader's checkpoint.
    #[error("waiting for {leader} to finish its first checkpoint before rewinding onto it")]
    WaitingForLeaderCheckpoint {
        /// Who.
        leader: MemberName,
    },
    /// Following.
    #[error("follows {leader} at epoch {epoch}")]
    Following {
        /// Who.
        leader: MemberName,
        /// Epoch.
        epoch: Epoch,
    },
    /// The leader before an unestablished one.
    #[error(
        "the leader of epoch {epoch} is gone before it could acknowledge anything: this member led before and holds everything, it comes back to lead"
    )]
    OldLeaderReturns {
        /// Epoch of the lost leader.
        epoch: Epoch,
    },
    /// Starting as a standby.
    #[error("starting PostgreSQL as a standby of {leader}")]
    StartingStandby {
        /// Who leads.
        leader: MemberName,
    },
    /// A new life of the data directory.
    #[error("the data directory does not carry the incarnation that was noted: it is treated as a new one")]
    NewIncarnation,
    /// Promised.
    #[error("promised {candidate} to confirm nothing more to epoch {epoch}")]
    PromiseGiven {
        /// Who asked.
        candidate: MemberName,
        /// Epoch.
        epoch: Epoch,
    },
    /// Holding a promise.
    #[error("holds its promise against epoch {epoch} until the sync record moves on")]
    HoldingPromise {
        /// Epoch.
        epoch: Epoch,
    },
    /// A promise is aborted.
    #[error("the leader lives and no takeover came: aborting the promise by moving the sync record on")]
    AbortingPromise,
    /// Wants to take over.
    #[error("wants to take over from epoch {epoch}: {}", trigger_words(*trigger))]
    Electing {
        /// Epoch.
        epoch: Epoch,
        /// Trigger.
        trigger: Trigger,
    },
    /// Promises are missing.
    #[error(
        "BLOCKED: takeover from epoch {epoch} needs {needed} promises of the listed members, has {have}; missing: {missing}. Bring one of them back, or a human decides with hactl failover --accept-data-loss"
    )]
    PromisesMissing {
        /// Epoch.
        epoch: Epoch,
        /// Needed.
        needed: usize,
        /// Had.
        have: usize,
        /// Names with reasons.
        missing: String,
    },
    /// Others know that what this member sees in the store is not the newest.
    #[error(
        "BLOCKED: no takeover from epoch {epoch}: {members} acted on a newer state than this member sees in etcd (restored from a backup?), so its list may be an old one; a human must look"
    )]
    OthersSawMore {
        /// Epoch.
        epoch: Epoch,
        /// Who, by names.
        members: String,
    },
    /// A member that may not lead holds more than all that may.
    #[error(
        "BLOCKED: {holder} holds commits that no candidate holds, and may not be promoted itself; change its tags, bring another listed member back, or a human decides with hactl failover --accept-data-loss"
    )]
    HolderMayNotLead {
        /// Who.
        holder: MemberName,
    },
    /// Another member holds more.
    #[error("{best} holds more or is preferred: it should lead; gave it the promises")]
    BetterCandidate {
        /// Who.
        best: MemberName,
    },
    /// The leader is pinned.
    #[error(
        "BLOCKED: {leader} was pinned and alone holds the last commits; it must come back, or a human decides with hactl failover --accept-data-loss"
    )]
    LeaderPinned {
        /// Who.
        leader: MemberName,
    },
    /// Not automatic.
    #[error("the leader is gone, but automatic failover is off")]
    NotAutomatic,
    /// Asynchronous and the leader was not guarded.
    #[error(
        "BLOCKED: the lost leader's guard was not armed, so it may still take writes; hactl failover decides, or [failover] unfenced = true"
    )]
    LeaderUnfenced,
    /// Too far behind in asynchronous mode.
    #[error("BLOCKED: {behind_bytes} bytes behind the lost leader, more than maximum_lag")]
    TooFarBehind {
        /// Bytes.
        behind_bytes: u64,
    },
    /// Silence has replaced leaders too often.
    #[error(
        "BLOCKED until the lease is over: {takeovers} leaders were replaced within ten minutes because they fell silent, so the cause may move with the leadership (load, a lossy network); look at the hosts and links, or decide with hactl failover"
    )]
    TakeoversTooOften {
        /// How many.
        takeovers: usize,
    },
    /// Maintenance mode.
    #[error("maintenance mode: {why}")]
    Maintenance {
        /// The operator's reason.
        why: String,
    },
    /// A job failed.
    #[error("{what} failed: {why}")]
    JobFailed {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A transaction was lost.
    #[error("another writer was first ({purpose}): looking again")]
    TxnLost {
        /// What it was for.
        purpose: &'static str,
    },
    /// Outcome unknown.
    #[error(
        "etcd did not answer ({purpose}): it may still be applied, so the sync record is moved on before anything else"
    )]
    TxnUnknown {
        /// What it was for.
        purpose: &'static str,
    },
    /// The store refused.
    #[error("etcd refused ({purpose}): {why}")]
    TxnRefused {
        /// What it was for.
        purpose: &'static str,
        /// Its words.
        why: String,
    },
    /// Settings drifted.
    #[error("settings that the agent owns were changed by somebody: {names}; writing them again")]
    Drift {
        /// Names.
        names: String,
    },
    /// A standby leaves the list before it stops.
    #[error("waiting to be taken out of the synchronous list before PostgreSQL stops")]
    Leaving,
    /// Established with followers.
    #[error("position {lsn} confirmed")]
    Confirmed {
        /// Position.
        lsn: Lsn,
    },
}

impl Reason {
    /// Whether a human should look: logged as a warning instead of as news.
    pub fn needs_a_look(&self) -> bool {
        matches!(
            self,
            Self::StoreRolledBack
                | Self::ObservingOnly { .. }
                | Self::DataWithoutCluster { .. }
                | Self::OtherHasData { .. }
                | Self::ForeignData { .. }
                | Self::UnusableData { .. }
                | Self::Fenced { .. }
                | Self::StorageHangs { .. }
                | Self::LeaseRunsOut { .. }
                | Self::Unprotected
                | Self::LeadingPinned
                | Self::StrictWaits
                | Self::NoStandbyConfirms
                | Self::PromisesMissing { .. }
                | Self::OthersSawMore { .. }
                | Self::HolderMayNotLead { .. }
                | Self::LeaderPinned { .. }
                | Self::NotAutomatic
                | Self::LeaderUnfenced
                | Self::TooFarBehind { .. }
                | Self::PrimaryCrashed { .. }
                | Self::CrashLoop { .. }
                | Self::PrimarySilent { .. }
                | Self::TakeoversTooOften { .. }
                | Self::JobFailed { .. }
                | Self::Drift { .. }
        )
    }
}

/// What made a member want to lead, in words; also kept in the history.
pub(crate) fn trigger_words(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::LeaseExpired => "the leader's lease ran out and nobody hears it",
        Trigger::LeaderSilent => "the leader fell silent: neither its agent nor its WAL is heard",
        Trigger::LeaderAsked => "the leader asked for it",
        Trigger::Operator => "an operator asked for it",
    }
}
