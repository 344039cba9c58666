//! How a gRPC server of ours listens.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::channel::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_LIMIT};
use crate::tls::{TlsError, TlsFiles};

/// A TLS handshake that takes longer is given up, so that idle connections do not pile up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// Streams that one connection may have open: a talk and a few requests of people; a broken client gets no more.
const STREAMS_PER_CONNECTION: u32 = 16;

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

/// Listens on exactly this address.
///
/// # Errors
/// When the address is not there or taken.
pub fn listen(address: SocketAddr) -> Result<TcpIncoming, ServerError> {
    let incoming = TcpIncoming::bind(address).map_err(|source| ServerError::Listen { address, source })?;
    Ok(incoming.with_nodelay(Some(true)))
}
