//! Our proxies and floating address in front of the distribution's Patroni, which pushes no role claims: through a
//! switchover and a power loss.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::client_load::{Load, LoadOptions};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::load_report::{Verdict, rows, write_log};
use ha_lab::wait::wait_for;
use ha_lab::{Lab, LabOptions, clock};
use integration_tests::front::{OPEN, own_front_scenario, status_text};
use integration_tests::proof::{SOME_ROWS, outage_below};

const UNIT: &str = "[Service]\nUser=postgres\nExecStart=/usr/bin/patroni /lab/patroni.yml\nRestart=always\nRestartSec=1\n\
     KillMode=process\nTimeoutStopSec=30\n";
/// Patroni's lease of 20 s, and what it does afterwards.
const TAKEOVER: Duration = Duration::from_secs(60);
/// From nothing to three members in sync.
const BOOTSTRAP: Duration = Duration::from_secs(90);

#[test]
fn pg_proxy_in_front_of_patroni() {
    own_front_scenario("pg_proxy_in_front_of_patroni", configure, &[], |lab| {
        let databases = lab.databases();
        for host in &databases {
            let file = lab.dir().host(host).join("work/patroni.yml");
            fs::create_dir_all(file.parent().context("no parent")?).context("create the place")?;
            fs::write(&file, configuration(lab, host)?)
                .with_context(|| format!("write {}", file.display()))?;
            // Patroni speaks JSON to it.
            let etcd = lab.dir().host(host).join("etc/etcd.yaml");
            let mut etcd = OpenOptions::new().append(true).open(&etcd).context("open etcd.yaml")?;
            etcd.write_all(b"\nenable-grpc-gateway: true\n").context("write etcd.yaml")?;
        }
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let leader = healthy(lab, &databases, BOOTSTRAP)?;
        Load::prepare(lab, &leader)?;
        lab.wait_vip_holder(OPEN)?;
        ensure!(lab.wait_route_open(lab.vip()?, WRITE_PORT, OPEN)? == leader, "writes go elsewhere");
        lab.wait_route_open(lab.vip()?, READ_PORT, OPEN)?;
        ensure!(status_text(lab, "ha1", "/upstreams/0/source")? == "poll", "Patroni pushes no claims");
        let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
        load.wait_for_acks(SOME_ROWS, OPEN)?;

        let candidate = synchronous(lab, &databases)?;
        let switchover = clock::now();
        let output = lab.exec_as(
            &leader,
            "postgres",
            &[
                "patronictl",
                "-c",
                "/lab/patroni.yml",
                "switchover",
                "--master",
                &leader,
                "--candidate",
                &candidate,
                "--force",
            ],
        )?;
        ensure!(output.code == Some(0), "patronictl switchover: {}{}", output.stdout, output.stderr);
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        ensure!(healthy(lab, &databases, TAKEOVER)? == candidate, "another leader");
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

fn configure(mut options: LabOptions) -> LabOptions {
    options.unit_files.push(("patroni".to_owned(), UNIT.to_owned()));
    for host in ["pg1", "pg2", "pg3"] {
        options = options.units_of(host, &["etcd", "patroni"]);
    }
    options
}

/// The usual configuration, with shorter times, TLS to etcd, and logins of the lab.
fn configuration(lab: &Lab, host: &str) -> Result<String> {
    let address = lab.address(host)?;
    let etcd: Vec<String> = lab
        .databases()
        .iter()
        .map(|host| Ok(format!("  - {}:2379\n", lab.address(host)?)))
        .collect::<Result<_>>()?;
    let etcd = etcd.concat();
    let bin_dir = bin_dir()?;
    Ok(format!(
        "scope: pg-cluster
namespace: /service/
name: {host}
restapi:
  listen: {address}:8008
  connect_address: {address}:8008
etcd3:
  hosts:
{etcd}  protocol: https
  cacert: /etc/matriarch/tls/ca.crt
  cert: /etc/matriarch/tls/host.crt
  key: /etc/matriarch/tls/host.key
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        wal_level: replica
        hot_standby: 'on'
        max_wal_senders: 10
        max_replication_slots: 10
        wal_log_hints: 'on'
  initdb:
  - encoding: UTF8
  - data-checksums
  pg_hba:
  - local all all peer
  - host all all samenet scram-sha-256
  - host replication replicator samenet scram-sha-256
postgresql:
  listen: {address}:5432
  connect_address: {address}:5432
  data_dir: /var/lib/postgresql/patroni
  bin_dir: {bin_dir}
  authentication:
    superuser:
      username: postgres
      password: of-the-lab
    replication:
      username: replicator
      password: of-the-lab
    rewind:
      username: rewind_user
      password: of-the-lab
  parameters:
    password_encryption: scram-sha-256
    unix_socket_directories: /run/postgresql
watchdog:
  mode: 'off'
"
    ))
}

/// The newest PostgreSQL of this machine.
fn bin_dir() -> Result<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("list PostgreSQL's versions")?;
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    Ok(format!("/usr/lib/postgresql/{}/bin", newest.context("no PostgreSQL")?))
}

/// Waits until one member leads and every other one is a replica that streams. Returns the leader.
fn healthy(lab: &Lab, members: &[&str], limit: Duration) -> Result<String> {
    wait_for(&format!("a leader and replicas among {members:?}"), limit, || {
        let mut leader = None;
        for host in members {
            let answers = |path: &str| lab.rest(host, path).is_ok_and(|answer| answer.status == 200);
            if answers("/primary") {
                leader = Some((*host).to_owned());
            } else if !answers("/replica") {
                return Err(format!("{host} is neither"));
            }
        }
        let leader = leader.ok_or_else(|| "no leader".to_owned())?;
        synchronous(lab, members).map_err(|error| format!("{error:#}"))?;
        Ok(leader)
    })
}

/// The standby that Patroni may promote.
fn synchronous(lab: &Lab, members: &[&str]) -> Result<String> {
    let found =
        members.iter().find(|host| lab.rest(host, "/synchronous").is_ok_and(|answer| answer.status == 200));
    Ok((*found.context("no synchronous standby")?).to_owned())
}
