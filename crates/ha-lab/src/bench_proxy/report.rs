//! The tables, and the same for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::idle::Idle;
use super::load::{Outcome, Work};
use super::usage::Usage;
use super::way::Way;
use crate::machine::Machine;
use crate::spread::Spread;

/// One load through one way, once.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) way: Way,
    pub(super) work: Work,
    pub(super) round: u32,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
    /// Seconds of the processor that the proxy's process used.
    pub(super) cpu: Option<f64>,
    /// Seconds that all processors of the machine worked, whatever for.
    pub(super) machine_cpu: f64,
}

impl Sample {
    pub(super) fn new(
        way: Way,
        work: Work,
        round: u32,
        outcome: Outcome,
        usage: Option<(Usage, Usage)>,
        machine_cpu: f64,
    ) -> Self {
        let cpu = usage.map(|(before, after)| after.cpu - before.cpu);
        Self { way, work, round, outcome, cpu, machine_cpu }
    }

    /// Amount per second.
    fn rate(&self) -> f64 {
        self.outcome.amount / self.outcome.seconds
    }

    /// Thousands of transactions, or gigabytes.
    fn units(&self) -> f64 {
        match self.work {
            Work::Bulk => self.outcome.amount,
            _ => self.outcome.amount / 1000.0,
        }
    }

    /// Processor time for each thousand transactions, or each gigabyte: seconds.
    fn cost(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu / self.units())
    }

    /// The same of the whole machine: client, proxy, server and kernel.
    fn machine_cost(&self) -> Option<f64> {
        Some(self.machine_cpu / self.units())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, work, round, .. } = self;
        write!(
            f,
            "  {:36} {:10} round {round}: {:9.2} {}/s",
            work.name(),
            way.name(),
            self.rate(),
            work.unit()
        )?;
        if let (Some(p50), Some(p99)) = (self.outcome.p50, self.outcome.p99) {
            write!(f, ", p50 {p50:.3} ms, p99 {p99:.3} ms")?;
        }
        self.cost().map_or(Ok(()), |cost| write!(f, ", {cost:.4} s of processor per {}", per(*work)))
    }
}

fn per(work: Work) -> &'static str {
    match work {
        Work::Bulk => "GB",
        _ => "1000 tx",
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// The columns of its tables.
    pub(super) ways: Vec<Way>,
    pub(super) samples: Vec<Sample>,
    pub(super) idle: Vec<Idle>,
}

impl Report {
    fn spread(&self, way: Way, work: Work, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(
            self.samples.iter().filter(|sample| sample.way == way && sample.work == work).filter_map(value),
        )
    }

    /// Whose ratio is shown.
    fn compared(&self) -> (Way, Way) {
        if self.ways == Way::READS { (Way::Linearizable, Way::Fresh) } else { (Way::PgProxy, Way::HaProxy) }
    }

    /// One table: a row for each load, a column for each way, and the ratio of two of them.
    fn table(
        &self,
        title: &str,
        decimals: usize,
        works: &[Work],
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> String {
        let mut text = format!("\n**{title}**\n\n| load |");
        for way in &self.ways {
            let _ = write!(text, " {} |", way.name());
        }
        let (ours, theirs) = self.compared();
        let _ = write!(text, " {} / {} |\n|---|", ours.name(), theirs.name());
        text += &"---|".repeat(self.ways.len() + 1);
        text.push('\n');
        for &work in works {
            let of = |way| self.spread(way, work, &value);
            let _ = write!(text, "| {} |", work.name());
            for &way in &self.ways {
                let shown = of(way).map_or_else(|| "-".to_owned(), |spread| spread.with(decimals));
                let _ = write!(text, " {shown} |");
            }
            let ratio = of(ours).zip(of(theirs)).map(|(ours, theirs)| ours.median / theirs.median);
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, " {ratio} |");
        }
        text
    }
}

/// Tables in Markdown, so that they can go into the documentation as they are.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let mut works: Vec<Work> = self.samples.iter().map(|sample| sample.work).collect();
        works.sort();
        works.dedup();
        let (bulk, transactions): (Vec<Work>, Vec<Work>) =
            works.into_iter().partition(|work| *work == Work::Bulk);
        if !transactions.is_empty() {
            let of = |title, decimals, value: fn(&Sample) -> Option<f64>| {
                self.table(title, decimals, &transactions, value)
            };
            f.write_str(&of("Transactions per second", 0, |sample| Some(sample.rate())))?;
            f.write_str(&of("Latency, median, ms", 3, |sample| sample.outcome.p50))?;
            f.write_str(&of("Latency, 99th percentile, ms", 3, |sample| sample.outcome.p99))?;
            f.write_str(&of("Processor time of the proxy per 1000 transactions, ms", 2, |sample| {
                sample.cost().map(|cost| cost * 1000.0)
            }))?;
            f.write_str(&of("Processor time of the whole machine per 1000 transactions, ms", 2, |sample| {
                sample.machine_cost().map(|cost| cost * 1000.0)
            }))?;
        }
        if !bulk.is_empty() {
            f.write_str(&self.table("Bulk results, GB/s", 3, &bulk, |sample| Some(sample.rate())))?;
            f.write_str(&self.table("Processor time of the proxy per GB, s", 3, &bulk, Sample::cost))?;
            let title = "Processor time of the whole machine per GB, s";
            f.write_str(&self.table(title, 3, &bulk, Sample::machine_cost))?;
        }
        if !self.idle.is_empty() {
            writeln!(
                f,
                "\n**Resident memory per idle session, KiB**\n\n| sessions | proxy | KiB |\n|---|---|---|"
            )?;
            for Idle { way, sessions, each } in &self.idle {
                writeln!(f, "| {sessions} | {} | {each:.2} |", way.name())?;
            }
        }
        Ok(())
    }
}
