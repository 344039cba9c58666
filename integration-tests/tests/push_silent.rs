//! The agents' streams to the proxies are lost and nothing else: asking the agents takes over, through a switchover too,
//! and the streams come back by themselves.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::wait_for;
use ha_lab::{Cut, Lab, clock};
use integration_tests::front::{front_scenario, status_text};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER};

/// The agents' gRPC.
const STREAMS: [u16; 1] = [8009];
/// A switchover, and two answers half a second apart.
const OUTAGE: Duration = Duration::from_secs(6);

#[test]
fn push_silent() {
    front_scenario("push_silent", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let cut = lab.cut(Cut::ports_between(&lab.proxies(), &lab.databases(), &STREAMS))?;
        known_by(lab, "poll")?;
        lab.session_through(front.vip, WRITE_PORT, Duration::from_secs(2))?;
        load.wait_for_acks(SOME_ROWS, NO_OUTAGE)?;

        let candidate = lab.databases_except(&[&front.leader])[0];
        let switchover = clock::now();
        let output = lab.hactl(&["switchover", "--candidate", candidate, "--yes"])?;
        ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.wait_healthy(SETTLE)?;
        let healed = lab.heal()?;
        known_by(lab, "push")?;
        load.wait_for_acks(SOME_ROWS, NO_OUTAGE)?;

        let attempts = prove(lab, load)?;
        let part =
            |until| attempts.iter().filter(|attempt| attempt.ended < until).cloned().collect::<Vec<_>>();
        outage_below(&part(switchover), "streams of role claims lost", cut, NO_OUTAGE)?;
        outage_below(&part(healed), "switchover seen by asking only", switchover, OUTAGE)?;
        outage_below(&attempts, "streams of role claims back", healed, NO_OUTAGE).map(drop)
    });
}

/// Waits until both proxies know every member by this source.
fn known_by(lab: &Lab, source: &str) -> Result<()> {
    for proxy in lab.proxies() {
        wait_for(&format!("{proxy} to know the members by {source}"), Duration::from_secs(15), || {
            for index in 0..lab.databases().len() {
                let pointer = format!("/upstreams/{index}/source");
                let seen = status_text(lab, proxy, &pointer).map_err(|error| format!("{error:#}"))?;
                if seen != source {
                    return Err(format!("member {index} by {seen}"));
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
