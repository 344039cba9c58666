//! `[postgres]`: the server that the agent runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ha_core::ClusterName;

use crate::problem::{Problem, Problems};

mod read;

/// The oldest PostgreSQL that works.
pub const OLDEST_MAJOR: u32 = 14;
/// The newest PostgreSQL that was tried.
pub const NEWEST_MAJOR: u32 = 18;

/// Where distributions keep the programs of one major version, Debian's convention first. `{}` is the version.
const BIN_DIR_CONVENTIONS: [&str; 2] = ["/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin"];
/// Where the same distributions keep data, in the same order.
const DATA_DIR_CONVENTIONS: [&str; 2] = ["/var/lib/postgresql/{}", "/var/lib/pgsql/{}"];

/// PostgreSQL settings of the cluster or, with overrides applied, of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Major version; `None` = the newest installed.
    pub version: Option<u32>,
    /// Directory of `postgres`, `initdb`, `pg_rewind`; `None` = by the distribution's convention.
    pub bin_dir: Option<PathBuf>,
    /// Data directory; `None` = the convention's version directory plus the cluster's name.
    pub data_dir: Option<PathBuf>,
    /// TCP port.
    pub port: u16,
    /// Directory of the unix socket.
    pub socket_dir: PathBuf,
    /// Log file; `None` = `/var/log/postgresql/matriarch-<cluster>.log`.
    pub log_file: Option<PathBuf>,
    /// Operating system user that runs PostgreSQL and pg-agent.
    pub os_user: String,
    /// Database role of the agent.
    pub superuser: String,
    /// Database role of standbys.
    pub replication_user: String,
    /// Database role of pg_rewind.
    pub rewind_user: String,
    /// Server parameters as text; never one that the agent owns.
    pub parameters: BTreeMap<String, String>,
    /// Lines of pg_hba.conf that follow the agent's own.
    pub hba: Vec<String>,
    /// Further arguments of initdb.
    pub initdb: Vec<String>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            version: None,
            bin_dir: None,
            data_dir: None,
            port: 5432,
            socket_dir: PathBuf::from("/var/run/postgresql"),
            log_file: None,
            os_user: "postgres".to_owned(),
            superuser: "postgres".to_owned(),
            replication_user: "replicator".to_owned(),
            rewind_user: "rewind_user".to_owned(),
            parameters: BTreeMap::new(),
            hba: Vec::new(),
            initdb: Vec::new(),
        }
    }
}

/// The places of one host's PostgreSQL, found on that host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresPaths {
    /// Major version.
    pub major: u32,
    /// Directory of the programs.
    pub bin_dir: PathBuf,
    /// Data directory (need not exist yet).
    pub data_dir: PathBuf,
    /// Log file.
    pub log_file: PathBuf,
}

impl Postgres {
    /// Finds the programs and directories on this host.
    ///
    /// # Errors
    /// When no usable PostgreSQL of the wanted version is installed; the message says where it was looked for.
    pub fn resolve(&self, cluster: &ClusterName) -> Result<PostgresPaths, Problems> {
        self.resolve_below(Path::new("/"), cluster)
    }

    /// [`Postgres::resolve`] with another root directory for the conventions, so that it can be tested.
    fn resolve_below(&self, root: &Path, cluster: &ClusterName) -> Result<PostgresPaths, Problems> {
        let (major, bin_dir, convention) = match &self.bin_dir {
            Some(bin_dir) => {
                let major = match self.version {
                    Some(version) => version,
                    None => version_in_path(bin_dir).ok_or_else(|| {
                        problem(
                            "postgres.version",
                            format!("no version, and none in the path {}", bin_dir.display()),
                            format!("version = {OLDEST_MAJOR} to {NEWEST_MAJOR} beside bin_dir"),
                        )
                    })?,
                };
                if !bin_dir.join("postgres").exists() {
                    return Err(problem(
                        "postgres.bin_dir",
                        format!("{} without the program postgres", bin_dir.display()),
                        "the directory of postgres, initdb and pg_rewind".to_owned(),
                    ));
                }
                let convention = usize::from(bin_dir.starts_with(root.join("usr")) && is_pgsql(bin_dir));
                (major, bin_dir.clone(), convention)
            }
            None => self.find_installed(root)?,
        };
        let data_dir = self.data_dir.clone().unwrap_or_else(|| {
            below(root, &DATA_DIR_CONVENTIONS[convention].replace("{}", &major.to_string()))
                .join(cluster.as_str())
        });
        let log_file = self
            .log_file
            .clone()
            .unwrap_or_else(|| below(root, "/var/log/postgresql").join(format!("matriarch-{cluster}.log")));
        Ok(PostgresPaths { major, bin_dir, data_dir, log_file })
    }

    fn find_installed(&self, root: &Path) -> Result<(u32, PathBuf, usize), Problems> {
        let majors: Vec<u32> = match self.version {
            Some(version) => vec![version],
            None => (OLDEST_MAJOR..=NEWEST_MAJOR).rev().collect(),
        };
        for major in &majors {
            for (convention, pattern) in BIN_DIR_CONVENTIONS.iter().enumerate() {
                let bin_dir = below(root, &pattern.replace("{}", &major.to_string()));
                if bin_dir.join("postgres").exists() {
                    return Ok((*major, bin_dir, convention));
                }
            }
        }
        let wanted = match self.version {
            Some(version) => format!("PostgreSQL {version}"),
            None => format!("PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR}"),
        };
        Err(problem(
            "postgres.bin_dir",
            format!("no {wanted} on this host"),
            format!(
                "one of its directories {}: install the package or set bin_dir",
                BIN_DIR_CONVENTIONS.join(", ").replace("{}", "<version>")
            ),
        ))
    }
}

fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

fn is_pgsql(bin_dir: &Path) -> bool {
    bin_dir.components().any(|part| part.as_os_str().to_string_lossy().starts_with("pgsql-"))
}

/// The major version in a conventional path such as `/usr/lib/postgresql/17/bin` or `/usr/pgsql-17/bin`.
fn version_in_path(bin_dir: &Path) -> Option<u32> {
    bin_dir
        .components()
        .rev()
        .filter_map(|part| {
            let text = part.as_os_str().to_str()?;
            text.strip_prefix("pgsql-").unwrap_or(text).parse().ok()
        })
        .find(|major| (OLDEST_MAJOR..=NEWEST_MAJOR).contains(major))
}

fn problem(key: &str, found: String, expected: String) -> Problems {
    Problems::one(Problem::new(Path::new(""), None, key, found, expected))
}

#[cfg(test)]
mod tests;
