//! `Proxy.Status` for people and scripts. Mutual TLS; who may call stands in `ha_rpc::access`.

use std::net::SocketAddr;
use std::sync::Arc;

use ha_core::ClusterName;
use ha_routing::{RouteState, Source};
use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::proxy_server::{Proxy, ProxyServer};
use ha_rpc::proto::{self, EvidenceSource, ProxyStatusReply, ProxyStatusRequest};
use ha_rpc::server::{ServerError, builder};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::snapshot::{RouteShown, Snapshot, SnapshotSource, UpstreamShown, Word as _};

/// The service, listening and not yet serving.
#[derive(Debug)]
pub struct RpcService {
    incoming: TcpIncoming,
    router: tonic::transport::server::Router,
}

impl RpcService {
    /// Listens on exactly this address for callers of this cluster.
    ///
    /// # Errors
    /// When the certificate or the address is not usable.
    pub fn bind(
        address: SocketAddr,
        cluster: ClusterName,
        tls: &TlsFiles,
        source: Arc<SnapshotSource>,
    ) -> Result<Self, ServerError> {
        let service = Gate::new(cluster, ProxyServer::new(ProxyStatus { source }));
        let router = builder(tls)?.add_service(service);
        Ok(Self { incoming: ha_rpc::server::listen(address)?, router })
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// When listening ends.
    pub async fn serve(self) -> Result<(), ServerError> {
        self.router.serve_with_incoming(self.incoming).await.map_err(ServerError::Serve)
    }
}

#[derive(Debug)]
struct ProxyStatus {
    source: Arc<SnapshotSource>,
}

#[tonic::async_trait]
impl Proxy for ProxyStatus {
    async fn status(&self, _: Request<ProxyStatusRequest>) -> Result<Response<ProxyStatusReply>, Status> {
        Ok(Response::new(reply(self.source.snapshot())))
    }
}

fn reply(shown: Snapshot) -> ProxyStatusReply {
    ProxyStatusReply {
        cluster: shown.cluster,
        proxy: shown.proxy,
        version: shown.version.to_owned(),
        file_digest: shown.file_digest,
        uptime_ms: shown.uptime_ms,
        draining: shown.draining,
        writes: Some(route(shown.writes)),
        reads: Some(route(shown.reads)),
        upstreams: shown.upstreams.into_iter().map(upstream).collect(),
        sessions: shown.sessions,
        session_limit: shown.session_limit,
        waiting: shown.waiting,
        sessions_total: shown.sessions_total,
        refused_total: shown.refused_total,
        cancels_total: shown.cancels_total,
    }
}

fn route(shown: RouteShown) -> proto::Route {
    let state = match shown.state {
        RouteState::Open => proto::RouteState::Open,
        RouteState::Holding => proto::RouteState::Holding,
        RouteState::Refusing => proto::RouteState::Refusing,
    };
    proto::Route {
        port: shown.port.into(),
        state: state.into(),
        members: shown.members,
        epoch: shown.epoch,
        reason: shown.reason,
        since_ms: shown.since_ms,
    }
}

fn upstream(shown: UpstreamShown) -> proto::Upstream {
    let source = match shown.source {
        Source::None => EvidenceSource::None,
        Source::Push => EvidenceSource::Push,
        Source::Poll => EvidenceSource::Poll,
    };
    proto::Upstream {
        member: shown.member,
        address: shown.address,
        role: shown.role.word().to_owned(),
        source: source.into(),
        heard_ms_ago: shown.heard_ms_ago,
        epoch: shown.epoch,
        takes_writes: shown.takes_writes,
        takes_reads: shown.takes_reads,
        lag_bytes: shown.lag_bytes,
        reason: shown.reason,
        sessions: shown.sessions,
        session_limit: shown.session_limit,
        sessions_total: shown.sessions_total,
        connect_failures: shown.connect_failures,
        sessions_cut: shown.sessions_cut,
        bytes_to_upstream: shown.bytes_to_upstream,
        bytes_to_client: shown.bytes_to_client,
    }
}
