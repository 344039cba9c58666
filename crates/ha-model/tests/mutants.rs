//! Every broken rule gives a counterexample, in the smallest scope in which it can; and in a scope that is large enough each loses a
//! commit, which shows that the rules are there for a reason.

#![allow(clippy::print_stdout)]

use std::num::NonZeroUsize;

use ha_model::{Mutant, Report, Scope};

/// Whether anything is broken.
fn explore(scope: Scope) -> bool {
    let report = Report::of(scope, NonZeroUsize::MIN, None);
    let Some((rule, path)) = report.broken.iter().min_by_key(|(_, path)| path.len()) else { return false };
    println!("{:?}: {} steps: {rule}", scope.mutant, path.len());
    for action in path {
        println!("    {action:?}");
    }
    true
}

#[test]
fn every_mutant_breaks_a_rule() {
    let survivors: Vec<_> = Mutant::ALL.into_iter().filter(|m| !explore(Scope::of_mutant(*m))).collect();
    assert!(survivors.is_empty(), "nothing notices {survivors:?}");
}

#[test]
fn every_mutant_loses_a_commit() {
    let survivors: Vec<_> = Mutant::ALL.into_iter().filter(|m| !explore(Scope::losing(*m))).collect();
    assert!(survivors.is_empty(), "nothing is lost by {survivors:?}");
}
