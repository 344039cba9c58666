//! Our proxies and floating address in front of the distribution's Patroni, which pushes no role claims: through a
//! switchover and a power loss.

use std::time::Duration;

use anyhow::ensure;
use ha_lab::classic::{self, EtcdAccess, PatroniTimes};
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::load_report::{Verdict, rows, write_log};
use ha_lab::{LabOptions, clock};
use integration_tests::front::{OPEN, own_front_scenario, status_text};
use integration_tests::proof::{SOME_ROWS, outage_below};

/// Patroni's lease of 20 s, and what it does afterwards.
const TAKEOVER: Duration = Duration::from_secs(60);
/// From nothing to three members in sync.
const BOOTSTRAP: Duration = Duration::from_secs(90);

#[test]
fn pg_proxy_in_front_of_patroni() {
    own_front_scenario("pg_proxy_in_front_of_patroni", LabOptions::with_patroni, &[], |lab| {
        classic::configure_patroni(lab, PatroniTimes::SHORT, EtcdAccess::Tls)?;
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let leader = classic::wait_healthy(lab, BOOTSTRAP)?;
        Load::prepare(lab, &leader)?;
        lab.wait_vip_holder(OPEN)?;
        ensure!(lab.wait_route_open(lab.vip()?, WRITE_PORT, OPEN)? == leader, "writes go elsewhere");
        lab.wait_route_open(lab.vip()?, READ_PORT, OPEN)?;
        ensure!(status_text(lab, "ha1", "/upstreams/0/source")? == "poll", "Patroni pushes no claims");
        let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
        load.wait_for_acks(SOME_ROWS, OPEN)?;

        let candidate = classic::synchronous(lab)?;
        let switchover = clock::now();
        classic::switchover(lab, &leader, &candidate)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        ensure!(classic::wait_healthy(lab, TAKEOVER)? == candidate, "another leader");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        let power_loss = lab.power_off(&[&candidate])?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let left = lab.databases_except(&[&candidate]);
        let leader = lab.wait_leader_among(&left, TAKEOVER)?;
        let attempts = load.finish()?;
        write_log(&attempts, &lab.dir().path().join("load.jsonl"))?;
        Verdict::new(&attempts, &rows(lab, &leader)?).check()?;
        let first: Vec<_> = attempts.iter().filter(|attempt| attempt.ended < power_loss).cloned().collect();
        outage_below(&first, "switchover of Patroni behind pg-proxy", switchover, TAKEOVER)?;
        outage_below(&attempts, "power loss with Patroni behind pg-proxy", power_loss, TAKEOVER).map(drop)
    });
}
