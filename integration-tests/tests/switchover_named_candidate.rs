//! A planned switchover to a named member, and the refusals that change nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::{Lab, clock};
use integration_tests::history::told;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, reference, scenario};

#[test]
fn switchover_named_candidate() {
    scenario("switchover_named_candidate", reference, &[], |lab| {
        let leader = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &leader)?;

        // Both standbys in turn, and back without a clean stop, which leaves the old primary something to rewind.
        let mut leads = leader.clone();
        let mut moves = Vec::new();
        for candidate in lab.databases_except(&[&leader]).into_iter().chain([leader.as_str()]) {
            let at = clock::now();
            let mut argv = vec!["switchover", "--leader", &leads, "--candidate", candidate, "--yes"];
            if candidate == leader {
                argv.push("--without-stop");
            }
            let output = lab.hactl(&argv)?;
            ensure!(output.code == Some(0), "switchover to {candidate}: {}{}", output.stdout, output.stderr);
            load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
            let now = lab.wait_healthy(SETTLE)?;
            ensure!(now == candidate, "{now} leads after a switchover to {candidate}");
            let phases = told(lab, candidate, &["leader_asked"])?;
            let steps = ["checkpoint_ms", "hold_ms", "stop_ms"];
            ensure!(steps.iter().all(|step| phases[step].is_u64()), "the old leader tells nothing: {phases}");
            moves.push((format!("switchover {leads} to {candidate}"), at));
            candidate.clone_into(&mut leads);
        }

        let refusals = clock::now();
        refused(lab, &["--candidate", &leads])?;
        refused(lab, &["--candidate", "pg9"])?;
        refused(lab, &["--leader", lab.databases_except(&[&leads])[0]])?;
        let standby = lab.databases_except(&[&leads])[0];
        lab.power_off(&[standby])?;
        refused(lab, &["--candidate", standby])?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.power_on(&[standby])?;
        ensure!(lab.wait_healthy(SETTLE)? == leads, "a refused switchover moved the leader");

        let attempts = prove(lab, load)?;
        for (index, (what, at)) in moves.iter().enumerate() {
            let until = moves.get(index + 1).map_or(refusals, |(_, next)| *next);
            let part: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < until).cloned().collect();
            outage_below(&part, what, *at, Duration::from_secs(3))?;
        }
        outage_below(&attempts, "refused switchovers", refusals, NO_OUTAGE).map(drop)
    });
}

/// Wrong requests have an exit code of their own and say why.
fn refused(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let mut argv = vec!["switchover", "--yes"];
    argv.extend(arguments);
    let output = lab.hactl(&argv)?;
    ensure!(
        matches!(output.code, Some(2 | 3)),
        "switchover {arguments:?}: exit {:?} instead of a refusal: {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    ensure!(!output.stderr.trim().is_empty(), "switchover {arguments:?}: refused without a reason");
    Ok(())
}
