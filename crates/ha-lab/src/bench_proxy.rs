//! pg-proxy beside HAProxy and PgBouncer: the same loads through each of them in turn, on one machine, in one run.
//!
//! One PostgreSQL without agents, one host with pg-proxy, one with the two peers; all three proxies run all the time and only
//! one of them is used. What is compared is what a client gets and what the proxy's process spends for it. The same loads
//! tell what linearizable reads cost, through two pg-proxies that differ in nothing else.

#![allow(clippy::print_stdout, reason = "the tables are its output")]

mod idle;
mod load;
mod reads;
mod report;
mod setting;
mod usage;
mod way;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::load::Work;
use self::report::{Report, Sample};
use self::setting::Setting;
use self::usage::machine_cpu;
use self::way::Way;
use crate::machine::Machine;
use crate::results_file;

/// What is measured, how often, and where.
#[derive(Debug, Clone)]
pub struct BenchProxyOptions {
    /// Repetitions of each load through each way.
    pub rounds: u32,
    /// How long one of them lasts.
    pub seconds: u32,
    /// Only loads whose name contains this.
    pub only: String,
    /// Whether idle sessions are opened too.
    pub idle: bool,
    /// The program of `experiments/relay-ways`: then ways to pass bytes on are compared instead of products.
    pub relays: Option<PathBuf>,
    /// Whether pg-proxy is compared with itself, with and without linearizable reads.
    pub reads: bool,
    /// Where the labs go.
    pub labs: PathBuf,
    /// Where the results go, for programs.
    pub results: PathBuf,
}

/// Measures and prints. What was measured before a failure is printed and written too.
///
/// # Errors
/// A lab could not be run, or a load failed.
pub fn run(options: &BenchProxyOptions) -> Result<()> {
    let works: Vec<Work> =
        Work::all().into_iter().filter(|work| work.name().contains(&options.only)).collect();
    let ways: &[Way] = match options.relays {
        _ if options.reads => &Way::READS,
        Some(_) => &Way::RELAYS,
        None => &Way::PRODUCTS,
    };
    let ways = ways.to_vec();
    let mut report = Report { machine: Machine::look(), ways, samples: Vec::new(), idle: Vec::new() };
    let loaded = if works.is_empty() { Ok(()) } else { loads(options, &works, &mut report) };
    let idle = match &loaded {
        Ok(()) if options.idle && options.relays.is_none() && !options.reads => {
            idle::measure(&options.labs.join("bench-proxy-idle"), &mut report.idle)
        }
        _ => Ok(()),
    };
    println!("\n{report}");
    results_file::write(&options.results, &report)?;
    println!("written to {}", options.results.display());
    loaded.and(idle)
}

fn loads(options: &BenchProxyOptions, works: &[Work], report: &mut Report) -> Result<()> {
    let mut setting = if options.reads {
        println!("the reference cluster, one proxy of each kind ...");
        reads::start(&options.labs.join("bench-reads"))?
    } else {
        println!("one PostgreSQL, three proxies ...");
        Setting::start(&options.labs.join("bench-proxy"), &report.ways, options.relays.as_deref())?
    };
    let result = repeat(options, works, &setting, report);
    match result {
        Ok(()) => setting.lab.down(),
        Err(error) => {
            setting.lab.keep_files();
            let logs = setting.lab.dir().path().display().to_string();
            Err(error.context(format!("logs: {logs}/<host>/log")))
        }
    }
}

fn repeat(options: &BenchProxyOptions, works: &[Work], setting: &Setting, report: &mut Report) -> Result<()> {
    let Report { ways, samples, .. } = report;
    // Caches fill, and every way is tried before anything is written down.
    for &way in ways.iter() {
        load::run(setting, way, works[0], 1)
            .with_context(|| format!("before the measurement, {}", way.name()))?;
    }
    let seconds = options.seconds;
    for round in 1..=options.rounds {
        for &work in works {
            for &way in ways.iter() {
                let what = || format!("{} through {}, round {round}", work.name(), way.name());
                let before = (machine_cpu()?, way.usage(&setting.lab).with_context(what)?);
                let outcome = load::run(setting, way, work, seconds).with_context(what)?;
                let after = (machine_cpu()?, way.usage(&setting.lab).with_context(what)?);
                let usage = before.1.zip(after.1);
                let sample = Sample::new(way, work, round, outcome, usage, after.0 - before.0);
                println!("{sample}");
                samples.push(sample);
            }
        }
    }
    Ok(())
}

/// Limit of each step that is no measurement.
const LIMIT: Duration = Duration::from_secs(60);
