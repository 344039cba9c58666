//! What happens to a guard.

use ha_core::MonoTime;
use ha_core::guard_link::{ExitOutcome, FenceMethod, Request};

use crate::watchdog::WatchdogEvent;

/// One connection, numbered by the program; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// Something happened. `populated` is always what the program saw in the group after it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer asks for something.
    Requested {
        /// Who.
        peer: PeerId,
        /// What.
        request: Request,
        /// Whether any process is in the group.
        populated: bool,
    },
    /// A connection ended.
    PeerGone(PeerId),
    /// The launcher has become the postmaster.
    Launched {
        /// Its process id.
        pid: u32,
        /// System identifier in the control file, if it could be read.
        system_id: Option<u64>,
    },
    /// The launcher gave up, or was killed before it became the postmaster.
    LaunchFailed {
        /// Why.
        text: String,
        /// Whether any process is in the group.
        populated: bool,
    },
    /// The postmaster ended, and has been reaped.
    PostmasterExited {
        /// How.
        outcome: ExitOutcome,
        /// Whether any process is in the group.
        populated: bool,
    },
    /// The group became empty or populated.
    GroupChanged {
        /// Whether any process is in the group.
        populated: bool,
    },
    /// [`crate::Action::Kill`] was carried out once.
    Killed {
        /// By what means.
        how: FenceMethod,
        /// Whether any process is left.
        populated: bool,
    },
    /// [`crate::Action::SaveState`] failed; the program has removed the old state.
    StateNotSaved,
    /// Result of [`crate::Action::Inspect`].
    Inspected {
        /// Whether the data directory is marked as a standby's; `None` if that could not be seen.
        standby: Option<bool>,
    },
    /// It was tried whether a kernel fuse is possible here.
    FuseProbed {
        /// Why not.
        failure: Option<String>,
    },
    /// The fuse of the running start has carried out [`crate::Action::SetFuse`].
    FuseSaid {
        /// The deadline that it holds.
        deadline: Option<MonoTime>,
        /// Its end ends PostgreSQL.
        tied: bool,
    },
    /// The fuse's process has ended, or cannot be spoken to.
    FuseLost,
    /// [`crate::Action::Watchdog`] was carried out.
    Watchdog(WatchdogEvent),
    /// The guard was asked to stop (SIGTERM).
    StopRequested {
        /// Whether any process is in the group.
        populated: bool,
    },
}
