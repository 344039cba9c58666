//! Deliberate breakage: each breaks one safety rule, and the checker must notice within a budget of seeds. A mutant that
//! survives says that the simulation is too weak.

/// A broken rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing is broken.
    #[default]
    None,
    /// Fewer promises than needed suffice.
    NoCoverageRule,
    /// A restarted agent does not know what it has promised.
    PromiseForgottenOnRestart,
    /// A restarted leader resumes after a read, without compare-and-swap.
    ReacquireByRead,
    /// A leader that steps down empties its list.
    ListEmptiedOnDemotion,
    /// A member leaves the list before those that stay hold everything.
    ShrinkWithoutBarrier,
    /// No answer is taken for "not done".
    UnknownTreatedAsFailed,
    /// A promise is given while the walreceiver runs on.
    PromiseWithoutStop,
    /// A promise leaves the password file, so a walreceiver may come back.
    PasswordFileKept,
    /// The new list is taken for in force when the postmaster has it, not when the walsender of the removed member has.
    InForceUnchecked,
    /// A promiser reports less than it holds.
    PositionUnderReported,
    /// The store does not compare the revision of the sync record.
    CompareIgnored,
    /// A standby confirms what it has not flushed.
    ConfirmedBeforeFlush,
    /// The guard says that it killed and kills nothing.
    FenceWithoutKill,
}

impl Mutant {
    /// The part of it that sits in the decider.
    pub(crate) fn of_decider(self) -> ha_decision::mutant::Mutant {
        use ha_decision::mutant::Mutant as Inner;
        match self {
            Self::NoCoverageRule => Inner::NoCoverageRule,
            Self::ReacquireByRead => Inner::ReacquireByRead,
            _ => Inner::None,
        }
    }

    /// All that must be killed.
    pub const ALL: [Self; 13] = [
        Self::NoCoverageRule,
        Self::PromiseForgottenOnRestart,
        Self::ReacquireByRead,
        Self::ListEmptiedOnDemotion,
        Self::ShrinkWithoutBarrier,
        Self::UnknownTreatedAsFailed,
        Self::PromiseWithoutStop,
        Self::PasswordFileKept,
        Self::InForceUnchecked,
        Self::PositionUnderReported,
        Self::CompareIgnored,
        Self::ConfirmedBeforeFlush,
        Self::FenceWithoutKill,
    ];
}
