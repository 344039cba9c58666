//! Runs one seed and prints its story: `replay SEED [SIZE] [MUTANT]`; or many, and prints what broke:
//! `replay FIRST..LAST [SIZE] [MUTANT]`; or one fault in a calm cluster: `replay SEED SIZE FAULT`.

#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use ha_sim::fault::FaultKind;
use ha_sim::{Mutant, Tally};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().unwrap_or_default();
    let size = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(3);
    let wanted = arguments.next().unwrap_or_default();
    let mutant = Mutant::ALL.iter().copied().find(|m| format!("{m:?}") == wanted).unwrap_or_default();
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
        (Ok(seed), _) => one(seed, size, mutant),
        (_, Some((first, last))) => many(first, last, size, mutant),
        _ => {
            println!("usage: replay SEED|FIRST..LAST [SIZE] [MUTANT]");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, size: usize, mutant: Mutant) -> ExitCode {
    let outcome = ha_sim::story(seed, size, mutant);
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

fn many(first: u64, last: u64, size: usize, mutant: Mutant) -> ExitCode {
    let mut tally = Tally::default();
    let mut rules: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for seed in first..last {
        let outcome = ha_sim::run(seed, size, mutant);
        tally.add(&outcome.tally);
        for why in outcome.tally.blocked.keys() {
            println!("seed {seed}: blocked: {why}");
        }
        if let Some(violation) = outcome.violation {
            println!("seed {seed}: {}: {}", violation.rule, violation.story);
            rules.entry(violation.rule).or_default().push(seed);
        }
    }
    println!("{tally}");
    for (rule, seeds) in &rules {
        println!("{:>6} {rule}: {:?}", seeds.len(), &seeds[..seeds.len().min(12)]);
    }
    if rules.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
