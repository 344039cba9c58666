//! What the agents' metrics say while nothing happens.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};

use crate::lab::Lab;

/// Counts how often a member found that the leader had fallen silent. Not told by agents that do not count it.
const SUSPICIONS: &str = "matriarch_leader_suspicions_total";

/// One look at one agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metrics {
    pub(super) epoch: u64,
    /// Rewrites of the sync record.
    pub(super) generation: u64,
    /// Other agents that it hears.
    peers_heard: u64,
    /// Time since its loop turned, in seconds.
    loop_age: f64,
    suspicions: Option<u64>,
}

impl Metrics {
    pub(super) fn of(lab: &Lab, host: &str) -> Result<Self> {
        Self::parse(&lab.rest(host, "/metrics")?.body).with_context(|| format!("metrics of {host}"))
    }

    fn parse(page: &str) -> Result<Self> {
        let value = |name: &str| {
            page.lines().find_map(|line| {
                let (found, value) = line.rsplit_once(' ')?;
                let found = found.split('{').next()?;
                (found == name).then(|| value.parse::<f64>().ok()).flatten()
            })
        };
        let wanted = |name: &str| value(name).with_context(|| format!("no {name}"));
        Ok(Self {
            epoch: wanted("matriarch_epoch")? as u64,
            generation: wanted("matriarch_sync_generation")? as u64,
            peers_heard: wanted("matriarch_peers_heard")? as u64,
            loop_age: wanted("matriarch_loop_age_seconds")?,
            suspicions: value(SUSPICIONS).map(|count| count as u64),
        })
    }
}

/// What was seen of all agents, look by look.
#[derive(Debug)]
pub(super) struct Watched {
    others: u64,
    first: BTreeMap<String, Option<u64>>,
    last: BTreeMap<String, Option<u64>>,
    looks: u64,
    unanswered: u64,
    /// Looks at which an agent did not hear all others.
    deaf: u64,
    longest_loop: f64,
}

impl Watched {
    pub(super) fn new(lab: &Lab) -> Self {
        let others = lab.databases().len() as u64 - 1;
        let (first, last) = (BTreeMap::new(), BTreeMap::new());
        Self { others, first, last, looks: 0, unanswered: 0, deaf: 0, longest_loop: 0.0 }
    }

    /// Asks every agent once. One that does not answer within two seconds is counted, not an error: it may be starved.
    pub(super) fn look(&mut self, lab: &Lab) {
        for host in lab.databases() {
            self.looks += 1;
            let Ok(seen) = Metrics::of(lab, host) else {
                self.unanswered += 1;
                continue;
            };
            self.first.entry(host.to_owned()).or_insert(seen.suspicions);
            self.last.insert(host.to_owned(), seen.suspicions);
            self.deaf += u64::from(seen.peers_heard < self.others);
            self.longest_loop = self.longest_loop.max(seen.loop_age);
        }
    }

    /// How often members found that the leader had fallen silent; nothing when the agents do not tell.
    fn suspicions(&self) -> Option<u64> {
        let mut sum = 0;
        for (host, first) in &self.first {
            let last = self.last.get(host).copied().flatten()?;
            sum += last.saturating_sub((*first)?);
        }
        (!self.first.is_empty()).then_some(sum)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suspicions() {
            Some(count) => write!(f, "members suspected the leader {count} times; ")?,
            None => write!(f, "how often members suspected the leader: not counted by these agents; ")?,
        }
        write!(
            f,
            "of {} looks at agents {} found one that did not hear all others, {} got no answer; longest turn of a loop {:.2} s",
            self.looks, self.deaf, self.unanswered, self.longest_loop
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_and_without_labels() {
        let page = "# HELP matriarch_epoch Number.\n# TYPE matriarch_epoch gauge\nmatriarch_epoch{scope=\"x y\"} 3\n\
                    matriarch_sync_generation{scope=\"x\"} 7\nmatriarch_peers_heard 2\nmatriarch_loop_age_seconds 0.25\n";
        let seen = Metrics::parse(page).unwrap();
        assert_eq!((seen.epoch, seen.generation, seen.peers_heard, seen.suspicions), (3, 7, 2, None));
        let counted = format!("{page}{SUSPICIONS}{{scope=\"x\"}} 4\n");
        assert_eq!(Metrics::parse(&counted).unwrap().suspicions, Some(4));
        assert!(Metrics::parse("").is_err());
    }
}
