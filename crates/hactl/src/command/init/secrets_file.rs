//! The texts of `secrets.toml`: each host gets only what its role needs.

use anyhow::Context as _;
use ha_config::{Cluster, VipSigning};

use crate::exit_code::{Code, Stop};

/// Path on the host.
pub(super) const PATH: &str = "/etc/matriarch/secrets.toml";

/// Gives the password of VRRP version 2 when the other routers have one already, such as a keepalived pair that is
/// being replaced. By the environment, because arguments can be seen by everybody on the machine.
const VRRP_VARIABLE: &str = "MATRIARCH_VRRP_PASSWORD";
/// Room for it in an advertisement.
const VRRP_PASSWORD_BYTES: usize = 8;

/// The secrets of one cluster, the same on every host that has them.
pub(super) struct Secrets {
    database: String,
    vrrp: Option<String>,
}

impl Secrets {
    /// New random values. A password of VRRP only when a floating address uses version 2 (version 3 has none) and no
    /// signatures; a key for these where they are used.
    pub(super) fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        Self::with(cluster, std::env::var(VRRP_VARIABLE).ok().filter(|value| !value.is_empty()))
    }

    pub(super) fn with(cluster: &Cluster, vrrp_password: Option<String>) -> anyhow::Result<Self> {
        let database = format!(
            "superuser_password = \"{}\"\n\
             replication_password = \"{}\"\n\
             rewind_password = \"{}\"\n\
             heartbeat_key = \"{}\"\n",
            random_text(32)?,
            random_text(32)?,
            random_text(32)?,
            random_text(32)?
        );
        let (signed, unsigned): (Vec<_>, Vec<_>) =
            cluster.vips.iter().partition(|vip| vip.signing != VipSigning::Off);
        let password =
            unsigned.iter().any(|vip| vip.version == 2).then(|| vrrp(vrrp_password)).transpose()?;
        let key =
            if signed.is_empty() { None } else { Some(format!("vrrp_key = \"1:{}\"\n", random_text(32)?)) };
        let lines: String = password.into_iter().chain(key).collect();
        Ok(Self { database, vrrp: Some(lines).filter(|lines| !lines.is_empty()) })
    }

    /// For a host with PostgreSQL; `proxy` when it carries a proxy as well.
    pub(super) fn for_database(&self, proxy: bool) -> String {
        let vrrp = self.vrrp.as_deref().filter(|_| proxy).unwrap_or_default();
        format!("# Secrets of the database hosts: owner only, the same on each.\n{}{vrrp}", self.database)
    }

    /// For a host with proxies alone; none when it needs none.
    pub(super) fn for_proxy(&self) -> Option<String> {
        let vrrp = self.vrrp.as_ref()?;
        Some(format!("# Secret of the proxy hosts: owner only, the same on each.\n{vrrp}"))
    }
}

/// The line with the given or a new password.
fn vrrp(given: Option<String>) -> anyhow::Result<String> {
    let password = match given {
        Some(password) => password,
        // 32 bits: it is sent in the clear and guards against mistakes, not against attackers (RFC 3768 section 10).
        None => random_text(VRRP_PASSWORD_BYTES / 2)?,
    };
    let fits = password.len() <= VRRP_PASSWORD_BYTES
        && password.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    if !fits {
        let message = format!(
            "{VRRP_VARIABLE} is not usable: at most {VRRP_PASSWORD_BYTES} printable characters without blanks, quotes \
             and backslashes; VRRP version 2 has room for no more"
        );
        return Err(Stop::new(Code::Configuration, message).into());
    }
    Ok(format!("vrrp_password = \"{password}\"\n"))
}

/// Random bytes as hexadecimal digits: no character of them needs quoting in any file or connection string.
fn random_text(bytes: usize) -> anyhow::Result<String> {
    let mut drawn = vec![0_u8; bytes];
    getrandom::fill(&mut drawn).map_err(|error| anyhow::anyhow!("{error}")).context("draw random bytes")?;
    Ok(drawn.iter().map(|byte| format!("{byte:02x}")).collect())
}
