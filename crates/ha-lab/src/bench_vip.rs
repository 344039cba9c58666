//! `make bench-vip`: what happens to writes and to the floating address when the host that holds it, its proxy or its VRRP
//! daemon fails, is moved or comes back; ours beside HAProxy and keepalived, in one run on one machine.
#![allow(clippy::print_stdout, reason = "the table is its output")]

mod event;
mod report;
mod round;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::event::Event;
use self::report::{Report, Sample};
use crate::bench::stack::Stack;
use crate::client_load::Load;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::options::LabOptions;
use crate::results_file;

/// From nothing to a healthy cluster; the usual stack takes a minute.
const BOOTSTRAP: Duration = Duration::from_secs(180);
/// How long our preferred host waits before it takes the address back: short, because each round begins with it as holder.
const PREEMPT_DELAY: &str = "5s";

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchVipOptions {
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
/// That the usual stack does not come back from an event is a result: its rounds end there, and the table says so.
///
/// # Errors
/// A lab could not be run, an event did not end in time with our parts, an acknowledged row was lost with them, or two of
/// our hosts answered for the address for longer than its lease.
pub fn run(options: &BenchVipOptions) -> Result<()> {
    let events: Vec<Event> =
        Event::ALL.into_iter().filter(|event| event.name().contains(&options.only)).collect();
    ensure!(!events.is_empty(), "no event's name contains {:?}", options.only);
    let mut samples = Vec::new();
    let ours = measure(Stack::Ours, options, &events, options.rounds, &mut samples);
    let classic = match ours {
        Ok(()) if options.classic_rounds > 0 => {
            measure(Stack::Classic, options, &events, options.classic_rounds, &mut samples)
        }
        _ => Ok(()),
    };
    // Where it never worked, it was not started rightly.
    let worked = samples.iter().any(|sample| sample.stack == Stack::Classic);
    let (classic, given_up) = match classic {
        Err(error) if worked => (Ok(()), Some(format!("{error:#}"))),
        other => (other, None),
    };
    let report = Report { machine: Machine::look(), samples, given_up };
    println!("\n{report}");
    results_file::write(&options.results, &report)?;
    println!("written to {}", options.results.display());
    ours.and(classic)
}

/// All rounds of one stack, in a lab of its own.
fn measure(
    stack: Stack,
    options: &BenchVipOptions,
    events: &[Event],
    rounds: u32,
    samples: &mut Vec<Sample>,
) -> Result<()> {
    println!("{}: five hosts, waiting for the cluster ...", stack.name());
    let mut lab_options = LabOptions::five_hosts(&options.labs.join(format!("bench-vip-{}", stack.name())))?;
    let vip = "address = \"10.0.1.10/24\"";
    lab_options.edits.push((vip.to_owned(), format!("{vip}\npreempt_delay = \"{PREEMPT_DELAY}\"")));
    let mut lab = stack.start(lab_options)?;
    match repeat(stack, &lab, events, rounds, samples) {
        Ok(()) => lab.down(),
        Err(error) => {
            lab.keep_files();
            let logs = lab.dir().path().display().to_string();
            Err(error.context(format!("{}; logs: {logs}/<host>/log", stack.name())))
        }
    }
}

fn repeat(stack: Stack, lab: &Lab, events: &[Event], rounds: u32, samples: &mut Vec<Sample>) -> Result<()> {
    let leader = stack.wait_healthy(lab, BOOTSTRAP)?;
    Load::prepare(lab, &leader)?;
    for round in 1..=rounds {
        for &event in events.iter().filter(|event| event.is_for(stack)) {
            let sample = round::run(stack, lab, &leader, event, round)?;
            println!("{sample}");
            let shared = sample.on_two;
            samples.push(sample);
            ensure!(
                stack == Stack::Classic || shared <= report::LEASE,
                "{}: two hosts answered for the address for {shared:.2} s",
                event.name()
            );
        }
    }
    Ok(())
}
