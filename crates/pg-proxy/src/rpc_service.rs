//! `Proxy.Status` and `Proxy.Administer` for people and scripts. Mutual TLS; who may call stands in `ha_rpc::access`.

use std::net::TcpListener;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::pending;
use ha_core::ClusterName;
use ha_routing::{AdminState, RouteState, Source};
use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::proxy_server::{Proxy, ProxyServer};
use ha_rpc::proto::{
    self, AdministerReply, AdministerRequest, EvidenceSource, ProxyStatusReply, ProxyStatusRequest,
    UpstreamAdmin,
};
use ha_rpc::server::{Incoming, ServerError, builder};
use ha_rpc::status_code::Outcome;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status};

use crate::driver::Wish;
use crate::phase::{self, Phase};
use crate::snapshot::{RouteShown, Snapshot, SnapshotSource, UpstreamShown, Word as _};

/// The service, listening and not yet serving.
#[derive(Debug)]
pub struct RpcService {
    incoming: Incoming,
    router: tonic::transport::server::Router,
}

impl RpcService {
    /// For callers of this cluster, on this socket, which does not block. Must be called in a runtime.
    ///
    /// # Errors
    /// When the certificate or the socket is not usable.
    pub fn on(
        listener: TcpListener,
        cluster: ClusterName,
        tls: &TlsFiles,
        source: Arc<SnapshotSource>,
        wishes: mpsc::Sender<Wish>,
    ) -> Result<Self, ServerError> {
        let service = Gate::new(cluster, ProxyServer::new(Service { source, wishes }));
        let router = builder(tls)?.add_service(service);
        Ok(Self { incoming: ha_rpc::server::listen_on(listener)?, router })
    }

    /// Serves until a successor does, and whoever was let in before is answered.
    ///
    /// # Errors
    /// When listening ends.
    pub async fn serve(self, phase: watch::Receiver<Phase>) -> Result<(), ServerError> {
        // The end of the callers would be the end of everything that they have asked.
        let callers = self.incoming.take_until(Box::pin(phase::handed_over(phase.clone()))).chain(pending());
        let served = self.router.serve_with_incoming_shutdown(callers, phase::last_questions(phase));
        served.await.map_err(ServerError::Serve)
    }
}

#[derive(Debug)]
struct Service {
    source: Arc<SnapshotSource>,
    wishes: mpsc::Sender<Wish>,
}

#[tonic::async_trait]
impl Proxy for Service {
    async fn status(&self, _: Request<ProxyStatusRequest>) -> Result<Response<ProxyStatusReply>, Status> {
        Ok(Response::new(reply(self.source.snapshot())))
    }

    async fn administer(
        &self,
        request: Request<AdministerRequest>,
    ) -> Result<Response<AdministerReply>, Status> {
        let request = request.into_inner();
        let state = match request.admin() {
            UpstreamAdmin::Ready => AdminState::Ready,
            UpstreamAdmin::Drain => AdminState::Drain,
            UpstreamAdmin::Maintenance => AdminState::Maintenance,
            UpstreamAdmin::Unspecified => {
                return Err(Outcome::Refused.status("the request names no state that this proxy knows"));
            }
        };
        let sessions_of = |name: &str| {
            let upstreams = self.source.snapshot().upstreams;
            upstreams.into_iter().find(|upstream| upstream.member == name).map(|upstream| upstream.sessions)
        };
        if sessions_of(&request.member).is_none() {
            let message = format!("{:?} is no database host of this proxy's file", request.member);
            return Err(Outcome::Refused.status(message));
        }
        let member = request.member.parse().map_err(|_| Outcome::Refused.status("no name of a member"))?;
        let (done, fulfilled) = oneshot::channel();
        let ends = || Outcome::NotNow.status("this proxy ends");
        self.wishes.send(Wish { member, state, done }).await.map_err(|_| ends())?;
        fulfilled.await.map_err(|_| ends())?;
        Ok(Response::new(AdministerReply { sessions: sessions_of(&request.member).unwrap_or_default() }))
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
        reloads_total: shown.file.reloads_total,
        reloads_refused_total: shown.file.refused_total,
        file_read_ms_ago: shown.file.read_ms_ago,
        file_refused: shown.file.refused.unwrap_or_default(),
        needs_restart: shown.file.needs_restart,
        replaced: shown
            .replaced
            .into_iter()
            .map(|old| proto::ReplacedProcess { process: old.process, sessions: old.sessions })
            .collect(),
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
    let admin = match shown.admin {
        AdminState::Ready => UpstreamAdmin::Ready,
        AdminState::Drain => UpstreamAdmin::Drain,
        AdminState::Maintenance => UpstreamAdmin::Maintenance,
    };
    proto::Upstream {
        admin: admin.into(),
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
