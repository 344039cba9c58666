//! TLS that ends here, from the client's first word to the last of the handshake.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_tls::ALPN;

/// A handshake that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    /// Where an alert may be on its way.
    pub(super) socket: Option<TcpStream>,
}

/// Does the handshake with a client that has said `said` of it already.
pub(super) async fn shake_hands(
    config: Arc<ServerConfig>,
    socket: TcpStream,
    said: &[u8],
) -> Result<Box<TlsStream<TcpStream>>, Failed> {
    let mut acceptor = Acceptor::default();
    let mut left = said;
    while !left.is_empty() {
        match acceptor.read_tls(&mut left) {
            Ok(1..) => {}
            Ok(0) => break,
            Err(error) => return Err(Failed { why: error.to_string(), socket: Some(socket) }),
        }
    }
    let mut hello = LazyConfigAcceptor::new(acceptor, socket);
    let begun = match (&mut hello).await {
        Ok(begun) => begun,
        Err(error) => return Err(Failed { why: words(&error), socket: hello.take_io() }),
    };
    match begun.into_stream(config).into_fallible().await {
        Ok(stream) => Ok(Box::new(stream)),
        Err((error, socket)) => Err(Failed { why: words(&error), socket: Some(socket) }),
    }
}

/// Whether the client agreed to speak PostgreSQL's protocol. Whoever begins with TLS has to, lest a client of another
/// protocol is led here in the belief that this is its server.
pub(super) fn agreed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN)
}

/// The version, as PostgreSQL's own view of its sessions names it.
pub(super) fn version(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the client left during the handshake".to_owned(),
        _ => error.to_string(),
    }
}
