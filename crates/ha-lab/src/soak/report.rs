//! What a soak found, and what of it must not be.

use std::fmt;

use super::clients::Counts;
use super::samples::{Held, Rest, Sample};
use crate::lab::Lab;

/// How much resident memory may grow between the first rest point and the last, in percent.
const GROWTH: u64 = 5;

/// One value of a proxy.
type Value = fn(&Held) -> u64;

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Report {
    proxies: Vec<String>,
    pub(super) rests: Vec<Rest>,
    pub(super) counts: Counts,
    /// What was changed, and how often.
    pub(super) changes: Vec<&'static str>,
    samples: Vec<Sample>,
}

impl Report {
    pub(super) fn new(lab: &Lab) -> Self {
        Self {
            proxies: lab.proxies().into_iter().map(str::to_owned).collect(),
            rests: Vec::new(),
            counts: Counts::default(),
            changes: Vec::new(),
            samples: Vec::new(),
        }
    }

    pub(super) fn add_samples(&mut self, samples: Vec<Sample>) {
        self.samples = samples;
    }

    fn peak(&self, proxy: &str, value: Value) -> u64 {
        let samples = self.samples.iter().filter(|sample| sample.proxy == proxy);
        samples.filter_map(|sample| sample.held.as_ref().ok().map(value)).max().unwrap_or(0)
    }

    fn ends(&self, proxy: &str) -> Option<(&Held, &Held)> {
        let [first, .., last] = self.rests.as_slice() else { return None };
        Some((first.of(proxy)?, last.of(proxy)?))
    }

    /// Whatever must not be, a sentence each.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for sample in &self.samples {
            if let Err(error) = &sample.held {
                found.push(format!("{} at {} s: no answer: {error:#}", sample.proxy, sample.at.as_secs()));
            }
        }
        for proxy in &self.proxies {
            let Some((first, last)) = self.ends(proxy) else {
                found.push(format!("{proxy}: fewer than two rest points"));
                continue;
            };
            found.extend(leftovers(first, last).into_iter().map(|what| format!("{proxy}: {what}")));
            if self.peak(proxy, |held| held.pid.unsigned_abs().into()) != u64::from(last.pid.unsigned_abs()) {
                found.push(format!("{proxy}: more than one process"));
            }
        }
        if !self.counts.all_happened() {
            found.push(format!("a kind of client never succeeded: {}", self.counts));
        }
        if !self.changes.contains(&"switchover") {
            found.push("no switchover".to_owned());
        }
        found
    }
}

/// What the last rest point has that the first had not.
fn leftovers(first: &Held, last: &Held) -> Vec<String> {
    let mut found = Vec::new();
    if (last.sessions, last.waiting) != (0, 0) {
        found.push(format!("{} sessions stay, {} of them waiting", last.sessions, last.waiting));
    }
    if first.pid != last.pid {
        found.push(format!("process {} instead of {}", last.pid, first.pid));
    }
    if last.descriptors > first.descriptors {
        found.push(format!("{} descriptors instead of {}", last.descriptors, first.descriptors));
    }
    if last.threads > first.threads {
        found.push(format!("{} threads instead of {}", last.threads, first.threads));
    }
    if last.resident * 100 > first.resident * (100 + GROWTH) {
        let (from, to, growth) = (first.resident, last.resident, growth(first.resident, last.resident));
        found.push(format!("resident memory grew by {growth:.1} %, from {from} to {to} KiB"));
    }
    found
}

/// In percent.
fn growth(first: u64, last: u64) -> f64 {
    (last as f64 / first as f64 - 1.0) * 100.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        let mut kinds = self.changes.clone();
        kinds.sort_unstable();
        let kinds = kinds.chunk_by(|a, b| a == b).map(|same| format!("{} {}", same.len(), same[0]));
        writeln!(f, "changes: {}\n", kinds.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "| proxy | | reference | peak | last rest point | change |\n|---|---|---|---|---|---|")?;
        for proxy in &self.proxies {
            let Some((first, last)) = self.ends(proxy) else { continue };
            let values: [(&str, Value); 6] = [
                ("resident KiB", |held| held.resident),
                ("anonymous KiB", |held| held.anonymous),
                ("descriptors", |held| held.descriptors),
                ("threads", |held| held.threads),
                ("sessions", |held| held.sessions),
                ("waiting", |held| held.waiting),
            ];
            for (what, value) in values {
                let change = match what {
                    "resident KiB" | "anonymous KiB" => {
                        format!("{:+.1} %", growth(value(first), value(last)))
                    }
                    _ => format!("{:+}", value(last).cast_signed() - value(first).cast_signed()),
                };
                let (reference, peak, end) = (value(first), self.peak(proxy, value), value(last));
                writeln!(f, "| {proxy} | {what} | {reference} | {peak} | {end} | {change} |")?;
            }
        }
        writeln!(
            f,
            "\n| proxy | sessions | with TLS | refused | cancel requests | rest points, resident (anonymous) KiB |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for proxy in &self.proxies {
            let Some((_, last)) = self.ends(proxy) else { continue };
            let resident = self
                .rests
                .iter()
                .filter_map(|rest| rest.of(proxy))
                .map(|held| format!("{} ({})", held.resident, held.anonymous));
            let resident = resident.collect::<Vec<_>>().join(", ");
            let Held { sessions_total, tls_total, refused_total, cancels_total, .. } = last;
            writeln!(
                f,
                "| {proxy} | {sessions_total} | {tls_total} | {refused_total} | {cancels_total} | {resident} |"
            )?;
        }
        let violations = self.violations();
        if !violations.is_empty() {
            writeln!(f, "\n| violation |\n|---|")?;
            for violation in violations {
                writeln!(f, "| {} |", violation.replace('\n', " "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_REST: Held = Held {
        pid: 7,
        resident: 10_000,
        anonymous: 3_000,
        descriptors: 30,
        threads: 5,
        sessions: 0,
        waiting: 0,
        sessions_total: 100,
        refused_total: 0,
        cancels_total: 0,
        tls_total: 0,
    };

    #[test]
    fn what_stays_behind_is_found_and_what_shrinks_is_not() {
        let good = Held { resident: 10_500, descriptors: 29, sessions_total: 900, ..AT_REST };
        assert_eq!(leftovers(&AT_REST, &good), Vec::<String>::new());
        for bad in [
            Held { resident: 10_501, ..AT_REST },
            Held { descriptors: 31, ..AT_REST },
            Held { threads: 6, ..AT_REST },
            Held { sessions: 1, ..AT_REST },
            Held { waiting: 1, ..AT_REST },
            Held { pid: 8, ..AT_REST },
        ] {
            assert_eq!(leftovers(&AT_REST, &bad).len(), 1, "{bad:?}");
        }
    }
}
