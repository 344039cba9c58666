//! A network between a client and etcd that can be cut or silenced.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::etcd_server::free_port;

pub(crate) struct Relay {
    port: u16,
    target: u16,
    held: watch::Sender<bool>,
    accepting: Mutex<Option<AbortHandle>>,
}

impl Relay {
    pub(crate) async fn start(target: u16) -> Self {
        let relay =
            Self { port: free_port(), target, held: watch::Sender::new(false), accepting: Mutex::new(None) };
        relay.join().await;
        relay
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Closes every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        if let Some(task) = self.accepting.lock().expect("the task").take() {
            task.abort();
        }
    }

    /// Takes connections (again).
    pub(crate) async fn join(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("binding the relay");
        let task = tokio::spawn(accept(listener, self.target, self.held.subscribe()));
        *self.accepting.lock().expect("the task") = Some(task.abort_handle());
    }

    /// Passes nothing on, without closing anything. What comes in meanwhile is kept.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Passes everything on, also what was kept.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: u16, held: watch::Receiver<bool>) {
    // Dropped, and so aborted, together with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let held = held.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::join!(
                pass(client_read, server_write, held.clone()),
                pass(server_read, client_write, held)
            );
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || held.wait_for(|held| !held).await.is_err() {
            break;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}
