//! One directory of files with the modes and owners that they get on their host.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Who owns a file on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The person who keeps it.
    You,
    /// A user of the host.
    User(String),
}

impl Owner {
    pub(super) fn root() -> Self {
        Self::User("root".to_owned())
    }
}

/// One file that was written.
pub(super) struct Written {
    /// Path on the host, or name in the directory.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: Owner,
}

/// A directory with files for one place.
pub(super) struct Bundle {
    pub(super) dir: PathBuf,
    /// Name of the host, if it is one's.
    pub(super) host: Option<String>,
    pub(super) description: String,
    pub(super) files: Vec<Written>,
}

impl Bundle {
    /// An empty directory, owner only.
    pub(super) fn new(dir: PathBuf, description: impl Into<String>) -> anyhow::Result<Self> {
        make_private_dir(&dir)?;
        Ok(Self { dir, host: None, description: description.into(), files: Vec::new() })
    }

    /// The root directory of one host's files.
    pub(super) fn for_host(out: &Path, name: &str, description: String) -> anyhow::Result<Self> {
        let bundle = Self::new(out.join(name), description)?;
        Ok(Self { host: Some(name.to_owned()), ..bundle })
    }

    /// Writes one file; an absolute path is one on the host.
    pub(super) fn write(
        &mut self,
        path: impl AsRef<Path>,
        text: impl AsRef<str>,
        mode: u32,
        owner: Owner,
    ) -> anyhow::Result<()> {
        let path = path.as_ref();
        let target = self.dir.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = target.parent() {
            // These come to stand in the host's own tree, where others must pass through them.
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .with_context(|| format!("make directory {}", parent.display()))?;
        }
        // Created with its final mode: a key is never readable by others, not even for a moment.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&target)
            .with_context(|| format!("create {}", target.display()))?;
        file.write_all(text.as_ref().as_bytes()).with_context(|| format!("write {}", target.display()))?;
        // The umask may have taken bits away that the host's daemons need.
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", target.display()))?;
        self.files.push(Written { path: path.to_owned(), mode, owner });
        Ok(())
    }
}

/// Makes a directory that only its owner may enter.
pub(super) fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make directory {}", dir.display()))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("set the mode of {}", dir.display()))
}
