//! Answers on the write port pass only while the leader has a read lease.

use std::sync::Arc;
use std::time::Duration;

use ha_core::Epoch;
use ha_daemon::boottime;
use pg_proxy::data_path::Port;
use pg_proxy::read_lease::ReadLeases;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{FakeServer, Proxy, message, read_exactly, read_refusal, soon, until};

const LONG: Duration = Duration::from_secs(600);

async fn proxy() -> (Proxy, FakeServer, Arc<ReadLeases>) {
    let server = FakeServer::start().await;
    let leases = Arc::new(ReadLeases::new(1, Duration::from_secs(1)));
    let given = Arc::clone(&leases);
    let proxy = Proxy::start(&[server.address], |options| options.read_leases = Some(given));
    proxy.open(Port::Writes, &[0]);
    proxy.open(Port::Reads, &[0]);
    (proxy, server, leases)
}

/// What the server has said before is over: another leadership has a lease now.
fn end_lease(leases: &ReadLeases) {
    leases.told(0, Epoch(2), boottime(), LONG);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_lease_is_withheld_and_the_client_told() {
    let (proxy, server, leases) = proxy().await;
    leases.told(0, Epoch(1), boottime(), LONG);
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let answer = message(b'D', &[5; 10]);
    upstream.write_all(&answer).await.unwrap();
    assert_eq!(read_exactly(&mut client, answer.len()).await, answer);
    end_lease(&leases);
    upstream.write_all(&message(b'D', &[6; 10])).await.unwrap();
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P01");
    assert!(text.contains("read lease has run out"), "{text}");
    until("it is counted", || proxy.counters().lease_cuts_total == 1).await;
    assert_eq!(proxy.counters().upstream(0).sessions_cut, 0);
}

#[tokio::test]
async fn an_answer_whose_end_comes_after_the_lease_never_looks_whole() {
    let (proxy, server, leases) = proxy().await;
    leases.told(0, Epoch(1), boottime(), LONG);
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let answer = message(b'D', &[5; 100]);
    upstream.write_all(&answer[..50]).await.unwrap();
    assert_eq!(read_exactly(&mut client, 50).await, answer[..50]);
    end_lease(&leases);
    upstream.write_all(&answer[50..]).await.unwrap();
    let error = soon(client.read(&mut [0; 10])).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_new_session_waits_for_a_lease_and_reads_need_none() {
    let (proxy, server, leases) = proxy().await;
    drop(proxy.session(Port::Reads, &server, &[2; 4]).await);
    let session = proxy.session(Port::Writes, &server, &[1; 4]);
    tokio::pin!(session);
    tokio::select! {
        biased;
        _ = &mut session => panic!("nobody has a lease"),
        () = tokio::task::yield_now() => {}
    }
    leases.told(0, Epoch(1), boottime(), LONG);
    let (mut client, mut upstream) = soon(session).await;
    upstream.write_all(b"Z\0\0\0\x05I").await.unwrap();
    assert_eq!(read_exactly(&mut client, 6).await, b"Z\0\0\0\x05I");
}
