//! What a session that does nothing costs: resident memory of the proxy with many of them, less that with none.
//!
//! The server is a stand-in: ten thousand backends would not fit on the machine.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::setting::{configure_peers, front, wait_open};
use super::way::{SERVER, Way};
use crate::classic;
use crate::lab::Lab;
use crate::options::LabOptions;
use crate::process_id::raise_open_files;
use crate::stand_in::stand_in;
use crate::wire::WireSession;

/// Counts of sessions; fewer where the machine does not allow as many descriptors.
const COUNTS: [usize; 2] = [1_000, 10_000];
/// Descriptors that a program needs besides those of sessions.
const OTHER_FILES: usize = 200;
const LIMITS: &str = "\n[routing]\nupstream_connections = 20000\nmax_connections = 20000\n";

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Idle {
    pub(super) way: Way,
    pub(super) sessions: usize,
    /// KiB per session.
    pub(super) each: f64,
}

/// Measures every proxy once.
pub(super) fn measure(directory: &Path, found: &mut Vec<Idle>) -> Result<()> {
    println!("idle sessions ...");
    let primary = stand_in("primary");
    let mut options = front(LabOptions::five_hosts(directory)?);
    options.appendix.push_str(LIMITS);
    options = options.units_of(SERVER, &[&primary.0]).units_of("pg2", &[]).units_of("pg3", &[]);
    options.unit_files.push(primary);
    let files = raise_open_files()?;
    let most = (usize::try_from(files).context("limit of open files")? - OTHER_FILES) / 2;
    // HAProxy refuses to start when it may not open as many files as its limits need.
    for (_, unit) in options.unit_files.iter_mut().filter(|(name, _)| name == "haproxy") {
        *unit = unit.replace("LimitNOFILE=8192", &format!("LimitNOFILE={files}"));
    }
    let lab = Lab::prepare(&options)?;
    // The usual file but for its limits.
    let limit = format!("maxconn {}", most.min(COUNTS[1]));
    let haproxy =
        classic::HAPROXY_CFG.replace("maxconn 2000", &limit).replace("maxconn 200 ", &format!("{limit} "));
    configure_peers(&lab, &haproxy)?;
    let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
    lab.power_on(&hosts)?;
    // PgBouncer is left out: it ends at a server that says as little as the stand-in does.
    for way in [Way::PgProxy, Way::HaProxy] {
        let (address, port) = way.address(&lab)?;
        wait_open(&lab, way, || WireSession::open(&lab, address, port).map(drop))
            .and_then(|()| grow(&lab, way, most, found))
            .with_context(|| format!("idle sessions of {}", way.name()))?;
    }
    lab.down()
}

fn grow(lab: &Lab, way: Way, most: usize, found: &mut Vec<Idle>) -> Result<()> {
    let (address, port) = way.address(lab)?;
    let resident = || -> Result<f64> { Ok(way.usage(lab)?.context("no process")?.resident) };
    let before = resident()?;
    let mut sessions = Vec::new();
    for count in COUNTS.map(|count| count.min(most)) {
        sessions.extend(WireSession::open_many(lab, address, port, count - sessions.len())?);
        let each = (resident()? - before) / count as f64;
        println!("  {:10} {count} sessions: {each:.2} KiB each", way.name());
        found.push(Idle { way, sessions: count, each });
    }
    Ok(())
}
