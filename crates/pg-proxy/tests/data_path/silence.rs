//! Sessions in which one side leaves the other waiting.

use std::time::Duration;

use pg_proxy::data_path::{Options, Port, Settings};
use tokio::io::AsyncWriteExt;

use crate::harness::{FakeServer, Proxy, message, read_all, read_exactly, read_refusal};

async fn proxy(server: &FakeServer, adjust: impl FnOnce(&mut Options)) -> Proxy {
    let proxy = Proxy::start(&[server.address], adjust);
    proxy.open(Port::Writes, &[0]);
    proxy
}

#[tokio::test]
async fn client_that_says_nothing_more_is_told_so() {
    let server = FakeServer::start().await;
    let limit = Some(Duration::from_secs(1));
    let proxy = proxy(&server, |options| options.at_start.client_timeout = limit).await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "57P05");
    assert!(text.contains("nothing came from the client for 1 s"), "{text}");
    assert!(read_all(&mut upstream).await.0.is_empty(), "its server is let go");
}

#[tokio::test]
async fn client_that_waits_for_its_answer_is_not_silent() {
    let server = FakeServer::start().await;
    let limits = (Some(Duration::from_secs(1)), Some(Duration::from_secs(3)));
    let proxy = proxy(&server, |options| {
        (options.at_start.client_timeout, options.at_start.server_timeout) = limits;
    })
    .await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let question = message(b'Q', b"SELECT pg_sleep(60)\0");
    client.write_all(&question).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, question.len()).await, question);
    // The client's limit passes first, and is not its: the server has the word.
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "08006");
    assert!(text.contains("no answer of pg1 for 3 s"), "{text}");
}

#[tokio::test]
async fn limit_that_comes_into_force_counts_for_sessions_that_are_silent_already() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, _upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let mut settings = Settings::clone(&proxy.path.settings());
    settings.client_timeout = Some(Duration::from_secs(1));
    proxy.path.apply(settings);
    assert_eq!(read_refusal(&mut client).await.0, "57P05");
}
