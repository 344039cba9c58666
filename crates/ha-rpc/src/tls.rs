//! Mutual TLS: both sides show a certificate of the cluster's authority.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// The files of one certificate (PEM). They are read when a connection is made, so a client uses rotated files without
/// a restart; a server reads them when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub struct TlsError {
    path: PathBuf,
    source: std::io::Error,
}

impl TlsFiles {
    /// For a server: shows its certificate, accepts only clients with one of the authority.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn server(&self) -> Result<ServerTlsConfig, TlsError> {
        let config = ServerTlsConfig::new().identity(self.identity()?);
        Ok(config.client_ca_root(self.authority()?).client_auth_optional(false))
    }

    /// For a client of the host called `server_name`: shows its certificate, accepts only a server whose certificate of
    /// the authority carries that name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn client(&self, server_name: &str) -> Result<ClientTlsConfig, TlsError> {
        let config = ClientTlsConfig::new().identity(self.identity()?);
        Ok(config.ca_certificate(self.authority()?).domain_name(server_name))
    }

    fn identity(&self) -> Result<Identity, TlsError> {
        Ok(Identity::from_pem(read(&self.cert)?, read(&self.key)?))
    }

    fn authority(&self) -> Result<Certificate, TlsError> {
        Ok(Certificate::from_pem(read(&self.ca)?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError { path: path.to_owned(), source })
}
