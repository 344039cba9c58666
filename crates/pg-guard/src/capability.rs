//! What the guard's processes may do, cut down to what they need.

use std::io;

use crate::system_call::set_capabilities;

/// A capability by its number (capabilities(7), `linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// Memory stays locked also where the limit would not allow it.
    IpcLock = 14,
}

/// Gives all others up for good. What remains of root then is its number: other users can neither signal nor trace it.
pub(crate) fn keep(kept: &[Capability]) -> io::Result<()> {
    set_capabilities(kept.iter().fold(0, |set, capability| set | 1 << (*capability as u32)))
}
