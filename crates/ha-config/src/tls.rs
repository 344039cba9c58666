//! `[tls]`: this host's certificate.

use std::path::PathBuf;

use crate::reader::Table;

/// One certificate per host, used by the agent's gRPC, as client of etcd and by PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate of the cluster's authority (PEM).
    pub ca: PathBuf,
    /// This host's certificate (PEM).
    pub cert: PathBuf,
    /// Its key (PEM, PKCS 8).
    pub key: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca: PathBuf::from("/etc/matriarch/tls/ca.crt"),
            cert: PathBuf::from("/etc/matriarch/tls/host.crt"),
            key: PathBuf::from("/etc/matriarch/tls/host.key"),
        }
    }
}

impl Tls {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        Self {
            ca: table.path("ca").unwrap_or(default.ca),
            cert: table.path("cert").unwrap_or(default.cert),
            key: table.path("key").unwrap_or(default.key),
        }
    }
}
