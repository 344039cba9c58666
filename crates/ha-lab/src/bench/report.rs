//! The table, and the same for programs.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::event::Event;
use super::phases::Phases;
use super::stack::Stack;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::spread::Spread;

/// One event, once. Times in seconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) stack: Stack,
    pub(super) event: Event,
    pub(super) round: u32,
    /// From the last acknowledgement before to the first after.
    pub(super) outage: f64,
    /// From the fault to the end of a PostgreSQL that had lost its agent.
    pub(super) fenced_after: Option<f64>,
    /// From there to the first acknowledgement.
    pub(super) outage_from_fence: Option<f64>,
    pub(super) acknowledged: usize,
    /// Acknowledged rows that are not there.
    pub(super) lost: BTreeSet<u64>,
    /// See [`crate::load_report::double_acks`].
    pub(super) double_acks: Vec<(u64, u64)>,
    /// How the cluster was not whole again in time.
    pub(super) incomplete: Option<String>,
    pub(super) phases: Phases,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, event, round, outage, acknowledged, lost, .. } = self;
        write!(f, "  {:7} {:45} round {round}: {outage:6.2} s", stack.name(), event.name())?;
        if let (Some(fenced), Some(rest)) = (self.fenced_after, self.outage_from_fence) {
            write!(f, ", fenced after {fenced:.2} s, {rest:.2} s from there")?;
        }
        write!(f, ", acknowledged {acknowledged}, lost {}", lost.len())?;
        if !self.double_acks.is_empty() {
            write!(f, ", TWO PRIMARIES ACKNOWLEDGED {} times", self.double_acks.len())?;
        }
        if let Some(incomplete) = &self.incomplete {
            write!(f, ", NOT WHOLE AGAIN: {incomplete}")?;
        }
        for (name, milliseconds) in &self.phases {
            write!(f, ", {name} {milliseconds:.0} ms")?;
        }
        Ok(())
    }
}

/// What decides how long detection takes, as the lab's own cluster file and its defaults say.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SettingsInForce {
    pub(super) detection: f64,
    pub(super) lease_ttl: f64,
}

impl SettingsInForce {
    pub(super) fn read(lab: &Lab) -> Result<Self> {
        let failover = lab.failover_times()?;
        Ok(Self { detection: failover.detection.as_secs_f64(), lease_ttl: failover.lease_ttl.as_secs_f64() })
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) settings: Option<SettingsInForce>,
    pub(super) samples: Vec<Sample>,
}

impl Report {
    fn of(&self, stack: Stack, event: Event) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.stack == stack && sample.event == event)
    }

    fn spread(&self, stack: Stack, event: Event, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.of(stack, event).filter_map(value))
    }

    /// Sums of one stack: rounds, acknowledged, lost, answers of two primaries.
    fn totals(&self, stack: Stack) -> Option<String> {
        let samples: Vec<&Sample> = self.samples.iter().filter(|sample| sample.stack == stack).collect();
        let sum = |count: fn(&Sample) -> usize| samples.iter().map(|sample| count(sample)).sum::<usize>();
        (!samples.is_empty()).then(|| {
            format!(
                "{}: {} events (not whole again within two minutes after {}), acknowledged {}, lost {}, answers of a primary that \
                 had been replaced {}",
                stack.name(),
                samples.len(),
                sum(|sample| usize::from(sample.incomplete.is_some())),
                sum(|sample| sample.acknowledged),
                sum(|sample| sample.lost.len()),
                sum(|sample| sample.double_acks.len()),
            )
        })
    }
}

/// A table in Markdown, so that it can go into the documentation as it is.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        if let Some(SettingsInForce { detection, lease_ttl }) = &self.settings {
            writeln!(
                f,
                "Ours: detection {detection} s, lease {lease_ttl} s. Eight writers through the floating address."
            )?;
        }
        writeln!(f, "\n| event | ours | fenced after | from the fence on | classic stack | ratio |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let shown =
            |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.in_seconds());
        for event in Event::ALL {
            if self.samples.iter().all(|sample| sample.event != event) {
                continue;
            }
            let ours = self.spread(Stack::Ours, event, |sample| Some(sample.outage));
            let classic = self.spread(Stack::Classic, event, |sample| Some(sample.outage));
            let ratio =
                ours.zip(classic).map(|(ours, classic)| format!("{:.1}", classic.median / ours.median));
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} |",
                event.name(),
                shown(ours),
                shown(self.spread(Stack::Ours, event, |sample| sample.fenced_after)),
                shown(self.spread(Stack::Ours, event, |sample| sample.outage_from_fence)),
                shown(classic),
                ratio.unwrap_or_else(|| "-".to_owned())
            )?;
        }
        writeln!(f)?;
        [Stack::Ours, Stack::Classic]
            .into_iter()
            .filter_map(|stack| self.totals(stack))
            .try_for_each(|totals| writeln!(f, "{totals}"))
    }
}
