//! The loads: pgbench for transactions and connections, psql for much data.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::setting::{Setting, USER};
use super::way::Way;
use crate::topology::CLIENT;

/// Bytes of a row of the bulk load as `COPY` sends it: a thousand and the end of the line.
const ROW: u64 = 1001;
/// Rows that each reader of the bulk load gets per second of the measurement's length.
const ROWS_PER_SECOND: u64 = 120_000;
/// Readers of the bulk load.
const READERS: u64 = 4;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// One row by its key per transaction, in one of pgbench's query modes.
    Select { mode: &'static str, clients: u32 },
    /// The same with a connection for each transaction.
    Connect { clients: u32 },
    /// Results of much data.
    Bulk,
}

/// What a client got.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    /// Transactions, or gigabytes (10^9 bytes).
    pub(super) amount: f64,
    /// Latency in ms, where transactions were counted.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Work {
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for mode in ["simple", "prepared"] {
            all.extend([1, 8, 64].map(|clients| Self::Select { mode, clients }));
        }
        all.extend([Self::Connect { clients: 8 }, Self::Bulk]);
        all
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Select { mode, clients } => format!("select, {mode}, {clients} clients"),
            Self::Connect { clients } => format!("connect per transaction, {clients} clients"),
            Self::Bulk => format!("bulk results, {READERS} readers"),
        }
    }

    /// What is counted.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Select { .. } | Self::Connect { .. } => "tx",
            Self::Bulk => "GB",
        }
    }
}

/// Runs it once through one way.
pub(super) fn run(setting: &Setting, way: Way, work: Work, seconds: u32) -> Result<Outcome> {
    match work {
        Work::Select { mode, clients } => pgbench(setting, way, &["-M", mode], clients, seconds),
        Work::Connect { clients } => pgbench(setting, way, &["-C"], clients, seconds),
        Work::Bulk => bulk(setting, way, u64::from(seconds)),
    }
}

fn pgbench(setting: &Setting, way: Way, options: &[&str], clients: u32, seconds: u32) -> Result<Outcome> {
    let lab = &setting.lab;
    let (address, port) = way.address(lab)?;
    let logs = lab.dir().host(CLIENT).join("work");
    remove_logs(&logs)?;
    let (address, port) = (address.to_string(), port.to_string());
    let (clients, seconds) = (clients.to_string(), seconds.to_string());
    let mut argv = vec!["pgbench", "-n", "-S", "-l", "--log-prefix", "/lab/latency", "-j", "1"];
    argv.extend(options);
    argv.extend(["-c", &clients, "-T", &seconds, "-h", &address, "-p", &port, "-U", USER, USER]);
    let begun = Instant::now();
    let output = lab.exec(CLIENT, &argv)?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(output.code == Some(0), "pgbench: {}", output.stderr.trim());
    let mut latencies = latencies(&logs)?;
    remove_logs(&logs)?;
    let count = latencies.len();
    ensure!(count > 0, "pgbench finished no transaction: {}", output.stderr.trim());
    latencies.sort_unstable();
    let at = |part: f64| Some(latencies[((count - 1) as f64 * part) as usize] as f64 / 1000.0);
    // Connecting belongs to a load that does nothing else.
    let rate = rate_of(&output.stdout).context("pgbench tells no rate")?;
    let seconds = if options == ["-C"] { took } else { count as f64 / rate };
    Ok(Outcome { seconds, amount: count as f64, p50: at(0.5), p99: at(0.99) })
}

/// `tps = 1234.5 (without initial connection time)`.
fn rate_of(text: &str) -> Option<f64> {
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    rate.split_whitespace().next()?.parse().ok()
}

fn remove_logs(directory: &Path) -> Result<()> {
    for path in logs_in(directory)? {
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn logs_in(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_log = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("latency"))
    };
    Ok(paths.filter(is_log).collect())
}

/// The third column of pgbench's log: the transaction's time in microseconds.
fn latencies(directory: &Path) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for path in logs_in(directory)? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        all.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()));
    }
    Ok(all)
}

fn bulk(setting: &Setting, way: Way, seconds: u64) -> Result<Outcome> {
    let lab = &setting.lab;
    let (address, port) = way.address(lab)?;
    let (address, port) = (address.to_string(), port.to_string());
    let rows = ROWS_PER_SECOND * seconds;
    let copy = format!("COPY (SELECT repeat('x', 1000) FROM generate_series(1, {rows})) TO STDOUT");
    let argv =
        ["psql", "-X", "-h", &address, "-p", &port, "-U", USER, "-d", USER, "-o", "/dev/null", "-qc", &copy];
    let begun = Instant::now();
    let mut readers: Vec<Child> = Vec::new();
    for _ in 0..READERS {
        let mut command = lab.command(CLIENT, "root", &argv)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        readers.push(command.spawn().context("start psql")?);
    }
    for reader in readers {
        let output = reader.wait_with_output().context("end of psql")?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let amount = (READERS * rows * ROW) as f64 / 1e9;
    Ok(Outcome { seconds, amount, p50: None, p99: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_whatever_pgbench_adds() {
        let text = "latency average = 0.1 ms\ntps = 9876.5 (without initial connection time)\n";
        assert_eq!(rate_of(text), Some(9876.5));
        assert_eq!(rate_of("tps = 12.25 (including reconnection times)"), Some(12.25));
        assert_eq!(rate_of("nothing"), None);
    }
}
