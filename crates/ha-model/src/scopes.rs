//! The scopes that are explored: small ones by every `cargo test`, larger ones by `make model`, and one for each mutant.

use crate::mutant::Mutant;
use crate::scope::Scope;

impl Scope {
    /// Explored by every `cargo test`: who leads next.
    pub const SMALL_TAKEOVERS: &'static [Self] = &[
        Self { name: "takeover, two commits", commits: 2, aborts: true, ..Self::BASE },
        Self { name: "takeover, a slow transaction", slow: 1, aborts: true, ..Self::BASE },
        Self { name: "the same, one candidate", slow: 1, aborts: true, candidates: 1, ..Self::BASE },
    ];

    /// Explored by every `cargo test`: leaders that die.
    pub const SMALL_CRASHES: &'static [Self] =
        &[Self { name: "three epochs, a crash", crashes: 1, last_epoch: 3, ..Self::BASE }];

    /// Explored by every `cargo test`: changes of the list.
    pub const SMALL_LISTS: &'static [Self] = &[
        Self { name: "members leave and join", changes: true, ..Self::BASE },
        Self { name: "pinned and back", pins: true, ..Self::BASE },
        Self { name: "two confirmations, fewer and more", acks: 2, counts: true, ..Self::BASE },
    ];

    /// Explored by `make model`. What is too large for the time given is explored in part, breadth first.
    pub const LARGE: &'static [Self] = &[
        Self {
            name: "one candidate: list changes, a slow transaction, a crash; three revisions",
            candidates: 1,
            changes: true,
            slow: 1,
            crashes: 1,
            last_revision: 3,
            ..Self::BASE
        },
        Self {
            name: "two candidates: list changes, a slow transaction, a crash; three revisions",
            changes: true,
            slow: 1,
            crashes: 1,
            last_revision: 3,
            ..Self::BASE
        },
        Self {
            name: "two candidates: list changes, a slow transaction, a crash; four revisions",
            changes: true,
            slow: 1,
            crashes: 1,
            ..Self::BASE
        },
        Self {
            name: "two candidates: two slow transactions, aborts, three epochs",
            slow: 2,
            aborts: true,
            last_epoch: 3,
            ..Self::BASE
        },
        Self {
            name: "two candidates: list changes, a directory copied anew",
            changes: true,
            losses: 1,
            last_revision: 5,
            ..Self::BASE
        },
        Self {
            name: "two candidates: three epochs, a crash, a directory copied anew",
            crashes: 1,
            losses: 1,
            last_epoch: 3,
            ..Self::BASE
        },
        Self {
            name: "two candidates: list changes, two commits, a broken connection",
            commits: 2,
            changes: true,
            breaks: 1,
            ..Self::BASE
        },
        Self {
            name: "two candidates: pinned and back, a slow transaction",
            pins: true,
            slow: 1,
            ..Self::BASE
        },
        Self {
            name: "two candidates: two confirmations, fewer and more, a slow transaction, a crash",
            acks: 2,
            counts: true,
            slow: 1,
            crashes: 1,
            ..Self::BASE
        },
    ];

    /// The smallest scope in which breaking this rule must be noticed.
    pub fn of_mutant(mutant: Mutant) -> Self {
        let changes = Self { changes: true, ..Self::BASE };
        let base = match mutant {
            Mutant::BarrierSkipped | Mutant::RemovedStoreFirst | Mutant::InForceUnchecked => changes,
            Mutant::AddedServerFirst | Mutant::UnknownTakenForLost => Self { slow: 1, ..changes },
            Mutant::CompareIgnored => Self { slow: 1, ..Self::BASE },
            Mutant::PromiseForgotten => Self { crashes: 1, ..Self::BASE },
            Mutant::ResumedByRead => Self { slow: 1, crashes: 1, ..changes },
            Mutant::IncarnationKept => Self { losses: 1, ..Self::BASE },
            Mutant::PinnedServerFirst => Self { slow: 1, pins: true, ..Self::BASE },
            Mutant::GuardUnproved | Mutant::HandedOverUnproved => Self { pins: true, ..Self::BASE },
            Mutant::RaisedStoreFirst => Self { acks: 2, counts: true, ..Self::BASE },
            Mutant::None
            | Mutant::TooFewPromises
            | Mutant::PromiseWithoutStop
            | Mutant::UnequalMembersListed
            | Mutant::ListEmptiedOnDemotion
            | Mutant::ResumedBeforeRevisionMoved
            | Mutant::BestNotChosen
            | Mutant::EstablishedTooEarly => Self::BASE,
        };
        base.breaking(mutant)
    }

    /// The smallest scope in which breaking this rule must lose a commit.
    pub fn losing(mutant: Mutant) -> Self {
        let base = Self { losses_only: true, ..Self::of_mutant(mutant) };
        match mutant {
            // The list that is wrong then decides who leads after the next leader.
            Mutant::UnequalMembersListed | Mutant::EstablishedTooEarly => {
                Self { last_epoch: 3, last_revision: 5, ..base }
            }
            // The longest stories: nothing that they do not need.
            Mutant::ResumedByRead | Mutant::UnknownTakenForLost => {
                Self { candidates: 1, last_revision: 3, ..base }
            }
            _ => base,
        }
    }
}
