//! TLS that ends here, from the client's first word to the last of the handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ha_routing::Refusal;
use rustls::server::Acceptor;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::begin::{Client, PATIENCE, Stop};
use super::client_stream::ClientStream;
use crate::client_tls::ALPN;

/// A handshake that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    /// Where an alert may be on its way.
    pub(super) socket: Option<TcpStream>,
}

impl Client {
    /// Goes on in TLS that ends here, and charges `patience` for the handshake.
    pub(super) async fn begin_tls(&mut self, patience: &mut Duration) -> Result<(), Stop> {
        let Some(tls) = &self.seat.shared().options.tls else { return Err(Stop::Silent) };
        let Some(socket) = self.stream.take_plain() else { return Err(Stop::Silent) };
        let begun = Instant::now();
        let said = std::mem::take(&mut self.early);
        let handshake = tokio::time::timeout_at(begun + *patience, shake_hands(tls.current(), socket, &said));
        let ended = self.seat.ends();
        let shaken = tokio::select! {
            biased;
            // There is no way to tell it why.
            () = ended => return Err(Stop::Silent),
            shaken = handshake => shaken,
        };
        let late = |_| Failed { why: format!("no handshake within {} s", PATIENCE.as_secs()), socket: None };
        let stream = shaken.map_err(late).and_then(|shaken| shaken).map_err(Stop::NoTls)?;
        *patience = patience.saturating_sub(begun.elapsed());
        self.seat.worker().counters.tls_sessions.add(1);
        if let Some(record) = &mut self.record {
            record.encrypted(version(&stream));
        }
        self.stream = ClientStream::Tls(stream);
        Ok(())
    }

    /// Refuses a client that said something between its request for TLS and the answer: that is not encrypted, and
    /// anybody may have put it there.
    pub(super) fn still_silent(&self) -> Result<(), Stop> {
        let stuffed = match &self.stream {
            ClientStream::Plain(socket) => matches!(socket.try_read(&mut [0]), Ok(1..)),
            ClientStream::Tls(_) | ClientStream::Gone => false,
        };
        if stuffed || !self.early.is_empty() {
            return Err(Stop::Refuse(Refusal::protocol_violation(
                "bytes follow the request for encryption before it was answered",
            )));
        }
        Ok(())
    }

    /// Refuses a client that began with TLS for something else.
    pub(super) fn speaks_postgresql(&self) -> Result<(), Stop> {
        match &self.stream {
            ClientStream::Tls(stream) if agreed(stream) => Ok(()),
            _ => Err(Stop::Refuse(Refusal::protocol_violation(
                "a connection that begins with TLS must name the protocol postgresql by ALPN",
            ))),
        }
    }
}

/// Does the handshake with a client that has said `said` of it already.
async fn shake_hands(
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
fn agreed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN)
}

/// The version, as PostgreSQL's own view of its sessions names it.
fn version(stream: &TlsStream<TcpStream>) -> &'static str {
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
