//! Cancel requests find the server of the session they mean.

use pg_proxy::data_path::Port;
use tokio::io::AsyncWriteExt;

use crate::harness::{FakeServer, Proxy, cancel, read_all, read_packet, until};

async fn three() -> (Proxy, Vec<FakeServer>) {
    let servers = vec![FakeServer::start().await, FakeServer::start().await, FakeServer::start().await];
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, |options| options.at_start.max_connections = 1);
    proxy.open(Port::Reads, &[1]);
    (proxy, servers)
}

#[tokio::test]
async fn known_key_goes_to_its_server_even_at_the_limit_and_during_a_hold() {
    for key in [&[1, 2, 3, 4][..], &[9; 32]] {
        let (proxy, servers) = three().await;
        let _session = proxy.session(Port::Reads, &servers[1], key).await;
        proxy.hold(Port::Reads, "nobody");
        let mut client = proxy.connect(Port::Writes).await;
        client.write_all(&cancel(4711, key)).await.unwrap();
        let mut upstream = servers[1].accept().await;
        assert_eq!(read_packet(&mut upstream).await, cancel(4711, key));
        servers[0].nobody_comes().await;
        servers[2].nobody_comes().await;
        drop(upstream);
        // The client waits for the end to know that the signal was sent.
        let (heard, ended) = read_all(&mut client).await;
        ended.unwrap();
        assert!(heard.is_empty());
        assert_eq!(proxy.counters().cancels_total, 1);
    }
}

#[tokio::test]
async fn unknown_key_goes_to_all() {
    let (proxy, servers) = three().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&cancel(1, &[7; 4])).await.unwrap();
    for server in &servers {
        let mut upstream = server.accept().await;
        assert_eq!(read_packet(&mut upstream).await, cancel(1, &[7; 4]));
    }
    read_all(&mut client).await.1.unwrap();
}

#[tokio::test]
async fn key_of_an_ended_session_is_forgotten() {
    let (proxy, servers) = three().await;
    drop(proxy.session(Port::Reads, &servers[1], &[5; 4]).await);
    until("the session ends", || proxy.path.sessions() == 0).await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&cancel(4711, &[5; 4])).await.unwrap();
    drop(servers[0].accept().await);
    drop(servers[2].accept().await);
}

#[tokio::test]
async fn silent_server_does_not_keep_the_client_for_long() {
    let (proxy, servers) = three().await;
    let mut client = proxy.connect(Port::Writes).await;
    client.write_all(&cancel(1, &[7; 4])).await.unwrap();
    let silent = servers[0].accept().await;
    let begun = std::time::Instant::now();
    read_all(&mut client).await.1.unwrap();
    assert!(begun.elapsed().as_secs() < 8, "after {:?}", begun.elapsed());
    drop(silent);
}
