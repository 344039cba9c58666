//! TLS to etcd, from files that may be replaced while we run.

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::TlsFiles;

/// Reads the files as they are now. The error names the file.
pub(super) async fn read(files: &TlsFiles) -> Result<ClientTlsConfig, String> {
    let ca = read_file(&files.ca).await?;
    let cert = read_file(&files.cert).await?;
    let key = read_file(&files.key).await?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(cert, key)))
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("reading {}: {error}", path.display()))
}
