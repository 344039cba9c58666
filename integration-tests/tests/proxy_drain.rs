//! The proxy with the floating address is stopped in order: the address moves first, new sessions never meet a closed port,
//! and sessions that are at work may end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ha_lab::CLIENT;
use ha_lab::front::WRITE_PORT;
use ha_lab::sessions::{SAMPLER, SampleOptions, Sampler};
use integration_tests::front::{MOVE_OUTAGE, front_scenario};
use integration_tests::proof::{SOME_ROWS, outage_below, prove};
use integration_tests::{NO_OUTAGE, TAKEOVER};

#[test]
fn proxy_drain() {
    front_scenario("proxy_drain", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        // By the host's own address: the floating one takes its sessions along wherever it goes.
        let own = lab.address(&front.holder)?.to_string();
        let port = WRITE_PORT.to_string();
        let at_work = lab
            .command(
                CLIENT,
                "nobody",
                &[
                    "psql",
                    "-X",
                    "-h",
                    &own,
                    "-p",
                    &port,
                    "-U",
                    SAMPLER,
                    "-d",
                    "postgres",
                    "-qAtc",
                    "SELECT pg_sleep(4); SELECT 'done'",
                ],
            )?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start psql")?;
        lab.wait_sql(&front.leader, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(4)%' AND pid <> pg_backend_pid()", "1")?;
        let sampler = Sampler::start(
            lab,
            SampleOptions {
                through: vec![("vip".to_owned(), std::net::SocketAddrV4::new(front.vip, WRITE_PORT))],
                interval: Duration::from_millis(20),
                limit: Duration::from_secs(5),
            },
        )?;
        let fault = ha_lab::clock::now();
        // Returns when the process has ended: after its last session.
        lab.stop_unit(&front.holder, "pg-proxy")?;
        let took = ha_lab::clock::now().saturating_sub(fault);
        let samples = sampler.finish()?;
        let output = at_work.wait_with_output().context("end of psql")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            text.contains("done"),
            "a session at work was cut: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(took > Duration::from_secs(2), "the proxy did not wait for its session: {took:.2?}");
        let refused: Vec<_> = samples.iter().filter(|sample| sample.answer.is_err()).collect();
        // Sessions may be under way on the address in the moment of its move: a fifth of a second of them at most.
        ensure!(
            refused.len() <= 10,
            "{} of {} new sessions failed: {:?}",
            refused.len(),
            samples.len(),
            refused
        );
        lab.wait_vip_on(&front.other, NO_OUTAGE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.start_unit(&front.holder, "pg-proxy")?;
        outage_below(&prove(lab, load)?, "proxy drained", fault, MOVE_OUTAGE).map(drop)
    });
}
