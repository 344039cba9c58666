//! Connections that a load balancer passes on with a header of the PROXY protocol.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{
    FakeServer, Proxy, SSL_REQUEST, login_done, read_all, read_exactly, read_packet, read_refusal, startup,
    until,
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 2 that is read, its own 16 bytes included.
const LONGEST: u16 = 4_096;

/// The lines of the sessions that ended.
static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn line_with(part: &str) -> Option<String> {
    let text = String::from_utf8(LINES.lock().unwrap().clone()).unwrap();
    text.lines().find(|line| line.contains(part)).map(str::to_owned)
}

/// A proxy that trusts this network, with its lines kept.
async fn trusting(network: &str) -> (Proxy, FakeServer) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Lines).init());
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| {
        options.proxy_protocol_from = vec![network.parse().unwrap()];
        options.at_start.log_sessions = true;
    });
    proxy.open(Port::Writes, &[0]);
    (proxy, server)
}

fn header(command: u8, client: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { panic!("an IPv4 client") };
    let body =
        [&client.ip().octets()[..], &[10, 0, 1, 10], &client.port().to_be_bytes(), &5000_u16.to_be_bytes()];
    [&SIGNATURE[..], &[0x20 | command, 0x11, 0, 12], &body.concat()].concat()
}

/// Sends the header and logs in as this user; the session ends.
async fn served(proxy: &Proxy, server: &FakeServer, header: &[u8], piece: usize, user: &str) {
    let mut client = proxy.connect(Port::Writes).await;
    client.set_nodelay(true).unwrap();
    for piece in [header, &startup(user)].concat().chunks(piece) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, startup(user));
    upstream.write_all(&login_done(1, &[1; 4])).await.unwrap();
    let done = login_done(1, &[1; 4]);
    assert_eq!(read_exactly(&mut client, done.len()).await, done);
    drop((client, upstream));
    until("its line is written", || line_with(&format!("user=\"{user}\"")).is_some()).await;
}

fn line_of(user: &str) -> String {
    line_with(&format!("user=\"{user}\"")).unwrap()
}

#[tokio::test]
async fn header_of_a_trusted_balancer_names_the_client() {
    let (proxy, server) = trusting("127.0.0.0/8").await;
    let client = "203.0.113.9:4711".parse().unwrap();
    served(&proxy, &server, &header(1, client), 1000, "whole").await;
    served(&proxy, &server, &header(1, client), 1, "bytewise").await;
    served(&proxy, &server, b"PROXY TCP4 203.0.113.9 10.0.1.10 4711 5000\r\n", 1000, "text").await;
    served(&proxy, &server, b"PROXY TCP4 203.0.113.9 10.0.1.10 4711 5000\r\n", 1, "texttext").await;
    for user in ["whole", "bytewise", "text", "texttext"] {
        let line = line_of(user);
        assert!(line.contains("client=203.0.113.9:4711 through=127.0.0.1:"), "{line}");
    }
    assert_eq!(proxy.counters().headers_refused_total, 0);
}

#[tokio::test]
async fn balancer_that_speaks_for_itself_keeps_its_address() {
    let (proxy, server) = trusting("127.0.0.1/32").await;
    served(&proxy, &server, &header(0, "203.0.113.9:4711".parse().unwrap()), 1000, "local").await;
    served(&proxy, &server, b"PROXY UNKNOWN\r\n", 1000, "unknown").await;
    for user in ["local", "unknown"] {
        let line = line_of(user);
        assert!(line.contains("client=127.0.0.1:") && !line.contains("through"), "{line}");
    }
    // A check that only connects is no fault.
    drop(proxy.connect(Port::Writes).await);
    until("it is gone", || proxy.path.sessions() == 0).await;
    assert_eq!(proxy.counters().headers_refused_total, 0);
}

#[tokio::test]
async fn request_for_encryption_may_follow_the_header() {
    let (proxy, server) = trusting("127.0.0.1/32").await;
    let mut client = proxy.connect(Port::Writes).await;
    let header = header(1, "203.0.113.9:4711".parse().unwrap());
    client.write_all(&[&header, &SSL_REQUEST[..]].concat()).await.unwrap();
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, SSL_REQUEST);
    upstream.write_all(b"S").await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
}

#[tokio::test]
async fn connection_of_a_trusted_network_without_a_good_header_is_closed() {
    let (proxy, server) = trusting("127.0.0.1/32").await;
    let too_long = [&SIGNATURE[..], &[0x21, 0x11], &LONGEST.to_be_bytes()].concat();
    let cut_off = &header(1, "203.0.113.9:4711".parse().unwrap())[..20];
    let bad: [&[u8]; 6] = [
        &startup("nobody"),
        &SSL_REQUEST,
        b"\x16\x03\x01\x02\0",
        b"PROXY TCP4 somewhere\r\n",
        &too_long,
        cut_off,
    ];
    for (count, bytes) in (1..).zip(bad) {
        let mut client = proxy.connect(Port::Writes).await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        // Closed or reset, without a word.
        assert!(read_all(&mut client).await.0.is_empty());
        until("it is counted", || proxy.counters().headers_refused_total == count).await;
    }
    server.nobody_comes().await;
    until("its line is written", || line_with("closed: the PROXY header is cut off").is_some()).await;
    assert!(line_with("closed: the connection does not begin with a header").is_some());
}

#[tokio::test]
async fn header_from_anywhere_else_is_garbage() {
    let (proxy, server) = trusting("10.0.0.0/8").await;
    let client = "203.0.113.9:4711".parse().unwrap();
    for header in [&header(1, client)[..], b"PROXY TCP4 203.0.113.9 10.0.1.10 4711 5000\r\n"] {
        let mut client = proxy.connect(Port::Writes).await;
        client.write_all(&[header, &startup("mallory")].concat()).await.unwrap();
        assert_eq!(read_refusal(&mut client).await.0, "08P01");
    }
    server.nobody_comes().await;
    served(&proxy, &server, b"", 1000, "ordinary").await;
    assert!(line_of("ordinary").contains("client=127.0.0.1:"));
}

#[tokio::test]
async fn half_a_header_is_given_up_after_five_seconds() {
    let (proxy, _server) = trusting("127.0.0.1/32").await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SIGNATURE[..5]).await.unwrap();
    let begun = std::time::Instant::now();
    assert!(read_all(&mut client).await.0.is_empty());
    assert!((4..10).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    assert_eq!(proxy.counters().headers_refused_total, 1);
}
