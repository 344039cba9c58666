//! `make demo`: what the product is for, in two minutes, on real parts.
#![allow(clippy::print_stdout, reason = "the demonstration is its output")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::arp_watch::{ArpLog, ArpWatch};
use crate::client_load::{Attempt, Load, LoadOptions};
use crate::clock;
use crate::lab::Lab;
use crate::load_report::{Outage, Verdict, outage, rows, write_log};
use crate::log_check::check_logs;
use crate::options::LabOptions;

/// From nothing to three members in sync.
const BOOTSTRAP: Duration = Duration::from_secs(90);
/// From a healthy cluster to open ports on both proxies.
const FRONT: Duration = Duration::from_secs(30);
/// From a power loss to acknowledged writes.
const TAKEOVER: Duration = Duration::from_secs(40);
/// From power-on to a rewound member in sync.
const REJOIN: Duration = Duration::from_secs(60);
/// What the outages may last on this machine.
const SWITCHOVER_BOUND: Duration = Duration::from_secs(2);
const POWER_LOSS_BOUND: Duration = Duration::from_secs(20);
const MOVE_BOUND: Duration = Duration::from_secs(1);

/// Prints what happens, with the time since the start.
struct Story(Instant);

impl Story {
    fn tell(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

/// When what was done.
struct Faults {
    switchover: Duration,
    primary_off: Duration,
    proxy_off: Duration,
    /// The proxy host that holds the address afterwards.
    heir: String,
    arp: ArpLog,
}

/// Runs the demonstration in a lab of its own.
///
/// # Errors
/// A step failed, an outage was too long, or an acknowledged row is lost.
pub fn run(dir: &Path) -> Result<()> {
    let story = Story(Instant::now());
    story.tell("three database hosts, two proxy hosts and a client; all daemons start at once");
    let mut lab = Lab::start(&LabOptions::five_hosts(dir)?)?;
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
    Load::prepare(lab, &leader)?;
    let (_, holder) = lab.wait_front(FRONT)?;
    let vip = lab.vip()?;
    story.tell(&format!("both proxies lead to it; {holder} holds the address {vip}"));
    list(lab)?;

    story.tell(&format!("eight connections write numbered rows to {vip}:5000, one row per transaction"));
    let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
    load.wait_for_acks(500, Duration::from_secs(20))?;
    let faults = faults(story, lab, &load, &leader)?;

    let leader = lab.wait_healthy(REJOIN)?;
    let attempts = load.finish()?;
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    list(lab)?;
    judge(&attempts, &faults, &Verdict::new(&attempts, &rows(lab, &leader)?))?;
    check_logs(lab, &[])?;
    story.tell("nothing acknowledged was lost");
    Ok(())
}

fn faults(story: &Story, lab: &Lab, load: &Load, leader: &str) -> Result<Faults> {
    let candidate = lab.databases_except(&[leader])[0].to_owned();
    story.tell(&format!("planned switchover: {leader} -> {candidate}"));
    let switchover = clock::now();
    let output = lab.hactl(&["switchover", "--candidate", &candidate, "--yes"])?;
    ensure!(output.code == Some(0), "hactl switchover: {}{}", output.stdout, output.stderr);
    load.wait_for_acks(200, TAKEOVER)?;
    lab.wait_healthy(REJOIN)?;
    story.tell(&format!("{candidate} leads, {leader} follows; {} rows acknowledged so far", load.acked()));
    load.wait_for_acks(500, Duration::from_secs(20))?;

    story.tell(&format!("power loss of the primary {candidate}, under load: link first, then every process"));
    let primary_off = lab.power_off(&[&candidate])?;
    load.wait_for_acks(200, TAKEOVER)?;
    let successor = lab.wait_leader_among(&lab.databases_except(&[&candidate]), TAKEOVER)?;
    story.tell(&format!("{successor} took over and writes go on"));

    story.tell(&format!("power on {candidate}: it must rewind what nobody had confirmed, and follow"));
    lab.power_on(&[&candidate])?;
    let leader = lab.wait_healthy(REJOIN)?;
    story.tell(&format!("{candidate} is back in sync behind {leader}"));
    load.wait_for_acks(200, TAKEOVER)?;

    let holder = lab.wait_vip_holder(FRONT)?;
    story.tell(&format!("power loss of {holder}, the proxy host that holds the address"));
    let watch = ArpWatch::start(lab, lab.vip()?)?;
    let proxy_off = lab.power_off(&[&holder])?;
    load.wait_for_acks(200, TAKEOVER)?;
    let heir = lab.wait_vip_holder(FRONT)?;
    let arp = watch.finish()?;
    story.tell(&format!("{heir} holds the address and writes go on"));
    lab.power_on(&[&holder])?;
    lab.wait_front(FRONT)?;
    story.tell(&format!("{holder} is back behind it"));
    Ok(Faults { switchover, primary_off, proxy_off, heir, arp })
}

/// Prints the result and holds it against the bounds.
fn judge(attempts: &[Attempt], faults: &Faults, verdict: &Verdict) -> Result<()> {
    let switchover = between(attempts, faults.switchover, Some(faults.primary_off))
        .context("no acknowledged row around the switchover")?;
    let primary = between(attempts, faults.primary_off, Some(faults.proxy_off))
        .context("no acknowledged row after the power loss of the primary")?;
    let proxy = between(attempts, faults.proxy_off, None)
        .context("no acknowledged row after the power loss of the proxy host")?;
    let (_, moved) = faults.arp.around(&faults.heir, faults.proxy_off);
    let moved = moved.context("nobody answered for the address")?.saturating_sub(faults.proxy_off);
    let seconds = |outage: Outage| outage.length().as_secs_f64();
    println!();
    println!("  switchover:                      writes stood still for {:6.2} s", seconds(switchover));
    println!("  power loss of the primary:       writes stood still for {:6.2} s", seconds(primary));
    println!(
        "  power loss of the active proxy:  writes stood still for {:6.2} s; the address had moved after {:.2} s",
        seconds(proxy),
        moved.as_secs_f64()
    );
    println!("  {verdict}");
    println!();
    verdict.check()?;
    ensure!(switchover.length() < SWITCHOVER_BOUND, "the switchover took longer than {SWITCHOVER_BOUND:?}");
    ensure!(primary.length() < POWER_LOSS_BOUND, "the takeover took longer than {POWER_LOSS_BOUND:?}");
    ensure!(moved < MOVE_BOUND, "the move of the address took longer than {MOVE_BOUND:?}");
    Ok(())
}

/// The longest pause that began after one fault and before the next.
fn between(attempts: &[Attempt], from: Duration, to: Option<Duration>) -> Option<Outage> {
    let earlier = attempts.iter().filter(|attempt| to.is_none_or(|to| attempt.ended < to));
    let earlier: Vec<_> = earlier.cloned().collect();
    outage(&earlier, from)
}

fn list(lab: &Lab) -> Result<()> {
    let output = lab.hactl(&["list"])?;
    ensure!(output.code == Some(0), "hactl list: {}{}", output.stdout, output.stderr);
    println!("\n{}", output.stdout);
    Ok(())
}
