//! A small transaction costs the proxy two receives and two sends, and nothing else that touches a socket: more is what a
//! regression of the data path looks like first.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::stand_in::stand_in;
use ha_lab::wait::wait_for;
use ha_lab::wire::WireSession;
use ha_lab::{Lab, LabOptions};
use integration_tests::front::{OPEN, own_front_scenario};
use integration_tests::proof::note_text;

/// Transactions that are counted.
const TRANSACTIONS: u32 = 2000;
/// Health checks and questions to agents receive and send meanwhile, more of them on a slow machine; one call more per
/// transaction is what a regression looks like.
const OTHERS: f64 = 0.5;
/// Seconds after which counting ends in any case.
const LIMIT: &str = "60";
/// What moves bytes.
const DATA: &str = "read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg";

#[test]
fn system_calls_per_transaction() {
    own_front_scenario("system_calls_per_transaction", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let address = lab.address("ha1")?;
        wait_for("an open route", OPEN, || {
            WireSession::open(lab, address, WRITE_PORT).map(drop).map_err(|error| format!("{error:#}"))
        })?;
        let mut session = WireSession::open(lab, address, WRITE_PORT)?;
        let status = lab.host_status("ha1")?;
        let pid = status.units.iter().find(|unit| unit.name == "pg-proxy").and_then(|unit| unit.pid);
        let pid = pid.context("no pg-proxy")?;
        let calls = counted(lab, pid, || {
            for _ in 0..TRANSACTIONS {
                session.ping()?;
            }
            Ok(())
        })?;
        let each = |name: &str| {
            let count = calls.iter().find(|(own, _)| own == name).map_or(0, |(_, count)| *count);
            f64::from(count) / f64::from(TRANSACTIONS)
        };
        let (receives, sends) = (each("recvfrom"), each("sendto"));
        note_text("system calls per transaction", &format!("{receives:.3} recvfrom, {sends:.3} sendto"))?;
        for (what, count) in [("recvfrom", receives), ("sendto", sends)] {
            ensure!(
                (count - 2.0).abs() < OTHERS,
                "{count:.3} {what} per transaction instead of 2: {calls:?}"
            );
        }
        let rest: f64 = ["readv", "writev", "recvmsg", "sendmsg"].map(each).iter().sum();
        ensure!(rest < OTHERS, "other ways of moving bytes: {calls:?}");
        Ok(())
    });
}

fn configure(options: LabOptions) -> LabOptions {
    let primary = stand_in("primary");
    let mut options = options.units_of("pg1", &[&primary.0]).units_of("pg2", &[]).units_of("pg3", &[]);
    options.unit_files.push(primary);
    options.units_of("ha1", &["pg-proxy"])
}

/// The system calls of a host's process while something is done, by name.
fn counted(lab: &Lab, pid: i32, work: impl FnOnce() -> Result<()>) -> Result<Vec<(String, u32)>> {
    let process = pid.to_string();
    let trace = format!("trace={DATA}");
    // It must end also where nobody ends it.
    let argv = ["timeout", LIMIT, "strace", "-f", "-c", "-U", "name,calls", "-e", &trace, "-p", &process];
    let strace = lab
        .command("ha1", "root", &argv)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start strace")?;
    let traced = wait_for("strace at the proxy", Duration::from_secs(10), || {
        let text = lab
            .exec("ha1", &["cat", &format!("/proc/{pid}/status")])
            .map_err(|error| format!("{error:#}"))?;
        let tracer = text.stdout.lines().find_map(|line| line.strip_prefix("TracerPid:")).map(str::trim);
        match tracer {
            None | Some("0") => Err("nobody traces it".to_owned()),
            Some(tracer) => Ok(tracer.to_owned()),
        }
    });
    let worked = traced.and_then(|tracer| {
        let worked = work();
        // It writes its table when it is asked to end.
        lab.exec("ha1", &["kill", &tracer])?;
        worked
    });
    let output = strace.wait_with_output().context("end of strace")?;
    worked?;
    let text = String::from_utf8_lossy(&output.stderr);
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    let calls: Vec<(String, u32)> =
        text.lines().filter_map(row).filter(|(name, _)| name != "total").collect();
    ensure!(!calls.is_empty(), "strace counted nothing: {text}");
    Ok(calls)
}
