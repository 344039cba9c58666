//! Why the guard did or refused something: the words of its log and of its answers.

use std::fmt;

use ha_core::guard_link::{ExitOutcome, FenceMethod, RefusalCode};
use ha_core::{Epoch, MonoTime};

use crate::action::KillCause;
use crate::watchdog::WatchdogReason;

/// A request was not carried out, and nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people, with the values.
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// One change of state, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Began without state, nothing runs.
    BeganEmpty,
    /// Began with the state of an earlier guard.
    Adopted {
        /// Its postmaster, if it still runs.
        postmaster: Option<u32>,
        /// What is armed.
        armed: Option<(Epoch, MonoTime)>,
    },
    /// Began without state while processes run: fenced soon unless it is a standby or an agent arms it.
    FoundUnprotected {
        /// When the kill comes.
        kill_at: MonoTime,
    },
    /// What was found without state is a standby: nothing to fence.
    FoundStandby,
    /// A deadline is held for a new leadership.
    Armed {
        /// Epoch.
        epoch: Epoch,
        /// Deadline.
        deadline: MonoTime,
    },
    /// No deadline is held any more.
    Released {
        /// Epoch.
        epoch: Epoch,
        /// Why that is safe.
        because: &'static str,
    },
    /// The fence is kept back.
    Held {
        /// Epoch.
        epoch: Epoch,
        /// Until when.
        until: MonoTime,
    },
    /// A hold ended.
    HoldEnded {
        /// Epoch.
        epoch: Epoch,
    },
    /// A postmaster is being started.
    Starting {
        /// Number of the start.
        start: u64,
    },
    /// It runs.
    Started {
        /// Process id.
        pid: u32,
        /// Number of the start.
        start: u64,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        text: String,
    },
    /// The postmaster ended.
    Exited {
        /// Process id.
        pid: u32,
        /// How.
        outcome: ExitOutcome,
    },
    /// Nothing runs any more.
    Emptied {
        /// Number of the start that ended.
        start: u64,
    },
    /// Everything is being killed.
    Killing(KillCause),
    /// The group is empty after a fence.
    Fenced {
        /// Epoch.
        epoch: Epoch,
        /// How.
        how: FenceMethod,
        /// From the first kill to empty, in milliseconds.
        elapsed_ms: u128,
    },
    /// Processes are left although they were killed.
    NotEmpty {
        /// Since the first kill, in milliseconds.
        elapsed_ms: u128,
    },
    /// An agent has noted the fence.
    FenceAcknowledged {
        /// Epoch.
        epoch: Epoch,
    },
    /// The data directory belongs to another cluster: epochs fenced or armed for the old one mean nothing.
    OtherSystem,
    /// The guard was told to stop.
    Stopping {
        /// Whether PostgreSQL runs and is being stopped first.
        running: bool,
    },
    /// No kernel fuse can be had here.
    NoFuse {
        /// Why.
        text: String,
    },
    /// The fuse's process has ended while PostgreSQL was not tied to it.
    FuseLost,
    /// The state could not be written; the old file was removed so that nobody trusts it.
    StateNotWritten,
    /// About the watchdog device.
    Watchdog(WatchdogReason),
    /// A request was refused.
    Refused {
        /// What was asked.
        request: &'static str,
        /// Why not.
        text: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeganEmpty => f.write_str("began: nothing runs, nothing is armed"),
            Self::Adopted { postmaster, armed } => {
                f.write_str("began with the state of an earlier guard:")?;
                match postmaster {
                    Some(pid) => write!(f, " postmaster={pid}")?,
                    None => f.write_str(" no postmaster")?,
                }
                match armed {
                    Some((epoch, deadline)) => write!(f, " armed epoch={epoch} deadline={deadline}"),
                    None => f.write_str(" nothing armed"),
                }
            }
            Self::FoundUnprotected { kill_at } => write!(
                f,
                "unprotected: processes run but the state is lost; they end at {kill_at} unless an agent arms or it is a standby"
            ),
            Self::FoundStandby => f.write_str("what was found is a standby: nothing armed"),
            Self::Armed { epoch, deadline } => write!(f, "armed epoch={epoch} deadline={deadline}"),
            Self::Released { epoch, because } => write!(f, "released epoch={epoch} because {because}"),
            Self::Held { epoch, until } => write!(f, "hold: no fence of epoch={epoch} before {until}"),
            Self::HoldEnded { epoch } => write!(f, "hold ended: the deadline of epoch={epoch} counts again"),
            Self::Starting { start } => write!(f, "starting the postmaster start={start}"),
            Self::Started { pid, start } => write!(f, "postmaster runs pid={pid} start={start}"),
            Self::StartFailed { text } => write!(f, "the postmaster did not start: {text}"),
            Self::Exited { pid, outcome } => write!(f, "postmaster ended pid={pid}: {outcome}"),
            Self::Emptied { start } => write!(f, "no process is left of start={start}"),
            Self::Killing(cause) => write!(f, "killing the group: {cause}"),
            Self::Fenced { epoch, how, elapsed_ms } => {
                write!(f, "fenced epoch={epoch}: group empty after elapsed_ms={elapsed_ms} ({how:?})")
            }
            Self::NotEmpty { elapsed_ms } => {
                write!(f, "the group is not empty elapsed_ms={elapsed_ms} after the kill; repeating")
            }
            Self::FenceAcknowledged { epoch } => write!(f, "the agent has noted the fence of epoch={epoch}"),
            Self::OtherSystem => f.write_str(
                "the data directory belongs to another cluster: forgetting the epochs of the old one",
            ),
            Self::Stopping { running: true } => {
                f.write_str("told to stop: fast shutdown of PostgreSQL first")
            }
            Self::Stopping { running: false } => f.write_str("told to stop: nothing runs"),
            Self::NoFuse { text } => write!(f, "no kernel fuse: {text}"),
            Self::FuseLost => f.write_str("the fuse's process has ended"),
            Self::StateNotWritten => f.write_str("the state could not be written; its file was removed"),
            Self::Watchdog(reason) => reason.fmt(f),
            Self::Refused { request, text } => write!(f, "refused {request}: {text}"),
        }
    }
}
