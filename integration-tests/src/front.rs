//! Scenarios of the front side: labs of five hosts that compatible scenarios use one after the other, and what they ask of
//! the floating address.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::arp_watch::ArpLog;
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::log_check::{LogMarks, check_logs, check_logs_after};
use ha_lab::sessions::{sampling_role, sampling_rules};
use ha_lab::{Lab, LabOptions};
use serde_json::Value;

use crate::proof::SOME_ROWS;
use crate::{SETTLE, labs, what_agents_report};

/// From a healthy cluster to open ports on every proxy.
pub const OPEN: Duration = Duration::from_secs(30);
/// What the move of the address may cost the clients here. The design's bound is 1 s; two labs share two cores.
pub const MOVE_OUTAGE: Duration = Duration::from_secs(3);
/// How long two hosts may answer for the address at once while one hands it to the other.
pub const HAND_OVER: Duration = Duration::from_millis(300);

/// A healthy lab of five hosts, as a scenario finds it.
#[derive(Debug)]
pub struct Front<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The leader.
    pub leader: String,
    /// The proxy host with the floating address.
    pub holder: String,
    /// The other one.
    pub other: String,
    /// The floating address.
    pub vip: Ipv4Addr,
}

impl<'a> Front<'a> {
    /// Waits until everything is in order and looks who does what.
    ///
    /// # Errors
    /// It is not in order in time.
    pub fn of(lab: &'a Lab) -> Result<Self> {
        let leader = lab.wait_healthy(SETTLE)?;
        Load::prepare(lab, &leader)?;
        lab.sql(&leader, &sampling_role())?;
        let (server, holder) = lab.wait_front(OPEN)?;
        ensure!(server == leader, "{leader} leads, but writes go to {server}");
        let other = lab.proxies().into_iter().find(|name| *name != holder).context("one proxy host only")?;
        Ok(Self { lab, leader, other: other.to_owned(), holder, vip: lab.vip()? })
    }

    /// Starts the write client on the floating address and waits until it writes.
    ///
    /// # Errors
    /// It cannot write.
    pub fn writing(&self) -> Result<Load> {
        // The rows of earlier scenarios in this lab are there.
        self.lab.sql(&self.leader, "TRUNCATE appload")?;
        let load = Load::start(self.lab, LoadOptions::through_vip(self.lab)?)?;
        load.wait_for_acks(SOME_ROWS, Duration::from_secs(30)).context("before the fault")?;
        Ok(load)
    }
}

static IDLE: Mutex<Vec<Lab>> = Mutex::new(Vec::new());
static STARTED: Mutex<u32> = Mutex::new(0);

/// Runs one scenario in a lab of five hosts that is in order when `run` begins; others may have run there before, and what
/// they broke was mended. Afterwards no daemon may have logged an ERROR beyond `expected`. After a failure the lab
/// is used no more and its files stay.
///
/// # Panics
/// The scenario failed; the message says why and where its files are.
pub fn front_scenario(name: &str, expected: &[&str], run: impl FnOnce(&Front<'_>) -> Result<()>) {
    let taken = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let lab = taken.map_or_else(start_shared, Ok);
    let mut lab = match lab {
        Ok(lab) => lab,
        Err(error) => panic!("{name}: {error:#}"),
    };
    let marks = LogMarks::now(&lab);
    let result = lab.mark_idle(false).and_then(|()| one(&lab, run)).and_then(|()| {
        lab.restore().context("mend what the scenario broke")?;
        Front::of(&lab).context("after the scenario")?;
        check_logs_after(&lab, &marks, expected)?;
        lab.mark_idle(true)
    });
    if let Err(error) = result {
        lab.keep_files();
        let directory = lab.dir().path().to_owned();
        panic!("{name}: {error:#}\n{}\n  logs: {}/<host>/log", what_agents_report(&lab), directory.display());
    }
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(lab);
}

/// Runs one scenario in a lab of its own, with proxies and whatever `configure` puts behind them. Nothing is waited for
/// before `run`. Afterwards no daemon of ours may have logged an ERROR beyond `expected`.
///
/// # Panics
/// The scenario failed; the message says why and where its files are.
pub fn own_front_scenario(
    name: &str,
    configure: impl FnOnce(LabOptions) -> LabOptions,
    expected: &[&str],
    run: impl FnOnce(&Lab) -> Result<()>,
) {
    let directory = labs().join(name);
    let started = crate::sweep_once()
        .and_then(|()| LabOptions::five_hosts(&directory))
        .and_then(|options| Lab::prepare(&configure(options)));
    let mut lab = match started {
        Ok(lab) => lab,
        Err(error) => panic!("{name}: {error:#}"),
    };
    if let Err(error) = run(&lab).and_then(|()| check_logs(&lab, expected)) {
        lab.keep_files();
        panic!("{name}: {error:#}\n  logs: {}/<host>/log", directory.display());
    }
}

fn one(lab: &Lab, run: impl FnOnce(&Front<'_>) -> Result<()>) -> Result<()> {
    let front = Front::of(lab).context("before the scenario")?;
    run(&front)
}

fn start_shared() -> Result<Lab> {
    crate::sweep_once()?;
    let number = {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        *started += 1;
        *started
    };
    Lab::start(&shared(&labs().join(format!("front-{number}")))?)
}

/// The reference cluster, except that the address stays where it is (a scenario must not meet the move that the one before
/// it caused), and that the sampler needs no password.
fn shared(directory: &Path) -> Result<LabOptions> {
    let mut options = LabOptions::five_hosts(directory)?;
    let vip = "address = \"10.0.1.10/24\"";
    options.edits.push((vip.to_owned(), format!("{vip}\npreempt = false")));
    options.appendix.push_str(&sampling_rules());
    Ok(options)
}

/// For [`ha_lab::wait::holds_for`]: whether only this host holds the address.
///
/// # Errors
/// Who holds it instead.
pub fn stays_on(lab: &Lab, host: &str) -> Result<(), String> {
    let holders = lab.vip_holders().map_err(|error| format!("{error:#}"))?;
    if holders == [host] { Ok(()) } else { Err(format!("it is on {holders:?}")) }
}

/// Fails when two hosts answered for the address at one moment outside of `allowed` spans.
///
/// # Errors
/// They did; the message lists the spans.
pub fn never_two_owners(log: &ArpLog, allowed: &[(Duration, Duration)]) -> Result<()> {
    let spans = log.doubly_owned();
    let bad: Vec<_> =
        spans.iter().filter(|span| !allowed.iter().any(|a| a.0 <= span.0 && span.1 <= a.1)).collect();
    ensure!(bad.is_empty(), "two hosts answered for the address (from, to): {bad:?}; allowed: {allowed:?}");
    Ok(())
}

/// A text in a proxy's status, by JSON pointer.
///
/// # Errors
/// The proxy does not answer, or there is no such text.
pub fn status_text(lab: &Lab, proxy: &str, pointer: &str) -> Result<String> {
    let status = lab.proxy_status(proxy)?;
    let found = status.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("{pointer} in the status of {proxy}: {status}"))?.to_owned())
}
