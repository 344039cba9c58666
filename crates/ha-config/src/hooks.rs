//! `[hooks]`: programs that are told about changes.

use std::path::PathBuf;

/// Programs that are told about changes. None may delay or veto a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Started after this host's role has changed.
    pub role_changed: Option<PathBuf>,
}
