//! A server that lets everybody in, says its name as a parameter, and gives everybody the same answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::client::{ANSWER, BEGIN, BEGUN};
use super::{Background, POSTGRES_PORT};

/// A server that lives until it is dropped.
pub(crate) struct FakePostgres {
    logins: Arc<AtomicU32>,
    _server: Background,
}

impl FakePostgres {
    pub(crate) fn start(name: &'static str, address: IpAddr) -> Self {
        let logins = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&logins);
        let server = Background::run(move || {
            let listener = std::net::TcpListener::bind(SocketAddr::new(address, POSTGRES_PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, name, Arc::clone(&counted)));
                }
            }
        });
        Self { logins, _server: server }
    }

    /// Sessions that were let in.
    pub(crate) fn logins(&self) -> u32 {
        self.logins.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, name: &str, logins: Arc<AtomicU32>) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut startup).await?;
    assert_eq!(&startup[..4], 196_608_u32.to_be_bytes(), "only plain startup packets are sent here");
    logins.fetch_add(1, Ordering::Relaxed);
    let mut answer = message(b'R', &0_u32.to_be_bytes());
    answer.extend(message(b'S', format!("server\0{name}\0").as_bytes()));
    answer.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
    answer.extend(message(b'Z', b"I"));
    stream.write_all(&answer).await?;
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            length if bytes[..length] == *BEGIN => stream.write_all(BEGUN).await?,
            _ => stream.write_all(ANSWER).await?,
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    let head: [&[u8]; 2] = [&[kind], &length.to_be_bytes()];
    [&head.concat(), body].concat()
}
