//! The gRPC interface: who holds the floating addresses, and why. Mutual TLS; who may call what stands in
//! `ha_rpc::access`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ha_core::ClusterName;
use ha_daemon::boottime;
use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::vrrp_server::{Vrrp, VrrpServer};
use ha_rpc::proto::{
    MoveReply, MoveRequest, VirtualRouter, VirtualRouterState, VrrpStatusReply, VrrpStatusRequest,
};
use ha_rpc::server::{ServerError, builder, listen};
use ha_rpc::status_code::Outcome;
use tonic::{Request, Response, Status};
use vrrp::State;

use crate::snapshot::{RouterView, Shared, Snapshot};
use crate::wishes::Wishes;

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) cluster: ClusterName,
    /// Name of this host.
    pub(crate) host: String,
    pub(crate) file_digest: String,
    pub(crate) tls: TlsFiles,
}

/// Serves until it fails.
///
/// # Errors
/// When the certificate or the address is not usable, or when listening ends.
pub(crate) async fn serve(
    about: About,
    address: SocketAddr,
    shared: Shared,
    wishes: Wishes,
) -> Result<(), ServerError> {
    let incoming = listen(address)?;
    let (tls, cluster) = (about.tls.clone(), about.cluster.clone());
    let service = VrrpServer::new(Service { about, shared, wishes });
    builder(&tls)?
        .add_service(Gate::new(cluster, service))
        .serve_with_incoming(incoming)
        .await
        .map_err(ServerError::Serve)
}

struct Service {
    about: About,
    shared: Shared,
    wishes: Wishes,
}

/// How long a move may take: the router itself gives up after a second.
const MOVE_LIMIT: Duration = Duration::from_millis(1700);
/// How often it is looked whether it has happened.
const MOVE_POLL: Duration = Duration::from_millis(5);

#[tonic::async_trait]
impl Vrrp for Service {
    async fn status(&self, _: Request<VrrpStatusRequest>) -> Result<Response<VrrpStatusReply>, Status> {
        Ok(Response::new(reply(&self.about, &self.shared.load())))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let address = request.into_inner().address;
        let status_of = || {
            let snapshot = self.shared.load();
            snapshot
                .routers
                .iter()
                .find(|router| router.address == address)
                .map(|router| router.status.clone())
        };
        let host = &self.about.host;
        let before = status_of().ok_or_else(|| {
            Outcome::Refused.status(format!("{address} is no floating address of the file on {host}"))
        })?;
        if before.state != State::Active {
            return Err(
                Outcome::Refused.status(format!("{host} does not hold {address}: it is {}", before.state))
            );
        }
        if !self.wishes.step_aside(address.clone()) {
            return Err(Outcome::NotNow.status("too much is asked at once"));
        }
        let begun = Instant::now();
        while begun.elapsed() < MOVE_LIMIT {
            tokio::time::sleep(MOVE_POLL).await;
            if let Some(active) =
                status_of().and_then(|now| now.active.filter(|_| now.state == State::Backup))
            {
                return Ok(Response::new(MoveReply { active_address: active.source.to_string() }));
            }
        }
        let message = format!("no other host took {address}: {host} holds it as before");
        Err(Outcome::Failed.status(message))
    }
}

fn reply(about: &About, snapshot: &Snapshot) -> VrrpStatusReply {
    VrrpStatusReply {
        cluster: about.cluster.to_string(),
        host: about.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        file_digest: about.file_digest.clone(),
        uptime_ms: millis(boottime().since(snapshot.began)),
        proxy: snapshot.proxy.to_string(),
        routers: snapshot.routers.iter().map(|router| virtual_router(router, snapshot)).collect(),
    }
}

fn virtual_router(router: &RouterView, snapshot: &Snapshot) -> VirtualRouter {
    let status = &router.status;
    let state = match status.state {
        State::Initialize => VirtualRouterState::Initialize,
        State::Backup => VirtualRouterState::Backup,
        State::Active => VirtualRouterState::Active,
        State::Fault => VirtualRouterState::Fault,
    };
    // What was heard while it was Backup is of no interest once it is Active itself.
    let active = status.active.filter(|_| status.state == State::Backup);
    let alarms = status.alarms.iter().map(ToString::to_string);
    VirtualRouter {
        address: router.address.clone(),
        vrid: router.vrid.into(),
        version: router.version.into(),
        interface: router.interface.clone(),
        state: state.into(),
        priority: status.priority.into(),
        interval_ms: millis(router.interval),
        since_ms: millis(boottime().since(status.since)),
        reason: status.reason.to_string(),
        active_address: active.map(|active| active.source.to_string()),
        active_priority: active.map(|active| active.priority.into()),
        holds_address: router.holds,
        transitions: status.counters.transitions,
        advertisements_sent: status.counters.sent,
        advertisements_received: status.counters.received,
        advertisements_discarded: status.counters.discarded,
        alarms: alarms.chain(snapshot.degraded.iter().cloned()).collect(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;

    #[test]
    fn the_reply_says_who_holds_the_address_and_why() {
        let tls = TlsFiles { ca: "ca".into(), cert: "cert".into(), key: "key".into() };
        let cluster = "demo".parse().unwrap();
        let about = About { cluster, host: "ha1".to_owned(), file_digest: "d1".to_owned(), tls };
        let reply = reply(&about, &one_active());
        assert_eq!((reply.host.as_str(), reply.proxy.as_str()), ("ha1", "serving"));
        assert!(reply.uptime_ms > 0);
        let [router] = &reply.routers[..] else { panic!("{reply:?}") };
        assert_eq!(router.state(), VirtualRouterState::Active);
        assert_eq!((router.address.as_str(), router.vrid, router.priority), ("10.0.1.10", 10, 150));
        assert_eq!((router.interface.as_str(), router.interval_ms), ("eth0", 200));
        assert!(router.holds_address && router.active_address.is_none());
        assert!(router.reason.starts_with("no advertisement for"), "{}", router.reason);
        assert_eq!(router.alarms, ["no real-time priority"]);
    }
}
