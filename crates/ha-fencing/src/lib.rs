//! Until when a primary may live on this host, and how it ends: the pure half of pg-guard.
//!
//! This crate knows nothing of elections, and does nothing itself: no clock, no files, no sockets. The program hands in
//! [`Event`]s with the time and carries out the [`Action`]s. Begin reading at [`Watch`]; the rules that a deadline obeys
//! stand alone in [`Lease`].
//!
//! What holds, whatever comes in (the tests check it):
//! - A deadline moves forward only by a request for the armed epoch; no delay of a message extends it.
//! - When it passes, everything in the group is killed, again and again until the group is empty.
//! - Nothing is killed while no deadline is held, except on request or after the postmaster's own end: a standby never.
//! - A fenced epoch stays fenced, also for the guard's successor, until its leader has re-acquired it.
//! - The end of a connection changes nothing.
//! - A watchdog device is pinged only while the reset that this allows comes before the end of the lease, or when there is
//!   nothing to fence.

#![forbid(unsafe_code)]

mod action;
mod ending;
mod event;
mod fuse;
mod lease;
mod reason;
mod requests;
mod state;
mod watch;
mod watchdog;

pub use action::{Action, KillCause};
pub use event::{Event, PeerId};
pub use lease::{Holding, Leadership, Lease, Limits};
pub use reason::{Reason, Refusal};
pub use state::{State, StateError};
pub use watch::{Look, Watch};
pub use watchdog::{
    SimulatedKind, SimulatedWatchdog, Unfit, WatchdogAction, WatchdogEvent, WatchdogFacts, WatchdogReason,
    WatchdogRules, WatchdogSight, WatchdogTrouble, errno, option,
};
