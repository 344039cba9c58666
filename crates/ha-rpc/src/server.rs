//! How a gRPC server of ours listens.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::Server;

use crate::channel::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_LIMIT};
use crate::tls::{TlsError, TlsFiles};

/// A TLS handshake that takes longer is given up, so that idle connections do not pile up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// Streams that one connection may have open: a talk and a few requests of people; a broken client gets no more.
const STREAMS_PER_CONNECTION: u32 = 16;

/// Pause after accept failed; trying on would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Own certificate's files.
    #[error("gRPC server: own certificate")]
    Tls(#[source] TlsError),
    /// Own certificate's content.
    #[error("gRPC server: own certificate")]
    Certificate(#[source] tonic::transport::Error),
    /// The address.
    #[error("gRPC server: listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("gRPC server")]
    Serve(#[source] tonic::transport::Error),
}

/// A server with mutual TLS that notices dead callers.
///
/// # Errors
/// When the certificate is not usable.
pub fn builder(tls: &TlsFiles) -> Result<Server, ServerError> {
    let config = tls.server().map_err(ServerError::Tls)?.timeout(HANDSHAKE_LIMIT);
    let server = Server::builder().tls_config(config).map_err(ServerError::Certificate)?;
    Ok(server
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_LIMIT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION))
}

/// Listens on exactly this address. Must be called in a runtime.
///
/// # Errors
/// When the address is not there or taken.
pub fn listen(address: SocketAddr) -> Result<Incoming, ServerError> {
    let told = |source| ServerError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    listen_on(listener)
}

/// Takes callers on a socket that listens already and does not block. Must be called in a runtime.
///
/// # Errors
/// When it cannot be watched.
pub fn listen_on(listener: std::net::TcpListener) -> Result<Incoming, ServerError> {
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let listener =
        TcpListener::from_std(listener).map_err(|source| ServerError::Listen { address, source })?;
    Ok(Incoming { listener, pause: None })
}

/// Callers as they come. It never fails: a server would end at the first error, and the program with it, when all that
/// is missing is a descriptor that is free again a moment later.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Stream for Incoming {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((caller, _)) => {
                    // Without it answers are a little slower, no more.
                    drop(caller.set_nodelay(true));
                    return Poll::Ready(Some(Ok(caller)));
                }
                Err(error) => {
                    tracing::warn!(%error, "gRPC server: nobody can be accepted for a moment");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}
