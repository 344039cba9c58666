//! `[hooks]`: programs that are told about changes.

use std::path::PathBuf;

use crate::reader::Table;

/// Programs that are told about changes. None may delay or veto a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Started after this host's role has changed.
    pub role_changed: Option<PathBuf>,
}

impl Hooks {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        Self { role_changed: table.path("role_changed") }
    }
}
