//! What may happen next. Time does not exist here: every step that is possible may be taken now or never.

use crate::state::Member;

/// One step. `l` leads or believes so, `p` runs as a primary, `x` is anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client commits on `p`.
    Commit(Member),
    /// The walreceiver of `x` gets the next record from `p`, flushes it and sends a confirmation.
    Receive {
        /// Primary.
        p: Member,
        /// Standby.
        x: Member,
    },
    /// The last confirmation arrives at the walsender.
    Confirm {
        /// Primary.
        p: Member,
        /// Standby.
        x: Member,
    },
    /// The walsender reads the list.
    ReloadSender {
        /// Primary.
        p: Member,
        /// Standby.
        x: Member,
    },
    /// The checkpointer reads the list: whether commits wait at all.
    ReloadGuard(Member),
    /// The walsender notices that its standby is gone, or the connection breaks.
    EndSender {
        /// Primary.
        p: Member,
        /// Standby.
        x: Member,
    },
    /// `x` follows whom the store names.
    Follow(Member),
    /// `x` connects again to the leader that it followed, deposed as that may be.
    Reconnect(Member),
    /// `x` promises: durably, its walreceiver gone, its position exact, and says so.
    Promise(Member),
    /// `x` takes over with its own promise and those of the members in the mask.
    TakeOver {
        /// Candidate.
        x: Member,
        /// Whose promises have arrived.
        with: u8,
        /// The store takes its time.
        slow: bool,
    },
    /// Loads the list of its record, then promotes PostgreSQL.
    Promote(Member),
    /// The unestablished leader lists who holds everything.
    Establish {
        /// Leader.
        l: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// The postmaster gets the list that it ought to have.
    Settle(Member),
    /// A streaming standby joins: the store first.
    Add {
        /// Leader.
        l: Member,
        /// Who joins.
        x: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// A member is to leave: the server first, or fewer confirmations first.
    BeginRemove {
        /// Leader.
        l: Member,
        /// Id of who leaves.
        gone: u8,
        /// The store takes its time.
        slow: bool,
    },
    /// "Commits wait for nobody": the store first.
    Pin {
        /// Leader.
        l: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// A pinned leader stops cleanly and asks a standby to take over.
    HandOver {
        /// Leader.
        l: Member,
        /// Who is to lead.
        to: Member,
    },
    /// A pinned leader begins to return to a list.
    BeginGuard(Member),
    /// Fewer confirmations: the store first.
    FewerAcks {
        /// Leader.
        l: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// More confirmations: the server first.
    BeginRaise(Member),
    /// A returning leader sees that commits wait.
    Prove(Member),
    /// Walsenders that may use an older count are ended.
    Bounce(Member),
    /// The tighter list is seen in force; the barrier is where the WAL ends now.
    SeeInForce(Member),
    /// Those that stay hold everything: the store may say so.
    Finish {
        /// Leader.
        l: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// The change is given up.
    DropChange(Member),
    /// The agent sees a record that it did not know to be written.
    See(Member),
    /// A deposed member learns it: its primary ends.
    Fence(Member),
    /// A primary's directory starts as a standby, as it is.
    Stand(Member),
    /// The directory of `x` becomes a copy of the one of `p`, because its history is another or it is lost.
    Copy {
        /// Member.
        x: Member,
        /// Source.
        p: Member,
    },
    /// A promise led to nothing: the revision moves on.
    Abort {
        /// Member.
        x: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// Leadership is taken up again, by compare-and-swap.
    Reacquire {
        /// Leader.
        l: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// PostgreSQL of the leader starts, blocked.
    StartPrimary(Member),
    /// A request reaches the store.
    Arrive(u8),
    /// Its agent does not wait any longer.
    GiveUp(u8),
    /// After no answer: the revision is moved on.
    Resolve {
        /// Member.
        x: Member,
        /// The store takes its time.
        slow: bool,
    },
    /// Everything on the host ends; the disk stays.
    CrashHost(Member),
    /// The agent ends, PostgreSQL runs on.
    CrashAgent(Member),
    /// PostgreSQL ends, the agent lives.
    CrashPostgres(Member),
}
