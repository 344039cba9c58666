//! The reference file of the documentation loads and means the defaults.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ha_config::{
    Failover, Guard, Hooks, LayerMode, Postgres, ReadConsistency, Replication, Routing, Tags, Tls, Vip,
};
use ha_core::ReplicationMode;

fn reference() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml")
}

#[test]
fn the_reference_file_is_the_reference_cluster_with_every_default() {
    let cluster = ha_config::load(&reference()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(cluster.name.as_str(), "pg-cluster");
    let databases: Vec<_> =
        cluster.databases.iter().map(|h| (h.name.as_str(), h.address.to_string())).collect();
    assert_eq!(
        databases,
        [("pg1", "10.0.1.11".into()), ("pg2", "10.0.1.12".into()), ("pg3", "10.0.1.13".to_owned())]
    );
    let proxies: Vec<_> = cluster.proxies.iter().map(|h| (h.name.as_str(), h.address.to_string())).collect();
    assert_eq!(proxies, [("ha1", "10.0.1.21".into()), ("ha2", "10.0.1.22".to_owned())]);
    assert_eq!(cluster.vips, [Vip::new(IpAddr::from([10, 0, 1, 10]), 24)]);
    for host in &cluster.databases {
        assert_eq!((&host.tags, &host.postgres), (&Tags::default(), &Postgres::default()));
    }
    assert_eq!(cluster.postgres, Postgres::default());
    assert_eq!(cluster.replication, Replication::default());
    assert_eq!(cluster.failover, Failover::default());
    assert_eq!(cluster.guard, Guard::default());
    assert_eq!(cluster.routing, Routing::default());
    assert_eq!(cluster.tls, Tls::default());
    assert_eq!(cluster.hooks, Hooks::default());
    assert_eq!(
        cluster.etcd.endpoints,
        ["https://10.0.1.11:2379", "https://10.0.1.12:2379", "https://10.0.1.13:2379"]
    );
    assert!(cluster.etcd.tls);
    assert_eq!(
        (&cluster.etcd.ca, &cluster.etcd.cert, &cluster.etcd.key),
        (&cluster.tls.ca, &cluster.tls.cert, &cluster.tls.key)
    );
    assert_eq!(cluster.digest.len(), 16);
}

#[test]
fn the_defaults_are_the_decided_ones() {
    let failover = Failover::default();
    assert_eq!(failover.lease_ttl, Duration::from_secs(10));
    assert_eq!(failover.renew_interval, Duration::from_secs(2));
    assert_eq!(failover.detection, Duration::from_secs(1));
    let guard = Guard::default();
    assert_eq!(guard.mode, LayerMode::Required);
    // drift 100 ms + net_margin 500 ms + kill_lead 1 s
    assert_eq!(guard.margin(failover.lease_ttl), Duration::from_millis(1600));
    assert_eq!(guard.watchdog_timeout(failover.lease_ttl), Duration::from_secs(5));
    let replication = Replication::default();
    assert_eq!((replication.mode, replication.acks), (ReplicationMode::Synchronous, 1));
    assert_eq!(replication.degrade_after, Duration::from_secs(5));
}

#[test]
fn every_option_can_be_given_and_arrives() {
    let cluster = ha_config::parse(include_str!("full.toml"), Path::new("full.toml"))
        .unwrap_or_else(|problems| panic!("{problems}"));
    let pg2 = cluster.database("pg2").expect("pg2 stands in the file");
    assert_eq!(pg2.postgres.port, 5433);
    assert_eq!(pg2.postgres.parameters["work_mem"], "64MB", "the host's value wins");
    assert_eq!(pg2.postgres.parameters["max_connections"], "200", "the cluster's value is inherited");
    assert_eq!(pg2.postgres.parameters["pg_stat_statements.max"], "5000");
    assert_eq!(pg2.tags.replicatefrom.as_ref().map(ToString::to_string), Some("pg3".into()));
    assert!(pg2.tags.nosync && pg2.tags.nofailover && pg2.tags.noloadbalance && pg2.tags.clonefrom);
    assert_eq!((pg2.tags.weight, pg2.tags.zone.as_deref()), (3, Some("north")));
    assert_eq!(cluster.proxies[0].zone.as_deref(), Some("south"));
    assert_eq!(cluster.postgres.hba.len(), 2);
    assert_eq!(cluster.postgres.parameters["jit"], "off");
    assert_eq!(cluster.vips[0].preference[0].as_str(), "pg1");
    assert_eq!(cluster.replication.mode, ReplicationMode::Strict);
    assert_eq!(cluster.replication.max_slot_wal_keep_size, None);
    assert_eq!(cluster.replication.maximum_lag_bytes, 16 << 20);
    assert_eq!(cluster.failover.lease_ttl, Duration::from_secs(20));
    assert_eq!(cluster.guard.mode, LayerMode::Automatic);
    assert_eq!(cluster.guard.watchdog_timeout(cluster.failover.lease_ttl), Duration::from_secs(6));
    assert_eq!(cluster.etcd.endpoints, ["http://[fd00::1]:2379", "http://etcd-2:2379"]);
    assert_eq!(cluster.routing.write_port, 6000);
    assert_eq!(cluster.routing.reads, ReadConsistency::Linearizable);
}

#[test]
fn the_digest_changes_with_any_byte_and_a_host_finds_itself() {
    let text = std::fs::read_to_string(reference()).unwrap();
    let one = ha_config::parse(&text, Path::new("a")).unwrap();
    let two = ha_config::parse(&format!("{text}\n# a comment\n"), Path::new("b")).unwrap();
    assert_ne!(one.digest, two.digest);
    assert_eq!(one.this_node(Some("pg2")).unwrap().name.as_str(), "pg2");
    assert_eq!(one.this_node(Some("pg2.example.org")).unwrap().name.as_str(), "pg2");
    let message = one.this_node(Some("ha1")).unwrap_err().to_string();
    assert!(message.contains("\"ha1\"") && message.contains("pg1, pg2, pg3"), "{message}");
}
