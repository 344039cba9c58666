//! The proxy with the floating address is replaced by a new process three times under load: no new session is refused, the
//! address stays, and a session that stayed with the first process is cut by it when its leader is replaced.

use std::net::SocketAddrV4;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::sessions::{SAMPLER, SampleOptions, Sampler};
use ha_lab::wait::{holds_for, wait_for};
use ha_lab::{CLIENT, Lab};
use integration_tests::front::{front_scenario, stays_on};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER};

const UPGRADES: u32 = 3;

#[test]
fn proxy_upgraded() {
    front_scenario("proxy_upgraded", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let own = lab.address(&front.holder)?.to_string();
        let port = WRITE_PORT.to_string();
        let sleep = "SELECT pg_sleep(120)";
        let arguments =
            ["psql", "-X", "-h", &own, "-p", &port, "-U", SAMPLER, "-d", "postgres", "-qAtc", sleep];
        let long = lab
            .command(CLIENT, "nobody", &arguments)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start psql")?;
        let at_work = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND pid <> pg_backend_pid()";
        lab.wait_sql(&front.leader, at_work, "1")?;

        let sampler = Sampler::start(
            lab,
            SampleOptions {
                through: vec![("vip".to_owned(), SocketAddrV4::new(front.vip, WRITE_PORT))],
                interval: Duration::from_millis(10),
                limit: Duration::from_secs(5),
            },
        )?;
        let fault = ha_lab::clock::now();
        let (mut process, starts) = proxy_of(lab, &front.holder)?;
        for _ in 0..UPGRADES {
            lab.signal(&front.holder, "pg-proxy", "SIGUSR2")?;
            process = wait_for("another main process", TAKEOVER, || {
                match proxy_of(lab, &front.holder).map_err(|error| format!("{error:#}"))? {
                    (now, _) if now != process => Ok(now),
                    (now, _) => Err(format!("still process {now}")),
                }
            })?;
            holds_for("the address stays", Duration::from_millis(1500), || stays_on(lab, &front.holder))?;
        }
        let samples = sampler.finish()?;
        let refused: Vec<_> = samples.iter().filter(|sample| sample.answer.is_err()).collect();
        ensure!(
            refused.is_empty(),
            "{} of {} new sessions failed: {refused:?}",
            refused.len(),
            samples.len()
        );
        lab.wait_sql(&front.leader, at_work, "1")?;
        ensure!(proxy_of(lab, &front.holder)?.1 == starts, "the daemon was started anew");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        outage_below(&prove(lab, load)?, "proxy upgraded", fault, NO_OUTAGE)?;

        let candidate = lab.databases_except(&[&front.leader])[0].to_owned();
        let output = lab.hactl(&["switchover", "--candidate", &candidate, "--yes"])?;
        ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
        lab.wait_healthy(SETTLE)?;
        let output = long.wait_with_output().context("end of psql")?;
        ensure!(!output.status.success(), "a session stayed with the old leader");
        Ok(())
    });
}

/// Its main process, and how often it was started.
fn proxy_of(lab: &Lab, host: &str) -> Result<(i32, u32)> {
    let units = lab.host_status(host)?.units;
    let proxy = units.into_iter().find(|unit| unit.name == "pg-proxy").context("no pg-proxy on this host")?;
    Ok((proxy.pid.context("pg-proxy does not run")?, proxy.starts))
}
