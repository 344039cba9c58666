//! Many clients at once: held ones that are let go, and cancel requests.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic")]

#[path = "data_path/harness.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use harness::{FakeServer, Proxy, cancel, login_done, message, read_all, read_exactly, read_packet, until};
use nix::sys::resource::{Resource, getrlimit};
use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Clients that are held; fewer where not as many descriptors may be open.
const HELD: u64 = 2000;
/// Descriptors of one session with both its ends in this process, and of everything else.
const EACH: u64 = 4;
const OTHERS: u64 = 300;
/// Sessions that a server may be opening at the same time.
const OPENINGS: u32 = 32;
/// How long this server takes for each: longer than a connect, so that openings overlap.
const FORK: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_crowd_is_let_go_in_its_order_and_not_all_at_once() {
    let server = Arc::new(FakeServer::start().await);
    let limit = u32::MAX / 2;
    let proxy = Proxy::start(&[server.address], |options| {
        options.at_start.max_connections = limit;
        options.at_start.upstream_connections = limit;
        options.at_start.hold_timeout = Duration::from_secs(60);
    });
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let crowd = HELD.min((soft - OTHERS) / EACH);
    proxy.hold(Port::Writes, "the leader is gone");
    let mut clients = Vec::new();
    for number in 0..crowd {
        clients.push(proxy.client(Port::Writes, &format!("c{number}")).await);
        let waiting = u32::try_from(number + 1).unwrap();
        until("it waits", || proxy.counters().waiting == waiting).await;
    }
    let opening = Arc::new(AtomicU32::new(0));
    let (for_server, seen) = (Arc::clone(&server), Arc::clone(&opening));
    let serving = tokio::spawn(async move {
        let (mut order, mut most, mut sessions) = (Vec::new(), 0, JoinSet::new());
        while (order.len() as u64) < crowd {
            let mut session = for_server.accept_patiently().await;
            most = most.max(seen.fetch_add(1, Ordering::Relaxed) + 1);
            let packet = read_packet(&mut session).await;
            order.push(user_of(&packet));
            let seen = Arc::clone(&seen);
            sessions.spawn(async move {
                tokio::time::sleep(FORK).await;
                seen.fetch_sub(1, Ordering::Relaxed);
                session.write_all(&login_done(1, &[1; 4])).await.unwrap();
                session
            });
        }
        (order, most, sessions.join_all().await)
    });
    proxy.open(Port::Writes, &[0]);
    for client in &mut clients {
        read_exactly(client, login_done(1, &[1; 4]).len()).await;
    }
    let (order, most, sessions) = serving.await.unwrap();
    assert!((2..=OPENINGS).contains(&most), "{most} logins at once");
    for (place, number) in order.iter().enumerate() {
        let place = u32::try_from(place).unwrap();
        assert!(number.abs_diff(place) <= OPENINGS, "client {number} came in place {place}");
    }
    drop((clients, sessions));
    until("everybody leaves", || proxy.path.sessions() == 0).await;
}

/// `c17` in the packet of a login.
fn user_of(packet: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(packet);
    let name = text.split('\0').find_map(|word| word.strip_prefix('c')?.parse().ok());
    name.unwrap_or_else(|| panic!("no number in {text:?}"))
}

/// Cancel requests that nobody knows, and how many at a time.
const REQUESTS: usize = 3000;
const AT_ONCE: usize = 50;

async fn request(address: std::net::SocketAddr) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&cancel(9, &[9; 4])).await.unwrap();
    assert!(read_all(&mut client).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storm_of_cancel_requests_leaves_sessions_alone() {
    let server = Arc::new(FakeServer::start().await);
    let proxy = Proxy::start(&[server.address], |_| {});
    proxy.open(Port::Writes, &[0]);
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let for_server = Arc::clone(&server);
    let serving = tokio::spawn(async move {
        loop {
            let mut request = for_server.accept_patiently().await;
            // As PostgreSQL: it reads the request and closes without an answer.
            drop(tokio::spawn(async move { read_packet(&mut request).await }));
        }
    });
    let address = proxy.address(Port::Writes);
    let mut storm = JoinSet::new();
    for number in 0..REQUESTS {
        if storm.len() == AT_ONCE {
            storm.join_next().await.unwrap().unwrap();
        }
        storm.spawn(request(address));
        if number % 100 == 0 {
            let question = message(b'Q', b"SELECT 1\0");
            client.write_all(&question).await.unwrap();
            assert_eq!(read_exactly(&mut upstream, question.len()).await, question);
        }
    }
    storm.join_all().await;
    serving.abort();
    assert_eq!(proxy.counters().cancels_total, REQUESTS as u64);
    assert_eq!(proxy.path.sessions(), 1);
}
