//! What a lab is to be like.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

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
    /// Size of each host's data disk, see [`crate::Plan::data_disk_mb`].
    pub data_disk_mb: Option<u32>,
    /// Daemons that do not start with their hosts, as `host/daemon`.
    pub masked: Vec<String>,
}

impl LabOptions {
    /// The reference cluster in this directory, with the programs beside the running one.
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
            data_disk_mb: None,
            masked: Vec::new(),
        })
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
        Ok(text)
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
