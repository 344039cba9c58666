//! REST (being written; this is the name that run.rs uses).

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::snapshot::AgentSnapshot;

/// Serves until it fails.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(
    _listen: SocketAddr,
    _snapshot: watch::Receiver<Option<Arc<AgentSnapshot>>>,
) -> anyhow::Result<()> {
    std::future::pending().await
}
