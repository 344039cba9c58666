//! How a change of leader went: what the new leader noted while it took over, kept in the history beside the decision.
//!
//! Every length is measured on one host's clock. What another host did comes as a length that was measured there.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::MemberName;
use crate::peer_message::{HandOverSteps, Trigger};
use crate::record::{Extra, HistoryRecord};

/// Where the phases stand in a history record.
const PHASES: &str = "phases";
/// Where the time of the decision stands in a history record.
const AT: &str = "at";

/// The phases of one change of leader. What is absent did not happen, or was not over when the phases were written.
/// All lengths in ms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// What began it: a word of [`Trigger::word`], `initdb`, or `new_timeline`.
    #[serde(default)]
    pub trigger: String,
    /// From the last sign of the old leader, or from the first request of a leader that gives up, to the first question
    /// for promises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_ms: Option<u64>,
    /// From there until the deciding transaction was known to be won.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide_ms: Option<u64>,
    /// From there until PostgreSQL was a primary on the new timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_ms: Option<u64>,
    /// From the promotion until as many listed standbys streamed as a commit waits for (any standby where none is
    /// waited for).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reattach_ms: Option<u64>,
    /// From the promotion until every connected proxy led new sessions to the new leader. Beside `reattach_ms`, not after
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute_ms: Option<u64>,
    /// All of it: the old leader's stop, then from the beginning of the first phase to the end of the last. Absent when a
    /// phase was not over in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// Silence of the old leader's agent when promises were first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_silent_ms: Option<u64>,
    /// Silence of the old leader's WAL when promises were first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_silent_ms: Option<u64>,
    /// What the old leader did before it asked, measured there.
    #[serde(flatten)]
    pub steps: HandOverSteps,
    /// Who promised, and how long after the first question that was heard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promises: BTreeMap<MemberName, u64>,
    /// Who refused a promise, and why; the last refusal of each, whether or not a promise followed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refusals: BTreeMap<MemberName, String>,
    /// How many proxies were led over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<u32>,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Phases {
    /// The phases that are known, by name, in their order, ms.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("checkpoint", self.steps.checkpoint_ms),
            ("hold", self.steps.hold_ms),
            ("stop", self.steps.stop_ms),
            ("detect", self.detect_ms),
            ("decide", self.decide_ms),
            ("promote", self.promote_ms),
            ("reattach", self.reattach_ms),
            ("reroute", self.reroute_ms),
            ("total", self.total_ms),
        ];
        all.into_iter().filter_map(|(name, ms)| Some((name, ms?)))
    }
}

impl Trigger {
    /// The word that history and metrics use.
    pub fn word(self) -> &'static str {
        match self {
            Self::LeaseExpired => "lease_expired",
            Self::LeaderSilent => "leader_silent",
            Self::LeaderAsked => "leader_asked",
            Self::Operator => "operator",
        }
    }
}

/// What people say of a trigger's word.
pub fn trigger_in_short(word: &str) -> &str {
    match word {
        "lease_expired" => "lease ran out",
        "leader_silent" => "leader silent",
        "leader_asked" => "leader asked",
        "operator" => "operator",
        "new_timeline" => "new timeline",
        other => other,
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

impl fmt::Display for Phases {
    /// The whole story in one sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut part = |words: &str, ms: Option<u64>, more: &[String]| {
            if let Some(ms) = ms {
                let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
                parts.push(format!("{words} {}{more}", seconds(ms)));
            }
        };
        let silent = [("agent", self.agent_silent_ms), ("WAL", self.wal_silent_ms)];
        let silent =
            silent.iter().filter_map(|(of, ms)| Some(format!("{of} silent for {}", seconds((*ms)?))));
        let silent: Vec<_> = silent.collect();
        let promised = self.promises.iter().map(|(who, ms)| format!("{who} promised after {}", seconds(*ms)));
        let refused = self.refusals.iter().map(|(who, why)| format!("{who} refused: {why}"));
        let votes: Vec<_> = promised.chain(refused).collect();
        let proxies: Vec<_> = self.proxies.map(|proxies| format!("proxies: {proxies}")).into_iter().collect();
        part("checkpoint", self.steps.checkpoint_ms, &[]);
        part("hold", self.steps.hold_ms, &[]);
        part("stop", self.steps.stop_ms, &[]);
        part("detect", self.detect_ms, &silent);
        part("decide", self.decide_ms, &votes);
        part("promote", self.promote_ms, &[]);
        part("reattach", self.reattach_ms, &[]);
        part("reroute", self.reroute_ms, &proxies);
        part("total", self.total_ms, &[]);
        if parts.is_empty() {
            return f.write_str("nothing was waited for");
        }
        f.write_str(&parts.join(", "))
    }
}

/// Time and phases are written after the decision and read leniently: a record that tells a story in words of another
/// version must not make the cluster unreadable, so they live among the fields that are kept unread.
impl HistoryRecord {
    /// When it was decided, RFC 3339, by the clock of the member that decided. For people only.
    pub fn at(&self) -> Option<&str> {
        self.extra.get(AT)?.as_str()
    }

    /// How it went, when that was written and can be read.
    pub fn phases(&self) -> Option<Phases> {
        Phases::deserialize(self.extra.get(PHASES)?).ok()
    }

    /// Whether phases stand here, readable or not.
    pub fn has_phases(&self) -> bool {
        self.extra.contains_key(PHASES)
    }

    /// Adds when it was decided and how it went.
    ///
    /// # Panics
    /// Never: phases have string keys and whole numbers.
    pub fn complete(&mut self, at: &str, phases: &Phases) {
        let phases = serde_json::to_value(phases).expect("phases have string keys and whole numbers");
        self.extra.insert(AT.to_owned(), at.into());
        self.extra.insert(PHASES.to_owned(), phases);
    }

    /// Drops the phases, which are most of an old record; what decisions need stays.
    pub fn forget_phases(&mut self) {
        self.extra.remove(PHASES);
    }
}
