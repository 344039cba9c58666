//! `hactl check`: everything that is wrong with the files, at once.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use ha_config::{Cluster, Problems, TlsEnd};
use ha_core::MemberName;

use crate::args::{Args, CheckArgs};
use crate::exit_code::{Code, Stop};

/// Checks cluster.toml and, where there is one, the secrets.toml beside it.
pub(crate) fn run(args: &Args, asked: &CheckArgs) -> anyhow::Result<Code> {
    let config = args.config();
    let secrets = config.with_file_name("secrets.toml");
    let mut problems = Vec::new();
    let cluster = ha_config::load(config).map_err(|found| problems.push(found)).ok();
    let role = match (&cluster, asked.node.as_deref()) {
        (Some(cluster), node) => role(cluster, node)?,
        (None, _) => Role::default(),
    };
    // Not every host has secrets; but a file that stands there and cannot be read is a problem, not an absence.
    let absent = matches!(std::fs::metadata(&secrets), Err(error) if error.kind() == ErrorKind::NotFound);
    if !absent {
        problems.extend(check_secrets(&secrets, role));
    }
    let mut out = std::io::stdout().lock();
    for found in &problems {
        writeln!(out, "{found}")?;
    }
    let Some(cluster) = cluster.filter(|_| problems.is_empty()) else { return Ok(Code::Configuration) };
    writeln!(
        out,
        "{}: OK: cluster {}, {} database and {} proxy hosts, mode {}, digest {}; {}",
        config.display(),
        cluster.name,
        cluster.databases.len(),
        cluster.proxies.len(),
        cluster.replication.mode,
        cluster.digest,
        if absent { "no secrets.toml here" } else { "secrets.toml is usable" },
    )?;
    for line in about_front(&cluster) {
        writeln!(out, "  {line}")?;
    }
    Ok(Code::Done)
}

/// What the host is that the files stand on; nothing on an admin's machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Role {
    database: bool,
    proxy: bool,
}

/// By `--node` or the host name. A name that was given must stand in the file.
fn role(cluster: &Cluster, node: Option<&str>) -> anyhow::Result<Role> {
    let (database, proxy) = (cluster.this_node(node), cluster.this_proxy(node));
    if let (Some(name), Err(_), Err(_)) = (node, &database, &proxy) {
        let hosts = cluster.databases.iter().map(|host| host.name.as_str());
        let names: Vec<&str> = hosts.chain(cluster.proxies.iter().map(|host| host.name.as_str())).collect();
        let message = format!("--node {name}: no host of this name; the file has {}", names.join(", "));
        return Err(Stop::new(Code::Configuration, message).into());
    }
    Ok(Role { database: database.is_ok(), proxy: proxy.is_ok() })
}

/// What the daemons of this host would refuse. Where the host is not known, a file with password or key of VRRP and none of
/// the databases' is a proxy host's.
fn check_secrets(path: &Path, role: Role) -> Option<Problems> {
    let database = ha_config::load_secrets(path);
    let proxy = ha_config::load_proxy_secrets(path);
    let has_vrrp =
        proxy.as_ref().map_or(true, |secrets| secrets.vrrp_password.is_some() || secrets.vrrp_key.is_some());
    let lacks_passwords = |problems: &Problems| {
        let missing = ["superuser_password", "replication_password", "rewind_password"];
        problems.iter().map(|problem| problem.key.as_str()).eq(missing)
    };
    match (role, database) {
        (Role { database: false, proxy: true }, _) => proxy.err(),
        (Role { database: false, proxy: false }, Err(problems)) if has_vrrp && lacks_passwords(&problems) => {
            proxy.err()
        }
        // Both read the same file: what both complain about is told once.
        (_, Err(problems)) => Some(problems),
        (_, Ok(_)) => proxy.err(),
    }
}

/// What a client sees: the addresses and ports that lead to the cluster.
fn about_front(cluster: &Cluster) -> Vec<String> {
    let (writes, reads) = (cluster.routing.write_port, cluster.routing.read_port);
    let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    if !cluster.proxies.is_empty() {
        let proxies = names(&mut cluster.proxies.iter().map(|host| host.name.as_str()));
        lines.push(format!("proxies {proxies}: port {writes} for writes, {reads} for reads"));
        if cluster.routing.tls != TlsEnd::PassThrough {
            let line = "TLS of clients ends at the proxies: between them and PostgreSQL nothing is encrypted";
            lines.push(line.to_owned());
        }
    }
    for vip in &cluster.vips {
        let order = names(&mut vip.order(&cluster.proxies).into_iter().map(MemberName::as_str));
        lines.push(format!(
            "floating address {}/{}: VRRP version {}, router {}, every {} ms, held by the first that is well of {order}",
            vip.address,
            vip.prefix,
            vip.version,
            vip.router_id(),
            vip.interval.as_millis()
        ));
        lines.extend(vip.combinations(&cluster.proxies).into_iter().map(|line| format!("  {line}")));
        let surprises = vip.surprises(&cluster.proxies);
        lines.extend(surprises.into_iter().map(|surprise| format!("  warning: {surprise}")));
    }
    lines
}
