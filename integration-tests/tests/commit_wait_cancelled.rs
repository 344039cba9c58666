//! A client gives up a commit that waits for its standbys: it must not read that the commit is done.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::Cut;
use ha_lab::front::WRITE_PORT;
use ha_lab::wire::WireSession;
use integration_tests::front::front_scenario;

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn commit_wait_cancelled() {
    front_scenario("commit_wait_cancelled", &[], |front| {
        let (lab, leader) = (front.lab, front.leader.as_str());
        lab.sql(leader, "CREATE TABLE given_up (id int); GRANT INSERT ON given_up TO PUBLIC")?;
        let proxy = lab.address(lab.proxies()[0])?;
        let mut session = WireSession::open(lab, proxy, WRITE_PORT)?;
        lab.cut(Cut::ports_between(&[leader], &lab.databases_except(&[leader]), &[5432]))?;
        session.send_query("INSERT INTO given_up VALUES (1)")?;
        lab.wait_sql(leader, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1")?;
        session.cancel_through(lab, proxy, WRITE_PORT)?;
        let answer = session.error(LIMIT);
        lab.heal()?;
        let sqlstate = answer?;
        ensure!(sqlstate == "08007", "SQLSTATE {sqlstate} instead of transaction_resolution_unknown");
        front_is_whole(front.lab, leader)
    });
}

/// The row is there, and the next one is confirmed as ever.
fn front_is_whole(lab: &ha_lab::Lab, leader: &str) -> Result<()> {
    lab.wait_sql(leader, "SELECT count(*) FROM given_up", "1")?;
    let answer = lab.sql(leader, "INSERT INTO given_up VALUES (2) RETURNING id")?;
    ensure!(answer.trim() == "2", "{answer}");
    Ok(())
}
