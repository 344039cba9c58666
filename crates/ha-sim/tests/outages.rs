//! How long clients wait for one fault in an otherwise healthy cluster, in virtual time. The models' delays are guesses, so
//! these are not measurements; they show a decision that waits for the wrong thing.

#![allow(clippy::print_stderr, reason = "numbers of a run belong into the test's output")]

use ha_sim::fault::FaultKind;
use ha_sim::outage;

/// Median and worst of many seeds, milliseconds.
fn of(fault: FaultKind) -> (u64, u64) {
    let mut all: Vec<(u64, u64)> = (1..=150)
        .map(|seed| {
            let outage = outage(seed, 3, fault, false);
            assert!(outage.violation.is_none(), "seed {seed}: {fault:?} breaks {:?}", outage.violation);
            let ms = outage.milliseconds;
            (ms.unwrap_or_else(|| panic!("seed {seed}: nobody was answered again after {fault:?}")), seed)
        })
        .collect();
    all.sort_unstable();
    let (median, worst) = (all[all.len() / 2].0, all[all.len() - 1]);
    eprintln!("{fault:?}: median {median} ms, worst {} ms (seed {})", worst.0, worst.1);
    (median, worst.0)
}

#[test]
fn power_loss_of_the_leader() {
    // Silence is enough; an etcd leader that went with the host costs its election besides.
    assert!(of(FaultKind::LeaderPowerLoss).0 < 4_000);
}

#[test]
fn isolation_of_the_leader() {
    // Clients of the isolated leader notice only by their own time limits.
    assert!(of(FaultKind::LeaderIsolation).0 < 6_000);
}

#[test]
fn crash_of_the_leaders_postgres() {
    assert!(of(FaultKind::LeaderPostgresCrash).0 < 3_000);
}

#[test]
fn planned_switchover() {
    assert!(of(FaultKind::Switchover).1 < 5_000);
}

#[test]
fn crash_of_an_agent() {
    // None at all, unless the agent stays away for longer than the lease.
    assert!(of(FaultKind::AgentCrash).0 < 500);
}
