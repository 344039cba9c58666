//! Commits that were confirmed by less than the cluster's mode wants.

use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{
    FakeServer, Proxy, message, parse_error, read_all, read_exactly, read_packet, read_refusal, soon, startup,
};

/// What PostgreSQL 15 sends when the wait of a commit is cancelled.
fn cancelled_commit() -> (Vec<u8>, Vec<u8>) {
    let warning = b"SWARNING\0VWARNING\0C01000\0\
        Mcanceling wait for synchronous replication due to user request\0\
        DThe transaction has already committed locally, but might not have been replicated to the standby.\0\
        Fsyncrep.c\0L288\0RSyncRepWaitForLSN\0\0";
    (message(b'N', warning), [message(b'C', b"COMMIT\0"), message(b'Z', b"I")].concat())
}

#[tokio::test]
async fn commit_whose_wait_was_cancelled_is_an_error_and_no_success() {
    let (proxy, server) = Proxy::with_leader().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let (warning, success) = cancelled_commit();
    // Cut so that the end of the warning and the success come together.
    upstream.write_all(&warning[..50]).await.unwrap();
    assert_eq!(read_exactly(&mut client, 50).await, warning[..50]);
    upstream.write_all(&[&warning[50..], &success].concat()).await.unwrap();
    assert_eq!(read_exactly(&mut client, warning.len() - 50).await, warning[50..]);
    let (sqlstate, text) = read_refusal(&mut client).await;
    assert_eq!(sqlstate, "08007");
    assert!(text.contains("wait for its standbys was cancelled"), "{text}");
    assert!(read_all(&mut upstream).await.0.is_empty(), "its server is let go");
}

#[tokio::test]
async fn where_it_may_pass_the_success_passes() {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| options.at_start.refuse_cancelled_commits = false);
    proxy.open(Port::Writes, &[0]);
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let (warning, success) = cancelled_commit();
    let all = [warning, success].concat();
    upstream.write_all(&all).await.unwrap();
    assert_eq!(read_exactly(&mut client, all.len()).await, all);
}

async fn strict() -> (Proxy, FakeServer) {
    let server = FakeServer::start().await;
    let proxy = Proxy::start(&[server.address], |options| options.at_start.refuse_lowered_commits = true);
    proxy.open(Port::Writes, &[0]);
    (proxy, server)
}

#[tokio::test]
async fn statement_that_lowers_commits_never_reaches_the_server() {
    let (proxy, server) = strict().await;
    let (mut client, mut upstream) = proxy.session(Port::Writes, &server, &[1; 4]).await;
    let harmless = message(b'Q', b"SHOW synchronous_commit\0");
    client.write_all(&harmless).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, harmless.len()).await, harmless);
    let harmful = message(b'Q', b"SET synchronous_commit = off; INSERT INTO t VALUES (1)\0");
    client.write_all(&harmful[..20]).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 20).await, harmful[..20]);
    client.write_all(&harmful[20..]).await.unwrap();
    assert_eq!(read_refusal(&mut client).await.0, "42501");
    assert!(read_all(&mut upstream).await.0.is_empty(), "nothing more of it");
}

#[tokio::test]
async fn login_that_lowers_commits_is_refused() {
    let (proxy, server) = strict().await;
    for (name, value) in [("options", "-c Synchronous-Commit=off"), ("synchronous_commit", "local")] {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", "alice", name, value, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
        packet.extend(body);
        let mut client = proxy.connect(Port::Writes).await;
        client.write_all(&packet).await.unwrap();
        assert_eq!(read_refusal(&mut client).await.0, "42501", "{name}");
    }
    server.nobody_comes().await;
}

#[tokio::test]
async fn statement_sent_together_with_the_login_is_looked_at_too() {
    let (proxy, server) = strict().await;
    let mut client = proxy.connect(Port::Writes).await;
    let harmful = message(b'Q', b"SET synchronous_commit = off\0");
    client.write_all(&[startup("alice"), harmful].concat()).await.unwrap();
    let mut upstream = server.accept().await;
    assert_eq!(read_packet(&mut upstream).await, startup("alice"));
    let greeting = message(b'R', &[0; 4]);
    upstream.write_all(&greeting).await.unwrap();
    let (answer, _) = read_all(&mut client).await;
    assert!(answer.starts_with(&greeting), "{answer:?}");
    assert_eq!(parse_error(&answer[greeting.len()..]).0, "42501");
    assert!(soon(read_all(&mut upstream)).await.0.is_empty());
}
