//! A cancel request reaches the right server and session, by whichever proxy it comes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::wait::wait_for;
use ha_lab::wire::WireSession;
use integration_tests::front::{Front, front_scenario};

/// Pairs of reads that are cancelled.
const ROUNDS: usize = 25;

#[test]
fn cancel_through_either_proxy() {
    front_scenario("cancel_through_either_proxy", &[], |front| {
        for session in front.lab.proxies() {
            for request in front.lab.proxies() {
                cancelled(front, session, request)
                    .with_context(|| format!("session through {session}, cancel through {request}"))?;
            }
        }
        for round in 0..ROUNDS {
            read_cancelled(front, round).with_context(|| format!("reads, round {round}"))?;
        }
        Ok(())
    });
}

/// One of two reads, which are on one standby or on two; the request comes by either proxy.
fn read_cancelled(front: &Front<'_>, round: usize) -> Result<()> {
    let lab = front.lab;
    let proxies = lab.proxies();
    let proxy = |number: usize| lab.address(proxies[number % proxies.len()]);
    let mut sessions = Vec::new();
    for number in 0..2 {
        let mut session = WireSession::open(lab, proxy(round + number)?, READ_PORT)?;
        session.send_query("SELECT pg_sleep(30)")?;
        sessions.push(session);
    }
    for number in 0..2 {
        let request = proxy(round / 2 + number)?;
        let (session, rest) = sessions[number..].split_first_mut().context("a session")?;
        // A request that comes before its query finds nothing to cancel.
        let error = wait_for("a cancelled query", Duration::from_secs(5), || {
            let sent = session.cancel_through(lab, request, READ_PORT);
            sent.and_then(|()| session.error(Duration::from_millis(500)))
                .map_err(|error| format!("{error:#}"))
        })?;
        ensure!(error == "57014", "SQLSTATE {error} instead of query_canceled");
        ensure!(
            rest.iter().all(|other| other.still_waits().unwrap_or(false)),
            "another one was cancelled too"
        );
    }
    Ok(())
}

fn cancelled(front: &Front<'_>, session: &str, request: &str) -> Result<()> {
    let lab = front.lab;
    let mut bystander = WireSession::open(lab, lab.address(session)?, WRITE_PORT)?;
    bystander.send_query("SELECT pg_sleep(60)")?;
    let mut session = WireSession::open(lab, lab.address(session)?, WRITE_PORT)?;
    session.send_query("SELECT pg_sleep(30)")?;
    lab.wait_sql(
        &front.leader,
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(%'",
        "2",
    )?;
    session.cancel_through(lab, lab.address(request)?, WRITE_PORT)?;
    let error = session.error(Duration::from_secs(5))?;
    ensure!(error == "57014", "SQLSTATE {error} instead of query_canceled");
    // And only that one.
    lab.wait_sql(
        &front.leader,
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(%'",
        "1",
    )?;
    bystander.cancel_through(lab, lab.address(request)?, WRITE_PORT)?;
    ensure!(bystander.error(Duration::from_secs(5))? == "57014", "the other session was not cancelled");
    Ok(())
}
