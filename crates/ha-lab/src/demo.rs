//! `make demo`: what the product is for, in two minutes, on real parts.
#![allow(clippy::print_stdout, reason = "the demonstration is its output")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::client_load::{Load, LoadOptions};
use crate::clock;
use crate::lab::Lab;
use crate::load_report::{Outage, Verdict, outage, rows, write_log};
use crate::log_check::check_logs;
use crate::options::LabOptions;

/// From nothing to three members in sync.
const BOOTSTRAP: Duration = Duration::from_secs(90);
/// From a power loss to acknowledged writes.
const TAKEOVER: Duration = Duration::from_secs(40);
/// From power-on to a rewound member in sync.
const REJOIN: Duration = Duration::from_secs(60);
/// What the two outages may last on this machine.
const SWITCHOVER_BOUND: Duration = Duration::from_secs(3);
const POWER_LOSS_BOUND: Duration = Duration::from_secs(20);

/// Prints what happens, with the time since the start.
struct Story(Instant);

impl Story {
    fn tell(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the demonstration in a lab of its own.
///
/// # Errors
/// A step failed, an outage was too long, or an acknowledged row is lost.
pub fn run(dir: &Path) -> Result<()> {
    let story = Story(Instant::now());
    story.tell("three hosts and a client: network, etcd with TLS, pg-guard, pg-agent; all start at once");
    let mut lab = Lab::start(&LabOptions::reference(dir)?)?;
    match play(&story, &lab) {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            Err(error.context(format!("logs: {}/<host>/log", lab.dir().path().display())))
        }
    }
}

fn play(story: &Story, lab: &Lab) -> Result<()> {
    let leader = lab.wait_healthy(BOOTSTRAP)?;
    story.tell(&format!("bootstrapped: {leader} leads, the others are synchronous standbys"));
    list(lab)?;

    story.tell("eight connections write numbered rows, one row per transaction");
    Load::prepare(lab, &leader)?;
    let load = Load::start(lab, LoadOptions::all_hosts(lab)?)?;
    load.wait_for_acks(500, Duration::from_secs(20))?;

    let candidate = lab.databases_except(&[&leader])[0].to_owned();
    story.tell(&format!("planned switchover: {leader} -> {candidate}"));
    let switchover = clock::now();
    let output = lab.hactl(&["switchover", "--candidate", &candidate, "--yes"])?;
    ensure!(output.code == Some(0), "hactl switchover: {}{}", output.stdout, output.stderr);
    load.wait_for_acks(200, TAKEOVER)?;
    lab.wait_healthy(REJOIN)?;
    story.tell(&format!("{candidate} leads, {leader} follows; {} rows acknowledged so far", load.acked()));
    load.wait_for_acks(500, Duration::from_secs(20))?;

    story.tell(&format!("power loss of the primary {candidate}, under load: link first, then every process"));
    let power_loss = lab.power_off(&[&candidate])?;
    load.wait_for_acks(200, TAKEOVER)?;
    let left = lab.databases_except(&[&candidate]);
    let successor = lab.wait_leader_among(&left, TAKEOVER)?;
    story.tell(&format!("{successor} took over and writes go on"));

    story.tell(&format!("power on {candidate}: it must rewind what nobody had confirmed, and follow"));
    lab.power_on(&[&candidate])?;
    let leader = lab.wait_healthy(REJOIN)?;
    story.tell(&format!("{candidate} is back in sync behind {leader}"));
    load.wait_for_acks(200, TAKEOVER)?;

    let attempts = load.finish()?;
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    list(lab)?;
    let verdict = Verdict::new(&attempts, &rows(lab, &leader)?);
    let first = outage(&attempts[..], switchover).map(|_| between(&attempts, switchover, power_loss));
    let switchover = first.flatten().context("no acknowledged row around the switchover")?;
    let power_loss = outage(&attempts, power_loss).context("no acknowledged row after the power loss")?;
    println!();
    println!("  switchover: writes stood still for {:.2} s", switchover.length().as_secs_f64());
    println!(
        "  power loss of the primary: writes stood still for {:.2} s",
        power_loss.length().as_secs_f64()
    );
    println!("  {verdict}");
    println!();
    verdict.check()?;
    ensure!(switchover.length() < SWITCHOVER_BOUND, "the switchover took longer than {SWITCHOVER_BOUND:?}");
    ensure!(power_loss.length() < POWER_LOSS_BOUND, "the takeover took longer than {POWER_LOSS_BOUND:?}");
    check_logs(lab, &[])?;
    story.tell("nothing acknowledged was lost");
    Ok(())
}

/// The longest pause that began after one fault and before the next.
fn between(attempts: &[crate::client_load::Attempt], from: Duration, to: Duration) -> Option<Outage> {
    let earlier: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < to).cloned().collect();
    outage(&earlier, from)
}

fn list(lab: &Lab) -> Result<()> {
    let output = lab.hactl(&["list"])?;
    ensure!(output.code == Some(0), "hactl list: {}{}", output.stdout, output.stderr);
    println!("\n{}", output.stdout);
    Ok(())
}
