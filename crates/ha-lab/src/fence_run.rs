//! `hactl-lab fence-run`: the primary loses its agent or its network at a random moment while clients are connected to its own
//! address, past every proxy; what does it still acknowledge, and for how long?
//!
//! With `synchronous_commit = on` nothing that the next primary lacks; below `on` nothing after the guard's deadline; in
//! asynchronous mode nothing once another member has answered. The same lab serves many runs.
#![allow(clippy::print_stdout, reason = "the report is its output")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client_load::{Attempt, Load, LoadOptions, Outcome};
use crate::lab::Lab;
use crate::load_report::{Verdict, same_rows_everywhere, write_log};
use crate::local_commits::{LocalVerdict, first_answers};
use crate::log_check::check_logs;
use crate::nemesis::Dice;
use crate::options::LabOptions;
use crate::spread::Spread;
use crate::{CLIENT, Cut};

/// From power-on, or from the end of a fault, to a healthy cluster.
const SETTLE: Duration = Duration::from_secs(120);
/// From a fault to acknowledged writes, where the trigger is the end of a lease.
const TAKEOVER: Duration = Duration::from_secs(60);
/// From a fault to the end of the old primary's PostgreSQL: a lease, and a loaded machine.
const FENCE: Duration = Duration::from_secs(30);
/// Rows that show that writes go on.
const SOME_ROWS: u64 = 100;
/// Numbers of the direct clients.
const DIRECT: u64 = 1_000_000_000;
/// From here on numbers are of sessions with local commits.
const LOCAL: u64 = 100 * DIRECT;

/// What happens to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The agent, and nobody starts it again.
    AgentKilled,
    /// The agent stands still.
    AgentStopped,
    /// Nobody but the client host reaches it.
    Partitioned,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AgentKilled, Self::AgentStopped, Self::Partitioned];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::AgentKilled => "agent killed for good",
            Self::AgentStopped => "agent stopped",
            Self::Partitioned => "primary cut off from all but its clients",
        }
    }

    fn strike(self, lab: &Lab, primary: &str) -> Result<Duration> {
        match self {
            Self::AgentKilled => {
                lab.mask(primary, "pg-agent")?;
                lab.signal(primary, "pg-agent", "SIGKILL")
            }
            Self::AgentStopped => {
                lab.mask(primary, "pg-agent")?;
                lab.signal(primary, "pg-agent", "SIGSTOP")
            }
            Self::Partitioned => {
                let hosts = lab.hosts().iter().map(|host| host.name.as_str());
                let others: Vec<&str> = hosts.filter(|name| *name != primary && *name != CLIENT).collect();
                lab.cut(Cut::between(&[primary], &others))
            }
        }
    }
}

/// What one run showed; times count from the fault.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The fault.
    pub fault: Fault,
    /// The old primary's last acknowledgement at `on`.
    pub last: Duration,
    /// And of a commit that waits for nobody.
    pub last_local: Duration,
    /// The next primary's first acknowledgement.
    pub first_of_next: Duration,
    /// Acknowledged commits below `on`, or of an asynchronous cluster, that the next primary lacks: allowed.
    pub lost_below: usize,
}

/// What three kinds of clients tried.
struct Tried {
    fault: Duration,
    primary: String,
    /// Commits as the cluster has them by default.
    usual: Vec<Attempt>,
    /// Those that wait for nobody.
    local: Vec<Attempt>,
}

impl Tried {
    /// The old primary's last acknowledgement to these, after the fault.
    fn last_answer(&self, attempts: &[Attempt]) -> Duration {
        let old = attempts.iter().filter(|attempt| attempt.host == self.primary);
        let answered = old.filter(|attempt| attempt.outcome == Outcome::Acked && attempt.id >= DIRECT);
        // A new primary on the same host is none that was replaced.
        let timeline = answered.clone().map(|attempt| attempt.timeline).min();
        let last =
            answered.filter(|attempt| Some(attempt.timeline) == timeline).map(|attempt| attempt.ended).max();
        last.unwrap_or_default().saturating_sub(self.fault)
    }
}

/// One fault under all three kinds of clients, `phase` after they write, to its end and back to a healthy cluster.
fn through(lab: &Lab, fault: Fault, phase: Duration) -> Result<Tried> {
    let primary = lab.wait_healthy(SETTLE)?;
    lab.sql(&primary, "DROP TABLE IF EXISTS appload")?;
    Load::prepare(lab, &primary)?;
    let load = Load::start(lab, LoadOptions::all_hosts(lab)?)?;
    let direct = LoadOptions { workers: 2, first_id: DIRECT, ..LoadOptions::hosts(lab, &[&primary])? };
    let local = LoadOptions { local_commits: true, first_id: LOCAL, ..direct.clone() };
    let (direct, local) = (Load::start(lab, direct)?, Load::start(lab, local)?);
    for load in [&load, &direct, &local] {
        load.wait_for_acks(SOME_ROWS, TAKEOVER).context("before the fault")?;
    }
    std::thread::sleep(phase); // of renewals, echoes and of what the agent is at

    let at = fault.strike(lab, &primary)?;
    lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    lab.wait_postgres_ended(&primary, FENCE)?;
    let (local, direct) = (local.finish()?, direct.finish()?);
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    lab.restore()?;
    lab.wait_healthy(SETTLE)?;
    let usual = [load.finish()?, direct].concat();
    write_log(&usual, &lab.dir().path().join("load.jsonl"))?;
    write_log(&local, &lab.dir().path().join("load-local.jsonl"))?;
    Ok(Tried { fault: at, primary, usual, local })
}

/// One run, judged.
///
/// # Errors
/// Something was acknowledged that must not be, or the cluster did not come back.
pub fn one(lab: &Lab, fault: Fault, phase: Duration) -> Result<Shown> {
    let tried = through(lab, fault, phase).with_context(|| fault.name())?;
    let judged =
        if lab.is_synchronous() { judge_synchronous(lab, fault, &tried) } else { judge(lab, fault, &tried) };
    judged.with_context(|| fault.name())
}

fn judge_synchronous(lab: &Lab, fault: Fault, tried: &Tried) -> Result<Shown> {
    let leader = lab.wait_healthy(SETTLE)?;
    let rows = same_rows_everywhere(lab, &leader, SETTLE)?;
    let (local_rows, rows): (BTreeSet<u64>, BTreeSet<u64>) = rows.into_iter().partition(|id| *id >= LOCAL);
    Verdict::new(&tried.usual, &rows).check()?;

    let lease = lab.lease_ttl()?;
    let first = first_answers(tried.usual.iter().chain(&tried.local));
    let local = LocalVerdict::new(&tried.local, &local_rows, &first, lease);
    local.check()?;
    let shown = shown(fault, tried, &first, local.lost);
    ensure!(
        shown.last_local > Duration::ZERO,
        "nothing was acknowledged after the fault: this proves nothing"
    );
    // The newest evidence was sent before the fault, and the deadline lies before the end of its lease.
    ensure!(
        shown.last_local <= lease,
        "a local commit was acknowledged {:.2?} after the fault; the lease is {lease:?}",
        shown.last_local
    );
    Ok(shown)
}

/// Asynchronous: commits may be lost, but never are there two who take them.
fn judge(lab: &Lab, fault: Fault, tried: &Tried) -> Result<Shown> {
    let leader = lab.wait_healthy(SETTLE)?;
    let rows = same_rows_everywhere(lab, &leader, SETTLE)?;
    let all = [tried.usual.as_slice(), &tried.local].concat();
    let first = first_answers(all.iter());
    let verdict = LocalVerdict::new(&all, &rows, &first, Duration::ZERO);
    verdict.check()?;
    Ok(shown(fault, tried, &first, verdict.lost))
}

fn shown(fault: Fault, tried: &Tried, first: &BTreeMap<u32, Duration>, lost_below: usize) -> Shown {
    let newest = first.values().next_back().copied().unwrap_or_default();
    Shown {
        fault,
        last: tried.last_answer(&tried.usual),
        last_local: tried.last_answer(&tried.local),
        first_of_next: newest.saturating_sub(tried.fault),
        lost_below,
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct FenceRunOptions {
    /// Decides the moments of the faults.
    pub seed: u64,
    /// Runs of each fault in each mode.
    pub runs: u32,
    /// Only modes and faults whose name contains this.
    pub only: String,
    /// The lab's directory.
    pub directory: PathBuf,
}

/// Later than this after the load has begun no fault comes: two renewals, with everything that happens in between.
const PHASES_MS: u64 = 4_000;

/// Runs, and proves; prints a table.
///
/// # Errors
/// A run failed. The lab's files stay, and the message says how to repeat it.
pub fn run(options: &FenceRunOptions) -> Result<()> {
    let repeat = format!("make fence-run RUNS={} SEED={}", options.runs, options.seed);
    println!("seed {}; the same again: {repeat}", options.seed);
    let mut rows = vec![];
    for mode in ["synchronous", "asynchronous"] {
        let wanted: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|fault| format!("{mode}: {}", fault.name()).contains(&options.only))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let lab = LabOptions::reference(&options.directory.join(mode))?;
        let lab = if mode == "asynchronous" { lab.mode(mode) } else { lab };
        let mut lab = Lab::start(&lab)?;
        let result = all(options, &lab, mode, &wanted, &mut rows);
        print_table(&rows);
        if let Err(error) = result {
            lab.keep_files();
            let logs = lab.dir().path().display().to_string();
            return Err(error.context(format!(
                "seed {}; the same again: {repeat}; logs: {logs}/<host>/log",
                options.seed
            )));
        }
        lab.down()?;
    }
    ensure!(!rows.is_empty(), "no run's name contains {:?}", options.only);
    Ok(())
}

type Row = (&'static str, Fault, Vec<Shown>);

fn all(
    options: &FenceRunOptions,
    lab: &Lab,
    mode: &'static str,
    wanted: &[Fault],
    rows: &mut Vec<Row>,
) -> Result<()> {
    lab.wait_healthy(SETTLE).context("bootstrap")?;
    for fault in wanted {
        rows.push((mode, *fault, vec![]));
    }
    let first = rows.len() - wanted.len();
    for number in 0..options.runs {
        // One after the other, so that a run that is ended early has a little of each.
        for (at, fault) in wanted.iter().enumerate() {
            let mut dice = Dice::new(options.seed ^ (u64::from(number) << 8) ^ at as u64);
            let phase = Duration::from_millis(dice.between(0, PHASES_MS));
            let shown = one(lab, *fault, phase).with_context(|| format!("{mode}, run {}", number + 1))?;
            println!(
                "{mode:12} {:3}  {:40} {:5.2} s in: last at on {:5.2} s, below {:5.2} s, the next one's first {:5.2} s",
                number + 1,
                fault.name(),
                phase.as_secs_f64(),
                shown.last.as_secs_f64(),
                shown.last_local.as_secs_f64(),
                shown.first_of_next.as_secs_f64()
            );
            rows[first + at].2.push(shown);
        }
    }
    check_logs(lab, &[])
}

/// Medians with the least and the greatest.
fn print_table(rows: &[Row]) {
    println!(
        "| mode | fault | runs | last answer at `on` | below `on` | the next one's first | lost below `on` |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (mode, fault, shown) in rows.iter().filter(|(.., shown)| !shown.is_empty()) {
        let spread = |of: fn(&Shown) -> Duration| {
            Spread::of(shown.iter().map(|shown| of(shown).as_secs_f64()))
                .map_or_else(String::new, |s| s.with(2))
        };
        let lost: usize = shown.iter().map(|shown| shown.lost_below).sum();
        println!(
            "| {mode} | {} | {} | {} | {} | {} | {lost} |",
            fault.name(),
            shown.len(),
            spread(|shown| shown.last),
            spread(|shown| shown.last_local),
            spread(|shown| shown.first_of_next),
        );
    }
}
