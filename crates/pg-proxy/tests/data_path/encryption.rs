//! Clients that ask for encryption: the proxy has no keys, TLS ends at the server.

use std::time::Duration;

use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{
    FakeServer, GSS_REQUEST, Proxy, SSL_REQUEST, login_done, nobody, parse_error, read_all, read_exactly,
    read_packet, read_refusal, startup, until,
};

#[tokio::test]
async fn request_for_tls_is_answered_by_the_server() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, SSL_REQUEST);
    upstream.write_all(b"S").await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
    client.write_all(b"\x16\x03\x01 hello").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 9).await, b"\x16\x03\x01 hello");
    upstream.write_all(b"\x16\x03\x03 answer").await.unwrap();
    assert_eq!(read_exactly(&mut client, 10).await, b"\x16\x03\x03 answer");
}

#[tokio::test]
async fn server_without_tls_gets_the_login_on_the_same_connection() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    // As libpq does it with a credential cache: GSSAPI first, then TLS, then in the clear.
    client.write_all(&GSS_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"N");
    client.write_all(&SSL_REQUEST).await.unwrap();
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, SSL_REQUEST);
    upstream.write_all(b"N").await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"N");
    client.write_all(&startup("alice")).await.unwrap();
    assert_eq!(read_packet(&mut upstream).await, startup("alice"));
    upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
    assert_eq!(read_exactly(&mut client, 5).await, login_done(1, &[1; 4])[..5]);
    assert_eq!(proxy.counters().upstream(0).sessions_total, 1);
}

#[tokio::test]
async fn bytes_behind_a_request_for_tls_are_refused() {
    let (proxy, server) = Proxy::with_leader().await;
    // In the same segment: the server may be asked, but never gets a byte of it.
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&[&SSL_REQUEST[..], &startup("mallory")].concat()).await.unwrap();
    assert_eq!(read_refusal(&mut client).await.0, "08P01");
    // Later, but before the answer.
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    let mut upstream = loop {
        let mut upstream = server.accept().await;
        let mut request = Vec::new();
        if let Ok(Ok(8)) = tokio::time::timeout(
            Duration::from_millis(500),
            tokio::io::AsyncReadExt::read_buf(&mut upstream, &mut request),
        )
        .await
        {
            break upstream;
        }
    };
    client.write_all(b"stuffed").await.unwrap();
    assert_eq!(read_refusal(&mut client).await.0, "08P01");
    let (heard, _) = read_all(&mut upstream).await;
    assert!(heard.is_empty(), "the server heard {heard:?}");
}

#[tokio::test]
async fn client_that_asks_for_tls_is_told_in_the_clear_when_there_is_no_server() {
    let proxy =
        Proxy::start(&[nobody().await], |options| options.at_start.hold_timeout = Duration::from_millis(200));
    proxy.hold(Port::Writes, "no leader yet");
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"N");
    client.write_all(&startup("alice")).await.unwrap();
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P03");
    assert!(text.contains("no leader yet"), "{text}");
}

#[tokio::test]
async fn held_request_for_tls_is_led_on() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |_| {});
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    until("it waits", || proxy.counters().waiting == 1).await;
    proxy.open(Port::Writes, &[0]);
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, SSL_REQUEST);
    upstream.write_all(b"S").await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
}

#[tokio::test]
async fn tls_from_the_first_byte_is_passed_through() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    let hello = [&[0x16, 3, 1, 2, 0][..], &[9; 600]].concat();
    client.write_all(&hello[..3]).await.unwrap();
    let mut upstream = server.accept().await;
    client.write_all(&hello[3..]).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, hello.len()).await, hello);
    upstream.write_all(b"\x16 server").await.unwrap();
    assert_eq!(read_exactly(&mut client, 8).await, b"\x16 server");
}

#[tokio::test]
async fn a_third_round_of_requests_is_refused() {
    let (proxy, _server) = Proxy::with_leader().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&GSS_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"N");
    client.write_all(&GSS_REQUEST).await.unwrap();
    let (heard, _) = read_all(&mut client).await;
    assert_eq!(parse_error(&heard).0, "08P01");
}
