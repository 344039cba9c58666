//! What the decider asks the program to do.

use std::fmt;

use ha_core::guard_link::Reply;
use ha_core::{Epoch, MonoTime};

use crate::event::PeerId;
use crate::lease::Leadership;
use crate::reason::Reason;
use crate::state::State;
use crate::watchdog::WatchdogAction;

/// One thing to do. To be done in the order handed out: a kill comes first of all, an answer after the state that it
/// speaks of has been saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Kill every process of the group, and a launcher that has not entered it yet.
    /// Completion: [`crate::Event::Killed`].
    Kill(KillCause),
    /// Write the state where the guard's successor finds it. Only a failure is reported:
    /// [`crate::Event::StateNotSaved`].
    SaveState(State),
    /// Write the fence durably, for after a reboot. Everything has been killed before: this may hang on a dead disk.
    RecordFence {
        /// What was fenced.
        leadership: Leadership,
        /// Of which system, if known.
        system_id: Option<u64>,
    },
    /// Start the postmaster with these settings. Completion: [`crate::Event::Launched`] or
    /// [`crate::Event::LaunchFailed`].
    Launch {
        /// `-c name=value` each.
        settings: Vec<(String, String)>,
        /// With a kernel fuse, to which [`Action::SetFuse`] follows; the postmaster must not begin before that.
        fused: bool,
    },
    /// Tell the fuse of this start its deadline; with none, PostgreSQL must outlive the fuse. Completion:
    /// [`crate::Event::FuseSaid`].
    SetFuse(Option<MonoTime>),
    /// See whether the data directory is marked as a standby's. Completion: [`crate::Event::Inspected`].
    Inspect,
    /// Ask the postmaster for a fast shutdown (SIGINT).
    AskToStop,
    /// Answer a request.
    Reply {
        /// Whose.
        peer: PeerId,
        /// With what.
        reply: Reply,
    },
    /// Answer a request with the status; the program adds what only it knows.
    Report {
        /// Whose.
        peer: PeerId,
        /// Its number.
        seq: u64,
    },
    /// Tell every peer.
    Notice(Reply),
    /// Something with the watchdog device.
    Watchdog(WatchdogAction),
    /// Log.
    Note(Reason),
    /// End the guard; nothing runs.
    Exit,
}

/// Why everything is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillCause {
    /// The deadline passed.
    Deadline(Epoch),
    /// The agent asked for it, with its words.
    Asked(String),
    /// The postmaster has ended and others have not: a busy backend goes on committing without it.
    PostmasterGone,
    /// The clean stop took too long.
    StopTooSlow,
    /// Something appeared in a group that had been fenced.
    AfterFence,
}

impl fmt::Display for KillCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(epoch) => write!(f, "the deadline of epoch={epoch} passed"),
            Self::Asked(reason) => write!(f, "the agent asked: {reason}"),
            Self::PostmasterGone => f.write_str("the postmaster is gone, others are left"),
            Self::StopTooSlow => f.write_str("the shutdown took too long"),
            Self::AfterFence => f.write_str("a process appeared after the fence"),
        }
    }
}
