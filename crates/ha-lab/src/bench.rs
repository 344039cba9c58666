//! `make bench-failover`: how long writes stand still at each event, ours beside the usual stack, in one run on one machine.
#![allow(clippy::print_stdout, reason = "the table is its output")]

mod event;
mod phases;
mod report;
mod round;
pub(crate) mod stack;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::event::Event;
use self::report::{Report, Sample, SettingsInForce};
use self::stack::Stack;
use crate::client_load::Load;
use crate::front::WRITE_PORT;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::options::LabOptions;
use crate::results_file;

/// From nothing to a healthy cluster; the usual stack takes a minute.
const BOOTSTRAP: Duration = Duration::from_secs(180);
/// From a healthy cluster to open ports on the proxies.
const FRONT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Repetitions of each event with our parts.
    pub rounds: u32,
    /// Repetitions with the usual stack; 0 leaves it out.
    pub classic_rounds: u32,
    /// Only events whose name contains this.
    pub only: String,
    /// Where the labs go, one after the other.
    pub labs: PathBuf,
    /// Where the results go, for programs.
    pub results: PathBuf,
}

/// Measures and prints. What was measured before a failure is printed and written too.
///
/// # Errors
/// A lab could not be run, an event did not end in time, or our stack lost an acknowledged row.
pub fn run(options: &BenchOptions) -> Result<()> {
    let events: Vec<Event> =
        Event::ALL.into_iter().filter(|event| event.name().contains(&options.only)).collect();
    ensure!(!events.is_empty(), "no event's name contains {:?}", options.only);
    let mut samples = Vec::new();
    let mut settings = None;
    let ours = measure(Stack::Ours, options, &events, options.rounds, &mut samples, &mut settings);
    let mut classic = Ok(());
    if ours.is_ok() && options.classic_rounds > 0 {
        classic =
            measure(Stack::Classic, options, &events, options.classic_rounds, &mut samples, &mut settings);
    }
    let report = Report { machine: Machine::look(), settings, samples };
    println!("\n{report}");
    results_file::write(&options.results, &report)?;
    println!("written to {}", options.results.display());
    ours.and(classic)
}

/// All rounds of one stack, in a lab of its own.
fn measure(
    stack: Stack,
    options: &BenchOptions,
    events: &[Event],
    rounds: u32,
    samples: &mut Vec<Sample>,
    settings: &mut Option<SettingsInForce>,
) -> Result<()> {
    println!("{}: five hosts, waiting for the cluster ...", stack.name());
    let directory = options.labs.join(format!("bench-{}", stack.name()));
    let start = || stack.start(LabOptions::five_hosts(&directory)?);
    let mut lab = start()?;
    let mut todo: Vec<(u32, Event)> = (1..=rounds)
        .flat_map(|round| events.iter().filter(|event| event.is_for(stack)).map(move |event| (round, *event)))
        .rev()
        .collect();
    let result = loop {
        match repeat(stack, &lab, &mut todo, samples, settings) {
            Ok(()) if todo.is_empty() => break Ok(()),
            // Only the usual stack comes here: the next event needs a whole cluster.
            Ok(()) => {
                lab.down()?;
                println!("{}: a new cluster ...", stack.name());
                lab = start()?;
            }
            Err(error) => break Err(error),
        }
    };
    match result {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            let logs = lab.dir().path().display().to_string();
            Err(error.context(format!("{}; logs: {logs}/<host>/log", stack.name())))
        }
    }
}

/// Works the list off, from its end. Stops early, with the rest of the list, when a cluster is not whole again.
fn repeat(
    stack: Stack,
    lab: &Lab,
    todo: &mut Vec<(u32, Event)>,
    samples: &mut Vec<Sample>,
    settings: &mut Option<SettingsInForce>,
) -> Result<()> {
    let leader = stack.wait_healthy(lab, BOOTSTRAP)?;
    Load::prepare(lab, &leader)?;
    lab.wait_vip_holder(FRONT)?;
    lab.wait_route_open(lab.vip()?, WRITE_PORT, FRONT)?;
    if stack == Stack::Ours {
        *settings = Some(SettingsInForce::read(lab)?);
    }
    while let Some((round, event)) = todo.pop() {
        let sample = round::run(stack, lab, event, round)?;
        println!("{sample}");
        let lost = sample.lost.is_empty() && sample.double_acks.is_empty();
        let whole = sample.incomplete.is_none();
        samples.push(sample);
        // The usual stack's losses are reported, ours end the run.
        ensure!(lost || stack == Stack::Classic, "{}: acknowledged rows were lost", event.name());
        if !whole {
            break;
        }
    }
    Ok(())
}
