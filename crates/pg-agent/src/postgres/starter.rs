//! Who starts the postmaster and ends its whole group: the guard, or nobody but the agent where the guard is off.

use std::fmt::Debug;

use async_trait::async_trait;

/// Starts and ends the server's processes.
#[async_trait]
pub trait Starter: Debug + Send + Sync {
    /// Starts the postmaster with these settings on its command line. Returns when it runs, not when it accepts
    /// connections.
    ///
    /// # Errors
    /// In the starter's words.
    async fn start(&self, settings: Vec<(String, String)>) -> Result<(), String>;

    /// Ends every process of the server's group at once.
    ///
    /// # Errors
    /// In the starter's words.
    async fn kill_all(&self, reason: &str) -> Result<(), String>;

    /// Whether any process is in the server's group.
    ///
    /// # Errors
    /// In the starter's words, when it cannot tell.
    async fn is_populated(&self) -> Result<bool, String>;
}
