//! `[etcd]`: where the consensus store is.

use std::path::PathBuf;

/// Client side of etcd. The server's own configuration is written by `hactl init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// `https://ip:port` (or `http://` when `tls` is off); default: port 2379 on every database host.
    pub endpoints: Vec<String>,
    /// Certificate of the authority that signed the servers' certificates.
    pub ca: PathBuf,
    /// This host's client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether the store is reached by TLS.
    pub tls: bool,
}

/// etcd's client port.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd's port for its peers.
pub const ETCD_PEER_PORT: u16 = 2380;
