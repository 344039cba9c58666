//! Deliberately broken rules, in the decider and in the drivers: each must be noticed by the checker within its own number
//! of seeds. One that survives says that the simulation is too weak, or that another rule covers it; then it stands here as
//! redundant, with the reason, and the test insists that it survives, so that this list stays honest.

use ha_decision::mutant::Mutant as Inner;

macro_rules! mutants {
    ($(($variant:ident, $seeds:literal, $fate:expr, $words:literal)),* $(,)?) => {
        /// A broken rule.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum Mutant {
            /// Nothing is broken.
            #[default]
            None,
            $(#[doc = $words] $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What becomes of it, and within how many seeds.
            pub fn fate(self) -> (Fate, u64) {
                match self {
                    Self::None => (Fate::Redundant("nothing is broken"), 0),
                    $(Self::$variant => ($fate, $seeds),)*
                }
            }

            /// What is broken, in words.
            pub fn words(self) -> &'static str {
                match self {
                    Self::None => "nothing is broken",
                    $(Self::$variant => $words,)*
                }
            }
        }
    };
}

/// What becomes of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The checker notices it as a broken promise to users.
    Killed,
    /// Another rule covers for it: why. It survives its seeds.
    Redundant(&'static str),
}

mutants! {
    // What a promise is.
    (NoCoverageRule, 400, Fate::Killed, "one promise suffices, whatever the policy asks for"),
    (OwnPromiseTwice, 400, Fate::Killed, "a candidate counts its own promise twice"),
    (PromiseOfAnyRevision, 300, Fate::Redundant("who knows the newer revision refuses, and such a refusal stops a takeover"), "a promise counts for any revision of the record"),
    (PromiseByName, 1500, Fate::Killed, "a promise counts by name, whichever incarnation gave it"),
    (PromiseEndsByTime, 400, Fate::Killed, "a promise ends by time, the record unmoved"),
    (PromiseForgottenOnRestart, 1500, Fate::Killed, "a restarted agent does not know what it promised"),
    (PromiseNotDurable, 400, Fate::Killed, "a promise is said before it is fsynced"),
    (PromiseWithoutStop, 400, Fate::Killed, "a promise is given while the walreceiver runs on"),
    (PasswordFileKept, 1500, Fate::Killed, "a promise leaves the password file, so a walreceiver may come back"),
    (PositionUnderReported, 1500, Fate::Killed, "a promiser reports less than it holds"),
    // The takeover.
    (LsnWithoutEpoch, 150, Fate::Redundant("a list holds members of one epoch, and an epoch that is not established acknowledged nothing"), "positions are compared without their epoch"),
    (NotTheBest, 400, Fate::Killed, "whoever has enough promises leads, whoever holds more"),
    (ListWithoutEqualPosition, 400, Fate::Killed, "the winner lists all who promised, whatever they hold"),
    (PromoteBeforeDecision, 400, Fate::Killed, "a candidate promotes before its transaction is known to have won"),
    (TimelineNotReserved, 400, Fate::Killed, "the next timeline is not looked up and not compared"),
    (LeaderKeyNotCompared, 150, Fate::Redundant("whatever moves the leader key against a takeover moves the sync record too"), "a takeover does not compare the leader key"),
    (StandstillIgnored, 150, Fate::Redundant("promises, not silence, decide; a mistake costs a change of leader and no commit"), "what was not heard during the observer's own standstill is silence"),
    // The store.
    (CompareIgnored, 400, Fate::Killed, "the store does not compare the revision of the record"),
    (CompareReread, 400, Fate::Killed, "a transaction compares a revision that was read again just before"),
    (UnknownTreatedAsFailed, 1500, Fate::Killed, "no answer is taken for not done"),
    (ReacquireByRead, 4000, Fate::Killed, "a restarted leader resumes after a read, without compare-and-swap"),
    // The list.
    (WidenServerFirst, 400, Fate::Killed, "a new member may confirm before the store lists it"),
    (RemoveStoreFirst, 400, Fate::Killed, "a member leaves the list in the store before it leaves the server's"),
    (ShrinkWithoutBarrier, 1500, Fate::Killed, "a member leaves before those that stay hold everything"),
    (InForceUnchecked, 1500, Fate::Killed, "a new list is taken for in force when the postmaster has it"),
    (EstablishServerFirst, 400, Fate::Killed, "an unestablished leader lets followers confirm before they are listed"),
    (ReturnStoreFirst, 400, Fate::Killed, "a pinned leader lists standbys before its commits wait for them"),
    (PinServerFirst, 400, Fate::Killed, "commits wait for nobody before the record says pinned"),
    (RaiseAcksStoreFirst, 400, Fate::Killed, "more confirmations are recorded before the server asks for them"),
    (LowerAcksServerFirst, 400, Fate::Killed, "the server asks for fewer confirmations before that is recorded"),
    (ListEmptiedOnDemotion, 400, Fate::Killed, "a leader that steps down empties its list"),
    (ResumeWithOldFile, 1000, Fate::Killed, "a leader starts with the list that its file still holds"),
    (SecondSenderCounts, 4000, Fate::Killed, "a second walsender of one member counts as another confirmation"),
    (ConfirmedBeforeFlush, 400, Fate::Killed, "a standby confirms what it has not flushed"),
    (OpenBeforeBarrier, 400, Fate::Killed, "clients are let in before standbys hold what recovery made visible"),
    // Whose data it is.
    (OldIncarnationAfterRewind, 400, Fate::Killed, "a rewound directory keeps its incarnation"),
    (OldIncarnationAfterClone, 400, Fate::Killed, "a cloned directory keeps its incarnation"),
    (StopWhileListed, 150, Fate::Redundant("a life of a directory that is over can promise nothing: such a takeover is blocked, and nothing is lost"), "a member is stopped or cloned anew while it is listed"),
    (RewindBeforeCheckpoint, 150, Fate::Redundant("a walsender refuses a standby that goes past the switch point"), "a rewind does not wait for the first checkpoint of its source"),
    (DivergenceIgnored, 150, Fate::Redundant("a walsender refuses a standby that goes past the switch point"), "a directory that diverged is started as a standby"),
    // Deadlines.
    (KeepaliveAlone, 150, Fate::Redundant("a leader key goes with its lease, or with the sync record, and both are seen"), "a renewed lease proves leadership, whatever the leader key says"),
    (AnswerTime, 400, Fate::Killed, "deadlines count from the answer, not from the sending"),
    // Linearizable reads.
    (LeaseFromAnswer, 1500, Fate::Killed, "a read lease counts from the answer to a beat, not from the beat"),
    (LeaseFromProxyAnswer, 2500, Fate::Killed, "the proxy counts a lease from the agent's answer, not from its question"),
    (LeaseCheckedAtLogin, 400, Fate::Killed, "the lease is looked at when a session begins, and never again"),
    (RefusalNotKept, 400, Fate::Killed, "a member promises as soon as it does not hear the leader, whatever it answered"),
    (RefusalForgottenOnRestart, 1000, Fate::Killed, "a restarted member promises at once, whatever it answered before"),
    (LeaseByOldList, 400, Fate::Killed, "a read lease rests on the recorded list alone, and the list changes whatever was told"),
    (ConsentBeforeLeaseEnds, 400, Fate::Killed, "a leader that shuts clients out asks to be replaced while a read lease runs"),
    (FenceWithoutKill, 2000, Fate::Killed, "the guard says that it killed and kills nothing"),
}

impl Mutant {
    /// The part of it that sits in the decider.
    pub(crate) fn of_decider(self) -> Inner {
        macro_rules! same {
            ($($variant:ident),*) => {
                match self {
                    $(Self::$variant => Inner::$variant,)*
                    _ => Inner::None,
                }
            };
        }
        same!(
            NoCoverageRule,
            OwnPromiseTwice,
            PromiseOfAnyRevision,
            PromiseByName,
            PromiseEndsByTime,
            LsnWithoutEpoch,
            NotTheBest,
            ListWithoutEqualPosition,
            PromoteBeforeDecision,
            TimelineNotReserved,
            LeaderKeyNotCompared,
            StandstillIgnored,
            ReacquireByRead,
            OpenBeforeBarrier,
            WidenServerFirst,
            RemoveStoreFirst,
            EstablishServerFirst,
            ReturnStoreFirst,
            PinServerFirst,
            RaiseAcksStoreFirst,
            LowerAcksServerFirst,
            OldIncarnationAfterRewind,
            OldIncarnationAfterClone,
            StopWhileListed,
            RewindBeforeCheckpoint,
            DivergenceIgnored,
            LeaseFromAnswer,
            RefusalNotKept,
            RefusalForgottenOnRestart,
            LeaseByOldList,
            ConsentBeforeLeaseEnds
        )
    }

    /// Whether it breaks a rule of linearizable reads, so that only a run with readers can notice.
    pub fn is_of_reads(self) -> bool {
        matches!(
            self,
            Self::LeaseFromAnswer
                | Self::LeaseFromProxyAnswer
                | Self::LeaseCheckedAtLogin
                | Self::RefusalNotKept
                | Self::RefusalForgottenOnRestart
                | Self::LeaseByOldList
                | Self::ConsentBeforeLeaseEnds
        )
    }
}
