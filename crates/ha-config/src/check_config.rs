//! `--check-config` of the daemons.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

use ha_core::MemberName;

use crate::cluster::Cluster;
use crate::load::load;
use crate::problem::Problems;
use crate::secrets::{load_proxy_secrets, load_secrets};

/// Checks `path` and the `secrets.toml` beside it for the database host `node` (default: the host name). Prints every
/// problem to standard error, or one line to standard output. Gives the exit code: 0 = usable, 2 = problems.
pub fn run_check_config(path: &Path, node: Option<&str>) -> u8 {
    tell(check(path, node))
}

/// The same for the proxy host `node`; `more` checks what only the daemon itself can.
pub fn run_check_proxy_config(
    path: &Path,
    node: Option<&str>,
    more: impl FnOnce(&Cluster) -> Result<(), Problems>,
) -> u8 {
    tell(check_proxy(path, node, more))
}

fn tell(checked: Result<String, Problems>) -> u8 {
    match checked {
        Ok(summary) => {
            // A closed pipe must not turn a good file into a bad exit code.
            drop(writeln!(std::io::stdout(), "{summary}"));
            0
        }
        Err(problems) => {
            drop(writeln!(std::io::stderr(), "{problems}"));
            2
        }
    }
}

fn check(path: &Path, node: Option<&str>) -> Result<String, Problems> {
    let secrets = load_secrets(&path.with_file_name("secrets.toml"));
    let summary = load(path).and_then(|cluster| {
        let host = cluster.this_node(node)?;
        Ok(summary(path, &cluster, &host.name, host.address))
    });
    together(summary, secrets.map(drop))
}

fn check_proxy(
    path: &Path,
    node: Option<&str>,
    more: impl FnOnce(&Cluster) -> Result<(), Problems>,
) -> Result<String, Problems> {
    let secrets = load_proxy_secrets(&path.with_file_name("secrets.toml"));
    let summary = load(path).and_then(|cluster| {
        let host = cluster.this_proxy(node);
        let summary = host.map(|host| summary(path, &cluster, &host.name, host.address));
        together(summary, more(&cluster))
    });
    together(summary, secrets.map(drop))
}

fn summary(path: &Path, cluster: &Cluster, name: &MemberName, address: IpAddr) -> String {
    format!(
        "{}: OK: cluster {}, {} database and {} proxy hosts, this is {name} at {address}, digest {}",
        path.display(),
        cluster.name,
        cluster.databases.len(),
        cluster.proxies.len(),
        cluster.digest
    )
}

fn together(summary: Result<String, Problems>, secrets: Result<(), Problems>) -> Result<String, Problems> {
    match (summary, secrets) {
        (Ok(summary), Ok(())) => Ok(summary),
        (Err(problems), Ok(())) | (Ok(_), Err(problems)) => Err(problems),
        (Err(problems), Err(more)) => Err(problems.and(more)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn problems_of_both_files_and_of_the_node_are_told_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        let secrets = dir.path().join("secrets.toml");
        std::fs::write(&path, include_str!("../../../deploy/config/cluster.toml")).unwrap();
        let message = check(&path, Some("pg9")).unwrap_err().to_string();
        assert!(message.contains("\"pg9\"") && message.contains("superuser_password"), "{message}");
        assert_eq!(run_check_config(&path, Some("pg1")), 2, "no secrets yet");

        let text = "superuser_password = \"a\"\nreplication_password = \"b\"\nrewind_password = \"c\"\n";
        std::fs::write(&secrets, text).unwrap();
        std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
        let summary = check(&path, Some("pg2")).unwrap();
        assert!(summary.contains("this is pg2 at 10.0.1.12"), "{summary}");
        assert_eq!(run_check_config(&path, Some("pg1")), 0);
    }
}
