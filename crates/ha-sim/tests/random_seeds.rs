//! Random histories. `SEEDS` sets how many, `FIRST` where they begin.

#![allow(clippy::print_stderr, reason = "numbers of a run belong into the test's output")]

use ha_sim::sweep::sweep;
use ha_sim::{Mutant, Outcome, Tally, run, run_with_reads, story, story_with_reads};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The end of the story of a seed, and how to see it again.
fn retell(outcome: &Outcome, reads: bool) -> String {
    let story = if reads { story_with_reads } else { story };
    let told = story(outcome.seed, outcome.size, Mutant::None);
    let tail = told.trace.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n");
    let (seed, size) = (outcome.seed, outcome.size);
    let more = if reads { " Reads" } else { "" };
    let violation =
        outcome.violation.as_ref().map(|v| format!("{}: {}", v.rule, v.story)).unwrap_or_default();
    format!(
        "{tail}\nseed {seed} with {size} members breaks {violation}\nall of it: cargo run -p ha-sim --bin replay -- {seed} {size}{more}"
    )
}

fn play(size: usize, seeds: u64, reads: bool) -> Tally {
    let run = if reads { run_with_reads } else { run };
    let first = number("FIRST", 1);
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    sweep(
        first,
        first + seeds,
        |seed| run(seed, size, Mutant::None),
        |_, outcome| {
            tally.add(&outcome.tally);
            if outcome.violation.is_some() {
                failed.push(outcome);
            }
            true
        },
    );
    eprintln!("{seeds} seeds with {size} members\n{tally}");
    for outcome in &failed {
        let violation = outcome.violation.as_ref().map(|v| format!("{}: {}", v.rule, v.story));
        eprintln!("seed {}: {}", outcome.seed, violation.unwrap_or_default());
    }
    if let Some(outcome) = failed.first() {
        panic!("{} of {seeds} seeds fail; the first:\n{}", failed.len(), retell(outcome, reads));
    }
    assert!(tally.confirmed_to_clients > seeds * 20, "the clients hardly got anything done: {tally}");
    tally
}

#[test]
fn three_members_keep_every_acknowledged_commit() {
    play(3, number("SEEDS", 1000) * 3 / 4, false);
}

#[test]
fn five_members_keep_every_acknowledged_commit() {
    play(5, number("SEEDS", 1000) / 4, false);
}

#[test]
fn what_a_proxy_passes_on_is_never_stale() {
    for (size, seeds) in [(3, number("SEEDS", 1000) / 4), (5, number("SEEDS", 1000) / 10)] {
        let tally = play(size, seeds, true);
        assert!(tally.reads > seeds * 100 && tally.reads_withheld > seeds, "{tally}");
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in [3, 4] {
        let (a, b) = (story(seed, 3, Mutant::None), story(seed, 3, Mutant::None));
        assert!(a.trace == b.trace, "seed {seed} told two stories");
        assert!(a.trace.len() > 100);
        assert_eq!(run(seed, 3, Mutant::None).tally, a.tally, "listening changed the story");
    }
}
