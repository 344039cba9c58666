//! What only the etcd implementation has: several endpoints, silence on the network, TLS.

use ha_core::cluster_view::StoreKey;
use std::path::Path;
use std::time::Duration;

use ha_core::Revision;
use ha_store::{
    EtcdOptions, EtcdStore, KeepAlive, Refusal, Store, StoreError, TlsFiles, Txn, TxnOutcome, WatchEvent,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::time::{Instant, sleep};

use crate::etcd_server::{EtcdServer, ServerTls, Setup, free_port};
use crate::relay::Relay;
use crate::world::{CALL_DEADLINE, PATIENCE, etcd_store, keys, next_that, until_answering, until_value};

#[tokio::test]
async fn a_dead_endpoint_does_not_disturb() {
    let server = EtcdServer::start(Setup::default()).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let store = etcd_store(vec![dead.clone(), server.endpoint()]);
    until_answering(&store).await;
    let asked = Instant::now();
    assert!(store.txn(Txn::new().put(keys().key(&StoreKey::Sync), "1")).await.is_won());
    store.snapshot().await.expect("a read");
    assert!(asked.elapsed() < CALL_DEADLINE, "took {:?}", asked.elapsed());

    let status = store.status().await;
    let [silent, answering] = status.members.as_slice() else { panic!("{status:?}") };
    assert!(
        silent.endpoint == dead && !silent.problems.is_empty() && silent.version.is_empty(),
        "{silent:?}"
    );
    assert!(
        answering.version.starts_with("3.") && answering.leader_id == answering.member_id,
        "{answering:?}"
    );
    assert!(answering.problems.is_empty(), "{answering:?}");
}

#[tokio::test]
async fn a_silent_endpoint_delays_reads_and_renewals_only_a_little() {
    let server = EtcdServer::start(Setup::default()).await;
    let (silent, good) = (Relay::start(server.port()).await, Relay::start(server.port()).await);
    let store = etcd_store(vec![silent.endpoint(), good.endpoint()]);
    let both_up = async {
        while store.status().await.members.iter().any(|member| member.version.is_empty()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both_up).await.expect("both endpoints connect");
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    store.keep_alive(lease.id).await.expect("a renewal");
    let mut watch = store.watch();
    assert!(store.txn(Txn::new().put(keys().key(&StoreKey::Sync), "1")).await.is_won());
    until_value(&mut watch, &keys().key(&StoreKey::Sync), Some("1")).await;

    silent.hold();
    let asked = Instant::now();
    let renewed = store.keep_alive(lease.id).await.expect("a renewal");
    assert_eq!(renewed, KeepAlive::Renewed { ttl: lease.ttl });
    store.snapshot().await.expect("a read");
    assert!(asked.elapsed() < CALL_DEADLINE, "took {:?}", asked.elapsed());
    // Everybody uses the good endpoint by now, transactions too; the watch moves when it notices the silence.
    assert!(store.txn(Txn::new().put(keys().key(&StoreKey::Sync), "2")).await.is_won());
    let silence = Instant::now();
    until_value(&mut watch, &keys().key(&StoreKey::Sync), Some("2")).await;
    assert!(silence.elapsed() < CALL_DEADLINE * 5, "noticed after {:?}", silence.elapsed());
}

#[tokio::test]
async fn a_transaction_that_arrives_late_is_answered_as_unknown() {
    let server = EtcdServer::start(Setup::default()).await;
    let slow = Relay::start(server.port()).await;
    let (store, other) = (etcd_store(vec![slow.endpoint()]), etcd_store(vec![server.endpoint()]));
    until_answering(&store).await;
    until_answering(&other).await;
    slow.hold();
    let outcome = store
        .txn(Txn::new().when_absent(keys().key(&StoreKey::Sync)).put(keys().key(&StoreKey::Sync), "late"))
        .await;
    assert!(matches!(outcome, TxnOutcome::Unknown { .. }), "{outcome:?}");
    let bumped = other
        .txn(Txn::new().when_absent(keys().key(&StoreKey::Sync)).put(keys().key(&StoreKey::Sync), "resolved"))
        .await;
    assert!(bumped.is_won(), "{bumped:?}");
    slow.release();
    until_answering(&store).await;
    let seen = store.snapshot().await.expect("a read");
    assert_eq!(seen.get(&keys().key(&StoreKey::Sync)).expect("the key").value, b"resolved");
}

#[tokio::test]
async fn an_idle_store_with_a_watch_and_renewals_writes_nothing() {
    let server = EtcdServer::start(Setup::default()).await;
    let store = etcd_store(vec![server.endpoint()]);
    until_answering(&store).await;
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    assert!(store.txn(Txn::new().put_leased(keys().key(&StoreKey::Leader), "a", lease.id)).await.is_won());
    let mut watch = store.watch();
    until_value(&mut watch, &keys().key(&StoreKey::Leader), Some("a")).await;

    let mut raw = etcd_client::Client::connect([server.endpoint()], None).await.expect("connecting");
    let before = raw.status().await.expect("a status").raft_index();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        store.keep_alive(lease.id).await.expect("a renewal");
        store.snapshot().await.expect("a read");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(raw.status().await.expect("a status").raft_index(), before, "the log of etcd grew");
}

#[tokio::test]
async fn a_member_without_leader_says_so_and_nothing_is_sent_through_it() {
    let servers = EtcdServer::start_all(&["a", "b"], &Setup::default()).await;
    let [a, b] = servers.as_slice() else { panic!("expected two servers") };
    let store = etcd_store(vec![a.endpoint()]);
    until_answering(&store).await;
    let start = Txn::new().put(keys().key(&StoreKey::Sync), "1");
    assert!(store.txn(start).await.is_won());
    let mut watch = store.watch();
    until_value(&mut watch, &keys().key(&StoreKey::Sync), Some("1")).await;

    b.stop();
    next_that(&mut watch, |event| matches!(event, WatchEvent::Disconnected { .. })).await;
    // Until it notices, a transaction waits in its log, and may be done later.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store
            .txn(Txn::new().when_absent(keys().key(&StoreKey::Sync)).put(keys().key(&StoreKey::Sync), "2"))
            .await
        {
            TxnOutcome::Refused { reason: Refusal::NotSent(reason) } if reason == "no leader" => break,
            TxnOutcome::Unknown { .. } => assert!(Instant::now() < deadline, "never definite"),
            other => panic!("expected that nothing is sent, got {other:?}"),
        }
    }
    let read = store.snapshot().await;
    assert!(matches!(&read, Err(StoreError::Unavailable { .. })), "{read:?}");

    b.start_again().await;
    next_that(&mut watch, |event| matches!(event, WatchEvent::Connected)).await;
    until_value(&mut watch, &keys().key(&StoreKey::Sync), Some("1")).await;
}

#[tokio::test]
async fn a_full_store_refuses_as_the_model_does() {
    let server = EtcdServer::start(Setup { quota_bytes: Some(1 << 20), ..Setup::default() }).await;
    let store = etcd_store(vec![server.endpoint()]);
    until_answering(&store).await;
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let chunk = vec![b'x'; 256 << 10];
    let mut puts = 0;
    let refused = loop {
        let outcome = store.txn(Txn::new().put(keys().key(&StoreKey::Status), chunk.clone())).await;
        puts += 1;
        if !outcome.is_won() {
            break outcome;
        }
        assert!(puts < 100, "the quota has no effect");
    };
    assert_eq!(refused, TxnOutcome::Refused { reason: Refusal::NoSpace });
    // Even when the comparison would have failed.
    let lost = store
        .txn(Txn::new().when(keys().key(&StoreKey::Sync), Revision(99)).put(keys().key(&StoreKey::Sync), "1"))
        .await;
    assert_eq!(lost, TxnOutcome::Refused { reason: Refusal::NoSpace });
    let granted = store.grant(Duration::from_secs(60)).await;
    assert!(matches!(granted, Err(StoreError::NoSpace { .. })), "{granted:?}");
    assert!(matches!(store.keep_alive(lease.id).await, Ok(KeepAlive::Renewed { .. })));
    assert!(store.txn(Txn::new().delete(keys().key(&StoreKey::Status))).await.is_won());
    assert!(store.snapshot().await.expect("a read").entries.is_empty());
    assert!(!store.status().await.members[0].problems.is_empty(), "the alarm is shown");
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `name.crt` and `name.key`, good for both ends of a connection.
    fn issue(&self, directory: &Path, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(directory.join(format!("{name}.crt")), certificate.pem()).expect("writing");
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("writing");
    }
}

#[tokio::test]
async fn certificates_are_demanded_and_replaced_files_are_picked_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let (authority, foreign) = (Authority::new(), Authority::new());
    std::fs::write(path("ca.crt"), &authority.pem).expect("writing");
    authority.issue(directory.path(), "server");
    foreign.issue(directory.path(), "client");
    let tls = ServerTls { ca: path("ca.crt"), cert: path("server.crt"), key: path("server.key") };
    let server = EtcdServer::start(Setup { tls: Some(tls), ..Setup::default() }).await;

    let files = TlsFiles { ca: path("ca.crt"), cert: path("client.crt"), key: path("client.key") };
    let options = EtcdOptions::new(vec![server.endpoint()], Some(files), CALL_DEADLINE);
    let store = EtcdStore::new(&options, &keys()).expect("a usable endpoint");
    let refused = store.snapshot().await;
    assert!(matches!(&refused, Err(StoreError::Unavailable { .. })), "{refused:?}");

    authority.issue(directory.path(), "client");
    until_answering(&store).await;
    assert!(store.txn(Txn::new().put(keys().key(&StoreKey::Sync), "1")).await.is_won());
}

#[tokio::test]
async fn unusable_endpoints_are_refused_at_once() {
    let unusable = ["", "10.0.0.1:2379", "ftp://10.0.0.1", "https://10.0.0.1:2379"];
    for endpoints in [vec![], unusable.map(str::to_owned).to_vec()] {
        let options = EtcdOptions::new(endpoints, None, CALL_DEADLINE);
        let refused = EtcdStore::new(&options, &keys());
        assert!(matches!(refused, Err(StoreError::Configuration { .. })), "{refused:?}");
    }
}
