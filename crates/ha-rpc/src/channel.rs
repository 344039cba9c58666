//! Connections to an agent's gRPC interface.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::tls::{TlsError, TlsFiles};

/// Longest wait for a connection with its TLS handshake: hosts are neighbours, and a host without power does not answer
/// at all.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A ping goes out this often, also while nothing is said.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// A connection whose ping is not answered for so long is dead; TCP alone would wait for minutes.
pub const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Own certificate.
    #[error("connect to {name} at {address}: own certificate")]
    Tls {
        /// Whom.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: TlsError,
    },
    /// Refused, not reachable, or the handshake failed.
    #[error("connect to {name} at {address}")]
    Transport {
        /// Whom.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
    /// No answer.
    #[error("connect to {name} at {address}: no answer within {} ms", CONNECT_LIMIT.as_millis())]
    Silent {
        /// Whom.
        name: String,
        /// Where.
        address: SocketAddr,
    },
}

/// Connects to the agent of the member `name`; takes [`CONNECT_LIMIT`] at most. Certificates are read anew each time.
///
/// # Errors
/// When there is no connection by then.
pub async fn connect(name: &str, address: SocketAddr, tls: &TlsFiles) -> Result<Channel, ConnectError> {
    let named = || name.to_owned();
    let config = tls.client(name).map_err(|source| ConnectError::Tls { name: named(), address, source })?;
    let failed = |source| ConnectError::Transport { name: named(), address, source };
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(config))
        .map_err(failed)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true);
    match tokio::time::timeout(CONNECT_LIMIT, endpoint.connect()).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(ConnectError::Silent { name: named(), address }),
    }
}

/// A request that the caller and the server give up after `limit`.
pub fn with_deadline<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}
