//! The certificate that clients see when their TLS ends at this proxy. Read at the start, and again whenever somebody wishes:
//! sessions that are open keep what they began with.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ha_config::{Problem, Problems, Routing, TlsEnd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

/// Name of the protocol in ALPN, as PostgreSQL registered it ("SSL Session Encryption" in the chapter on its protocol).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Bits of a key file's mode that let others than its owner and his group read it, or anybody else change it.
const TOO_OPEN: u32 = 0o037;

const CERTIFICATE: &str = "routing.tls_certificate";
const KEY: &str = "routing.tls_key";

/// The certificate and key in force.
#[derive(Debug)]
pub struct ClientTls {
    in_force: ArcSwap<InForce>,
}

#[derive(Debug)]
struct InForce {
    config: Arc<ServerConfig>,
    /// Seconds since 1970.
    ends: Option<i64>,
}

impl ClientTls {
    /// What the file asks for; `None` when TLS is passed through.
    ///
    /// # Errors
    /// All problems of both files at once.
    pub fn load(routing: &Routing) -> Result<Option<Self>, Problems> {
        match &routing.tls {
            TlsEnd::PassThrough => Ok(None),
            TlsEnd::Terminate { certificate, key } => Self::read(certificate, key).map(Some),
        }
    }

    /// Of these files (PEM).
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Problems> {
        Ok(Self { in_force: ArcSwap::from_pointee(load(certificate, key)?) })
    }

    /// Reads both files, the same as before or others, for connections that come from now on.
    ///
    /// # Errors
    /// All problems of both files at once; what was in force stays.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<(), Problems> {
        self.in_force.store(Arc::new(load(certificate, key)?));
        Ok(())
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_force.load().config)
    }

    /// When the certificate in force ends, seconds since 1970; none when that cannot be read.
    pub fn ends(&self) -> Option<i64> {
        self.in_force.load().ends
    }
}

fn load(certificate: &Path, key: &Path) -> Result<InForce, Problems> {
    let ((chain, ends), secret) = match (read_chain(certificate), read_key(key)) {
        (Ok(chain), Ok(secret)) => (chain, secret),
        (Err(problem), Ok(_)) | (Ok(_), Err(problem)) => return Err(Problems::one(problem)),
        (Err(one), Err(other)) => return Err(Problems::one(one).and(Problems::one(other))),
    };
    let unusable = |error: rustls::Error| {
        let found = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key of another certificate than {}", certificate.display())
            }
            error => format!("a certificate and key that cannot be used ({error})"),
        };
        let expected =
            "the key of that certificate: RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519";
        Problems::one(Problem::new(key, None, KEY, found, expected))
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // PostgreSQL's clients never resume a session.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(InForce { config: Arc::new(config), ends })
}

/// The certificates, and when the first of them ends.
fn read_chain(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Option<i64>), Problem> {
    let expected = "the proxy's certificate in PEM (-----BEGIN CERTIFICATE-----), then those between it and its authority";
    let problem = |found: String| Problem::new(path, None, CERTIFICATE, found, expected);
    let text = fs::read(path).map_err(|error| problem(error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(problem("a file without any certificate".to_owned())),
        Ok(chain) => Ok((chain, ha_rpc::identity::end_of_validity(&text))),
        Err(error) => Err(problem(broken(&error))),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let expected = "the certificate's key in PEM, without a passphrase";
    let problem = |found: String, expected: &str| Problem::new(path, None, KEY, found, expected);
    let read =
        || -> io::Result<_> { Ok((fs::metadata(path)?.permissions().mode() & 0o7777, fs::read(path)?)) };
    let (mode, text) = read().map_err(|error| problem(error.to_string(), expected))?;
    if mode & TOO_OPEN != 0 {
        let expected = format!("0600, or 0640 where a group has to read it: chmod 0600 {}", path.display());
        return Err(problem(format!("mode {mode:04o}"), &expected));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => problem("a file without any key".to_owned(), expected),
        error => problem(broken(&error), expected),
    })
}

fn broken(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section without its end",
        pem::Error::IllegalSectionStart { .. } => "a section without a whole first line",
        pem::Error::Base64Decode(_) => "a section that is not in Base64",
        _ => "unreadable",
    };
    format!("a file that is not PEM ({what})")
}

#[cfg(test)]
mod tests;
