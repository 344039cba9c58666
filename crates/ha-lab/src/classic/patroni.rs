//! Patroni's usual configuration on one database host, and that of the etcd which it asks.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::lab::Lab;

/// Patroni's times, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatroniTimes {
    /// Time to live of the leader's key.
    pub ttl: u32,
    /// Pause between two looks.
    pub loop_wait: u32,
    /// How long one operation is tried.
    pub retry_timeout: u32,
}

impl PatroniTimes {
    /// The defaults.
    pub const USUAL: Self = Self { ttl: 30, loop_wait: 10, retry_timeout: 10 };
    /// The shortest that Patroni takes, near enough; for scenarios that are not about its times.
    pub const SHORT: Self = Self { ttl: 20, loop_wait: 2, retry_timeout: 5 };
}

/// How etcd is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdAccess {
    /// As `hactl init` configures it: mutual TLS.
    Tls,
    /// Plain HTTP and etcd's own defaults.
    Plain,
}

/// Patroni's file.
pub(super) fn configuration(
    lab: &Lab,
    host: &str,
    times: PatroniTimes,
    access: EtcdAccess,
) -> Result<String> {
    let address = lab.address(host)?;
    let hosts = lab.databases().into_iter().map(|host| Ok(format!("  - {}:2379\n", lab.address(host)?)));
    let hosts = hosts.collect::<Result<Vec<_>>>()?.concat();
    let tls = match access {
        EtcdAccess::Plain => "",
        EtcdAccess::Tls => {
            "  protocol: https\n  cacert: /etc/matriarch/tls/ca.crt\n  cert: /etc/matriarch/tls/host.crt\n  \
             key: /etc/matriarch/tls/host.key\n"
        }
    };
    let PatroniTimes { ttl, loop_wait, retry_timeout } = times;
    let bin_dir = newest_postgres()?;
    Ok(format!(
        "scope: pg-cluster
namespace: /service/
name: {host}
restapi:
  listen: {address}:8008
  connect_address: {address}:8008
etcd3:
  hosts:
{hosts}{tls}bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
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
        wal_keep_size: 256MB
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
  mode: automatic
  device: /dev/watchdog
  safety_margin: 5
tags:
  nofailover: false
  noloadbalance: false
  clonefrom: false
  nosync: false
"
    ))
}

/// Patroni speaks JSON to etcd, which is off where etcd reads a file.
pub(super) fn configure_etcd(lab: &Lab, host: &str, access: EtcdAccess) -> Result<()> {
    let path = lab.dir().host(host).join("etc/etcd.yaml");
    match access {
        EtcdAccess::Tls => {
            let mut file = OpenOptions::new().append(true).open(&path).context("open etcd.yaml")?;
            file.write_all(b"\nenable-grpc-gateway: true\n").context("write etcd.yaml")
        }
        EtcdAccess::Plain => fs::write(&path, plain_etcd(lab, host)?).context("write etcd.yaml"),
    }
}

/// etcd's file with nothing but names and addresses.
fn plain_etcd(lab: &Lab, host: &str) -> Result<String> {
    let address = lab.address(host)?;
    let members =
        lab.databases().into_iter().map(|name| Ok(format!("{name}=http://{}:2380", lab.address(name)?)));
    let members = members.collect::<Result<Vec<_>>>()?.join(",");
    Ok(format!(
        "name: {host}
data-dir: /var/lib/etcd/pg-etcd
listen-peer-urls: http://{address}:2380
listen-client-urls: http://{address}:2379,http://127.0.0.1:2379
initial-advertise-peer-urls: http://{address}:2380
advertise-client-urls: http://{address}:2379
initial-cluster: {members}
initial-cluster-state: new
initial-cluster-token: pg-etcd
enable-grpc-gateway: true
"
    ))
}

/// The programs of this machine's newest PostgreSQL, or of the one that the caller's environment names.
fn newest_postgres() -> Result<String> {
    if let Some(path) = crate::options::other_postgres() {
        return Ok(path);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").context("list PostgreSQL's versions")?;
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    Ok(format!("/usr/lib/postgresql/{}/bin", newest.context("no PostgreSQL")?))
}
