//! The gRPC interface: who holds the floating addresses, and why. Mutual TLS; who may call what stands in
//! `ha_rpc::access`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_core::{ClusterName, MemberName};
use ha_daemon::boottime;
use ha_rpc::TlsFiles;
use ha_rpc::gate::{Gate, caller};
use ha_rpc::proto::vrrp_server::{Vrrp, VrrpServer};
use ha_rpc::proto::{
    DrainReply, DrainRequest, MoveReply, MoveRequest, PeerReport, TakeOverReply, TakeOverRequest,
    VirtualRouter, VrrpPeer, VrrpStatusReply, VrrpStatusRequest,
};
use ha_rpc::server::{ServerError, builder, listen};
use ha_rpc::status_code::Outcome;
use tonic::{Request, Response, Status};
use vrrp::State;

use crate::drained::DrainMark;
use crate::peer_channel::{PeerSaid, Peers, state_to_wire};
use crate::reload::Reload;
use crate::snapshot::{RouterView, Shared, Snapshot};
use crate::wishes::{Wish, Wishes};

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) cluster: ClusterName,
    /// Name of this host.
    pub(crate) host: String,
    pub(crate) tls: TlsFiles,
    /// Where it is remembered that floating addresses are kept off this host.
    pub(crate) mark: DrainMark,
}

/// What there is to tell beside the snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    pub(crate) peers: Arc<Peers>,
    pub(crate) reload: Arc<Reload>,
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
    beside: Beside,
) -> Result<(), ServerError> {
    let incoming = listen(address)?;
    let (tls, cluster) = (about.tls.clone(), about.cluster.clone());
    let service = VrrpServer::new(Service { about, shared, wishes, beside });
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
    beside: Beside,
}

/// How long a move may take: the router itself gives up after a second.
const MOVE_LIMIT: Duration = Duration::from_millis(1700);
/// How often it is looked whether it has happened.
const MOVE_POLL: Duration = Duration::from_millis(5);

#[tonic::async_trait]
impl Vrrp for Service {
    async fn status(&self, _: Request<VrrpStatusRequest>) -> Result<Response<VrrpStatusReply>, Status> {
        Ok(Response::new(reply(&self.about, &self.shared.load(), &self.beside)))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let drain = request.into_inner().drain;
        // On the disk first: what was answered must hold after a restart.
        self.about.mark.set(drain).map_err(|error| {
            Outcome::Failed.status(format!("remember it on {}: {error}", self.about.host))
        })?;
        if !self.wishes.wish(Wish::Drain(drain)) {
            return Err(Outcome::NotNow.status("too much is asked at once"));
        }
        let held = || -> Vec<String> {
            let snapshot = self.shared.load();
            let held = snapshot.routers.iter().filter(|router| router.holds);
            held.map(|router| router.address.to_string()).collect()
        };
        let begun = Instant::now();
        while drain && !held().is_empty() && begun.elapsed() < MOVE_LIMIT {
            tokio::time::sleep(MOVE_POLL).await;
        }
        Ok(Response::new(DrainReply { held: held() }))
    }

    async fn exchange(&self, request: Request<PeerReport>) -> Result<Response<PeerReport>, Status> {
        let name = caller(&request)?.name;
        if !self.beside.peers.heard(&name, request.get_ref()) {
            return Err(Outcome::Refused.status(format!("{name} is no other proxy host of the file")));
        }
        Ok(Response::new(self.beside.peers.own_report()))
    }

    async fn take_over(&self, request: Request<TakeOverRequest>) -> Result<Response<TakeOverReply>, Status> {
        let name = caller(&request)?.name;
        if !self.beside.peers.asked(&name, request.into_inner()) {
            return Err(Outcome::NotNow.status("nobody of the file, or too much is asked at once"));
        }
        Ok(Response::new(TakeOverReply {}))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let asked = request.into_inner().address;
        let host = &self.about.host;
        let unknown =
            || Outcome::Refused.status(format!("{asked} is no floating address of the file on {host}"));
        let address: IpAddr = asked.parse().map_err(|_| unknown())?;
        let status_of = || {
            let snapshot = self.shared.load();
            snapshot
                .routers
                .iter()
                .find(|router| router.address == address)
                .map(|router| router.status.clone())
        };
        let before = status_of().ok_or_else(unknown)?;
        if before.state != State::Active {
            return Err(
                Outcome::Refused.status(format!("{host} does not hold {address}: it is {}", before.state))
            );
        }
        if !self.wishes.wish(Wish::StepAside(address)) {
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

fn reply(about: &About, snapshot: &Snapshot, beside: &Beside) -> VrrpStatusReply {
    VrrpStatusReply {
        cluster: about.cluster.to_string(),
        host: about.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        file_digest: beside.reload.shown().0,
        uptime_ms: millis(boottime().since(snapshot.began)),
        proxy: snapshot.proxy.to_string(),
        routers: snapshot.routers.iter().map(|router| virtual_router(router, snapshot, beside)).collect(),
        drained: snapshot.drained,
        maintenance: snapshot.maintenance,
        late_wakes: snapshot.routers.iter().map(|router| router.status.counters.late_ticks).sum(),
        latest_wake_ms: snapshot
            .routers
            .iter()
            .map(|router| millis(router.status.latest_tick))
            .max()
            .unwrap_or(0),
        peers: beside.peers.said().into_iter().map(|(host, said)| peer(&host, said)).collect(),
    }
}

fn peer(host: &MemberName, said: PeerSaid) -> VrrpPeer {
    VrrpPeer {
        host: host.to_string(),
        heard: said.heard,
        proxy: said.report.map(|report| report.health.to_string()).unwrap_or_default(),
        primary: said.report.is_some_and(|report| report.primary),
        primary_epoch: said.report.map_or(0, |report| report.epoch),
    }
}

fn virtual_router(router: &RouterView, snapshot: &Snapshot, beside: &Beside) -> VirtualRouter {
    let status = &router.status;
    // What was heard while it was Backup is of no interest once it is Active itself.
    let active = status.active.filter(|_| status.state == State::Backup);
    let followers = beside.reload.followers.load();
    let boards = followers.boards.iter().filter(|board| board.address() == router.address);
    let tracks = boards.flat_map(|board| board.shown()).collect();
    let hooks = followers.hooks.iter().find(|hook| hook.address() == router.address);
    let (hook, hook_fails) = hooks.map(|hook| hook.state()).unwrap_or_default();
    let alarms = status.alarms.iter().map(ToString::to_string);
    let alarms = alarms.chain(beside.reload.shown().1);
    let alarms = alarms.chain(hook_fails.then(|| format!("hooks.vip_changed: {hook}")));
    VirtualRouter {
        address: router.address.to_string(),
        vrid: router.vrid.into(),
        version: router.version.into(),
        interface: router.interface.to_string(),
        state: state_to_wire(status.state).into(),
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
        epoch: status.epoch,
        moves: status.moves as u64,
        tracks,
        hook,
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
        let mark = DrainMark::new(std::path::Path::new("/nowhere"));
        let cluster = "demo".parse().unwrap();
        let about = About { cluster, host: "ha1".to_owned(), tls, mark };
        let shared = Arc::new(arc_swap::ArcSwap::from_pointee(one_active()));
        let (wishes, _wishes_in) = crate::wishes::wishes().unwrap();
        let ha2 = ("ha2".parse().unwrap(), "10.0.1.22".parse().unwrap());
        let peers = Peers::new([ha2], Arc::clone(&shared), wishes.clone(), Arc::default());
        let reload = crate::reload::tests::without_a_file(shared, wishes);
        let mut said = peers.own_report();
        (said.primary_epoch, said.proxy) = (9, ha_rpc::proto::ProxyCondition::Draining.into());
        peers.heard("ha2", &said);
        let beside = Beside { peers, reload };
        let reply = reply(&about, &one_active(), &beside);
        let [peer] = &reply.peers[..] else { panic!("{reply:?}") };
        assert_eq!((peer.host.as_str(), peer.proxy.as_str(), peer.primary_epoch), ("ha2", "draining", 9));
        assert!(peer.heard && peer.primary);
        assert_eq!((reply.host.as_str(), reply.proxy.as_str()), ("ha1", "serving"));
        assert!(reply.uptime_ms > 0);
        let [router] = &reply.routers[..] else { panic!("{reply:?}") };
        assert_eq!(router.state(), ha_rpc::proto::VirtualRouterState::Active);
        assert_eq!((router.epoch, router.moves), (1, 1));
        assert_eq!((router.address.as_str(), router.vrid, router.priority), ("10.0.1.10", 10, 150));
        assert_eq!((router.interface.as_str(), router.interval_ms), ("eth0", 200));
        assert!(router.holds_address && router.active_address.is_none());
        assert!(router.reason.starts_with("no advertisement for"), "{}", router.reason);
        assert_eq!(router.alarms, ["no real-time priority"]);
    }
}
