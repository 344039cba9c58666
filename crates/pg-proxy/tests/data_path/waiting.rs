//! Clients that wait for a server with the wanted role.

use std::time::Duration;

use pg_proxy::data_path::{Gauge, Port, SessionReport};
use tokio::io::AsyncWriteExt;

use crate::harness::{
    FakeServer, Proxy, error_response, login_done, nobody, read_exactly, read_packet, read_refusal, startup,
    until,
};

#[tokio::test]
async fn held_client_is_led_on_as_soon_as_there_is_a_leader() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |_| {});
    let mut client = proxy.client(Port::Writes, "alice").await;
    until("the client waits", || proxy.counters().waiting == 1).await;
    server.nobody_comes().await;
    proxy.open(Port::Writes, &[0]);
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, startup("alice"));
    upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
    assert_eq!(read_exactly(&mut client, 5).await, login_done(1, &[1; 4])[..5]);
    assert_eq!(proxy.counters().waiting, 0);
}

#[tokio::test]
async fn client_held_for_too_long_reads_why() {
    let proxy =
        Proxy::start(&[nobody().await], |options| options.at_start.hold_timeout = Duration::from_millis(200));
    proxy.hold(Port::Writes, "pg1 hands over to pg2");
    let mut client = proxy.client(Port::Writes, "alice").await;
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P03");
    assert!(text.contains("pg1 hands over to pg2"), "{text}");
    assert_eq!(proxy.counters().refused_total, 1);
}

#[tokio::test]
async fn refusing_route_answers_at_once_and_sends_waiting_clients_away() {
    let proxy = Proxy::start(&[nobody().await], |_| {});
    let mut early = proxy.client(Port::Reads, "alice").await;
    until("the client waits", || proxy.counters().waiting == 1).await;
    proxy.refuse(Port::Reads, "every standby is down");
    let mut late = proxy.client(Port::Reads, "bob").await;
    for client in [&mut early, &mut late] {
        let (sqlstate, text) = read_refusal(client).await;
        assert_eq!(sqlstate, "57P03");
        assert!(text.contains("every standby is down"), "{text}");
    }
}

#[tokio::test]
async fn error_text_survives_unread_data() {
    let proxy = Proxy::start(&[nobody().await], |_| {});
    proxy.refuse(Port::Writes, "none");
    for _ in 0..50 {
        let mut client = proxy.connect(Port::Writes).await;
        let mut words = startup("alice");
        words.extend([0; 16 * 1024]);
        client.write_all(&words).await.unwrap();
        assert_eq!(read_refusal(&mut client).await.0, "57P03");
    }
}

#[tokio::test]
async fn client_that_leaves_while_it_waits_costs_no_server_a_connection() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |_| {});
    let client = proxy.client(Port::Writes, "alice").await;
    let asking = proxy.connect(Port::Writes).await;
    asking.try_write(&crate::harness::SSL_REQUEST).unwrap();
    until("both wait", || proxy.counters().waiting == 2).await;
    drop((client, asking));
    until("both are gone", || proxy.counters().waiting == 0 && proxy.path.sessions() == 0).await;
    proxy.open(Port::Writes, &[0]);
    server.nobody_comes().await;
}

#[tokio::test]
async fn server_that_starts_up_makes_the_client_wait() {
    let (mut proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.client(Port::Writes, "alice").await;
    for _ in 0..2 {
        let mut upstream = server.accept().await;
        assert_eq!(read_packet(&mut upstream).await, startup("alice"));
        upstream.write_all(&error_response("57P03")).await.unwrap();
    }
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, startup("alice"));
    upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
    assert_eq!(read_exactly(&mut client, 5).await, login_done(1, &[1; 4])[..5]);
    for _ in 0..2 {
        let SessionReport::ConnectFailed { why, .. } = proxy.reports.recv().await.unwrap() else {
            panic!("a failure is reported")
        };
        assert!(why.contains("57P03"), "{why}");
    }
    assert!(matches!(proxy.reports.recv().await, Some(SessionReport::Connected { .. })));
}

#[tokio::test]
async fn other_errors_of_a_server_are_passed_on() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.client(Port::Writes, "alice").await;
    let mut upstream = server.accept().await;
    read_packet(&mut upstream).await;
    let error = error_response("28P01");
    upstream.write_all(&error[..9]).await.unwrap();
    upstream.write_all(&error[9..]).await.unwrap();
    drop(upstream);
    assert_eq!(read_refusal(&mut client).await.0, "28P01");
}

#[tokio::test]
async fn refused_connection_is_tried_at_another_standby_at_once() {
    let server = FakeServer::start().await;
    let mut proxy = Proxy::start(&[nobody().await, server.address], |_| {});
    proxy.open(Port::Reads, &[0, 1]);
    let _client = proxy.client(Port::Reads, "alice").await;
    let (user, _upstream) = server.next_user().await;
    assert_eq!(user, "alice");
    assert!(matches!(
        proxy.reports.recv().await,
        Some(SessionReport::ConnectFailed { member, .. }) if member.as_str() == "pg1"
    ));
    let failed = proxy.counters().upstream(0);
    assert_eq!((failed.connect_failures, failed.retries, failed.redispatches), (1, 0, 1));
    let [writes, reads] = proxy.counters().routes;
    assert_eq!((writes.sessions_total, reads.sessions_total), (0, 1));
    assert_eq!(
        (reads.sessions, reads.upstreams[1].sessions),
        (Gauge { now: 1, most: 1 }, Gauge { now: 1, most: 1 })
    );
    assert_eq!(writes.upstreams[0].connect_failures, 0, "it was a reader");
}

#[tokio::test]
async fn unreachable_leader_holds_and_then_names_the_failure() {
    let proxy =
        Proxy::start(&[nobody().await], |options| options.at_start.hold_timeout = Duration::from_millis(300));
    proxy.open(Port::Writes, &[0]);
    let mut client = proxy.client(Port::Writes, "alice").await;
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P03");
    assert!(text.contains("pg1: ") && text.contains("refused"), "{text}");
    let failed = proxy.counters().upstream(0);
    assert!(failed.retries > 0, "{failed:?}");
    assert_eq!((failed.redispatches, failed.connect_failures), (0, failed.retries + 1));
}

#[tokio::test]
async fn session_on_its_way_to_a_deposed_leader_is_led_to_the_new_one() {
    let (old, new) = (FakeServer::start().await, FakeServer::start().await);
    let proxy = Proxy::start(&[old.address, new.address], |_| {});
    proxy.open(Port::Writes, &[0]);
    let _client = proxy.client(Port::Writes, "alice").await;
    let (_, silent) = old.next_user().await;
    proxy.open(Port::Writes, &[1]);
    proxy.path.cut(0, ha_routing::Sessions::Writes, "pg2 leads");
    assert_eq!(new.next_user().await.0, "alice");
    drop(silent);
}

#[tokio::test]
async fn server_that_never_answers_a_connect_is_given_up_for_another() {
    // A queue for connections that is full: the kernel answers nobody any more, as a host without power does.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let silent = full.local_addr().unwrap().as_socket().unwrap();
    let limit = Duration::from_millis(100);
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&silent, limit) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue is never full");
    }

    let living = FakeServer::start().await;
    let mut proxy =
        Proxy::start(&[silent, living.address], |options| options.at_start.connect_timeout = limit);
    proxy.open(Port::Reads, &[0, 1]);
    for _ in 0..2 {
        let mut client = proxy.client(Port::Reads, "alice").await;
        let mut upstream = living.accept().await;
        assert_eq!(read_packet(&mut upstream).await, startup("alice"));
        upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
        read_exactly(&mut client, 5).await;
    }
    let mut failed = false;
    while let Ok(report) = proxy.reports.try_recv() {
        failed |=
            matches!(report, SessionReport::ConnectFailed { ref member, .. } if member.as_str() == "pg1");
    }
    assert!(failed, "the router is not told");
}
