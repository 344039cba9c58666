//! Sessions whose server lost its role, and the end of the proxy.

use ha_routing::Sessions;
use pg_proxy::data_path::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    FakeServer, Proxy, SSL_REQUEST, message, read_exactly, read_packet, read_refusal, soon, until,
};

#[tokio::test]
async fn cut_session_reads_why_between_messages() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    proxy.hold(Port::Writes, "pg1 was deposed");
    proxy.path.cut(0, Sessions::Writes, "pg1 was deposed");
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P01");
    assert!(text.contains("pg1 was deposed"), "{text}");
    drop(soon(upstream.read(&mut [0; 1])).await);
    until("it is counted", || proxy.counters().upstream(0).sessions_cut == 1).await;
}

#[tokio::test]
async fn cut_inside_a_message_never_looks_like_an_end() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let half = &message(b'D', &[5; 100])[..50];
    upstream.write_all(half).await.unwrap();
    assert_eq!(read_exactly(&mut client, half.len()).await, half);
    proxy.path.cut(0, Sessions::All, "deposed");
    let error = soon(client.read(&mut [0; 10])).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn cut_encrypted_session_is_reset() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    let mut upstream = server.accept().await;
    read_packet(&mut upstream).await;
    upstream.write_all(b"S").await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
    proxy.path.cut(0, Sessions::Writes, "deposed");
    let error = soon(client.read(&mut [0; 10])).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn only_the_sessions_that_are_meant_are_cut() {
    let servers = [FakeServer::start().await, FakeServer::start().await];
    let proxy = Proxy::start(&[servers[0].address, servers[1].address], |_| {});
    proxy.open(Port::Writes, &[0]);
    let (mut written, written_upstream) = proxy.session(Port::Writes, &servers[0], &[1; 4]).await;
    proxy.open(Port::Reads, &[0]);
    let (mut read, mut read_upstream) = proxy.session(Port::Reads, &servers[0], &[2; 4]).await;
    proxy.open(Port::Reads, &[1]);
    let (mut other, mut other_upstream) = proxy.session(Port::Reads, &servers[1], &[3; 4]).await;
    proxy.path.cut(0, Sessions::Writes, "deposed");
    assert_eq!(read_refusal(&mut written).await.0, "57P01");
    echo(&mut read, &mut read_upstream).await;
    proxy.path.cut(0, Sessions::Reads, "gone");
    assert_eq!(read_refusal(&mut read).await.0, "57P01");
    echo(&mut other, &mut other_upstream).await;
    drop(written_upstream);
}

async fn echo(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(server, 10).await, b"still here");
    let answer = message(b'Z', b"I");
    server.write_all(&answer).await.unwrap();
    assert_eq!(read_exactly(client, answer.len()).await, answer);
}

#[tokio::test]
async fn hundreds_of_sessions_are_cut_within_a_moment() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| {
        options.at_start.max_connections = 1_000;
        options.at_start.upstream_connections = 1_000;
    });
    proxy.open(Port::Writes, &[0]);
    let mut sessions = Vec::new();
    for _ in 0..300 {
        sessions.push(proxy.session(Port::Writes, &server, &[1; 4]).await);
    }
    let begun = std::time::Instant::now();
    proxy.path.cut(0, Sessions::All, "deposed");
    for (client, _) in &mut sessions {
        let mut first = [0; 1];
        soon(client.read_exact(&mut first)).await.unwrap();
        assert_eq!(&first, b"E");
    }
    assert!(begun.elapsed().as_millis() < 3_000, "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn drain_refuses_new_clients_and_lets_sessions_go_on() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    proxy.path.drain();
    let address = proxy.address(Port::Writes);
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
    echo(&mut client, &mut upstream).await;
    assert!(proxy.path.sessions() >= 1);
    proxy.path.cut_all();
    assert_eq!(read_refusal(&mut client).await.0, "57P01");
    until("nobody is left", || proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn end_of_the_proxy_tells_waiting_clients() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |_| {});
    let mut client = proxy.client(Port::Writes, "alice").await;
    until("it waits", || proxy.counters().waiting == 1).await;
    proxy.path.cut_all();
    assert_eq!(read_refusal(&mut client).await.0, "57P03");
}

#[tokio::test]
async fn running_data_path_is_alive_and_a_dropped_one_ends_its_sessions() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, _upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    // Longer than a thread may be silent: it must have shown itself since the start.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(proxy.path.alive());
    drop(proxy);
    let ended = soon(client.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}
