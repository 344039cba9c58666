//! Deliberately broken rules. Only with the feature `testing`; `Mutant::None` changes nothing.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    /// None is broken.
    #[default]
    None,
    /// One promise suffices, whatever the policy asks for.
    NoCoverageRule,
    /// A candidate counts its own promise twice.
    OwnPromiseTwice,
    /// A promise counts whatever revision of the sync record it was given for.
    PromiseOfAnyRevision,
    /// A promise counts by the member's name, whichever life of its data gave it.
    PromiseByName,
    /// A promise ends after a while, though the sync record has not moved.
    PromiseEndsByTime,
    /// Positions are compared without the epoch that their WAL belongs to.
    LsnWithoutEpoch,
    /// Whoever has enough promises leads, whoever holds more.
    NotTheBest,
    /// The winner lists all who promised, whatever they hold.
    ListWithoutEqualPosition,
    /// A candidate promotes while its transaction is on its way.
    PromoteBeforeDecision,
    /// The next timeline is the own one plus one, whatever the history in the store says.
    TimelineNotReserved,
    /// A takeover does not compare the leader key.
    LeaderKeyNotCompared,
    /// What a decider did not hear while it stood still counts as silence.
    StandstillIgnored,
    /// A restarted agent resumes leadership after reading that it leads, without a compare-and-swap.
    ReacquireByRead,
    /// Clients are let in before the standbys hold what crash recovery made visible.
    OpenBeforeBarrier,
    /// The list narrows in the store before the remaining members hold everything.
    ShrinkWithoutBarrier,
    /// A new member may confirm before the store lists it.
    WidenServerFirst,
    /// A member leaves the list in the store before the server has stopped counting it.
    RemoveStoreFirst,
    /// An unestablished leader lets its first followers confirm before the store lists them.
    EstablishServerFirst,
    /// Followers of an unestablished leader are listed before they hold everything.
    EstablishWithoutPosition,
    /// A pinned leader lists standbys in the store before its commits wait for them.
    ReturnStoreFirst,
    /// Commits wait for nobody before the store says that the leader is pinned.
    PinServerFirst,
    /// More confirmations are recorded before the server asks for them.
    RaiseAcksStoreFirst,
    /// The server asks for fewer confirmations before that is recorded.
    LowerAcksServerFirst,
    /// A rewound directory keeps its incarnation.
    OldIncarnationAfterRewind,
    /// A cloned directory keeps its incarnation.
    OldIncarnationAfterClone,
    /// A member stops or is cloned anew while it is listed.
    StopWhileListed,
    /// A rewind does not wait for the first checkpoint of its source.
    RewindBeforeCheckpoint,
    /// A directory that diverged is started as a standby.
    DivergenceIgnored,
    /// A read lease counts from the receipt of the answer, not from the sending of the beat.
    LeaseFromAnswer,
    /// A restarted member promises at once, whatever it answered before.
    RefusalForgottenOnRestart,
    /// A member promises as soon as it does not hear the leader, whatever it answered.
    RefusalNotKept,
    /// A read lease rests on the list in the record alone, and the list changes whatever was told.
    LeaseByOldList,
    /// A leader that shuts clients out asks to be replaced while a read lease runs.
    ConsentBeforeLeaseEnds,
    /// `initdb` runs on a claim of an earlier life of the agent.
    InitializeOnOldClaim,
}
