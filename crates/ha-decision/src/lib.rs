//! Decides what one member does now: bootstrap, lead, follow, promise, take over, rewind, wait.
//!
//! Pure: the same state and the same inputs give the same actions, always. No clock, no I/O, no async, no randomness
//! of its own. A driver feeds [`Event`]s with the time at which they were seen, drains [`Action`]s in order, and wakes
//! the decider at [`Decider::poll_timeout`]. It refuses to know about etcd's or PostgreSQL's wire protocols.
//!
//! Begin reading at `decider.rs` (which situation holds), then one file per situation: `bootstrap.rs`, `primary.rs`
//! with `synchronous.rs`, `standby.rs`, `election.rs`, `promise.rs`, `switchover.rs`. What durability rests on is in
//! `rules.rs`, shared with the model checker.

#![forbid(unsafe_code)]

/// Whether this rule is broken deliberately: never, except in the simulator's proof that its checker would notice.
#[cfg(feature = "testing")]
macro_rules! broken {
    ($decider:expr, $rule:ident) => {
        $decider.mutant == crate::mutant::Mutant::$rule
    };
}
#[cfg(not(feature = "testing"))]
macro_rules! broken {
    ($decider:expr, $rule:ident) => {
        false
    };
}

pub mod action;
mod bootstrap;
pub mod counts;
mod crash;
mod decider;
mod election;
pub mod event;
mod fitness;
mod gossip;
mod guarding;
pub mod history;
pub mod job;
mod list_change;
mod maintenance;
#[cfg(feature = "testing")]
pub mod mutant;
mod phases;
mod primary;
mod promise;
mod random;
pub mod read_lease;
pub mod reason;
pub mod request;
pub mod rules;
mod server;
pub mod setup;
mod standby;
pub mod status;
mod store;
mod suspicion;
mod switchover;
mod synchronous;
mod takeover_budget;
mod timers;
mod times;

pub use action::{Action, GuardCommand, LeaseChoice, OpId, RequestId, Txn};
pub use counts::{Counts, PhaseTime};
pub use decider::Decider;
pub use event::{Event, GuardNews, LeaseNews, StorageNews, TxnOutcome};
pub use history::HistoryCompletion;
pub use job::{Access, Job, JobFailure, JobOutput, ServerSettings, StopMode, Upstream};
pub use read_lease::ReadLease;
pub use reason::Reason;
pub use request::{Refusal, Request, RequestDone, SwitchoverMethod};
pub use setup::{GuardNeed, MemberSetup, Setup, Timings};
pub use status::{MemberRole, PeerStatus, Status};
