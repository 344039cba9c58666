//! The gRPC interface: what the other agents say, what operators ask, what proxies follow. Mutual TLS; who may call what stands in
//! `ha_rpc::access`.

mod history_reply;
mod operations;
mod refusal;
mod roles;
mod status_reply;
mod talk;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ha_config::{Cluster, ReadConsistency};
use ha_core::{ClusterName, MemberName};
use ha_decision::{Refusal, Request, RequestDone};
use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::agent_server::AgentServer;
use ha_rpc::proto::peer_server::PeerServer;
use ha_rpc::proto::roles_server::RolesServer;
use ha_rpc::server::{ServerError, builder, listen};
use tokio::sync::{mpsc, oneshot, watch};

use crate::peers::{PeerEvent, tls_files};
use crate::role_followers::RoleFollowers;
use crate::snapshot::AgentSnapshot;

/// What an operator asks, for the driver.
#[derive(Debug)]
pub struct OperatorRequest {
    /// What is wanted.
    pub request: Request,
    /// Where the answer goes; nobody may be listening any more.
    pub reply: oneshot::Sender<Result<RequestDone, Refusal>>,
}

/// The picture that status replies are made of; none before the first.
pub type Snapshots = watch::Receiver<Option<Arc<AgentSnapshot>>>;

/// How to serve.
#[derive(Debug, Clone)]
pub struct RpcOptions {
    /// Callers of other clusters are refused.
    pub cluster: ClusterName,
    /// The only address that is listened on.
    pub address: SocketAddr,
    /// Who may talk as a peer.
    pub members: BTreeSet<MemberName>,
    /// Who may follow this member's role.
    pub proxies: BTreeSet<MemberName>,
    /// Whether proxies are told for how long nobody else can lead.
    pub read_leases: bool,
    /// This host's certificate.
    pub tls: TlsFiles,
}

impl RpcOptions {
    /// As the file says.
    pub fn new(cluster: &Cluster, address: SocketAddr) -> Self {
        Self {
            cluster: cluster.name.clone(),
            address,
            members: cluster.databases.iter().map(|host| host.name.clone()).collect(),
            proxies: cluster.proxies.iter().map(|host| host.name.clone()).collect(),
            read_leases: cluster.routing.reads == ReadConsistency::Linearizable,
            tls: tls_files(cluster),
        }
    }
}

/// Serves for ever.
///
/// # Errors
/// When the certificate or the address is not usable, or when listening ends.
pub async fn serve(
    options: RpcOptions,
    snapshots: Snapshots,
    requests: mpsc::Sender<OperatorRequest>,
    peer_events: mpsc::Sender<PeerEvent>,
    followers: RoleFollowers,
) -> Result<(), ServerError> {
    let incoming = listen(options.address)?;
    serve_on(incoming, options, snapshots, requests, peer_events, followers).await
}

async fn serve_on(
    incoming: ha_rpc::server::Incoming,
    options: RpcOptions,
    snapshots: Snapshots,
    requests: mpsc::Sender<OperatorRequest>,
    peer_events: mpsc::Sender<PeerEvent>,
    followers: RoleFollowers,
) -> Result<(), ServerError> {
    let talk = PeerServer::new(talk::Talk::new(options.members, peer_events));
    let roles = roles::Service::new(options.proxies, options.read_leases, snapshots.clone(), followers);
    let roles = RolesServer::new(roles);
    let agent = AgentServer::new(operations::Operations::new(snapshots, requests));
    builder(&options.tls)?
        .add_service(Gate::new(options.cluster.clone(), talk))
        .add_service(Gate::new(options.cluster.clone(), roles))
        .add_service(Gate::new(options.cluster, agent))
        .serve_with_incoming(incoming)
        .await
        .map_err(ServerError::Serve)
}
