//! The table, and the same for programs.

use std::fmt;

use serde::Serialize;

use super::event::Event;
use crate::bench::stack::Stack;
use crate::machine::Machine;
use crate::spread::Spread;

/// The lease of our address at the default interval, in seconds.
pub(super) const LEASE: f64 = 1.0;

/// One event, once. Times in seconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) stack: Stack,
    pub(super) event: Event,
    pub(super) round: u32,
    /// From the last acknowledgement before to the first after.
    pub(super) outage: f64,
    /// How long two hosts answered for the address.
    pub(super) on_two: f64,
    /// Whether they still did at the end.
    pub(super) still_on_two: bool,
    /// How long nobody answered for it.
    pub(super) on_none: f64,
    pub(super) acknowledged: usize,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, event, round, outage, on_two, still_on_two, on_none, acknowledged } = self;
        write!(
            f,
            "  {:7} {:48} round {round}: {outage:6.3} s; address on two hosts {on_two:.2} s{}, on none {on_none:.2} s; \
             acknowledged {acknowledged}",
            stack.name(),
            event.name(),
            if *still_on_two { " and still" } else { "" },
        )
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) samples: Vec<Sample>,
    /// Why the usual stack has fewer rounds than were asked for, if it has.
    pub(super) given_up: Option<String>,
}

impl Report {
    fn of(&self, stack: Stack, event: Event) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.stack == stack && sample.event == event)
    }

    fn spread(&self, stack: Stack, event: Event, value: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.of(stack, event).map(value))
    }

    /// How long the address was on two hosts; an open end is said to be one.
    fn on_two(&self, stack: Stack, event: Event) -> String {
        let open = self.of(stack, event).any(|sample| sample.still_on_two);
        let shown = shown(self.spread(stack, event, |sample| sample.on_two));
        if open { format!("{shown}, no end seen") } else { shown }
    }
}

/// A table in Markdown, so that it can go into the documentation as it is.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "| event | ours | limit | keepalived | ratio | on two hosts: ours | keepalived | on none: ours | keepalived |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for event in Event::ALL {
            if self.samples.iter().all(|sample| sample.event != event) {
                continue;
            }
            let theirs = event.of_classic();
            let ours = self.spread(Stack::Ours, event, |sample| sample.outage);
            let classic = self.spread(Stack::Classic, theirs, |sample| sample.outage);
            let ratio =
                ours.zip(classic).map(|(ours, classic)| format!("{:.1}", classic.median / ours.median));
            let limit = event.limit().zip(ours).map(|(limit, ours)| {
                format!("{limit} s{}", if ours.median <= limit { "" } else { " MISSED" })
            });
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                event.name(),
                shown(ours),
                limit.unwrap_or_else(|| "-".to_owned()),
                shown(classic),
                ratio.unwrap_or_else(|| "-".to_owned()),
                self.on_two(Stack::Ours, event),
                self.on_two(Stack::Classic, theirs),
                shown(self.spread(Stack::Ours, event, |sample| sample.on_none)),
                shown(self.spread(Stack::Classic, theirs, |sample| sample.on_none)),
            )?;
        }
        let acknowledged: usize = self.samples.iter().map(|sample| sample.acknowledged).sum();
        writeln!(f, "\n{} events, {acknowledged} rows acknowledged, lost 0.", self.samples.len())?;
        match &self.given_up {
            Some(why) => writeln!(f, "The rounds with keepalived ended early: {why}"),
            None => Ok(()),
        }
    }
}

/// Times below the resolution of the questions are none.
fn shown(spread: Option<Spread>) -> String {
    match spread {
        Some(spread) if spread.greatest < 0.005 => "0".to_owned(),
        Some(spread) => spread.in_seconds(),
        None => "-".to_owned(),
    }
}
