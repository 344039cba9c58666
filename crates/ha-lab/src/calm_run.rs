//! `make calm-run`: no fault, but a machine with twice as many busy processes as cores, default settings and writes. Nobody
//! may take over: a detection that is quick enough to matter must not be so nervous that load alone moves the leader.
#![allow(clippy::print_stdout, reason = "the report is its output")]

mod addresses;
mod metrics;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::addresses::Listener;
use self::metrics::{Metrics, Watched};
use crate::client_load::{Load, LoadOptions};
use crate::clock;
use crate::lab::Lab;
use crate::load_report::{Verdict, outage, same_rows_everywhere, write_log};
use crate::log_check::{LogMarks, check_logs, lines_after};
use crate::options::LabOptions;
use crate::topology::CLIENT;

/// From nothing to three members in sync, and open proxies.
const BOOTSTRAP: Duration = Duration::from_secs(120);
const FRONT: Duration = Duration::from_secs(60);
/// From the end of the load to members that all have the same.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Rows that show that writes go on.
const SOME_ROWS: u64 = 200;
/// Between two looks at the agents.
const LOOK: Duration = Duration::from_millis(500);
/// Words of an agent that begins a takeover, or helps with one.
const TAKEOVER: [&str; 2] = ["wants to take over from epoch", "to confirm nothing more to epoch"];

/// What to run.
#[derive(Debug, Clone)]
pub struct CalmRunOptions {
    /// How long.
    pub duration: Duration,
    /// Busy processes; twice the cores when not given.
    pub busy: Option<usize>,
    /// Whether vrrpd may have the real-time priority that its service's description gives it. Without it takeovers of
    /// addresses are counted, and are no failure.
    pub real_time: bool,
    /// The lab's directory.
    pub directory: PathBuf,
}

/// Processes that only burn. They run in the client host and end with this process, however that ends.
#[derive(Debug)]
struct Burners(Vec<Child>);

impl Burners {
    fn start(lab: &Lab, count: usize) -> Result<Self> {
        let mut burners = Self(Vec::new());
        for _ in 0..count {
            let mut command = lab.command(CLIENT, "root", &["sh", "-c", "while :; do :; done"])?;
            burners.0.push(command.stdin(Stdio::null()).spawn().context("start a busy process")?);
        }
        Ok(burners)
    }

    /// # Errors
    /// One has ended: then the load was less than the report would say.
    fn all_burn(&mut self) -> Result<()> {
        for burner in &mut self.0 {
            let ended = burner.try_wait().context("look after a busy process")?;
            ensure!(ended.is_none(), "a busy process ended: {ended:?}");
        }
        Ok(())
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            burner.kill().ok();
            burner.wait().ok();
        }
    }
}

/// Runs, and reports.
///
/// # Errors
/// The leader changed, somebody began a takeover of the lead or of an address, or an acknowledged row is lost. The lab's files stay.
pub fn run(options: &CalmRunOptions) -> Result<()> {
    println!("five hosts, waiting for the cluster ...");
    let mut lab_options = LabOptions::five_hosts(&options.directory)?;
    lab_options.appendix = addresses::appendix();
    if !options.real_time {
        lab_options.unit_files.push(("vrrpd".to_owned(), without_real_time(&lab_options)?));
    }
    let mut lab = Lab::start(&lab_options)?;
    match play(options, &lab) {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            Err(error.context(format!("logs: {}/<host>/log", lab.dir().path().display())))
        }
    }
}

/// vrrpd's service as described, except for that.
fn without_real_time(options: &LabOptions) -> Result<String> {
    let path = options.deploy_dir.join("systemd/vrrpd.service");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for given in ["LimitRTPRIO=20\n", " CAP_SYS_NICE"] {
        ensure!(text.contains(given), "{}: does not contain {given:?}", path.display());
    }
    Ok(text.replace("LimitRTPRIO=20\n", "").replace(" CAP_SYS_NICE", ""))
}

fn play(options: &CalmRunOptions, lab: &Lab) -> Result<()> {
    let leader = lab.wait_healthy(BOOTSTRAP)?;
    Load::prepare(lab, &leader)?;
    lab.wait_front(FRONT)?;
    addresses::wait_held(lab, FRONT)?;
    let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
    load.wait_for_acks(SOME_ROWS, FRONT)?;
    let before = Metrics::of(lab, &leader)?;
    let (moves, listener) = (addresses::takeovers(lab)?, Listener::start(lab)?);
    let marks = LogMarks::now(lab);
    let postmaster = lab.host_status(&leader)?.postmaster;

    let cores = thread::available_parallelism().map_or(1, usize::from);
    let busy = options.busy.unwrap_or(2 * cores);
    println!(
        "{leader} leads; {busy} busy processes on {cores} cores and eight writers for {} s",
        options.duration.as_secs()
    );
    let from = clock::now();
    let start = Instant::now();
    let mut burners = Burners::start(lab, busy)?;
    let mut watched = Watched::new(lab);
    while start.elapsed() < options.duration {
        thread::sleep(LOOK);
        watched.look(lab);
    }
    let burned = burners.all_burn();
    drop(burners);

    load.wait_for_acks(SOME_ROWS, FRONT)?;
    let after = Metrics::of(lab, &leader)?;
    let (moves, heard) = (addresses::takeovers(lab)? - moves, listener.finish()?);
    let attempts = load.finish()?;
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    let pause = outage(&attempts, from).context("no row acknowledged under load")?;
    let takeovers = takeovers(lab, &marks);
    println!(
        "longest pause of writes {:.2} s; epoch {} -> {}, rewrites of the sync record {} -> {}; takeovers begun {}",
        pause.length().as_secs_f64(),
        before.epoch,
        after.epoch,
        before.generation,
        after.generation,
        takeovers.len()
    );
    println!("{watched}");
    let real_time = if options.real_time { "with" } else { "without" };
    println!("floating addresses, vrrpd {real_time} real-time priority: taken over {moves} times\n{heard}");
    let verdict = Verdict::new(&attempts, &same_rows_everywhere(lab, &leader, CATCH_UP)?);
    println!("{verdict}");

    burned?;
    verdict.check()?;
    ensure!(
        takeovers.is_empty(),
        "a takeover was begun although nothing had failed:\n{}",
        takeovers.join("\n")
    );
    ensure!(
        !options.real_time || moves == 0 && heard.one_sender_each(),
        "a floating address was taken over although nothing had failed"
    );
    ensure!(after.epoch == before.epoch, "the leader changed although nothing had failed");
    let now = lab.wait_healthy(CATCH_UP)?;
    ensure!(now == leader, "{now} leads instead of {leader}");
    ensure!(lab.host_status(&leader)?.postmaster == postmaster, "the leader's PostgreSQL was restarted");
    check_logs(lab, &[])
}

/// What the agents logged about takeovers.
fn takeovers(lab: &Lab, marks: &LogMarks) -> Vec<String> {
    let lines = lines_after(lab, marks).into_iter();
    let lines = lines
        .filter(|line| line.daemon == "pg-agent" && TAKEOVER.iter().any(|text| line.text.contains(text)));
    lines.map(|line| format!("{}: {}", line.host, line.text)).collect()
}
