//! What the guard's processes may do, cut down to what they need.

use std::io;

use crate::system_call::{drop_from_bounding_set, permitted_capabilities, set_capabilities};

/// A capability by its number (capabilities(7), `linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// Give the socket and the log directory to PostgreSQL's user.
    Chown = 0,
    /// Read and write files of other users.
    DacOverride = 1,
    /// Change the mode of the socket.
    Fowner = 3,
    /// Signal processes of another user.
    Kill = 5,
    /// Become PostgreSQL's group.
    Setgid = 6,
    /// Become PostgreSQL's user.
    Setuid = 7,
    /// Lock memory beyond the limit.
    IpcLock = 14,
    /// See where another user's process works, where there is no control group.
    SysPtrace = 19,
    /// Mount cgroup v2, make a PID namespace and choose numbers in it.
    SysAdmin = 21,
    /// Real-time priority.
    SysNice = 23,
    /// An out-of-memory score below zero.
    SysResource = 24,
}

/// What the guard and its errands need; the same as in the unit file.
pub(crate) const GUARD: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::IpcLock,
    Capability::SysPtrace,
    Capability::SysAdmin,
    Capability::SysNice,
    Capability::SysResource,
];

/// The highest number that any kernel could know.
const HIGHEST: u32 = 63;

/// Gives all others up, for this process and whatever it starts.
pub(crate) fn bound(kept: &[Capability]) -> io::Result<()> {
    let set = set_of(kept);
    for number in (0..=HIGHEST).filter(|number| set & (1 << number) == 0) {
        // Not permitted where the service manager has done it already, and unknown beyond the kernel's last.
        drop(drop_from_bounding_set(number));
    }
    keep(kept)
}

/// Gives all others up, for this process. What remains of root then is its number: other users can neither signal nor
/// trace it.
pub(crate) fn keep(kept: &[Capability]) -> io::Result<()> {
    set_capabilities(set_of(kept) & permitted_capabilities()?)
}

fn set_of(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |set, capability| set | 1 << (*capability as u32))
}
