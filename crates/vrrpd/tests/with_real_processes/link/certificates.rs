//! Certificates of the two hosts and an administrator.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Writes the authority's certificate, and certificate and key of each.
pub(crate) fn issue(dir: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
    std::fs::write(dir.join("ca.crt"), issuer.pem()).expect("write a certificate");
    for (role, name) in [("proxy", "ha1"), ("proxy", "ha2"), ("admin", "admin")] {
        let key = KeyPair::generate().expect("a key");
        let uri = format!("matriarch://test/{role}/{name}");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(name.try_into().expect("a name")),
            SanType::URI(uri.as_str().try_into().expect("a URI")),
        ];
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("write a certificate");
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("write a key");
    }
}
