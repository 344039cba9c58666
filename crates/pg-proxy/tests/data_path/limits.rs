//! Limits, and the order of those who wait for a place.

use std::time::Duration;

use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{FakeServer, Proxy, login_done, read_refusal, until};

async fn narrow(places: u32, queue_timeout: Duration) -> (Proxy, FakeServer) {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| {
        options.at_start.upstream_connections = places;
        options.at_start.queue_timeout = queue_timeout;
    });
    proxy.open(Port::Writes, &[0]);
    (proxy, server)
}

#[tokio::test]
async fn places_are_given_in_the_order_of_arrival() {
    let (proxy, server) = narrow(1, Duration::from_secs(10)).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(proxy.client(Port::Writes, &format!("user{number}")).await);
        until("it waits or has the place", || proxy.counters().waiting == number).await;
        if number == 0 {
            until("it has the place", || proxy.counters().upstream(0).sessions.now == 1).await;
        }
    }
    // One that leaves gives up its turn.
    drop(clients.remove(3));
    until("it gave up", || proxy.counters().waiting == 4).await;
    let mut order = Vec::new();
    for client in clients {
        let (user, upstream) = server.next_user().await;
        order.push(user);
        server.nobody_comes().await;
        drop((upstream, client));
    }
    assert_eq!(order, ["user0", "user1", "user2", "user4", "user5"]);
}

#[tokio::test]
async fn client_that_finds_no_place_in_time_is_told() {
    let (proxy, server) = narrow(1, Duration::from_millis(200)).await;
    let (_client, _upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let mut late = proxy.client(Port::Writes, "bob").await;
    let (sqlstate, text) = read_refusal(&mut late).await;
    assert_eq!(sqlstate, "53300");
    assert!(text.contains('1'), "{text}");
    server.nobody_comes().await;
}

#[tokio::test]
async fn places_of_killed_clients_come_back() {
    let (proxy, server) = narrow(2, Duration::from_secs(10)).await;
    for _ in 0..5 {
        let (first, first_upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
        let (second, second_upstream) = proxy.session(Port::Writes, &server, &[2; 4]).await;
        crate::harness::reset(first);
        drop((second, first_upstream, second_upstream));
        until("the places are free", || proxy.counters().upstream(0).sessions.now == 0).await;
    }
    assert_eq!(proxy.counters().upstream(0).sessions_total, 10);
}

#[tokio::test]
async fn one_client_too_many_is_told_and_the_next_after_an_end_is_served() {
    for (other_proxies, expected) in [(false, "53300"), (true, "57P03")] {
        let server = FakeServer::start().await;
        let proxy = Proxy::start(&[server.address], |options| {
            options.at_start.max_connections = 2;
            options.other_proxies = other_proxies;
        });
        proxy.open(Port::Writes, &[0]);
        let (first, first_upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
        let _second = proxy.session(Port::Writes, &server, &[2; 4]).await;
        let mut third = proxy.client(Port::Writes, "carol").await;
        assert_eq!(read_refusal(&mut third).await.0, expected);
        // A client that asks for TLS first is told in the clear, if it allows that.
        let mut fourth = proxy.connect(Port::Writes).await;
        fourth.write_all(&crate::harness::SSL_REQUEST).await.unwrap();
        assert_eq!(crate::harness::read_exactly(&mut fourth, 1).await, b"N");
        fourth.write_all(&crate::harness::startup("dave")).await.unwrap();
        assert_eq!(read_refusal(&mut fourth).await.0, expected);
        drop((first, first_upstream));
        until("a session ended", || proxy.path.sessions() == 1).await;
        let _fifth = proxy.session(Port::Writes, &server, &[3; 4]).await;
    }
}

#[tokio::test]
async fn sessions_are_spread_in_turn() {
    let servers = [FakeServer::start().await, FakeServer::start().await];
    let proxy = Proxy::start(&[servers[0].address, servers[1].address], |_| {});
    proxy.open(Port::Reads, &[0, 1]);
    let mut kept = Vec::new();
    for number in 0..10 {
        let client = proxy.client(Port::Reads, "alice").await;
        let (_, mut upstream) = servers[number % 2].next_user().await;
        upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
        kept.push((client, upstream));
    }
    let counters = proxy.counters();
    assert_eq!([counters.upstream(0).sessions.now, counters.upstream(1).sessions.now], [5, 5]);
}

#[tokio::test]
async fn client_that_says_too_little_is_sent_away_after_five_seconds() {
    let (proxy, _server) = Proxy::with_leader().await;
    let mut slow = proxy.connect(Port::Writes).await;
    slow.write_all(&[0, 0]).await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(read_refusal(&mut slow).await.0, "08P01");
    assert!((4..10).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn garbage_is_refused_before_it_is_stored() {
    let (proxy, _server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(b"\x7f\xff\xff\xff\0\x03\0\0").await.unwrap();
    assert_eq!(read_refusal(&mut client).await.0, "08P01");
    assert_eq!(proxy.counters().refused_total, 1);
}
