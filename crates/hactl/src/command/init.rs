//! `hactl init`: the files of a new cluster, one bundle for each host.
//!
//! A bundle mirrors the host's file system, so that copying is all there is to do. The authority's key stays with the
//! admin; each host gets its own key and only the secrets which its role needs.

mod authority;
mod bundle;
mod cluster_file;
mod etcd_file;
mod manifest;
mod secrets_file;

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use ha_config::Cluster;

use crate::args::{Args, InitArgs};
use crate::exit_code::{Code, Stop};
use authority::{Authority, Holder};
use bundle::{Bundle, Owner};
use secrets_file::Secrets;

/// Owner-only.
const PRIVATE: u32 = 0o600;
/// Readable by all.
const PUBLIC: u32 = 0o644;

/// Writes everything and prints what to copy where.
pub(crate) fn run(args: &Args, init: &InitArgs) -> anyhow::Result<Code> {
    write!(std::io::stdout(), "{}", write_all(args, init)?)?;
    Ok(Code::Done)
}

/// Writes everything and says what to copy where.
fn write_all(args: &Args, init: &InitArgs) -> anyhow::Result<String> {
    let (text, cluster) = cluster_file::read_or_write(args.given_config(), init)?;
    let secrets = Secrets::new(&cluster)?;
    claim(&init.out)?;
    let authority = Authority::new(&cluster)?;
    let mut bundles = vec![write_authority(&init.out, &authority)?];
    bundles.extend(write_hosts(&init.out, &text, &cluster, &authority, &secrets)?);
    bundles.push(write_admin(&init.out, &cluster, &authority)?);
    Ok(manifest::describe(&init.out, &cluster, &bundles))
}

/// Makes the directory, owner only; one with anything in it is left alone.
fn claim(out: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(out) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let message = format!(
                    "{} is not empty: hactl init overwrites nothing, because a lost authority key cannot be replaced; \
                     give another --out",
                    out.display()
                );
                return Err(Stop::new(Code::Configuration, message).into());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read directory {}", out.display())),
    }
    bundle::make_private_dir(out)
}

fn write_authority(out: &Path, authority: &Authority) -> anyhow::Result<Bundle> {
    let mut bundle = Bundle::new(out.join("authority"), "the authority")?;
    bundle.write("ca.crt", authority.certificate_pem(), PUBLIC, Owner::You)?;
    bundle.write("ca.key", authority.key_pem(), PRIVATE, Owner::You)?;
    Ok(bundle)
}

fn write_admin(out: &Path, cluster: &Cluster, authority: &Authority) -> anyhow::Result<Bundle> {
    let admin = authority.issue(&Holder::admin(&cluster.name))?;
    let mut bundle =
        Bundle::new(out.join("admin"), "for hactl on your machine: copy to ~/.config/matriarch")?;
    bundle.write("ca.crt", authority.certificate_pem(), PUBLIC, Owner::You)?;
    bundle.write("admin.crt", &admin.certificate, PUBLIC, Owner::You)?;
    bundle.write("admin.key", &admin.key, PRIVATE, Owner::You)?;
    Ok(bundle)
}

fn write_hosts(
    out: &Path,
    text: &str,
    cluster: &Cluster,
    authority: &Authority,
    secrets: &Secrets,
) -> anyhow::Result<Vec<Bundle>> {
    // vrrpd has nothing to do without an address.
    let proxy_units = if cluster.vips.is_empty() { "pg-proxy" } else { "pg-proxy vrrpd" };
    let mut bundles = Vec::new();
    for host in &cluster.databases {
        let both = cluster.proxy(host.name.as_str()).is_some();
        let etcd_file = etcd_file::for_host(cluster, host);
        let role = format!(
            "database{}:{} pg-guard pg-agent{}",
            if both { " and proxy" } else { "" },
            if etcd_file.is_some() { " etcd" } else { "" },
            if both { format!(" {proxy_units}") } else { String::new() }
        );
        let name = host.name.as_str();
        let mut bundle = Bundle::for_host(out, name, format!("{}, {role}", host.address))?;
        // One certificate, of role host, serves both roles: two names of ours in one would name nobody. Agent and
        // PostgreSQL read the files as their own user, the proxies as root.
        let owner = Owner::User(host.postgres.os_user.clone());
        write_common(
            &mut bundle,
            text,
            cluster,
            authority,
            &Holder::host(cluster, name, host.address),
            &owner,
        )?;
        bundle.write(secrets_file::PATH, secrets.for_database(both), PRIVATE, owner)?;
        if let Some(file) = etcd_file {
            bundle.write(etcd_file::PATH, &file, PUBLIC, Owner::root())?;
            if cluster.etcd.tls {
                let issued = authority.issue(&Holder::etcd(name, host.address))?;
                bundle.write(etcd_file::CERT, &issued.certificate, PUBLIC, Owner::root())?;
                bundle.write(etcd_file::KEY, &issued.key, PRIVATE, Owner::User("etcd".to_owned()))?;
            }
        }
        bundles.push(bundle);
    }
    for host in cluster.proxies.iter().filter(|host| cluster.database(host.name.as_str()).is_none()) {
        let name = host.name.as_str();
        let mut bundle = Bundle::for_host(out, name, format!("{}, proxy: {proxy_units}", host.address))?;
        let holder = Holder::proxy(cluster, name, host.address);
        // pg-proxy and vrrpd start as root, because they bind addresses that come and go.
        write_common(&mut bundle, text, cluster, authority, &holder, &Owner::root())?;
        if let Some(text) = secrets.for_proxy() {
            bundle.write(secrets_file::PATH, text, PRIVATE, Owner::root())?;
        }
        bundles.push(bundle);
    }
    Ok(bundles)
}

/// What every host has: the cluster's file and its own certificate.
fn write_common(
    bundle: &mut Bundle,
    text: &str,
    cluster: &Cluster,
    authority: &Authority,
    holder: &Holder,
    owner: &Owner,
) -> anyhow::Result<()> {
    let issued = authority.issue(holder)?;
    bundle.write("/etc/matriarch/cluster.toml", text, PUBLIC, Owner::root())?;
    bundle.write(&cluster.tls.ca, authority.certificate_pem(), PUBLIC, Owner::root())?;
    bundle.write(&cluster.tls.cert, &issued.certificate, PUBLIC, Owner::root())?;
    bundle.write(&cluster.tls.key, &issued.key, PRIVATE, owner.clone())
}

#[cfg(test)]
mod tests;
