//! `make fault-run`: faults at random under load for as long as one likes, and the proof that nothing was lost by any of them.
#![allow(clippy::print_stdout, reason = "the report is its output")]

mod clients;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::clients::Clients;
use crate::clock;
use crate::lab::Lab;
use crate::load_report::outage;
use crate::log_check::check_logs;
use crate::nemesis::{Nemesis, Schedule};
use crate::options::LabOptions;

/// From nothing to three members in sync, and open proxies.
const BOOTSTRAP: Duration = Duration::from_secs(120);
/// From the end of an episode's last fault to a whole cluster, without a human.
const WHOLE: Duration = Duration::from_secs(120);
/// From there to open proxies and acknowledged writes.
const SERVING: Duration = Duration::from_secs(60);
/// Between two episodes: so long the cluster is left alone.
pub(crate) const PAUSE: Duration = Duration::from_secs(8);
/// Rows that show that writes go on.
const SOME_ROWS: u64 = 100;

/// What to run.
#[derive(Debug, Clone)]
pub struct FaultRunOptions {
    /// Decides the faults.
    pub seed: u64,
    /// Episodes begin until then.
    pub duration: Duration,
    /// The lab's directory.
    pub directory: PathBuf,
}

/// One episode as it was.
#[derive(Debug)]
struct Past {
    number: u32,
    from: Duration,
    /// When the cluster was whole and served again.
    to: Duration,
    /// From the end of the last fault to a whole cluster.
    whole_after: Duration,
}

/// Prints the schedule that a seed has within this time. The cluster's own recovery takes its time too, so a run gets less
/// far than that.
pub fn print_schedule(options: &FaultRunOptions) {
    for episode in Schedule::within(options.seed, options.duration, PAUSE) {
        print!("{episode}");
    }
}

/// Runs, and proves.
///
/// # Errors
/// Something acknowledged is lost, two primaries answered, or the cluster did not become whole by itself. The lab's files
/// stay, and the message says how to repeat the run.
pub fn run(options: &FaultRunOptions) -> Result<()> {
    let repeat = format!("make fault-run SECONDS={} SEED={}", options.duration.as_secs(), options.seed);
    println!("seed {}; the same again: {repeat}", options.seed);
    print_schedule(options);
    println!("five hosts, waiting for the cluster ...");
    let mut lab = Lab::start(&LabOptions::five_hosts(&options.directory)?)?;
    match play(options, &lab) {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            let logs = lab.dir().path().display().to_string();
            Err(error
                .context(format!("seed {}; the same again: {repeat}; logs: {logs}/<host>/log", options.seed)))
        }
    }
}

fn play(options: &FaultRunOptions, lab: &Lab) -> Result<()> {
    let leader = lab.wait_healthy(BOOTSTRAP)?;
    let clients = Clients::start(lab, &leader)?;
    lab.wait_front(SERVING)?;
    clients.through_vip.wait_for_acks(SOME_ROWS, SERVING)?;
    let epoch_before = epoch(lab)?;
    let mut past = Vec::new();
    let result = episodes(options, lab, &leader, &clients, &mut past);

    let epoch_after = epoch(lab);
    let attempts = clients.finish()?;
    attempts.write(lab)?;
    // What a failed run was about to show is worth knowing too.
    report(&past, &attempts.through_vip);
    result?;
    println!("changes of leader: {}", epoch_after?.saturating_sub(epoch_before));
    attempts.prove(lab, WHOLE)?;
    check_logs(lab, &[])
}

fn episodes(
    options: &FaultRunOptions,
    lab: &Lab,
    leader: &str,
    clients: &Clients,
    past: &mut Vec<Past>,
) -> Result<()> {
    let start = Instant::now();
    let mut nemesis = Nemesis::new(lab, leader);
    for episode in Schedule::new(options.seed) {
        if start.elapsed() >= options.duration {
            break;
        }
        println!("[{:6.1} s] episode {}", start.elapsed().as_secs_f64(), episode.number);
        let from = clock::now();
        let struck = nemesis.run(&episode).with_context(|| format!("in {episode}"))?;
        for fault in struck {
            println!("           +{:5.1} s  {}", fault.at.saturating_sub(from).as_secs_f64(), fault.what);
        }
        let ended = clock::now();
        let now = lab.wait_healthy(WHOLE).with_context(|| format!("not whole after {episode}"))?;
        let whole_after = clock::now().saturating_sub(ended);
        lab.wait_front(SERVING).with_context(|| format!("no service after {episode}"))?;
        clients
            .through_vip
            .wait_for_acks(SOME_ROWS, SERVING)
            .with_context(|| format!("no writes after {episode}"))?;
        println!("           whole {:.1} s after the last fault, {now} leads", whole_after.as_secs_f64());
        past.push(Past { number: episode.number, from, to: clock::now(), whole_after });
        // Part of the schedule: faults must also hit a cluster that has come to rest.
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The number of the newest leadership.
fn epoch(lab: &Lab) -> Result<u64> {
    let output = lab.hactl(&["history", "--format", "json"])?;
    let history: serde_json::Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("hactl history: {}", output.stderr))?;
    let entries = history.as_array().context("hactl history: no list")?;
    entries.iter().filter_map(|entry| entry["epoch"].as_u64()).max().context("hactl history: no epoch")
}

/// How long writes stood still.
fn report(past: &[Past], attempts: &[crate::client_load::Attempt]) {
    let mut longest: Option<(Duration, u32)> = None;
    let mut lengths = Vec::new();
    for episode in past {
        let within: Vec<_> = attempts.iter().filter(|attempt| attempt.ended <= episode.to).cloned().collect();
        let Some(found) = outage(&within, episode.from) else { continue };
        lengths.push(found.length());
        longest = longest.max(Some((found.length(), episode.number)));
    }
    lengths.sort_unstable();
    let slowest = past.iter().max_by_key(|episode| episode.whole_after);
    if let (Some((length, number)), Some(slowest)) = (longest, slowest) {
        println!(
            "{} episodes; longest pause of writes {:.2} s (episode {number}), median {:.2} s; longest until whole {:.1} s (episode {})",
            past.len(),
            length.as_secs_f64(),
            lengths[lengths.len() / 2].as_secs_f64(),
            slowest.whole_after.as_secs_f64(),
            slowest.number
        );
    }
}
