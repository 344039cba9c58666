//! A cancel request reaches the right server and session, by whichever proxy it comes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::wire::WireSession;
use integration_tests::front::{Front, front_scenario};

#[test]
fn cancel_through_either_proxy() {
    front_scenario("cancel_through_either_proxy", &[], |front| {
        for session in front.lab.proxies() {
            for request in front.lab.proxies() {
                cancelled(front, session, request)
                    .with_context(|| format!("session through {session}, cancel through {request}"))?;
            }
        }
        Ok(())
    });
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
