//! What one side says is what the other hears.

use std::time::Duration;

use pg_proxy::data_path::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::harness::{
    FakeServer, Proxy, login_done, message, parse_error, read_all, read_exactly, read_packet, reset, soon,
    until,
};

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(length).collect()
    }
}

async fn write_in_pieces(mut stream: OwnedWriteHalf, data: Vec<u8>, seed: u64) -> OwnedWriteHalf {
    let mut noise = Noise(seed);
    let mut left = &data[..];
    while !left.is_empty() {
        let longest = [3, 200, 9_000, 300_000][noise.below(4)];
        let (piece, rest) = left.split_at(left.len().min(1 + noise.below(longest)));
        stream.write_all(piece).await.unwrap();
        left = rest;
        if noise.below(8) == 0 {
            tokio::task::yield_now().await;
        }
    }
    stream
}

async fn read_with_pauses(mut stream: OwnedReadHalf, length: usize, seed: u64) -> (Vec<u8>, OwnedReadHalf) {
    let mut noise = Noise(seed);
    let mut data = Vec::new();
    let mut buffer = vec![0; 100_000];
    while data.len() < length {
        let limit = 1 + noise.below(buffer.len());
        let read = stream.read(&mut buffer[..limit]).await.unwrap();
        assert!(read > 0, "ended after {} of {length} bytes", data.len());
        data.extend_from_slice(&buffer[..read]);
        if noise.below(16) == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    (data, stream)
}

#[tokio::test]
async fn bytes_arrive_unchanged_and_in_order_in_both_directions_at_once() {
    let (proxy, server) = Proxy::with_leader().await;
    let mut noise = Noise(0x5eed_0001);
    let (up, down) = (noise.bytes(6_000_000), noise.bytes(8_000_000));
    let (client, upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = upstream.into_split();
    let all = async {
        tokio::join!(
            write_in_pieces(client_out, up.clone(), 11),
            write_in_pieces(server_out, down.clone(), 12),
            read_with_pauses(server_in, up.len(), 13),
            read_with_pauses(client_in, down.len(), 14),
        )
    };
    let (_client_out, _server_out, (heard_up, _), (heard_down, _)) =
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    assert!(heard_up == up, "the server heard something else");
    assert!(heard_down == down, "the client heard something else");
    let counters = proxy.counters().upstream(0);
    assert_eq!(counters.bytes_to_upstream, up.len() as u64);
    assert_eq!(counters.bytes_to_client, (down.len() + login_done(4711, &[1; 4]).len()) as u64);
}

#[tokio::test]
async fn slow_reader_stops_its_sender() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let piece = vec![7; 1 << 20];
    let mut written = 0_usize;
    // Until nothing moves any more: what the kernel's buffers take, and little more.
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(300), upstream.write(&piece)).await {
        written += done.unwrap();
        assert!(written < 64 << 20, "somebody keeps what the client does not read");
    }
    drop(upstream);
    let (heard, ended) = read_all(&mut client).await;
    ended.unwrap();
    assert_eq!(heard.len(), written);
    assert!(heard.iter().all(|&byte| byte == 7));
}

#[tokio::test]
async fn end_together_with_data_is_passed_on_behind_it() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    upstream.write_all(b"last words").await.unwrap();
    drop(upstream);
    let (heard, ended) = read_all(&mut client).await;
    ended.unwrap();
    assert_eq!(heard, b"last words");
    drop(client);
    until("the session ends", || proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn client_that_closes_its_half_hears_the_answer() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    client.write_all(b"X\0\0\0\x04").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut upstream).await.0, b"X\0\0\0\x04");
    upstream.write_all(b"answer").await.unwrap();
    drop(upstream);
    assert_eq!(read_all(&mut client).await.0, b"answer");
    until("the session ends", || proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn half_closed_session_ends_after_five_silent_seconds() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    client.shutdown().await.unwrap();
    let begun = std::time::Instant::now();
    until("the session ends", || proxy.path.sessions() == 0).await;
    assert!(begun.elapsed() > Duration::from_secs(4), "too early: {:?}", begun.elapsed());
    drop(upstream);
}

#[tokio::test]
async fn reset_of_the_client_ends_the_server_side() {
    let (proxy, server) = Proxy::with_leader().await;
    let (client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    reset(client);
    let (heard, ended) = read_all(&mut upstream).await;
    assert!(heard.is_empty());
    ended.expect("a mere end: a reset would fill the server's log");
    drop(upstream);
    until("the session ends", || proxy.path.sessions() == 0).await;
}

#[tokio::test]
async fn reset_of_the_server_is_told_between_messages() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    reset(upstream);
    let (heard, ended) = read_all(&mut client).await;
    ended.unwrap();
    assert_eq!(parse_error(&heard).0, "57P02");
}

#[tokio::test]
async fn reset_of_the_server_inside_a_message_is_a_reset_for_the_client() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let half = &message(b'D', &[5; 100])[..50];
    upstream.write_all(half).await.unwrap();
    assert_eq!(read_exactly(&mut client, half.len()).await, half);
    reset(upstream);
    let error = soon(client.read(&mut [0; 10])).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn last_words_of_a_server_reach_a_client_that_is_talking() {
    let (proxy, server) = Proxy::with_leader().await;
    for _ in 0..50 {
        let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
        // The server goes without having read what the client said: its kernel answers with a reset.
        client.write_all(&[0; 2_000]).await.unwrap();
        upstream.write_all(&crate::harness::error_response("57P01")).await.unwrap();
        let mut first = [0; 5];
        upstream.shutdown().await.unwrap();
        soon(client.read_exact(&mut first)).await.unwrap();
        drop(upstream);
        client.write_all(&[0; 2_000]).await.unwrap();
        let mut rest = Vec::new();
        soon(client.read_to_end(&mut rest)).await.expect("the text is not destroyed");
        assert_eq!(parse_error(&[&first[..], &rest].concat()).0, "57P01");
    }
}

#[tokio::test]
async fn server_sees_the_address_of_the_client_where_that_is_wanted() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| options.at_start.name_clients = true);
    proxy.open(Port::Writes, &[0]);
    let client = proxy.client(Port::Writes, "alice").await;
    let mut upstream = server.accept().await;
    let packet = String::from_utf8(read_packet(&mut upstream).await).unwrap();
    let address = client.local_addr().unwrap();
    assert!(packet.ends_with(&format!("user\0alice\0application_name\0{address}\0\0")), "{packet:?}");
}
