//! Ten thousand sessions that do nothing: all of them stay, each answers when asked, new ones are let in, and one costs
//! little memory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::stand_in::stand_in;
use ha_lab::wait::wait_for;
use ha_lab::wire::WireSession;
use ha_lab::{Lab, LabOptions};
use integration_tests::front::{OPEN, own_front_scenario};
use integration_tests::proof::note_text;

const SESSIONS: usize = 10_000;
const LIMITS: &str = "\n[routing]\nupstream_connections = 20000\nmax_connections = 20000\n";
/// Descriptors that a program needs besides those of sessions.
const OTHER_FILES: usize = 200;
/// Resident memory of an idle session in the proxy, in KiB. A development build carries more than the shipped one.
const LIMIT_KB: f64 = if cfg!(debug_assertions) { 16.0 } else { 8.0 };

#[test]
fn ten_thousand_idle_sessions() {
    own_front_scenario("ten_thousand_idle_sessions", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        for proxy in lab.proxies() {
            let address = lab.address(proxy)?;
            wait_for("an open route", OPEN, || {
                WireSession::open(lab, address, WRITE_PORT).map(drop).map_err(|error| format!("{error:#}"))
            })?;
        }
        // Two descriptors per session: where the machine lets nobody have enough, the other proxy takes the rest.
        let most = (open_files()? - OTHER_FILES) / 2;
        let first = SESSIONS.min(most);
        let before = resident_kb(lab, "ha1")?;
        let mut sessions = WireSession::open_many(lab, lab.address("ha1")?, WRITE_PORT, first)?;
        let each = (resident_kb(lab, "ha1")? - before) / first as f64;
        sessions.extend(WireSession::open_many(lab, lab.address("ha2")?, WRITE_PORT, SESSIONS - first)?);
        note_text("memory per idle session (KiB)", &format!("{each:.2} at {first} sessions"))?;

        for (proxy, count) in [("ha1", first), ("ha2", SESSIONS - first)] {
            let open = lab.proxy_status(proxy)?["sessions"].as_u64();
            ensure!(open == u64::try_from(count).ok(), "{proxy} has {open:?} sessions instead of {count}");
        }
        for (index, session) in sessions.iter_mut().enumerate().step_by(10) {
            session.ping().with_context(|| format!("session {index}"))?;
        }
        WireSession::open(lab, lab.address("ha2")?, WRITE_PORT).context("one more session")?.ping()?;
        drop(sessions);
        for proxy in lab.proxies() {
            wait_for(&format!("{proxy} without sessions"), Duration::from_secs(20), || {
                let status = lab.proxy_status(proxy).map_err(|error| format!("{error:#}"))?;
                if status["sessions"] == 0 { Ok(()) } else { Err(format!("{} sessions", status["sessions"])) }
            })?;
        }
        ensure!(each < LIMIT_KB, "an idle session costs {each:.2} KiB, at most {LIMIT_KB} expected");
        Ok(())
    });
}

fn configure(mut options: LabOptions) -> LabOptions {
    let primary = stand_in("primary");
    options.appendix.push_str(LIMITS);
    options = options.units_of("pg1", &[&primary.0]).units_of("pg2", &[]).units_of("pg3", &[]);
    options.unit_files.push(primary);
    options
}

/// How many files a program may hold open here; raised as far as it goes.
fn open_files() -> Result<usize> {
    usize::try_from(ha_lab::raise_open_files()?).context("limit of open files")
}

fn resident_kb(lab: &Lab, proxy: &str) -> Result<f64> {
    let status = lab.host_status(proxy)?;
    let pid = status.units.iter().find(|unit| unit.name == "pg-proxy").and_then(|unit| unit.pid);
    let path = format!("/proc/{}/status", pid.with_context(|| format!("no proxy on {proxy}"))?);
    let text = lab.exec(proxy, &["cat", &path])?.stdout;
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    resident.trim().trim_end_matches("kB").trim().parse().context("VmRSS")
}
