//! What this agent counted since it started, for metrics. Nothing is decided by it.

use std::collections::BTreeMap;

use ha_core::peer_message::Trigger;
use ha_core::phases::Phases;

use crate::reason::Reason;

/// Counters of one agent's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaderships that this member won, by the word of what began them.
    pub won: BTreeMap<String, u64>,
    /// Changes of leader whose phases were told, by this member as the new leader.
    pub told: u64,
    /// Their phases by name.
    pub phases: BTreeMap<&'static str, PhaseTime>,
    /// Elections begun, by trigger.
    pub elections: BTreeMap<&'static str, u64>,
    /// How often agent and WAL of a leader were both silent for the time that counts, whatever came of it.
    pub suspicions: u64,
    /// Promises given, to others and to itself.
    pub promises: u64,
    /// Attempts to abort a promise that led to nothing.
    pub aborts: u64,
    /// How often this member became unable to go on without help, by the word of the reason.
    pub blocked: BTreeMap<&'static str, u64>,
}

/// Lengths of one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseTime {
    /// The last one, ms.
    pub last_ms: u64,
    /// All of them together, ms.
    pub sum_ms: u64,
    /// How many.
    pub count: u64,
}

impl Counts {
    pub(crate) fn election(&mut self, trigger: Trigger) {
        *self.elections.entry(trigger.word()).or_default() += 1;
    }

    pub(crate) fn leadership(&mut self, trigger: &str) {
        *self.won.entry(trigger.to_owned()).or_default() += 1;
    }

    pub(crate) fn told(&mut self, phases: &Phases) {
        self.told += 1;
        for (name, ms) in phases.named() {
            let time = self.phases.entry(name).or_default();
            *time = PhaseTime { last_ms: ms, sum_ms: time.sum_ms + ms, count: time.count + 1 };
        }
    }

    pub(crate) fn blocked(&mut self, reason: &Reason) {
        *self.blocked.entry(word_of(reason)).or_default() += 1;
    }
}

/// A label for metrics: few, and for ever the same.
fn word_of(reason: &Reason) -> &'static str {
    match reason {
        Reason::PromisesMissing { .. } => "promises_missing",
        Reason::HolderMayNotLead { .. } => "holder_may_not_lead",
        Reason::LeaderPinned { .. } => "leader_pinned",
        Reason::NotAutomatic => "not_automatic",
        Reason::LeaderUnfenced => "leader_unfenced",
        Reason::TooFarBehind { .. } => "too_far_behind",
        Reason::StoreRolledBack | Reason::OthersSawMore { .. } => "store_rolled_back",
        _ => "data",
    }
}
