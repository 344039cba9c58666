//! The agent's gRPC service (being written; these are the names that the driver uses).

use std::net::SocketAddr;
use std::sync::Arc;

use ha_config::Cluster;
use ha_decision::{Refusal, Request, RequestDone};
use tokio::sync::{mpsc, oneshot, watch};

use crate::peers::PeerEvent;
use crate::snapshot::AgentSnapshot;

/// An operator's request on its way to the driver.
#[derive(Debug)]
pub struct OperatorRequest {
    /// What.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<RequestDone, Refusal>>,
}
/// Options.
#[derive(Debug)]
pub struct RpcOptions;
impl RpcOptions {
    /// From the configuration.
    pub fn new(_cluster: &Cluster, _listen: SocketAddr) -> Self {
        Self
    }
}
/// Serves until it fails.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(
    _options: RpcOptions,
    _snapshot: watch::Receiver<Option<Arc<AgentSnapshot>>>,
    _requests: mpsc::Sender<OperatorRequest>,
    _peers: mpsc::Sender<PeerEvent>,
) -> anyhow::Result<()> {
    std::future::pending().await
}
