//! One data path follows another on the same socket, as in a successor.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pg_proxy::data_path::{self, DataPath, Port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{FakeServer, Proxy, login_done, read_packet, soon, startup, until};

fn start_on(listener: &std::net::TcpListener, server: SocketAddr) -> Proxy {
    let copy = listener.try_clone().expect("a copy");
    let proxy = Proxy::start_by(
        &[server],
        |_| {},
        |options, table, reports| DataPath::start_on(vec![(Port::Writes, copy)], options, table, reports),
    );
    proxy.open(Port::Writes, &[0]);
    proxy
}

/// Logs in and leaves, again and again; gives the failures.
async fn come_and_go(address: SocketAddr, stop: Arc<AtomicBool>) -> Vec<io::Error> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let visit = async {
            let mut client = TcpStream::connect(address).await?;
            client.write_all(&startup("alice")).await?;
            let mut login = login_done(1, &[2; 4]);
            client.read_exact(&mut login).await
        };
        failures.extend(soon(visit).await.err());
    }
    failures
}

#[tokio::test]
async fn a_client_that_comes_while_one_process_follows_another_is_served_by_either() {
    let listener = data_path::listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = FakeServer::start().await;
    let upstream = server.address;
    tokio::spawn(async move {
        loop {
            let mut session = server.accept_patiently().await;
            tokio::spawn(async move {
                read_packet(&mut session).await;
                // The client may be gone.
                drop(session.write_all(&login_done(1, &[2; 4])).await);
                drop(session.read(&mut [0]).await);
            });
        }
    });
    let mut own = start_on(&listener, upstream);
    own.path.listen();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(come_and_go(address, Arc::clone(&stop)))).collect();
    for _ in 0..50 {
        let next = start_on(&listener, upstream);
        assert!(!next.path.is_empty(), "nobody has come, but somebody may");
        next.path.listen();
        own.path.drain();
        until("everybody has left the old one", || own.path.is_empty()).await;
        // This is the end of its threads and of whatever they still have.
        own = next;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let failures = client.await.expect("it ends");
        assert!(failures.is_empty(), "{failures:?}");
    }
}
