//! The durable state of this member: one JSON file, replaced atomically and fsynced before anything depends on it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ha_core::node_state::NodeState;

/// The state could not be read or made durable.
#[derive(Debug, thiserror::Error)]
pub enum NodeStateError {
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what this program wrote. It holds promises, so it is never replaced by guesswork.
    #[error("{} is not a node state; this member's promises are in it, so nothing is assumed: restore it, or move it away and clone this member anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// `node-state.json` in the agent's state directory.
#[derive(Debug, Clone)]
pub struct NodeStateFile {
    directory: PathBuf,
}

const NAME: &str = "node-state.json";

impl NodeStateFile {
    /// The file in `directory`, which is created (0700) when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn new(directory: &Path) -> Result<Self, NodeStateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| {
            NodeStateError::Io { operation: "creating the directory", path: directory.to_owned(), source }
        })?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// What is durable; an empty state when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a node state.
    pub fn load(&self) -> Result<NodeState, NodeStateError> {
        let path = self.directory.join(NAME);
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|source| NodeStateError::Damaged { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(NodeState::default()),
            Err(source) => Err(NodeStateError::Io { operation: "reading", path, source }),
        }
    }

    /// Makes the state durable: write beside, fsync, rename, fsync the directory.
    ///
    /// # Errors
    /// When any step fails; the old state is then still whole.
    pub fn save(&self, state: &NodeState) -> Result<(), NodeStateError> {
        let path = self.directory.join(NAME);
        let beside = self.directory.join("node-state.json.new");
        let text = ha_core::cluster_view::to_json(state);
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| NodeStateError::Io {
            operation: "making durable",
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ha_core::node_state::Promise;
    use ha_core::{Epoch, Revision};

    #[test]
    fn a_promise_survives_and_damage_is_not_taken_for_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let file = NodeStateFile::new(&directory.path().join("state")).unwrap();
        assert_eq!(file.load().unwrap(), NodeState::default());
        let promise = Promise { epoch: Epoch(3), revision: Revision(17), candidate: "pg2".parse().unwrap() };
        let state = NodeState { promise: Some(promise), ..NodeState::default() };
        file.save(&state).unwrap();
        assert_eq!(file.load().unwrap(), state);
        fs::write(directory.path().join("state").join(NAME), "{").unwrap();
        assert!(matches!(file.load(), Err(NodeStateError::Damaged { .. })));
    }
}
