//! Whether an operator keeps the floating addresses off this host: a file, because it must hold over restarts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file; that it is there is all that it says.
const NAME: &str = "drained";
/// For whoever finds it.
const TEXT: &str = "hactl vip drain was asked for here; hactl vip undrain ends it\n";

/// The mark in the directory of state.
#[derive(Debug, Clone)]
pub(crate) struct DrainMark {
    path: PathBuf,
}

impl DrainMark {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME) }
    }

    /// Whether it is there.
    pub(crate) fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Sets or removes it, durably.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub(crate) fn set(&self, drained: bool) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        if drained {
            fs::write(&self.path, TEXT)?;
            fs::File::open(&self.path)?.sync_all()?;
        } else {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mark = DrainMark::new(&dir.path().join("state"));
        assert!(!mark.is_set());
        mark.set(false).unwrap();
        mark.set(true).unwrap();
        assert!(DrainMark::new(&dir.path().join("state")).is_set());
        mark.set(false).unwrap();
        assert!(!mark.is_set());
    }
}
