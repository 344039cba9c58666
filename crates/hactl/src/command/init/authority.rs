//! The cluster's own certificate authority.

use std::net::IpAddr;

use anyhow::Context as _;
use ha_config::Cluster;
use ha_core::ClusterName;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

const AUTHORITY_LIFETIME: Duration = Duration::days(3653);
const HOST_LIFETIME: Duration = Duration::days(730);
/// Certificates begin in the past, because hosts' clocks differ and some are set only after the first boot.
const BACKDATED: Duration = Duration::days(1);

/// Signs certificates of one cluster.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key (PEM, PKCS 8).
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Whom a certificate names.
pub(super) struct Holder {
    common_name: String,
    alternatives: Alternatives,
    purposes: Vec<ExtendedKeyUsagePurpose>,
}

#[derive(Default)]
struct Alternatives {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    /// `matriarch://<cluster>/<role>/<name>`: what the gRPC interfaces go by.
    uri: Option<String>,
}

impl Holder {
    /// A database host. Proxies pass TLS through, so its PostgreSQL also answers for the floating addresses and for the
    /// proxies: `sslmode=verify-full` compares the name in the connection string with this certificate.
    pub(super) fn host(cluster: &Cluster, name: &str, address: IpAddr) -> Self {
        let mut holder =
            Self::server(name, with_vips(cluster, address), Some(uri(&cluster.name, "host", name)));
        for proxy in cluster.proxies.iter().filter(|proxy| proxy.name.as_str() != name) {
            holder.alternatives.dns.push(proxy.name.to_string());
            holder.alternatives.addresses.push(proxy.address);
        }
        holder
    }

    /// A proxy host.
    pub(super) fn proxy(cluster: &Cluster, name: &str, address: IpAddr) -> Self {
        Self::server(name, with_vips(cluster, address), Some(uri(&cluster.name, "proxy", name)))
    }

    /// An etcd server. Without the URI: its key belongs to another user and must open no agent's interface.
    pub(super) fn etcd(name: &str, address: IpAddr) -> Self {
        Self { common_name: format!("etcd-{name}"), ..Self::server(name, vec![address], None) }
    }

    /// A person.
    pub(super) fn admin(cluster: &ClusterName) -> Self {
        Self {
            common_name: "admin".to_owned(),
            alternatives: Alternatives {
                uri: Some(uri(cluster, "admin", "admin")),
                ..Alternatives::default()
            },
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    /// Servers are clients as well: agents of each other, etcd of its peers and of itself.
    fn server(name: &str, addresses: Vec<IpAddr>, uri: Option<String>) -> Self {
        Self {
            common_name: name.to_owned(),
            alternatives: Alternatives { dns: vec![name.to_owned()], addresses, uri },
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

fn with_vips(cluster: &Cluster, address: IpAddr) -> Vec<IpAddr> {
    [address].into_iter().chain(cluster.vips.iter().map(|vip| vip.address)).collect()
}

fn uri(cluster: &ClusterName, role: &str, name: &str) -> String {
    format!("matriarch://{cluster}/{role}/{name}")
}

impl Authority {
    /// A new authority with a new key.
    pub(super) fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("Matriarch {} authority", cluster.name));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_lifetime(&mut params, AUTHORITY_LIFETIME);
        let issuer = CertifiedIssuer::self_signed(params, key).context("sign the authority's certificate")?;
        Ok(Self { issuer })
    }

    /// The authority's certificate (PEM).
    pub(super) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's key (PEM, PKCS 8).
    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A new key and a certificate for it.
    pub(super) fn issue(&self, holder: &Holder) -> anyhow::Result<Issued> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, holder.common_name.as_str());
        params.subject_alt_names = alternatives(&holder.alternatives)
            .with_context(|| format!("name the holder of the certificate for {}", holder.common_name))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&holder.purposes);
        params.use_authority_key_identifier_extension = true;
        set_lifetime(&mut params, HOST_LIFETIME);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("sign the certificate for {}", holder.common_name))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")
}

fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
}

fn alternatives(holder: &Alternatives) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = Vec::new();
    for dns in &holder.dns {
        names.push(SanType::DnsName(dns.as_str().try_into()?));
    }
    names.extend(holder.addresses.iter().copied().map(SanType::IpAddress));
    if let Some(uri) = &holder.uri {
        names.push(SanType::URI(uri.as_str().try_into()?));
    }
    Ok(names)
}
