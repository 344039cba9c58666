//! Deliberate breakage of the protocol. Each must give a counterexample; one that survives says that the model is too
//! weak.

/// One broken rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None is broken.
    #[default]
    None,
    /// A member leaves before those that stay hold everything.
    BarrierSkipped,
    /// The store does not compare the revision of the record.
    CompareIgnored,
    /// A restarted member does not know what it has promised.
    PromiseForgotten,
    /// A restarted agent resumes leadership after a read.
    ResumedByRead,
    /// One promise suffices, whatever the policy asks for.
    TooFewPromises,
    /// A promise is given while the walreceiver runs on.
    PromiseWithoutStop,
    /// A member that joins may confirm before the store lists it.
    AddedServerFirst,
    /// A member that leaves may confirm after the store has dropped it.
    RemovedStoreFirst,
    /// The winner lists members that stand elsewhere than itself.
    UnequalMembersListed,
    /// A rewound or cloned directory keeps its name.
    IncarnationKept,
    /// A leader that steps down empties its list.
    ListEmptiedOnDemotion,
    /// No answer is taken for "not done".
    UnknownTakenForLost,
    /// A member follows the old leader again before the revision has moved on.
    ResumedBeforeRevisionMoved,
    /// The new list is taken for in force when the postmaster has it.
    InForceUnchecked,
    /// The list is emptied before the store says pinned.
    PinnedServerFirst,
    /// A pinned leader does not look whether commits wait before it counts on a list.
    GuardUnproved,
    /// Who is asked by a pinned leader takes over without the end of its WAL.
    HandedOverUnproved,
    /// The winner is not the furthest of those that promised.
    BestNotChosen,
    /// An unestablished leader lets a follower confirm that lacks its first record.
    EstablishedTooEarly,
    /// More confirmations are asked for in the store first.
    RaisedStoreFirst,
}

impl Mutant {
    /// All that must be killed.
    pub const ALL: [Self; 20] = [
        Self::BarrierSkipped,
        Self::CompareIgnored,
        Self::PromiseForgotten,
        Self::ResumedByRead,
        Self::TooFewPromises,
        Self::PromiseWithoutStop,
        Self::AddedServerFirst,
        Self::RemovedStoreFirst,
        Self::UnequalMembersListed,
        Self::IncarnationKept,
        Self::ListEmptiedOnDemotion,
        Self::UnknownTakenForLost,
        Self::ResumedBeforeRevisionMoved,
        Self::InForceUnchecked,
        Self::PinnedServerFirst,
        Self::GuardUnproved,
        Self::HandedOverUnproved,
        Self::BestNotChosen,
        Self::EstablishedTooEarly,
        Self::RaisedStoreFirst,
    ];
}
