//! The peer channel: vrrpds tell each other how they are, over gRPC with mutual TLS, on the ordinary thread. What is heard
//! goes to the driver as a wish among others; that nothing is heard changes no state there.
//!
//! Each host calls each other one: five times a second, and at once when something has changed here. The answer is the
//! other's report; what the other tells when it calls counts as well.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ha_config::VRRPD_GRPC_PORT;
use ha_core::MemberName;
use ha_rpc::proto::vrrp_client::VrrpClient;
use ha_rpc::proto::{self, ProxyCondition, TakeOverRequest, VirtualRouterState};
use ha_rpc::{TlsFiles, channel};
use tokio::sync::Notify;
use tonic::Status;
use tonic::transport::Channel;
use vrrp::{PeerRouter, ProxyHealth, ProxyReport, SharedSettings, State};

use crate::outlet::{Outlet, OutletEnd, outlet};
use crate::snapshot::Shared;
use crate::wishes::{Wish, Wishes};

/// How often a host says how it is although nothing has changed.
const INTERVAL: Duration = Duration::from_millis(200);
/// After so much silence a host is not heard any more: a busy one answers late.
const SILENCE_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait for an answer; a request to take over that is older is of no use.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Pause before a connection is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Requests of the driver that may wait: one for each address, each time something changes.
const REQUESTS_WAITING: usize = 64;

/// What the driver wants of the channel.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Something that the others are told has changed, and stands in the snapshot.
    Changed,
    /// Somebody asked, by a signal, that the file is read.
    Reload,
    /// Another host shall take an address over.
    TakeOver { peer: MemberName, address: IpAddr, priority: u8, epoch: u64 },
}

/// The driver's end: it never waits, and what does not fit is lost.
#[derive(Debug)]
pub(crate) struct PeerQueue(Outlet<Outgoing>);

impl PeerQueue {
    pub(crate) fn put(&self, outgoing: Outgoing) {
        // Lost only when the ordinary thread hangs; advertisements say the same.
        self.0.put(outgoing);
    }
}

/// Both ends of the driver's queue. Must be called in a runtime.
///
/// # Errors
/// As of [`outlet`].
pub(crate) fn peer_queue() -> io::Result<(PeerQueue, OutletEnd<Outgoing>)> {
    let (queue, end) = outlet(REQUESTS_WAITING)?;
    Ok((PeerQueue(queue), end))
}

/// The other hosts, and what they have said.
#[derive(Debug)]
pub(crate) struct Peers {
    shared: Shared,
    wishes: Wishes,
    /// The file shall be read.
    reload: Arc<Notify>,
    peers: BTreeMap<MemberName, Peer>,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    /// The last that it said.
    said: Mutex<Option<(Instant, ProxyReport)>>,
    /// Something has changed here since it was told.
    changed: Notify,
    /// It called: so it can be reached.
    called: Notify,
    /// The connection, while there is one.
    connection: Mutex<Option<Channel>>,
}

/// What a status shows of another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerSaid {
    pub(crate) heard: bool,
    pub(crate) report: Option<ProxyReport>,
}

impl Peers {
    pub(crate) fn new(
        others: impl IntoIterator<Item = (MemberName, IpAddr)>,
        shared: Shared,
        wishes: Wishes,
        reload: Arc<Notify>,
    ) -> Arc<Self> {
        let peer = |(name, address)| {
            let address = SocketAddr::new(address, VRRPD_GRPC_PORT);
            let (said, connection) = (Mutex::new(None), Mutex::new(None));
            (name, Peer { address, said, changed: Notify::new(), called: Notify::new(), connection })
        };
        Arc::new(Self { shared, wishes, reload, peers: others.into_iter().map(peer).collect() })
    }

    /// What this host says of itself.
    pub(crate) fn own_report(&self) -> proto::PeerReport {
        let snapshot = self.shared.load();
        let router = |router: &crate::snapshot::RouterView| proto::PeerRouter {
            address: router.address.to_string(),
            state: state_to_wire(router.status.state).into(),
            priority: router.status.priority.into(),
            epoch: router.status.epoch,
            held_epoch: router.status.held_epoch,
            settings: router.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let ProxyReport { health, primary, epoch } = snapshot.said;
        proto::PeerReport {
            proxy: condition_to_wire(health).into(),
            primary,
            primary_epoch: epoch,
            routers: snapshot.routers.iter().map(router).collect(),
        }
    }

    /// Another host said this. False when it is none of the file.
    pub(crate) fn heard(&self, name: &str, report: &proto::PeerReport) -> bool {
        let Some((name, peer)) = self.peers.iter().find(|(other, _)| other.as_str() == name) else {
            return false;
        };
        let proxy = ProxyReport {
            health: condition_from_wire(report.proxy()),
            primary: report.primary,
            epoch: report.primary_epoch,
        };
        let before = locked(&peer.said).replace((Instant::now(), proxy));
        if before.is_none_or(|(at, _)| at.elapsed() > SILENCE_LIMIT) {
            tracing::info!(host = %name, proxy = %proxy.health, "hears another host over the peer channel");
        }
        if locked(&peer.connection).is_none() {
            peer.called.notify_one();
        }
        self.wishes.wish(Wish::ProxyReported { peer: name.clone(), proxy });
        // Its virtual routers that are ours as well. What we have and it has not is a difference, too.
        for own in &self.shared.load().routers {
            let address = own.address;
            let theirs = report.routers.iter().find(|theirs| theirs.address.parse() == Ok(address));
            let router = theirs.map_or_else(
                || PeerRouter {
                    state: State::Initialize,
                    priority: 0,
                    epoch: 0,
                    held_epoch: 0,
                    differs: Some("it does not have this floating address".into()),
                },
                |theirs| router_from_wire(theirs, &own.settings),
            );
            self.wishes.wish(Wish::RouterReported { peer: name.clone(), address, router });
        }
        true
    }

    /// What is known of each other host.
    pub(crate) fn said(&self) -> Vec<(MemberName, PeerSaid)> {
        let said = |(name, peer): (&MemberName, &Peer)| {
            let last = *locked(&peer.said);
            let heard = last.is_some_and(|(at, _)| at.elapsed() <= SILENCE_LIMIT);
            (name.clone(), PeerSaid { heard, report: last.map(|(_, report)| report) })
        };
        self.peers.iter().map(said).collect()
    }

    /// Passes a request to take over on to the driver. False when it comes from nobody of the file, or too much is asked.
    pub(crate) fn asked(&self, name: &str, request: TakeOverRequest) -> bool {
        let Some(peer) = self.peers.keys().find(|other| other.as_str() == name).cloned() else {
            return false;
        };
        let TakeOverRequest { address, priority, epoch } = request;
        let Ok(address) = address.parse() else { return false };
        let priority = u8::try_from(priority).unwrap_or(u8::MAX);
        self.wishes.wish(Wish::TakeOver { peer, address, priority, epoch })
    }

    /// Talks to all of them for ever.
    pub(crate) async fn talk(self: Arc<Self>, tls: TlsFiles, mut outgoing: OutletEnd<Outgoing>) {
        for name in self.peers.keys() {
            tokio::spawn(Arc::clone(&self).talk_to(name.clone(), tls.clone()));
        }
        while let Some(outgoing) = outgoing.take().await {
            match outgoing {
                Outgoing::Reload => self.reload.notify_one(),
                Outgoing::Changed => self.peers.values().for_each(|peer| peer.changed.notify_one()),
                Outgoing::TakeOver { peer, address, priority, epoch } => {
                    let (address, priority) = (address.to_string(), priority.into());
                    let request = TakeOverRequest { address, priority, epoch };
                    let connection = self.peers.get(&peer).and_then(|peer| locked(&peer.connection).clone());
                    let Some(connection) = connection else { continue };
                    tokio::spawn(async move {
                        let mut client = VrrpClient::new(connection);
                        let request = channel::with_deadline(request, ANSWER_LIMIT);
                        if let Err(error) = in_time(client.take_over(request)).await {
                            tracing::warn!(host = %peer, reason = error.message(), "cannot ask to take over");
                        }
                    });
                }
            }
        }
    }

    async fn talk_to(self: Arc<Self>, name: MemberName, tls: TlsFiles) {
        let Some(peer) = self.peers.get(&name) else { return };
        let mut told = false;
        loop {
            match channel::connect(name.as_str(), peer.address, &tls).await {
                Ok(connection) => {
                    *locked(&peer.connection) = Some(connection.clone());
                    tracing::info!(host = %name, "connected to another host");
                    let error = self.exchange(&name, peer, connection).await;
                    *locked(&peer.connection) = None;
                    tracing::info!(host = %name, reason = error.message(), "the connection to another host ended");
                    told = false;
                }
                Err(error) if !std::mem::replace(&mut told, true) => {
                    let reason = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(host = %name, reason, "another host is not reached over the peer channel");
                }
                Err(_) => {}
            }
            self.notice_silence(&name, peer);
            drop(tokio::time::timeout(AGAIN, peer.called.notified()).await);
        }
    }

    /// Tells and is told until that fails.
    async fn exchange(&self, name: &MemberName, peer: &Peer, connection: Channel) -> Status {
        let mut client = VrrpClient::new(connection);
        loop {
            let request = channel::with_deadline(self.own_report(), ANSWER_LIMIT);
            match in_time(client.exchange(request)).await {
                Ok(report) => {
                    self.heard(name.as_str(), report.get_ref());
                }
                Err(error) => return error,
            }
            // Either of them; a change that comes meanwhile is not lost.
            drop(tokio::time::timeout(INTERVAL, peer.changed.notified()).await);
        }
    }

    fn notice_silence(&self, name: &MemberName, peer: &Peer) {
        let heard = locked(&peer.said).is_some_and(|(at, _)| at.elapsed() <= SILENCE_LIMIT);
        if !heard {
            // Said again and again: a wish may be lost, and one too many does no harm.
            self.wishes.wish(Wish::PeerLost(name.clone()));
        }
    }
}

/// Nothing in here panics with the lock held.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {} ms", ANSWER_LIMIT.as_millis()));
    tokio::time::timeout(ANSWER_LIMIT, call).await.map_err(late)?
}

fn router_from_wire(theirs: &proto::PeerRouter, ours: &SharedSettings) -> PeerRouter {
    let settings: SharedSettings =
        theirs.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    PeerRouter {
        state: state_from_wire(theirs.state()),
        priority: u8::try_from(theirs.priority).unwrap_or(u8::MAX),
        epoch: theirs.epoch,
        held_epoch: theirs.held_epoch,
        differs: vrrp::difference(ours, &settings).map(Arc::from),
    }
}

/// On the wire.
pub(crate) fn state_to_wire(state: State) -> VirtualRouterState {
    match state {
        State::Initialize => VirtualRouterState::Initialize,
        State::Backup => VirtualRouterState::Backup,
        State::Active => VirtualRouterState::Active,
        State::Fault => VirtualRouterState::Fault,
    }
}

fn state_from_wire(state: VirtualRouterState) -> State {
    match state {
        VirtualRouterState::Backup => State::Backup,
        VirtualRouterState::Active => State::Active,
        VirtualRouterState::Fault => State::Fault,
        // What is not known cannot take over.
        VirtualRouterState::Initialize | VirtualRouterState::Unspecified => State::Initialize,
    }
}

fn condition_to_wire(health: ProxyHealth) -> ProxyCondition {
    match health {
        ProxyHealth::Dead => ProxyCondition::Dead,
        ProxyHealth::Draining => ProxyCondition::Draining,
        ProxyHealth::Alive => ProxyCondition::Alive,
        ProxyHealth::Serving => ProxyCondition::Serving,
    }
}

fn condition_from_wire(condition: ProxyCondition) -> ProxyHealth {
    match condition {
        ProxyCondition::Draining => ProxyHealth::Draining,
        ProxyCondition::Alive => ProxyHealth::Alive,
        ProxyCondition::Serving => ProxyHealth::Serving,
        ProxyCondition::Dead | ProxyCondition::Unspecified => ProxyHealth::Dead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;
    use crate::wishes::wishes;

    fn peers() -> (Arc<Peers>, crate::wishes::WishesIn) {
        let (wishes, wishes_in) = wishes().unwrap();
        let shared = Arc::new(arc_swap::ArcSwap::from_pointee(one_active()));
        let ha2 = ("ha2".parse().unwrap(), "10.0.1.22".parse().unwrap());
        (Peers::new([ha2], shared, wishes, Arc::default()), wishes_in)
    }

    #[test]
    fn what_a_host_says_arrives_as_it_was_said() {
        let (peers, wishes_in) = peers();
        let report = peers.own_report();
        assert!(peers.heard("ha2", &report));
        let Some(Wish::ProxyReported { peer, proxy }) = wishes_in.take() else { panic!("one report") };
        let expected = ProxyReport { health: ProxyHealth::Serving, primary: true, epoch: 7 };
        assert_eq!((peer.as_str(), proxy), ("ha2", expected));
        let Some(Wish::RouterReported { address, router, .. }) = wishes_in.take() else {
            panic!("one router")
        };
        assert_eq!((address, router.state, router.priority), ([10, 0, 1, 10].into(), State::Active, 150));
        assert_eq!((router.epoch, router.held_epoch, &router.differs), (1, 1, &None));
        assert_eq!(peers.said(), [(peer.clone(), PeerSaid { heard: true, report: Some(expected) })]);
        assert!(!peers.heard("ha9", &report), "no host of the file");
    }

    #[test]
    fn other_settings_and_an_absent_address_are_differences() {
        let (peers, wishes_in) = peers();
        let mut report = peers.own_report();
        report.routers[0].settings.insert("interval".to_owned(), "1s".to_owned());
        peers.heard("ha2", &report);
        report.routers.clear();
        peers.heard("ha2", &report);
        let differs: Vec<Arc<str>> = std::iter::from_fn(|| wishes_in.take())
            .filter_map(|wish| match wish {
                Wish::RouterReported { router, .. } => router.differs,
                _ => None,
            })
            .collect();
        let expected = ["interval 1s instead of 200ms", "it does not have this floating address"];
        assert_eq!(differs, expected.map(Arc::from));
    }

    #[test]
    fn conditions_and_states_survive_the_wire() {
        use ProxyHealth::{Alive, Dead, Draining, Serving};
        for health in [Dead, Draining, Alive, Serving] {
            assert_eq!(condition_from_wire(condition_to_wire(health)), health);
        }
        for state in [State::Initialize, State::Backup, State::Active, State::Fault] {
            assert_eq!(state_from_wire(state_to_wire(state)), state);
        }
    }
}
