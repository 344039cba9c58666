//! The write client around a fault, and what must hold afterwards.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::client_load::{Attempt, Load, LoadOptions};
use ha_lab::load_report::{Verdict, outage, same_rows_everywhere, write_log};

use crate::SETTLE;

/// Rows that show that writes go on, and that the load runs before a fault hits.
pub const SOME_ROWS: u64 = 100;

/// Starts the write client on a healthy cluster and waits until it writes.
///
/// # Errors
/// The cluster does not accept writes.
pub fn writing(lab: &Lab, primary: &str) -> Result<Load> {
    Load::prepare(lab, primary)?;
    let load = Load::start(lab, LoadOptions::all_hosts(lab)?)?;
    load.wait_for_acks(SOME_ROWS, Duration::from_secs(30)).context("before the fault")?;
    Ok(load)
}

/// Ends the load on a healed cluster and proves that nothing acknowledged is lost, on every member.
///
/// # Errors
/// The cluster is not healthy, or something is lost.
pub fn prove(lab: &Lab, load: Load) -> Result<Vec<Attempt>> {
    prove_attempts(lab, load.finish()?)
}

/// The same for attempts of several loads.
///
/// # Errors
/// As [`prove`].
pub fn prove_attempts(lab: &Lab, attempts: Vec<Attempt>) -> Result<Vec<Attempt>> {
    write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
    let leader = lab.wait_healthy(SETTLE).context("after the fault")?;
    let rows = same_rows_everywhere(lab, &leader, Duration::from_secs(30))?;
    Verdict::new(&attempts, &rows).check()?;
    Ok(attempts)
}

/// Notes what was measured in `outages.tsv` beside the labs.
///
/// # Errors
/// The file cannot be written.
pub fn note(what: &str, length: Duration) -> Result<()> {
    note_text(what, &format!("{:.3}", length.as_secs_f64()))
}

/// The same for other things than times.
///
/// # Errors
/// The file cannot be written.
pub fn note_text(what: &str, value: &str) -> Result<()> {
    let path = crate::labs().join("outages.tsv");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("open outages.tsv")?;
    writeln!(file, "{what}\t{value}").context("write outages.tsv")
}

/// How long writes stood still around a fault; also noted in `outages.tsv` beside the labs.
///
/// # Errors
/// No row was acknowledged after the fault, or the outage was longer than `bound`.
pub fn outage_below(attempts: &[Attempt], what: &str, fault: Duration, bound: Duration) -> Result<Duration> {
    let found = outage(attempts, fault).with_context(|| format!("{what}: no row acknowledged afterwards"))?;
    let length = found.length();
    note(what, length)?;
    ensure!(length < bound, "{what}: writes stood still for {length:.2?}, at most {bound:?} expected");
    Ok(length)
}
