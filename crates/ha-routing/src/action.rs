//! What the driver has to do, in the order in which it is handed out.

use std::sync::Arc;

use ha_core::MemberName;

use crate::reason::Reason;
use crate::table::Table;

/// Which sessions of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Those that came in by the write port.
    Writes,
    /// Those that came in by the read port.
    Reads,
    /// All.
    All,
}

/// Something to do. Actions are carried out in order: a new table is in force before sessions are cut, so that a client
/// that was cut and comes back at once never meets the old route.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Swap the table that new sessions read, at once, and wake those that wait. Handed out only when something that
    /// matters to a session or a reader changed; [`Router::table`](crate::Router::table) is newer in its ages.
    PutInForce(Arc<Table>),
    /// End these sessions now.
    Cut {
        /// Sessions to whom.
        member: MemberName,
        /// Which of them.
        which: Sessions,
        /// Why, for the client and the log.
        reason: Reason,
    },
    /// Ask the REST interface of this member and report [`Event::Checked`](crate::Event::Checked). Handed out every
    /// check interval; while a check of the same member is still under way, ignore it.
    Check {
        /// Whom.
        member: MemberName,
    },
    /// Tell this member's agent that the table in force rests on this claim.
    Confirm {
        /// Whom.
        member: MemberName,
        /// Sequence of the claim.
        sequence: u64,
    },
    /// Write to the log; at error level when [`Reason::needs_a_human`].
    Note(Reason),
}
