//! `make soak`: the same two proxies for as long as one likes, under every kind of client and every change of role, and the
//! proof that nothing of it stays behind: no session, no descriptor, no memory.
//!
//! Load and rest take turns. At a *rest point* all clients are gone and the cluster is whole; the first one after the warm-up is
//! the reference for all others, because a process that has just started has not yet touched what it will always need.
#![allow(clippy::print_stdout, reason = "the report is its output")]

mod broken;
mod changes;
mod clients;
mod report;
mod samples;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::changes::Changes;
use self::clients::{Clients, Counts};
use self::report::Report;
use self::samples::{Rest, Sample};
use crate::client_load::{Attempt, Load};
use crate::lab::Lab;
use crate::load_report::{Verdict, same_rows_everywhere, write_log};
use crate::log_check::check_logs;
use crate::options::LabOptions;
use crate::process_id::raise_open_files;
use crate::sessions::{sampling_role, sampling_rules};

/// From nothing to three members in sync, and open proxies.
const BOOTSTRAP: Duration = Duration::from_secs(120);
const FRONT: Duration = Duration::from_secs(60);
/// From the end of the clients to a whole cluster, and to members that all have the same.
const WHOLE: Duration = Duration::from_secs(120);
/// Load before the reference point, at most a quarter of the run: until the C library's caches of each thread are filled, seven
/// pieces of each of 64 sizes. The rare sizes take their time.
const WARM_UP: Duration = Duration::from_secs(600);
/// Load between two rest points, at most.
const ROUND: Duration = Duration::from_secs(240);
/// Between two looks at the proxies.
const LOOK: Duration = Duration::from_secs(10);
/// Clients with and without TLS through the same port.
const ENDS_HERE: &str = "\n[routing]\ntls = \"terminate\"\ntls_certificate = \"/etc/matriarch/tls/host.crt\"\n\
                         tls_key = \"/etc/matriarch/tls/host.key\"\n";
/// Room for all idle sessions on one server, while it is the only one.
const ROOM: &str = "\n[postgres.parameters]\nmax_connections = 500\n";

/// What to run.
#[derive(Debug, Clone)]
pub struct SoakOptions {
    /// Decides the changes, and what becomes of clients.
    pub seed: u64,
    /// Load and rest together, without the time that the lab takes to come up.
    pub duration: Duration,
    /// The lab's directory.
    pub directory: PathBuf,
    /// Where every sample goes, as tab-separated values.
    pub samples: PathBuf,
}

/// Runs, and reports.
///
/// # Errors
/// Something stayed behind, a proxy was restarted, an ERROR was logged or an acknowledged row is lost. The report says what, and
/// the lab's files stay.
pub fn run(options: &SoakOptions) -> Result<()> {
    let repeat = format!("make soak SECONDS={} SEED={}", options.duration.as_secs(), options.seed);
    println!("seed {}; the same again: {repeat}", options.seed);
    println!("five hosts, waiting for the cluster ...");
    raise_open_files()?;
    let mut lab_options = LabOptions::five_hosts(&options.directory)?;
    lab_options.appendix.push_str(&sampling_rules());
    lab_options.appendix.push_str(ROOM);
    lab_options.appendix.push_str(ENDS_HERE);
    let mut lab = Lab::start(&lab_options)?;
    match play(options, &lab) {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            Err(error.context(format!("{repeat}; logs: {}/<host>/log", lab.dir().path().display())))
        }
    }
}

fn play(options: &SoakOptions, lab: &Lab) -> Result<()> {
    let leader = lab.wait_healthy(BOOTSTRAP)?;
    Load::prepare(lab, &leader)?;
    lab.sql(&leader, &sampling_role())?;
    lab.wait_front(FRONT)?;

    let mut report = Report::new(lab);
    let mut attempts = Vec::new();
    let stop = AtomicBool::new(false);
    let samples = Mutex::new(Vec::new());
    let result = thread::scope(|scope| {
        scope.spawn(|| look_again_and_again(lab, &stop, &samples));
        let result = rounds(options, lab, &mut report, &mut attempts);
        stop.store(true, Ordering::Relaxed);
        result
    });
    let samples = samples.into_inner().unwrap_or_default();
    samples::write(&samples, &options.samples)?;
    report.add_samples(samples);
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    // What a failed run was about to show is worth knowing too.
    println!("{report}");
    result?;

    let leader = lab.wait_healthy(WHOLE)?;
    let verdict = Verdict::new(&attempts, &same_rows_everywhere(lab, &leader, WHOLE)?);
    println!("{verdict}");
    verdict.check()?;
    check_logs(lab, &[])?;
    let violations = report.violations();
    ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    Ok(())
}

/// Warm-up, then rounds of load, a rest point after each.
fn rounds(options: &SoakOptions, lab: &Lab, report: &mut Report, attempts: &mut Vec<Attempt>) -> Result<()> {
    let start = Instant::now();
    let mut changes = Changes::new(lab, options.seed);
    let warm_up = WARM_UP.min(options.duration / 4);
    let mut load = warm_up;
    loop {
        let number = report.rests.len();
        let next_id = attempts.iter().map(|attempt| attempt.id + 1).max().unwrap_or(1);
        let clients = Clients::start(lab, options.seed.wrapping_add(number as u64), next_id)?;
        let changed = changes.run(Instant::now() + load);
        let counts: Counts = clients.finish(attempts)?;
        report.counts.add(&counts);
        report.changes.extend(changed.with_context(|| format!("in round {number}"))?);
        let rest = Rest::reach(lab, report.rests.first(), start.elapsed(), WHOLE)?;
        println!("{rest}");
        report.rests.push(rest);
        let left = options.duration.saturating_sub(start.elapsed());
        // One round at least: the reference alone shows nothing.
        if number >= 1 && left < ROUND / 2 {
            return Ok(());
        }
        load = ROUND.min(left).min((options.duration - warm_up) / 2).max(LOOK);
    }
}

fn look_again_and_again(lab: &Lab, stop: &AtomicBool, samples: &Mutex<Vec<Sample>>) {
    let start = Instant::now();
    let mut next = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        if start.elapsed() < next {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        next += LOOK;
        for proxy in lab.proxies() {
            let sample = Sample::take(lab, proxy, start.elapsed());
            samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(sample);
        }
    }
}
