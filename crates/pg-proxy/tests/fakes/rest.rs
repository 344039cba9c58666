//! A REST interface as Patroni's: knows `/primary` and `/replica`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Background;

/// What the member is by its REST interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestRole {
    Primary = 1,
    Replica = 2,
    Neither = 3,
}

/// A server that lives until it is dropped.
pub(crate) struct FakeRest {
    role: Arc<AtomicU8>,
    _server: Background,
}

impl FakeRest {
    pub(crate) fn start(address: IpAddr, role: RestRole) -> Self {
        let shared = Arc::new(AtomicU8::new(role as u8));
        let role = Arc::clone(&shared);
        let server = Background::run(move || {
            let listener =
                std::net::TcpListener::bind(SocketAddr::new(address, ha_config::REST_PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let role = role.load(Ordering::Relaxed);
                    let mut bytes = vec![0; 2048];
                    let Ok(length) = stream.read(&mut bytes).await else { continue };
                    let asked = String::from_utf8_lossy(&bytes[..length]);
                    let yes = asked.starts_with("OPTIONS /primary ") && role == RestRole::Primary as u8
                        || asked.starts_with("OPTIONS /replica ") && role == RestRole::Replica as u8;
                    let code = if yes { "200 OK" } else { "503 Service Unavailable" };
                    let answer = format!("HTTP/1.0 {code}\r\nServer: BaseHTTP/0.6\r\n\r\n");
                    // The proxy may have given up.
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            }
        });
        Self { role: shared, _server: server }
    }

    pub(crate) fn become_role(&self, role: RestRole) {
        self.role.store(role as u8, Ordering::Relaxed);
    }
}
