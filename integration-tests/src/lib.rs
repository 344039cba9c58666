//! What the scenarios share: a lab per scenario, the write client around a fault, and the proof at the end.
//!
//! Begin reading at [`scenario`] (databases) or [`front::front_scenario`] (the whole cluster), then at any file in `tests`.

pub mod front;
pub mod history;
pub mod proof;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
pub use ha_lab::etcd;
use ha_lab::log_check::check_logs;
use ha_lab::{Lab, LabOptions, sweep};

/// From power-on to a healthy cluster: bootstrap, or all hosts coming back. Half of it is seen when two labs share two cores.
pub const SETTLE: Duration = Duration::from_secs(90);
/// From a fault to acknowledged writes, where the trigger is the end of a lease (10 s).
pub const TAKEOVER: Duration = Duration::from_secs(40);
/// What a takeover may cost the clients here.
pub const TAKEOVER_OUTAGE: Duration = Duration::from_secs(20);
/// What may pass for "no outage": a pause that a loaded two-core machine makes by itself.
pub const NO_OUTAGE: Duration = Duration::from_secs(3);

/// Runs one scenario in a lab of its own, which is healthy when `run` begins. Afterwards no daemon may have logged an
/// ERROR beyond `expected`. The lab's files stay when the scenario failed.
///
/// # Panics
/// The scenario failed; the message says why and where its files are.
pub fn scenario(
    name: &str,
    configure: impl FnOnce(LabOptions) -> LabOptions,
    expected: &[&str],
    run: impl FnOnce(&Lab) -> Result<()>,
) {
    let directory = labs().join(name);
    let started = start(name, configure);
    let mut lab = match started {
        Ok(lab) => lab,
        Err(error) => panic!("{name}: {error:#}"),
    };
    let result = lab
        .wait_healthy(SETTLE)
        .context("bootstrap")
        .and_then(|_| run(&lab))
        .and_then(|()| check_logs(&lab, expected));
    if let Err(error) = result {
        lab.keep_files();
        panic!("{name}: {error:#}\n{}\n  logs: {}/<host>/log", what_agents_report(&lab), directory.display());
    }
}

/// The cluster as each agent reports it, for the message of a failure.
pub(crate) fn what_agents_report(lab: &Lab) -> String {
    let view = |host: &&str| match lab.cluster_seen_by(host) {
        Ok(seen) => format!("  {host} reports {seen}"),
        Err(error) => format!("  {host}: {error:#}"),
    };
    lab.databases().iter().map(view).collect::<Vec<_>>().join("\n")
}

/// The options of the reference cluster, unchanged.
pub fn reference(options: LabOptions) -> LabOptions {
    options
}

fn start(name: &str, configure: impl FnOnce(LabOptions) -> LabOptions) -> Result<Lab> {
    sweep_once()?;
    Lab::start(&configure(LabOptions::reference(&labs().join(name))?))
}

/// With the proxy hosts.
pub fn with_proxies(options: LabOptions) -> LabOptions {
    LabOptions { proxies: true, ..options }
}

/// Removes what an aborted run left; once, because tests of this run start beside each other.
pub(crate) fn sweep_once() -> Result<()> {
    static SWEPT: OnceLock<Result<(), String>> = OnceLock::new();
    let swept = SWEPT.get_or_init(|| sweep(&labs()).map_err(|error| format!("{error:#}")));
    swept.clone().map_err(|error| anyhow::anyhow!("sweep {}: {error}", labs().display()))
}

/// Where labs of tests live: beside what was built.
pub fn labs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).map_or_else(|| PathBuf::from("labs"), |target| target.join("labs"))
}
