//! The judge is judged: each deliberately broken rule must be noticed, as a broken promise and not only as lost progress,
//! within its own number of seeds. A mutant that survives says that the simulation has become too kind, and one that is
//! listed as covered by another rule and dies says that the list is wrong.

#![allow(clippy::print_stderr, reason = "the table belongs into the test's output")]

use ha_sim::sweep::sweep;
use ha_sim::{Fate, Mutant, Violation, run};

/// Members of the cluster that notices a mutant soonest.
fn size(mutant: Mutant) -> usize {
    match mutant {
        // It takes two confirmations that commits wait for, and those are drawn more often with more standbys.
        Mutant::SecondSenderCounts => 4,
        // A list that still has two members after one has left it: one is heard from, the other may lead.
        Mutant::LeaseByOldList => 4,
        _ => 3,
    }
}

/// The seed that killed a mutant, and how the checker noticed.
fn killer(mutant: Mutant, seeds: u64) -> Option<(u64, Violation)> {
    (1..=seeds).find_map(|seed| {
        let violation = run(seed, size(mutant), mutant).violation.filter(Violation::is_unsafe)?;
        Some((seed, violation))
    })
}

#[test]
fn every_broken_rule_is_noticed() {
    let mut wrong = Vec::new();
    eprintln!("{:>6}  {:<26} {:<58} within", "seed", "mutant", "noticed as");
    let all = Mutant::ALL;
    sweep(
        0,
        all.len() as u64,
        |i| killer(all[i as usize], all[i as usize].fate().1),
        |i, killed| {
            let mutant = all[i as usize];
            let (fate, seeds) = mutant.fate();
            let name = format!("{mutant:?}");
            match (&killed, fate) {
                (Some((seed, violation)), _) => {
                    eprintln!("{seed:>6}  {name:<26} {:<58} {seeds}", violation.rule);
                }
                (None, Fate::Redundant(why)) => eprintln!("{:>6}  {name:<26} survives: {why} ({seeds})", "-"),
                (None, Fate::Killed) => eprintln!("{:>6}  {name:<26} SURVIVES {seeds} seeds", "-"),
            }
            match (killed, fate) {
                (Some((seed, violation)), Fate::Redundant(_)) => {
                    wrong.push(format!(
                        "{name} is listed as covered, but seed {seed} breaks {}",
                        violation.rule
                    ));
                }
                (None, Fate::Killed) => {
                    wrong.push(format!("{name} ({}) survived {seeds} seeds", mutant.words()));
                }
                _ => {}
            }
            true
        },
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
