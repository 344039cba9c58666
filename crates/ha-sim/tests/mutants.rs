//! The judge is judged: each deliberately broken rule must be noticed, as a broken promise and not only as lost progress,
//! within a budget of seeds. A mutant that survives says that the simulation has become too kind.

#![allow(clippy::print_stderr, reason = "numbers of a run belong into the test's output")]

use ha_sim::{Mutant, run};

/// The hardest mutants die once in a few hundred seeds.
const BUDGET: u64 = 4000;

fn is_killed(mutant: Mutant) {
    let killer = (1..=BUDGET).find_map(|seed| {
        let violation = run(seed, 3, mutant).violation.filter(ha_sim::Violation::is_unsafe)?;
        Some((seed, violation))
    });
    let (seed, violation) = killer.unwrap_or_else(|| panic!("{mutant:?} survived {BUDGET} seeds"));
    eprintln!("seed {seed} kills {mutant:?}: {}: {}", violation.rule, violation.story);
}

#[test]
fn fewer_promises_than_needed() {
    is_killed(Mutant::NoCoverageRule);
}

#[test]
fn a_promise_forgotten_on_restart() {
    is_killed(Mutant::PromiseForgottenOnRestart);
}

#[test]
fn leadership_taken_up_again_by_a_read() {
    is_killed(Mutant::ReacquireByRead);
}

#[test]
fn the_list_emptied_on_demotion() {
    is_killed(Mutant::ListEmptiedOnDemotion);
}

#[test]
fn the_list_narrowed_without_the_barrier() {
    is_killed(Mutant::ShrinkWithoutBarrier);
}

#[test]
fn no_answer_taken_for_not_done() {
    is_killed(Mutant::UnknownTreatedAsFailed);
}

#[test]
fn a_promise_while_the_walreceiver_runs_on() {
    is_killed(Mutant::PromiseWithoutStop);
}

#[test]
fn a_promise_that_leaves_the_password_file() {
    is_killed(Mutant::PasswordFileKept);
}

#[test]
fn a_new_list_taken_for_in_force_too_early() {
    is_killed(Mutant::InForceUnchecked);
}

#[test]
fn a_position_that_is_not_exact() {
    is_killed(Mutant::PositionUnderReported);
}

#[test]
fn a_decision_without_a_compare() {
    is_killed(Mutant::CompareIgnored);
}

#[test]
fn a_confirmation_before_the_flush() {
    is_killed(Mutant::ConfirmedBeforeFlush);
}

#[test]
fn a_fence_that_ends_nothing() {
    is_killed(Mutant::FenceWithoutKill);
}
