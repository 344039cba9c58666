//! An agent's `Roles` service.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ha_rpc::TlsFiles;
use ha_rpc::gate::{Gate, caller};
use ha_rpc::proto::roles_server::{Roles, RolesServer};
use ha_rpc::proto::{ClaimedRole, ProxyReport, ReadLeaseAnswer, ReadLeaseQuestion, RoleClaim};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Background;

/// How often claims are repeated.
const BEAT: Duration = Duration::from_millis(300);

/// An agent that lives until it is dropped.
pub(crate) struct FakeAgent {
    name: &'static str,
    claims: watch::Sender<Said>,
    reports: Reports,
    lease: watch::Sender<Option<ReadLeaseAnswer>>,
    _server: Background,
}

/// What it says, and how many changes there were.
#[derive(Debug, Clone, Default)]
struct Said {
    claim: Option<RoleClaim>,
    changes: u64,
}

/// Of the newest stream: the newest sequence that was in force, and the change that each sequence carried.
type Reports = Arc<Mutex<Followed>>;

#[derive(Debug, Default)]
struct Followed {
    streams: u32,
    in_force: u64,
    /// Change number by sequence - 1.
    changes: Vec<u64>,
    refused: Vec<String>,
}

impl FakeAgent {
    pub(crate) fn start(name: &'static str, address: IpAddr, tls: TlsFiles) -> Self {
        let claims = watch::Sender::new(Said::default());
        let reports = Reports::default();
        let lease = watch::Sender::new(None);
        let service =
            Service { claims: claims.subscribe(), reports: Arc::clone(&reports), lease: lease.subscribe() };
        let server = Background::run(move || {
            let address = SocketAddr::new(address, ha_config::GRPC_PORT);
            let incoming = ha_rpc::server::listen(address).unwrap();
            let gate = Gate::new("demo".parse().unwrap(), RolesServer::new(service));
            let router = ha_rpc::server::builder(&tls).unwrap().add_service(gate);
            async move { router.serve_with_incoming(incoming).await.unwrap() }
        });
        Self { name, claims, reports, lease, _server: server }
    }

    /// To whoever asks: nobody else can lead for so long, at this epoch. None: it gives out no leases.
    pub(crate) fn give_lease(&self, lease: Option<(u64, Duration)>) {
        let answer = lease.map(|(epoch, lasts)| ReadLeaseAnswer {
            epoch,
            lasts_ns: u64::try_from(lasts.as_nanos()).unwrap(),
        });
        self.lease.send_replace(answer);
    }

    /// Says it at once on every stream; the number of this change.
    pub(crate) fn claim(&self, mut claim: RoleClaim) -> u64 {
        self.name.clone_into(&mut claim.member);
        self.say(Some(claim))
    }

    /// Says nothing any more; its streams stay open.
    pub(crate) fn fall_silent(&self) {
        self.say(None);
    }

    fn say(&self, claim: Option<RoleClaim>) -> u64 {
        let mut number = 0;
        self.claims.send_modify(|said| {
            said.claim = claim;
            said.changes += 1;
            number = said.changes;
        });
        number
    }

    /// Whether the proxy has put this change, or a later one, in force.
    pub(crate) fn is_in_force(&self, change: u64) -> bool {
        let followed = self.reports.lock().unwrap();
        let newest = usize::try_from(followed.in_force).unwrap().checked_sub(1);
        newest.and_then(|index| followed.changes.get(index)).is_some_and(|in_force| *in_force >= change)
    }

    /// How many streams there were.
    pub(crate) fn streams(&self) -> u32 {
        self.reports.lock().unwrap().streams
    }
}

/// It leads.
pub(crate) fn leader(epoch: u64) -> RoleClaim {
    RoleClaim {
        role: ClaimedRole::Leader.into(),
        epoch,
        revision: epoch,
        established: true,
        takes_writes: true,
        timeline: 1,
        position: 1 << 20,
        ..RoleClaim::default()
    }
}

/// It follows.
pub(crate) fn standby(epoch: u64) -> RoleClaim {
    RoleClaim {
        role: ClaimedRole::Standby.into(),
        epoch,
        revision: epoch,
        takes_reads: true,
        timeline: 1,
        position: 1 << 20,
        lag_bytes: Some(4096),
        ..RoleClaim::default()
    }
}

struct Service {
    claims: watch::Receiver<Said>,
    reports: Reports,
    lease: watch::Receiver<Option<ReadLeaseAnswer>>,
}

#[tonic::async_trait]
impl Roles for Service {
    type FollowStream = ReceiverStream<Result<RoleClaim, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<ProxyReport>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let identity = caller(&request)?;
        assert_eq!(identity.to_string(), "matriarch://demo/proxy/ha1");
        {
            let mut followed = self.reports.lock().unwrap();
            followed.streams += 1;
            followed.in_force = 0;
            followed.changes.clear();
        }
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(push(self.claims.clone(), Arc::clone(&self.reports), sender));
        tokio::spawn(receive(request.into_inner(), Arc::clone(&self.reports)));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn read_lease(&self, _: Request<ReadLeaseQuestion>) -> Result<Response<ReadLeaseAnswer>, Status> {
        match *self.lease.borrow() {
            Some(answer) => Ok(Response::new(answer)),
            None => Err(Status::failed_precondition("this fake gives out none")),
        }
    }
}

async fn push(
    mut claims: watch::Receiver<Said>,
    reports: Reports,
    stream: mpsc::Sender<Result<RoleClaim, Status>>,
) {
    for sequence in 1.. {
        let said = loop {
            let said = claims.borrow_and_update().clone();
            if said.claim.is_some() {
                break said;
            }
            if claims.changed().await.is_err() {
                return;
            }
        };
        reports.lock().unwrap().changes.push(said.changes);
        let claim = said.claim.map(|claim| RoleClaim { sequence, ..claim });
        if stream.send(Ok(claim.unwrap())).await.is_err() {
            return;
        }
        drop(tokio::time::timeout(BEAT, claims.changed()).await);
    }
}

async fn receive(mut reports: Streaming<ProxyReport>, followed: Reports) {
    let mut last = None;
    while let Ok(Some(report)) = reports.message().await {
        assert_eq!(report.proxy, "ha1");
        match last {
            None => assert_eq!(report.in_force, 0, "nothing of this stream is in force at its beginning"),
            Some(last) => assert!(report.in_force > last || report.replaced, "confirmations go forward"),
        }
        last = Some(report.in_force);
        followed.lock().unwrap().in_force = report.in_force;
    }
}
