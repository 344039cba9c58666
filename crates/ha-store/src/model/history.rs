//! What happened since which revision: the material of watches.

use ha_core::Revision;

use crate::watch::Change;

/// The history asked for has been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revisions before {compact_revision} have been compacted")]
pub struct Compacted {
    /// The oldest revision that can still be asked for.
    pub compact_revision: Revision,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    changes: Vec<Change>,
    compacted: Revision,
}

impl History {
    pub(super) fn extend(&mut self, changes: Vec<Change>) {
        self.changes.extend(changes);
    }

    pub(super) fn since(&self, from: Revision, prefix: &str) -> Result<Vec<Change>, Compacted> {
        if from < self.compacted {
            return Err(Compacted { compact_revision: self.compacted });
        }
        let start = self.changes.partition_point(|change| change.revision < from);
        let below = self.changes.iter().skip(start).filter(|change| change.key.starts_with(prefix));
        Ok(below.cloned().collect())
    }

    pub(super) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        let keep_from = self.changes.partition_point(|change| change.revision < self.compacted);
        self.changes.drain(..keep_from);
    }
}
