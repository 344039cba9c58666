//! Who is at the other end, by its certificate.

use ha_core::ClusterName;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::access::Role;

/// The holder of a certificate: its name `matriarch://<cluster>/<role>/<name>` (URI in the subject's alternative names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Cluster that it belongs to.
    pub cluster: ClusterName,
    /// What it is.
    pub role: Role,
    /// Its name; of a host the member's name.
    pub name: String,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("read the peer's certificate: {0}")]
    Unreadable(String),
    /// It carries no name of ours.
    #[error(
        "the peer's certificate carries no name of the form matriarch://<cluster>/{{host|proxy|admin}}/<name>"
    )]
    Nameless,
    /// It carries several.
    #[error("the peer's certificate carries more than one matriarch:// name")]
    Ambiguous,
}

impl PeerIdentity {
    /// Reads the identity out of a certificate (DER) whose signature was verified already.
    ///
    /// # Errors
    /// When the certificate carries not exactly one name of ours.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |error: &dyn std::fmt::Display| IdentityError::Unreadable(error.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
        let mut found = None;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            let GeneralName::URI(uri) = name else { continue };
            let Some(rest) = uri.strip_prefix("matriarch://") else { continue };
            let identity = Self::of_path(rest).ok_or(IdentityError::Nameless)?;
            if found.replace(identity).is_some() {
                return Err(IdentityError::Ambiguous);
            }
        }
        found.ok_or(IdentityError::Nameless)
    }

    /// Reads `<cluster>/<role>/<name>`.
    fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || name.is_empty() {
            return None;
        }
        Some(Self { cluster: cluster.parse().ok()?, role: role.parse().ok()?, name: name.to_owned() })
    }
}

impl std::fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "matriarch://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// When the first certificate of a PEM file ends, seconds since 1970; none when it cannot be read.
pub fn end_of_validity(pem: &[u8]) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn exactly_one_name_of_ours_is_an_identity() {
        let der = certificate(&["https://elsewhere/x", "matriarch://demo/host/pg1"]);
        let identity = PeerIdentity::of_certificate(&der).unwrap();
        assert_eq!(identity.to_string(), "matriarch://demo/host/pg1");
        assert_eq!(identity.role, Role::Host);
        for (uris, error) in [
            (&[] as &[&str], IdentityError::Nameless),
            (&["https://elsewhere/x"], IdentityError::Nameless),
            (&["matriarch://demo/root/pg1"], IdentityError::Nameless),
            (&["matriarch://demo/host/pg1/more"], IdentityError::Nameless),
            (&["matriarch://demo/host/"], IdentityError::Nameless),
            (&["matriarch://demo/host/pg1", "matriarch://demo/admin/admin"], IdentityError::Ambiguous),
        ] {
            assert_eq!(PeerIdentity::of_certificate(&certificate(uris)), Err(error), "{uris:?}");
        }
        assert!(matches!(PeerIdentity::of_certificate(b"junk"), Err(IdentityError::Unreadable(_))));
    }
}
