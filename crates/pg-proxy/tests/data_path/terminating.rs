//! TLS that ends at the proxy.

use std::time::Duration;

use ha_routing::Sessions;
use pg_proxy::data_path::{Options, Port};
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::harness::{
    FakeServer, GSS_REQUEST, Proxy, SSL_REQUEST, cancel, login_done, message, nobody, parse_error, read_all,
    read_exactly, read_packet, read_refusal, soon, startup, until,
};
use crate::tls_client::{Files, POSTGRESQL, connector, local, shake_hands};

/// The proxy with a certificate, and a server that takes writes.
struct World {
    proxy: Proxy,
    server: FakeServer,
    files: Files,
}

impl World {
    async fn new() -> Self {
        Self::adjusted(|_| {}).await
    }

    async fn adjusted(adjust: impl FnOnce(&mut Options)) -> Self {
        let (files, server) = (Files::new(), FakeServer::start().await);
        let proxy = Proxy::start(&[server.address], |options| {
            options.tls = Some(files.tls());
            adjust(options);
        });
        proxy.open(Port::Writes, &[0]);
        Self { proxy, server, files }
    }

    /// A client that has asked for TLS and got it.
    async fn client(&self) -> TlsStream<TcpStream> {
        let mut client = self.proxy.connect(Port::Writes).await;
        client.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(read_exactly(&mut client, 1).await, b"S");
        shake_hands(client, &self.files.certificate, &[]).await.unwrap()
    }

    /// A client that begins with TLS.
    async fn direct(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let client = self.proxy.connect(Port::Writes).await;
        shake_hands(client, &self.files.certificate, alpn).await
    }

    /// Logs the client in.
    async fn log_in(&self, client: &mut TlsStream<TcpStream>) -> TcpStream {
        client.write_all(&startup("alice")).await.unwrap();
        let mut upstream = self.server.accept().await;
        assert_eq!(read_packet(&mut upstream).await, startup("alice"));
        let done = login_done(4711, &[1; 4]);
        upstream.write_all(&done).await.unwrap();
        assert_eq!(read_exactly(client, done.len()).await, done);
        upstream
    }
}

#[tokio::test]
async fn session_in_tls_reaches_the_server_in_the_clear() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut upstream = world.log_in(&mut client).await;
    client.write_all(&message(b'Q', b"SELECT 1\0")).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 14).await, message(b'Q', b"SELECT 1\0"));
    upstream.write_all(&message(b'Z', b"I")).await.unwrap();
    assert_eq!(read_exactly(&mut client, 6).await, message(b'Z', b"I"));
    assert_eq!(world.proxy.counters().tls_sessions_total, 1);
    // Both ends are passed on.
    client.shutdown().await.unwrap();
    assert!(read_all(&mut upstream).await.0.is_empty());
    drop(upstream);
    let (rest, ended) = read_all(&mut client).await;
    ended.expect("an end that TLS vouches for");
    assert!(rest.is_empty());
    until("the session ends", || world.proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn client_that_leaves_without_a_word_of_tls_ends_its_session() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut upstream = world.log_in(&mut client).await;
    drop(client);
    assert!(read_all(&mut upstream).await.0.is_empty());
    drop(upstream);
    until("the session ends", || world.proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn much_data_arrives_unchanged_in_both_directions_at_once() {
    let world = World::new().await;
    let mut client = world.client().await;
    let upstream = world.log_in(&mut client).await;
    let data = |seed: u8| {
        (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect::<Vec<_>>()
    };
    let (up, down) = (data(1), data(2));
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut server_in, mut server_out) = upstream.into_split();
    let slowly = async |stream: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        let (mut heard, mut buffer) = (Vec::new(), vec![0; 70_000]);
        while heard.len() < up.len() {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "ended after {}", heard.len());
            heard.extend_from_slice(&buffer[..read]);
            if heard.len() % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        heard
    };
    let all = async {
        tokio::join!(
            async {
                client_out.write_all(&up).await.unwrap();
                client_out.flush().await.unwrap();
            },
            async { server_out.write_all(&down).await.unwrap() },
            slowly(&mut server_in),
            slowly(&mut client_in),
        )
    };
    let ((), (), heard_up, heard_down) = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    assert!(heard_up == up, "the server heard something else");
    assert!(heard_down == down, "the client heard something else");
}

#[tokio::test]
async fn slow_reader_in_tls_stops_its_sender() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut upstream = world.log_in(&mut client).await;
    let piece = vec![7; 1 << 20];
    let mut written = 0_usize;
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(300), upstream.write(&piece)).await {
        written += done.unwrap();
        assert!(written < 64 << 20, "somebody keeps what the client does not read");
    }
    drop(upstream);
    let (heard, ended) = read_all(&mut client).await;
    ended.unwrap();
    assert_eq!(heard.len(), written);
}

/// TLS takes bytes which its socket does not take yet. Whatever the amount with which the socket is just full, nothing may
/// wait for more to follow.
#[tokio::test]
async fn last_bytes_reach_a_slow_reader_though_nothing_follows() {
    let world = World::new().await;
    for length in (1..32).map(|step| step * 32 * 1024) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let mut client = socket.connect(world.proxy.address(Port::Writes)).await.unwrap();
        client.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(read_exactly(&mut client, 1).await, b"S");
        let mut client = shake_hands(client, &world.files.certificate, &[]).await.unwrap();
        let mut upstream = world.log_in(&mut client).await;
        let writer = tokio::spawn(async move {
            upstream.write_all(&vec![7; length]).await.unwrap();
            upstream
        });
        let mut passed = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = world.proxy.counters().upstream(0).bytes_to_client;
            if std::mem::replace(&mut passed, now) == now {
                break;
            }
        }
        assert!(read_exactly(&mut client, length).await.iter().all(|&byte| byte == 7), "of {length} bytes");
        drop(writer.await.unwrap());
    }
}

#[tokio::test]
async fn bytes_behind_a_request_for_tls_are_refused() {
    let world = World::new().await;
    for stuffing in [&startup("mallory")[..], b"\x16", b"\x16\x03\x01\0\x05hello"] {
        let mut client = world.proxy.connect(Port::Writes).await;
        client.write_all(&[&SSL_REQUEST[..], stuffing].concat()).await.unwrap();
        assert_eq!(read_refusal(&mut client).await.0, "08P01");
    }
    world.server.nobody_comes().await;
    assert_eq!(world.proxy.counters().tls_sessions_total, 0);
}

#[tokio::test]
async fn both_ways_of_encryption_may_be_asked_for_in_turn() {
    let world = World::new().await;
    let mut client = world.proxy.connect(Port::Writes).await;
    client.write_all(&GSS_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"N");
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
    let mut client = shake_hands(client, &world.files.certificate, POSTGRESQL).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(POSTGRESQL[0]));
    drop(world.log_in(&mut client).await);
}

#[tokio::test]
async fn a_request_for_encryption_inside_tls_is_refused() {
    let world = World::new().await;
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let mut client = world.client().await;
        client.write_all(&request).await.unwrap();
        let (sqlstate, text) = read_refusal(&mut client).await;
        assert_eq!(sqlstate, "08P01");
        assert!(text.contains("inside TLS"), "{text}");
    }
    world.server.nobody_comes().await;
}

#[tokio::test]
async fn tls_from_the_first_byte_needs_the_name_of_the_protocol() {
    let world = World::new().await;
    let mut right = world.direct(POSTGRESQL).await.unwrap();
    drop(world.log_in(&mut right).await);
    let mut among_others = world.direct(&[b"h2", b"postgresql"]).await.unwrap();
    drop(world.log_in(&mut among_others).await);

    let wrong = world.direct(&[b"http/1.1"]).await.expect_err("another protocol");
    let alert = wrong.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    assert_eq!(
        alert,
        Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)),
        "{wrong}"
    );
    until("it is counted", || world.proxy.counters().tls_failures_total == 1).await;

    let mut none = world.direct(&[]).await.unwrap();
    let (sqlstate, text) = read_refusal(&mut none).await;
    assert_eq!(sqlstate, "08P01");
    assert!(text.contains("ALPN"), "{text}");
    world.server.nobody_comes().await;
}

#[tokio::test]
async fn client_hello_may_come_byte_by_byte() {
    let world = World::new().await;
    let (mut near, mut far) = tokio::io::duplex(100_000);
    let mut client = world.proxy.connect(Port::Writes).await;
    client.set_nodelay(true).unwrap();
    let carry = tokio::spawn(async move {
        let (mut from_proxy, mut to_proxy) = client.split();
        let (mut from_client, mut to_client) = tokio::io::split(&mut far);
        let up = async {
            let mut byte = [0];
            for _ in 0..200 {
                from_client.read_exact(&mut byte).await.unwrap();
                to_proxy.write_all(&byte).await.unwrap();
                tokio::task::yield_now().await;
            }
            tokio::io::copy(&mut from_client, &mut to_proxy).await
        };
        drop(tokio::join!(up, tokio::io::copy(&mut from_proxy, &mut to_client)));
    });
    let connector = connector(&world.files.certificate, POSTGRESQL);
    let mut client = soon(connector.connect(local(), &mut near)).await.unwrap();
    client.write_all(&startup("alice")).await.unwrap();
    assert_eq!(world.server.next_user().await.0, "alice");
    carry.abort();
}

#[tokio::test]
async fn handshake_that_is_none_is_counted() {
    let world = World::new().await;
    let mut client = world.proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
    client.write_all(&startup("mallory")).await.unwrap();
    drop(read_all(&mut client).await);
    until("it is counted", || world.proxy.counters().tls_failures_total == 1).await;
    until("it is gone", || world.proxy.path.sessions() == 0).await;
    world.server.nobody_comes().await;
}

#[tokio::test]
async fn silent_handshake_is_given_up_after_five_seconds() {
    let world = World::new().await;
    let mut client = world.proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S");
    let begun = std::time::Instant::now();
    assert!(read_all(&mut client).await.0.is_empty());
    assert!((4..10).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn login_without_tls_is_refused_where_it_is_required() {
    let files = Files::new();
    for tls in [Some(files.tls()), None] {
        let server = FakeServer::start().await;
        let proxy = Proxy::start(&[server.address], |options| {
            (options.tls, options.at_start.require_tls) = (tls.clone(), true);
        });
        proxy.open(Port::Writes, &[0]);
        let mut client = proxy.client(Port::Writes, "alice").await;
        let (sqlstate, text) = read_refusal(&mut client).await;
        assert_eq!(sqlstate, "28000");
        assert!(text.contains("TLS"), "{text}");
        server.nobody_comes().await;
        // Most clients cancel in the clear whatever their session is.
        let mut client = proxy.connect(Port::Writes).await;
        client.write_all(&cancel(1, &[7; 4])).await.unwrap();
        let mut upstream = server.accept().await;
        assert_eq!(read_packet(&mut upstream).await, cancel(1, &[7; 4]));
        drop(upstream);
        if tls.is_none() {
            // A server without TLS makes the client go on in the clear: no further.
            let mut client = proxy.connect(Port::Writes).await;
            client.write_all(&SSL_REQUEST).await.unwrap();
            let mut upstream = server.accept().await;
            assert_eq!(read_packet(&mut upstream).await, SSL_REQUEST);
            upstream.write_all(b"N").await.unwrap();
            assert_eq!(read_exactly(&mut client, 1).await, b"N");
            client.write_all(&startup("alice")).await.unwrap();
            assert_eq!(read_refusal(&mut client).await.0, "28000");
            assert!(read_all(&mut upstream).await.0.is_empty());
        }
    }
}

#[tokio::test]
async fn login_without_tls_is_served_where_it_is_not_required() {
    let world = World::new().await;
    let _session = world.proxy.session(Port::Writes, &world.server, &[1; 4]).await;
}

#[tokio::test]
async fn refusals_are_told_inside_tls() {
    let (files, server) = (Files::new(), nobody().await);
    let proxy = Proxy::start(&[server], |options| {
        options.tls = Some(files.tls());
        options.at_start.hold_timeout = Duration::from_millis(200);
    });
    proxy.hold(Port::Writes, "no leader yet");
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(read_exactly(&mut client, 1).await, b"S", "the certificate is the proxy's own");
    let mut client = shake_hands(client, &files.certificate, &[]).await.unwrap();
    client.write_all(&startup("alice")).await.unwrap();
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P03");
    assert!(text.contains("no leader yet"), "{text}");
}

#[tokio::test]
async fn one_client_too_many_is_told_inside_tls_and_may_cancel() {
    let world = World::adjusted(|options| options.at_start.max_connections = 1).await;
    let mut first = world.client().await;
    let _upstream = world.log_in(&mut first).await;
    let mut second = world.client().await;
    second.write_all(&startup("bob")).await.unwrap();
    assert_eq!(read_refusal(&mut second).await.0, "53300");
    let mut third = world.client().await;
    third.write_all(&cancel(4711, &[1; 4])).await.unwrap();
    let mut upstream = world.server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, cancel(4711, &[1; 4]));
    drop(upstream);
    let (heard, ended) = read_all(&mut third).await;
    ended.expect("libpq takes an end without TLS's good-bye for a failure");
    assert!(heard.is_empty());
}

#[tokio::test]
async fn cut_is_told_inside_tls_between_messages_and_is_a_reset_elsewhere() {
    let world = World::new().await;
    let mut idle = world.client().await;
    let _idle_upstream = world.log_in(&mut idle).await;
    let mut busy = world.client().await;
    let mut busy_upstream = world.log_in(&mut busy).await;
    let half = &message(b'D', &[5; 100])[..50];
    busy_upstream.write_all(half).await.unwrap();
    assert_eq!(read_exactly(&mut busy, half.len()).await, half);
    world.proxy.hold(Port::Writes, "pg2 leads");
    world.proxy.path.cut(0, Sessions::All, "pg2 leads epoch 7");
    let (heard, ended) = read_all(&mut idle).await;
    ended.expect("an end that TLS vouches for");
    let (sqlstate, text) = parse_error(&heard);
    assert_eq!(sqlstate, "57P01");
    assert!(text.contains("epoch 7"), "{text}");
    soon(busy.read(&mut [0; 10])).await.expect_err("half an answer does not look whole");
}

#[tokio::test]
async fn renewed_certificate_is_shown_to_new_clients_only() {
    let world = World::new().await;
    let mut old = world.client().await;
    let mut upstream = world.log_in(&mut old).await;
    let kept = world.files.certificate.with_file_name("kept.crt");
    std::fs::copy(&world.files.certificate, &kept).unwrap();
    world.files.renew();
    let shown = world.proxy.path.client_tls().unwrap();
    shown.reload(&world.files.certificate, &world.files.key).unwrap();
    let mut new = world.client().await;
    drop(world.log_in(&mut new).await);
    let unknown = world.proxy.connect(Port::Writes).await;
    shake_hands(unknown, &kept, POSTGRESQL).await.expect_err("the old certificate is not shown any more");
    old.write_all(b"X\0\0\0\x04").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 5).await, b"X\0\0\0\x04");
}
