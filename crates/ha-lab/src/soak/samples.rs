//! What one proxy holds, in one moment and at rest.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::wait::wait_for;

/// Looks at a rest point, one a second: the least of them counts, because agents come and go by their own connections.
const LOOKS: usize = 10;
/// How long descriptors may take to fall to the reference: such connections end by themselves.
const SETTLE: Duration = Duration::from_secs(40);
/// From the end of the last client to no session.
const GONE: Duration = Duration::from_secs(60);

/// What a process holds, as the kernel counts it, and what the proxy itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Its process inside its host.
    pub(super) pid: i32,
    /// Resident memory, KiB.
    pub(super) resident: u64,
    /// What of it is the program's own data: the rest are pages of its files, which come as code is first needed.
    pub(super) anonymous: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    pub(super) sessions: u64,
    pub(super) waiting: u64,
    /// Since its start.
    pub(super) sessions_total: u64,
    pub(super) refused_total: u64,
    pub(super) cancels_total: u64,
    pub(super) tls_total: u64,
}

impl Held {
    pub(super) fn now(lab: &Lab, proxy: &str) -> Result<Self> {
        let status = lab.host_status(proxy)?;
        let pid = status.units.iter().find(|unit| unit.name == "pg-proxy").and_then(|unit| unit.pid);
        let pid = pid.with_context(|| format!("no proxy runs on {proxy}"))?;
        let script = format!("cat /proc/{pid}/status && ls /proc/{pid}/fd | wc -l");
        let text = lab.exec(proxy, &["sh", "-c", &script])?.stdout;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("no {name} in the status of process {pid} on {proxy}"))
        };
        let descriptors = text.lines().last().and_then(|line| line.trim().parse().ok());
        let said = lab.proxy_status(proxy)?;
        let count =
            |key: &str| said[key].as_u64().with_context(|| format!("no {key} in the status of {proxy}"));
        Ok(Self {
            pid,
            resident: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
            descriptors: descriptors
                .with_context(|| format!("no descriptors of process {pid} on {proxy}"))?,
            threads: field("Threads:")?,
            sessions: count("sessions")?,
            waiting: count("waiting")?,
            sessions_total: count("sessions_total")?,
            refused_total: count("refused_total")?,
            cancels_total: count("cancels_total")?,
            tls_total: count("tls_sessions_total")?,
        })
    }
}

/// One look at one proxy.
#[derive(Debug)]
pub(super) struct Sample {
    /// Since the run began.
    pub(super) at: Duration,
    pub(super) proxy: String,
    pub(super) held: Result<Held>,
}

impl Sample {
    pub(super) fn take(lab: &Lab, proxy: &str, at: Duration) -> Self {
        Self { at, proxy: proxy.to_owned(), held: Held::now(lab, proxy) }
    }
}

/// Writes all samples, a line each.
pub(super) fn write(samples: &[Sample], path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    writeln!(
        out,
        "seconds\tproxy\tresident KiB\tanonymous KiB\tdescriptors\tthreads\tsessions\twaiting\tsessions since the start"
    )?;
    for Sample { at, proxy, held } in samples {
        let at = at.as_secs();
        match held {
            Ok(held) => {
                let Held {
                    resident, anonymous, descriptors, threads, sessions, waiting, sessions_total, ..
                } = held;
                writeln!(
                    out,
                    "{at}\t{proxy}\t{resident}\t{anonymous}\t{descriptors}\t{threads}\t{sessions}\t{waiting}\t{sessions_total}"
                )?;
            }
            Err(error) => writeln!(out, "{at}\t{proxy}\t{error:#}")?,
        }
    }
    out.flush().with_context(|| format!("write {}", path.display()))
}

/// All proxies with no client, in a cluster that is whole.
#[derive(Debug)]
pub(super) struct Rest {
    /// When the clients had gone.
    pub(super) at: Duration,
    /// By proxy: the least of some looks.
    pub(super) held: Vec<(String, Held)>,
}

impl Rest {
    /// Waits for it. What has not fallen to the `reference` in time is for the report to judge.
    ///
    /// # Errors
    /// The cluster is not whole within `limit`, or a proxy does not answer.
    pub(super) fn reach(lab: &Lab, reference: Option<&Self>, at: Duration, limit: Duration) -> Result<Self> {
        lab.wait_healthy(limit).context("at rest")?;
        let mut held = Vec::new();
        for proxy in lab.proxies() {
            // Sessions that stay are shown by the report.
            let _stays = wait_for(&format!("{proxy} without sessions"), GONE, || {
                let now = Held::now(lab, proxy).map_err(|error| format!("{error:#}"))?;
                if now.sessions == 0 && now.waiting == 0 { Ok(()) } else { Err(format!("{now:?}")) }
            });
            let reference = reference.and_then(|rest| rest.of(proxy));
            held.push((proxy.to_owned(), least(lab, proxy, reference)?));
        }
        Ok(Self { at, held })
    }

    pub(super) fn of(&self, proxy: &str) -> Option<&Held> {
        self.held.iter().find(|(name, _)| name == proxy).map(|(_, held)| held)
    }
}

/// The least of some looks; of more, while descriptors have not yet fallen to the reference.
fn least(lab: &Lab, proxy: &str, reference: Option<&Held>) -> Result<Held> {
    let start = Instant::now();
    let mut least = Held::now(lab, proxy)?;
    for look in 1.. {
        let settled = reference.is_none_or(|reference| least.descriptors <= reference.descriptors);
        if look >= LOOKS && (settled || start.elapsed() >= SETTLE) {
            break;
        }
        // One look a second is the measurement, not a wait for a condition.
        thread::sleep(Duration::from_secs(1));
        let now = Held::now(lab, proxy)?;
        least = Held {
            resident: least.resident.min(now.resident),
            anonymous: least.anonymous.min(now.anonymous),
            descriptors: least.descriptors.min(now.descriptors),
            threads: least.threads.min(now.threads),
            ..now
        };
    }
    Ok(least)
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:6.1} s] at rest:", self.at.as_secs_f64())?;
        for (proxy, held) in &self.held {
            let Held { resident, anonymous, descriptors, threads, sessions, waiting, sessions_total, .. } =
                held;
            write!(
                f,
                " {proxy} {resident} KiB ({anonymous} anonymous), {descriptors} descriptors, {threads} threads, sessions {sessions}, \
                 waiting {waiting}, {sessions_total} sessions so far;"
            )?;
        }
        Ok(())
    }
}
