//! What a lab is to be like.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::DataDisk;

/// How long a lab lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// As long as the process that started it; its files go too, unless a test failed.
    Owned,
    /// Until `down`.
    Detached,
}

/// What a lab is to be like; starts from the reference cluster.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Where its files go.
    pub directory: PathBuf,
    /// The programs under test.
    pub bin_dir: PathBuf,
    /// The repository's `deploy` directory: reference `cluster.toml`, service descriptions.
    pub deploy_dir: PathBuf,
    /// How long it lives.
    pub life: Life,
    /// Log filter of the daemons.
    pub log_filter: String,
    /// Texts in the reference file and what to put instead, each must occur.
    pub edits: Vec<(String, String)>,
    /// Text at the end of the reference file.
    pub appendix: String,
    /// Hosts whose copy of the file differs: the host, a text that must occur, and what to put instead.
    pub edits_on: Vec<(String, String, String)>,
    /// Each database host's data disk, see [`crate::Plan::data_disk`].
    pub data_disk: Option<DataDisk>,
    /// Daemons that do not start with their hosts, as `host/daemon`.
    pub masked: Vec<String>,
    /// Whether the proxy hosts of the file are there too.
    pub proxies: bool,
    /// Hosts that run these daemons in place of those of their role: somebody else's, or none.
    pub units: Vec<(String, Vec<String>)>,
    /// Service descriptions besides those of the repository, by name without `.service`.
    pub unit_files: Vec<(String, String)>,
}

impl LabOptions {
    /// The database hosts of the reference cluster in this directory, with the programs beside the running one.
    ///
    /// # Errors
    /// The running program's own path cannot be found.
    pub fn reference(directory: &Path) -> Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            bin_dir: bin_dir()?,
            deploy_dir: deploy_dir(),
            life: Life::Owned,
            log_filter: std::env::var("MATRIARCH_LOG").unwrap_or_else(|_| "info".to_owned()),
            edits: Vec::new(),
            appendix: String::new(),
            edits_on: Vec::new(),
            data_disk: None,
            masked: Vec::new(),
            proxies: false,
            units: Vec::new(),
            unit_files: Vec::new(),
        })
    }

    /// The whole reference cluster: database hosts, proxy hosts and the floating address.
    ///
    /// # Errors
    /// As [`Self::reference`].
    pub fn five_hosts(directory: &Path) -> Result<Self> {
        Ok(Self { proxies: true, ..Self::reference(directory)? })
    }

    /// The same with other daemons on a host than those of its role.
    #[must_use]
    pub fn units_of(mut self, host: &str, units: &[&str]) -> Self {
        self.units.push((host.to_owned(), units.iter().map(|&unit| unit.to_owned()).collect()));
        self
    }

    /// The same with another text in one host's copy of the file.
    #[must_use]
    pub fn edit_on(mut self, host: &str, old: &str, new: &str) -> Self {
        self.edits_on.push((host.to_owned(), old.to_owned(), new.to_owned()));
        self
    }

    /// The same in another replication mode (`strict`, `asynchronous`).
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        self.edits.push(("mode = \"synchronous\"".to_owned(), format!("mode = \"{mode}\"")));
        self
    }

    /// The reference file with the edits.
    pub(crate) fn cluster_file(&self) -> Result<String> {
        let path = self.deploy_dir.join("config/cluster.toml");
        let mut text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (old, new) in &self.edits {
            anyhow::ensure!(text.contains(old), "{}: does not contain {old:?}", path.display());
            text = text.replacen(old, new, 1);
        }
        text.push_str(&self.appendix);
        if let Some(bin_dir) = other_postgres() {
            text = with_postgres(text, &bin_dir);
        }
        Ok(text)
    }
}

/// `MATRIARCH_POSTGRES_BIN`: a PostgreSQL other than the distribution's newest. It must lie below `/usr`, because a lab's
/// hosts see nothing else of the machine.
pub(crate) fn other_postgres() -> Option<String> {
    std::env::var("MATRIARCH_POSTGRES_BIN").ok().filter(|path| !path.is_empty())
}

/// The cluster file with these programs, in the `[postgres]` table that it may have already.
fn with_postgres(text: String, bin_dir: &str) -> String {
    let key = format!("[postgres]\nbin_dir = \"{bin_dir}\"\n");
    if text.contains("[postgres]\n") {
        text.replacen("[postgres]\n", &key, 1)
    } else {
        format!("{text}\n{key}")
    }
}

/// `MATRIARCH_BIN_DIR`, or the target directory of the running executable (tests lie in its `deps`).
fn bin_dir() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("MATRIARCH_BIN_DIR") {
        return std::path::absolute(&given).context("MATRIARCH_BIN_DIR");
    }
    let own = std::env::current_exe().context("path of the running program")?;
    let directory = own.parent().context("directory of the running program")?;
    Ok(if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }
        .to_owned())
}

/// `MATRIARCH_DEPLOY_DIR`, or the directory in the repository that this was built from.
fn deploy_dir() -> PathBuf {
    std::env::var_os("MATRIARCH_DEPLOY_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy"), PathBuf::from)
}
