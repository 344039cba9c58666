//! Storms of clients that come, say half a word and leave: afterwards everything is as before, down to the last descriptor. A
//! program of its own, because the descriptors of a whole process are counted.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic")]

#[path = "data_path/harness.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod harness;
#[path = "data_path/tls_client.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod tls_client;

use std::sync::Arc;

use harness::{
    FakeServer, Proxy, SSL_REQUEST, cancel, login_done, read_all, read_packet, reset, startup, until,
};
use pg_proxy::data_path::Port;
use tls_client::{Files, POSTGRESQL, shake_hands};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// Clients of each storm, and how many of them at a time.
const CLIENTS: usize = 1000;
const AT_ONCE: usize = 50;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A server that logs everybody in and waits for the end.
async fn serve(server: Arc<FakeServer>) {
    loop {
        let mut session = server.accept_patiently().await;
        drop(tokio::spawn(async move {
            let mut head = [0; 8];
            if session.read_exact(&mut head).await.is_err() || head[4..] == 80_877_102_u32.to_be_bytes() {
                return;
            }
            drop(session.write_all(&login_done(1, &[1; 4])).await);
            drop(session.read_to_end(&mut Vec::new()).await);
        }));
    }
}

/// What one client of a storm does, by its number.
async fn come_and_go(proxy: Arc<Proxy>, number: usize) {
    let mut client = proxy.connect(Port::Writes).await;
    match number % 6 {
        0 => drop(client),
        1 => {
            client.write_all(&startup("alice")[..7]).await.unwrap();
            reset(client);
        }
        2 => {
            client.write_all(&SSL_REQUEST).await.unwrap();
            reset(client);
        }
        3 => {
            client.write_all(&startup("alice")).await.unwrap();
            reset(client);
        }
        4 => {
            client.write_all(&startup("alice")).await.unwrap();
            let mut seen = vec![0; login_done(1, &[1; 4]).len()];
            client.read_exact(&mut seen).await.unwrap();
            drop(client);
        }
        _ => {
            client.write_all(&cancel(9, &[9; 4])).await.unwrap();
            let (heard, ended) = read_all(&mut client).await;
            assert!(heard.is_empty() && ended.is_ok(), "{heard:?} {ended:?}");
        }
    }
}

/// The same where TLS ends at the proxy.
async fn come_and_go_in_tls(proxy: Arc<Proxy>, files: Arc<Files>, number: usize) {
    let mut client = proxy.connect(Port::Writes).await;
    match number % 6 {
        // Begins with TLS, and leaves in the middle of its first message.
        0 => {
            client.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3]).await.unwrap();
            reset(client);
        }
        1 => {
            client.write_all(&SSL_REQUEST).await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
            reset(client);
        }
        // Says something else than TLS.
        2 => {
            client.write_all(&SSL_REQUEST).await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
            client.write_all(&startup("alice")).await.unwrap();
            drop(read_all(&mut client).await);
        }
        3 => drop(shake_hands(client, &files.certificate, POSTGRESQL).await.unwrap()),
        4 => {
            let mut client = shake_hands(client, &files.certificate, POSTGRESQL).await.unwrap();
            client.write_all(&startup("alice")).await.unwrap();
            let mut seen = vec![0; login_done(1, &[1; 4]).len()];
            client.read_exact(&mut seen).await.unwrap();
            drop(client);
        }
        _ => {
            let mut client = shake_hands(client, &files.certificate, POSTGRESQL).await.unwrap();
            client.write_all(&cancel(9, &[9; 4])).await.unwrap();
            let (heard, ended) = read_all(&mut client).await;
            assert!(heard.is_empty() && ended.is_ok(), "{heard:?} {ended:?}");
        }
    }
}

/// Raises a storm and waits until it is over, to the last descriptor.
async fn storm<F: Future<Output = ()> + Send + 'static>(proxy: &Proxy, client: impl Fn(usize) -> F) {
    // The first session loads what is loaded once.
    client(4).await;
    until("the first session ends", || proxy.path.sessions() == 0).await;
    let before = descriptors();
    let mut storm = JoinSet::new();
    for number in 0..CLIENTS {
        if storm.len() == AT_ONCE {
            storm.join_next().await.unwrap().unwrap();
        }
        storm.spawn(client(number));
    }
    storm.join_all().await;
    until("all sessions end", || proxy.path.sessions() == 0 && proxy.counters().waiting == 0).await;
    until("all descriptors come back", || descriptors() <= before).await;
    let counters = proxy.counters();
    assert_eq!(counters.cancels_total, (CLIENTS / 6) as u64);
    assert_eq!(counters.sessions_total, CLIENTS as u64 + 1);
    assert_eq!(counters.upstream(0).sessions.now, 0, "every place was given back");
}

/// Where TLS ends at the proxy.
async fn storm_in_tls(server: &FakeServer) {
    let files = Arc::new(Files::new());
    let proxy = Arc::new(Proxy::start(&[server.address], |options| {
        (options.at_start.max_connections, options.tls) = (1000, Some(files.tls()));
    }));
    proxy.open(Port::Writes, &[0]);
    storm(&proxy, |number| come_and_go_in_tls(Arc::clone(&proxy), Arc::clone(&files), number)).await;
    let counters = proxy.counters();
    let failed = (0..CLIENTS).filter(|number| number % 6 < 3).count();
    assert_eq!(counters.tls_failures_total, failed as u64);
    assert_eq!(counters.tls_sessions_total, (CLIENTS + 1 - failed) as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_leave_nothing_behind() {
    let server = Arc::new(FakeServer::start().await);
    let serving = tokio::spawn(serve(Arc::clone(&server)));
    storm_in_tls(&server).await;
    let proxy = Arc::new(Proxy::start(&[server.address], |options| options.at_start.max_connections = 1000));
    proxy.open(Port::Writes, &[0]);
    storm(&proxy, |number| come_and_go(Arc::clone(&proxy), number)).await;
    // And it serves as before.
    serving.abort();
    let mut client = proxy.client(Port::Writes, "bob").await;
    let mut upstream = server.accept_patiently().await;
    assert_eq!(read_packet(&mut upstream).await, startup("bob"));
    upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
    let mut seen = vec![0; login_done(1, &[1; 4]).len()];
    client.read_exact(&mut seen).await.unwrap();
}
