//! What agents say to each other. Each direction of a pair has its own stream, so that a one-way partition is seen as
//! one. Nothing here decides anything: leadership is decided in the store.

use serde::{Deserialize, Serialize};

use crate::identity::{Epoch, Generation, Incarnation, MemberId, MemberName, Revision, SystemId};
use crate::mono_time::MonoTime;
use crate::wal::{Lsn, Timeline};

/// A message from one agent to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// How the sender is; at every change and at least twice a second.
    State(PeerState),
    /// A leader's sign of life; its send time comes back in the echo.
    Beat(Beat),
    /// The answer to a beat.
    Echo(Echo),
    /// "Stop confirming to the leader of this epoch, durably, and tell me how far you are."
    PromiseRequest(PromiseRequest),
    /// The revocation is durable and the walreceiver gone.
    Promised(Promised),
    /// No promise, and why.
    PromiseRefused(PromiseRefused),
    /// The leader asks to be replaced.
    HandOver(HandOver),
    /// "You are further than I am": the promises collected, for the best candidate.
    TakeOver(TakeOver),
}

/// How a member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Life of its data directory.
    pub incarnation: Option<Incarnation>,
    /// Whose data it has.
    pub system_id: Option<SystemId>,
    /// What it has and runs.
    pub phase: PeerPhase,
    /// Epoch of the newest sync record that it knows.
    pub epoch: Epoch,
    /// Revision of that record.
    pub revision: Revision,
    /// Timeline of its WAL.
    pub timeline: Timeline,
    /// Flushed (primary) or received (standby) position.
    pub flush: Lsn,
    /// Replayed position.
    pub replay: Lsn,
    /// Timeline of its latest checkpoint; rewinds from it wait until this equals `timeline`.
    pub checkpoint_timeline: Timeline,
    /// Which timeline ended where.
    pub history: Vec<(Timeline, Lsn)>,
    /// Whether the leader of `epoch` is alive as far as this member can tell.
    pub hears_leader: bool,
    /// Whether it may be promoted: clean data, no `nofailover`, not delayed.
    pub candidate: bool,
    /// It is about to stop or to be cloned anew and asks to be taken out of the list first.
    pub leaving: bool,
}

/// What a member has and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerPhase {
    /// No data directory.
    Empty,
    /// A data directory, no server (or not yet).
    Stopped,
    /// A standby.
    Standby,
    /// A primary that does not take client commits yet or any more.
    PrimaryClosed,
    /// A primary that takes client commits.
    Primary,
}

/// A leader's sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its epoch.
    pub epoch: Epoch,
    /// Generation of the sync record by which it was won or taken up again: tells this life of the leadership from an
    /// earlier one, whose clock may have been another.
    pub generation: Generation,
    /// Send time on the leader's clock; only the leader itself computes with it.
    pub sent_at: MonoTime,
    /// The leader gives out a read lease by the answers: who answers is to promise nothing against it for a while.
    pub asks_to_refuse: bool,
}

/// The answer to a beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Epoch of the beat.
    pub epoch: Epoch,
    /// Generation of the beat.
    pub generation: Generation,
    /// Send time of the beat.
    pub sent_at: MonoTime,
    /// Who answers.
    pub member: MemberId,
    /// It has promised to confirm nothing more at this epoch: no evidence for the leader.
    pub revoked: bool,
    /// From the moment at which it received the beat it promises nothing against this epoch for so long, milliseconds; only
    /// the leader's own consent and a human who accepts loss end that earlier. None when it binds itself to nothing.
    pub refuses_ms: Option<u64>,
}

/// A request to revoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRequest {
    /// Epoch to revoke.
    pub epoch: Epoch,
    /// Revision of the sync record that the promise is scoped to.
    pub revision: Revision,
    /// Who wants to lead.
    pub candidate: MemberId,
    /// What made it ask.
    pub trigger: Trigger,
    /// An operator accepts that acknowledged commits may be lost, and with them what read leases say.
    pub accepts_loss: bool,
}

/// What may start a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// The leader's lease ran out and nobody hears it.
    LeaseExpired,
    /// Neither the leader's agent nor its WAL is heard, while its lease may still run.
    LeaderSilent,
    /// The leader asked for it.
    LeaderAsked,
    /// An operator asked for it.
    Operator,
}

/// A durable revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Revoked epoch.
    pub epoch: Epoch,
    /// Revision it is scoped to.
    pub revision: Revision,
    /// Who promised.
    pub member: MemberId,
    /// Timeline of its last WAL.
    pub timeline: Timeline,
    /// End of the WAL that it has flushed, exact, read after its walreceiver was gone.
    pub flush: Lsn,
    /// Whether it may be promoted.
    pub candidate: bool,
    /// Preference among equals; higher is preferred.
    pub priority: u32,
}

/// No promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRefused {
    /// Epoch of the request.
    pub epoch: Epoch,
    /// Revision of the request.
    pub revision: Revision,
    /// Who refuses.
    pub member: MemberName,
    /// Why.
    pub refusal: PromiseRefusal,
}

/// Why a member does not promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PromiseRefusal {
    /// It hears the leader.
    #[error("it still hears the leader")]
    HearsLeader,
    /// It started so recently that it may not have heard the leader yet.
    #[error("it started a moment ago and may not have heard the leader yet")]
    JustStarted,
    /// Its view is newer than the request's.
    #[error("it knows a newer sync record")]
    NewerRecord,
    /// It has not seen the record that the request speaks of.
    #[error("it has not seen that sync record yet")]
    OlderRecord,
    /// It is not listed with its present incarnation.
    #[error("it is not listed with its present incarnation")]
    NotListed,
    /// Its data directory is not usable.
    #[error("its data directory is not in order")]
    DataNotReady,
    /// Its own PostgreSQL runs as a primary.
    #[error("its own PostgreSQL runs as a primary")]
    RunsAsPrimary,
    /// It is busy with a job that cannot be interrupted.
    #[error("it is busy with its PostgreSQL")]
    Busy,
}

/// A leader that asks to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Its epoch.
    pub epoch: Epoch,
    /// Revision of the sync record it resigned at.
    pub revision: Revision,
    /// Who is to lead, when somebody is named.
    pub candidate: Option<MemberName>,
    /// End of its WAL, when PostgreSQL was stopped cleanly: who takes over must have this much.
    pub final_lsn: Option<Lsn>,
    /// How long it took until this was said; nothing is decided by it.
    #[serde(default)]
    pub steps: HandOverSteps,
}

/// What a leader did before it asked to be replaced, in this order and without gaps; ms, measured by its own clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverSteps {
    /// The checkpoint before the outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_ms: Option<u64>,
    /// The announcement, and waiting until the proxies held new sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// From the beginning of the stop until this message was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_ms: Option<u64>,
}

/// Promises for the best candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// Revoked epoch.
    pub epoch: Epoch,
    /// Revision of the promises.
    pub revision: Revision,
    /// What started it.
    pub trigger: Trigger,
    /// The promises.
    pub promises: Vec<Promised>,
}
