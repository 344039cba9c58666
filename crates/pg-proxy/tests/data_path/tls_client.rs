//! Certificates of a proxy under test, and clients that verify them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pg_proxy::client_tls::ClientTls;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::soon;

/// What clients of PostgreSQL name by ALPN.
pub(crate) const POSTGRESQL: &[&[u8]] = &[b"postgresql"];

/// The files of one certificate for 127.0.0.1.
pub(crate) struct Files {
    _dir: tempfile::TempDir,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Self { certificate: dir.path().join("c.crt"), key: dir.path().join("c.key"), _dir: dir };
        files.renew();
        files
    }

    /// Another certificate, of another key.
    pub(crate) fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&self.certificate, cert.pem()).unwrap();
        std::fs::write(&self.key, signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&self.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn tls(&self) -> Arc<ClientTls> {
        Arc::new(ClientTls::read(&self.certificate, &self.key).unwrap())
    }
}

/// A client that trusts this certificate only.
pub(crate) fn connector(certificate: &Path, alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Does the handshake, with 127.0.0.1 as the name to verify.
pub(crate) async fn shake_hands(
    client: TcpStream,
    certificate: &Path,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    soon(connector(certificate, alpn).connect(local(), client)).await
}

/// The name under which a proxy under test is reached.
pub(crate) fn local() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into())
}
