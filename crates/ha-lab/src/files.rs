//! The files that a lab's hosts start with: the cluster file, secrets and certificates from `hactl init`, service descriptions.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host;
use crate::lab_dir::LabDir;
use crate::options::LabOptions;
use crate::topology::{LabHost, Role};

/// etcd as the distributions run it, except that it reads the file that `hactl init` wrote.
const ETCD_UNIT: &str = include_str!("../units/etcd.service");

/// Writes `cluster.toml` and lets `hactl init` make the bundles.
pub(crate) fn make_bundles(lab: &LabDir, options: &LabOptions) -> Result<ha_config::Cluster> {
    let file = lab.path().join("cluster.toml");
    fs::write(&file, options.cluster_file()?).with_context(|| format!("write {}", file.display()))?;
    let cluster = ha_config::load(&file)?;
    let program = options.bin_dir.join("hactl");
    let output = Command::new(&program)
        .args(["init", "--config"])
        .arg(&file)
        .arg("--out")
        .arg(lab.bundle())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}: is it built?", program.display()))?;
    if !output.status.success() {
        bail!("hactl init: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(cluster)
}

/// Puts each host's files where it finds them, with the owners that an installation gives them.
pub(crate) fn install(lab: &LabDir, options: &LabOptions, hosts: &[LabHost]) -> Result<()> {
    let units = lab.units();
    fs::create_dir_all(&units).context("create the place of the service descriptions")?;
    fs::write(units.join("etcd.service"), ETCD_UNIT).context("write etcd.service")?;
    let shipped = options.deploy_dir.join("systemd");
    for entry in fs::read_dir(&shipped).with_context(|| format!("list {}", shipped.display()))? {
        let from = entry.with_context(|| format!("list {}", shipped.display()))?.path();
        if let Some(name) = from.file_name() {
            fs::copy(&from, units.join(name)).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    for (name, text) in &options.unit_files {
        fs::write(units.join(format!("{name}.service")), text)
            .with_context(|| format!("write {name}.service"))?;
    }
    for host in hosts {
        host::prepare(lab, host)?;
        let etc = lab.host(&host.name).join("etc");
        match host.role {
            Role::Database | Role::Proxy => {
                install_tree(&lab.bundle().join(&host.name).join("etc/matriarch"), &etc, host.role)?;
            }
            Role::Client => install_admin(lab, &etc)?,
        }
    }
    for (host, old, new) in &options.edits_on {
        let file = lab.host(host).join("etc/cluster.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        ensure!(text.contains(old), "{}: does not contain {old:?}", file.display());
        fs::write(&file, text.replacen(old, new, 1)).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// The client host is where the admin works: the cluster file and the admin's certificate.
fn install_admin(lab: &LabDir, etc: &Path) -> Result<()> {
    fs::copy(lab.path().join("cluster.toml"), etc.join("cluster.toml")).context("copy cluster.toml")?;
    let tls = etc.join("tls");
    fs::create_dir_all(&tls).context("create the admin's tls directory")?;
    for name in ["ca.crt", "admin.crt", "admin.key"] {
        let from = lab.bundle().join("admin").join(name);
        fs::copy(&from, tls.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

fn install_tree(from: &Path, to: &Path, role: Role) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry.with_context(|| format!("list {}", from.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let target = to.join(&name);
        if path.is_dir() {
            install_tree(&path, &target, role)?;
            continue;
        }
        fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        let name = name.to_string_lossy();
        // As the list that `hactl init` prints for an installation.
        let (owner, mode) = match &*name {
            "etcd.key" => ("etcd", 0o600),
            // The agent runs as the user of PostgreSQL, the daemons of a proxy host as root.
            "host.key" | "secrets.toml" if role == Role::Database => ("postgres", 0o600),
            "host.key" | "secrets.toml" => ("root", 0o600),
            _ => ("root", 0o644),
        };
        host::own(&target, owner, mode)?;
    }
    Ok(())
}
