//! What can go wrong with a server and its directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_decision::JobFailure;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program of PostgreSQL ended with an error.
    #[error("{program} failed: {detail}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The end of what it said.
        detail: String,
    },
    /// The server refused something.
    #[error("{operation}: {}", sql_text(source))]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// No answer in time.
    #[error("{operation} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Something is not as it must be.
    #[error("{0}")]
    State(String),
    /// The postmaster did not start, or ended at once.
    #[error("PostgreSQL did not start: {0}")]
    NotStarted(String),
    /// Only a clone helps.
    #[error("the data directory must be cloned: {0}")]
    NeedsClone(String),
}

/// The server's own message: `Display` of the driver's error says no more than "db error".
fn sql_text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

impl Error {
    /// For `map_err` after a file operation.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err` after a statement.
    pub(crate) fn sql(operation: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Sql { operation, source }
    }

    /// SQLSTATE, when the server gave one.
    pub fn sql_state(&self) -> Option<&str> {
        match self {
            Self::Sql { source, .. } => source.code().map(tokio_postgres::error::SqlState::code),
            _ => None,
        }
    }

    /// Whether storage failed or is full: trying again here does not help, another member may take over.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::File { source, .. } => is_storage_errno(source),
            // disk_full and io_error (https://www.postgresql.org/docs/current/errcodes-appendix.html)
            Self::Sql { .. } => matches!(self.sql_state(), Some("53100" | "58030")),
            Self::Program { detail, .. } | Self::NotStarted(detail) => says_storage(detail),
            Self::Timeout { .. } | Self::State(_) | Self::NeedsClone(_) => false,
        }
    }
}

fn is_storage_errno(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().is_some_and(|code| {
        matches!(Errno::from_raw(code), Errno::ENOSPC | Errno::EIO | Errno::EDQUOT | Errno::EROFS)
    })
}

/// Whether a text of PostgreSQL speaks of failed or full storage.
pub(crate) fn says_storage(text: &str) -> bool {
    ["No space left on device", "Input/output error", "could not fsync file", "Read-only file system"]
        .iter()
        .any(|sign| text.contains(sign))
}

impl From<Error> for JobFailure {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        if let Error::File { source, .. } = &error {
            message = format!("{message}: {source}");
        }
        Self { needs_clone: matches!(error, Error::NeedsClone(_)), storage: error.is_storage(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_storage_is_told_from_other_failures() {
        let full = Error::File {
            operation: "write",
            path: "/x".into(),
            source: io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32),
        };
        let failure = JobFailure::from(full);
        assert!(failure.storage && !failure.needs_clone, "{failure:?}");
        assert!(failure.message.starts_with("write /x: "), "{failure:?}");
        let absent =
            Error::File { operation: "read", path: "/x".into(), source: io::ErrorKind::NotFound.into() };
        assert!(!absent.is_storage());
        let panic = Error::NotStarted("PANIC:  could not write to file: No space left on device".into());
        assert!(panic.is_storage());
        assert!(JobFailure::from(Error::NeedsClone("x".into())).needs_clone);
    }
}
