//! What one run explores: how much may happen and what may go wrong. Within it everything is tried, in every order.

use crate::mutant::Mutant;

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// For reports.
    pub name: &'static str,
    /// Which standbys of the first leader may lead: one or both.
    pub candidates: u8,
    /// Confirmations asked for (k).
    pub acks: u8,
    /// Rather blocked than with fewer confirmations.
    pub strict_k: bool,
    /// Commits that clients try.
    pub commits: u8,
    /// Crashes: of a host, of an agent alone, of PostgreSQL alone.
    pub crashes: u8,
    /// Transactions that take their time: applied later, applied without an answer, or never.
    pub slow: u8,
    /// Directories that are cloned anew or rewound.
    pub losses: u8,
    /// Connections of running standbys that break.
    pub breaks: u8,
    /// Last revision of the sync record; the first is 1.
    pub last_revision: u8,
    /// Last epoch; the first is 1.
    pub last_epoch: u8,
    /// Whether members may be taken from the list and come back.
    pub changes: bool,
    /// Whether the leader may pin itself, and return from that.
    pub pins: bool,
    /// Whether the number of confirmations changes (between 1 and `acks`).
    pub counts: bool,
    /// Whether a standby may give an unwanted promise back by moving the revision.
    pub aborts: bool,
    /// Only a lost commit counts as broken, not a rule that exists to prevent it.
    pub losses_only: bool,
    /// The rule that is broken.
    pub mutant: Mutant,
}

impl Scope {
    /// Nothing goes wrong but that the leader is suspected; everything else adds to this.
    pub const BASE: Self = Self {
        name: "base",
        candidates: 2,
        acks: 1,
        strict_k: false,
        commits: 1,
        crashes: 0,
        slow: 0,
        losses: 0,
        breaks: 0,
        last_revision: 4,
        last_epoch: 2,
        changes: false,
        pins: false,
        counts: false,
        aborts: false,
        losses_only: false,
        mutant: Mutant::None,
    };

    /// The same with a rule broken.
    #[must_use]
    pub fn breaking(self, mutant: Mutant) -> Self {
        Self { mutant, ..self }
    }

    /// Whether the two first standbys can be told apart.
    pub(crate) fn is_symmetric(&self) -> bool {
        self.candidates == 2
    }
}
