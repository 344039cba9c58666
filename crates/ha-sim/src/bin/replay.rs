//! Runs one seed and prints its story: `replay SEED [SIZE] [MUTANT]`; or many, and prints what broke:
//! `replay FIRST..LAST [SIZE] [MUTANT]` (LAST not included); or one fault in a calm cluster: `replay SEED SIZE FAULT`.
//! `Reads` in the place of a mutant breaks nothing and lets clients read.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use ha_sim::fault::FaultKind;
use ha_sim::sweep::sweep;
use ha_sim::{Mutant, Tally};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().unwrap_or_default();
    let size = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(3);
    let wanted = arguments.next().unwrap_or_default();
    let mutant = Mutant::ALL.iter().copied().find(|m| format!("{m:?}") == wanted).unwrap_or_default();
    let reads = wanted == "Reads" || mutant.is_of_reads();
    if let (Ok(seed), Some(fault)) =
        (seeds.parse(), FaultKind::ALL.into_iter().find(|f| format!("{f:?}") == wanted))
    {
        let outage = ha_sim::outage(seed, size, fault, true);
        for line in &outage.trace {
            println!("{line}");
        }
        println!("outage {:?} ms, {:?}", outage.milliseconds, outage.violation);
        return ExitCode::SUCCESS;
    }
    let range = seeds.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match (seeds.parse(), range) {
        (Ok(seed), _) => one(seed, size, mutant, reads),
        (_, Some((first, last))) => many(first, last, size, mutant, reads),
        _ => {
            println!("usage: replay SEED|FIRST..LAST [SIZE] [MUTANT|FAULT|Reads]");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, size: usize, mutant: Mutant, reads: bool) -> ExitCode {
    let story = if reads { ha_sim::story_with_reads } else { ha_sim::story };
    let outcome = story(seed, size, mutant);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{}", outcome.tally);
    match outcome.violation {
        Some(violation) => {
            println!("seed {seed} with {size} members breaks {}: {}", violation.rule, violation.story);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn many(first: u64, last: u64, size: usize, mutant: Mutant, reads: bool) -> ExitCode {
    let mut tally = Tally::default();
    let mut rules: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let run = if reads { ha_sim::run_with_reads } else { ha_sim::run };
    let work = |seed| run(seed, size, mutant);
    sweep(first, last, work, |seed, outcome| {
        tally.add(&outcome.tally);
        for why in outcome.tally.blocked.keys() {
            println!("seed {seed}: blocked: {why}");
        }
        if let Some(violation) = outcome.violation {
            println!("seed {seed}: {}: {}", violation.rule, violation.story);
            rules.entry(violation.rule).or_default().push(seed);
        }
        true
    });
    println!("{tally}");
    if let Some(cost) = cost_per_virtual_second(&tally) {
        // Beside the results, which are the same on every machine.
        eprintln!("CPU: {cost:.3} ms per virtual second of a cluster of {size} members");
    }
    for (rule, seeds) in &rules {
        println!("{:>6} {rule}: {:?}", seeds.len(), &seeds[..seeds.len().min(12)]);
    }
    if rules.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// CPU time that this process has used, against the virtual time of its runs. None where `/proc` does not tell.
fn cost_per_virtual_second(tally: &Tally) -> Option<f64> {
    // proc(5): utime and stime are the 14th and 15th field, in hundredths of a second; the name may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 10.0 / (tally.virtual_ms.max(1) as f64 / 1000.0))
}
