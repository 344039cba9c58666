//! The streams on which proxies follow what this member is to clients.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ha_core::{MemberName, MonoTime};
use ha_daemon::boottime;
use ha_rpc::gate::caller;
use ha_rpc::proto::roles_server::Roles;
use ha_rpc::proto::{ProxyReport, ReadLeaseAnswer, ReadLeaseQuestion, RoleClaim};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Snapshots;
use crate::role_claim;
use crate::role_followers::{Following, RoleFollowers};
use crate::snapshot::AgentSnapshot;

/// How often a claim is repeated when nothing changes. Twice a second is promised; the rest is for a busy machine.
const BEAT: Duration = Duration::from_millis(400);
/// A proxy that takes nothing for so long is given up; it counts a silent stream as no evidence long before.
const TAKES_NOTHING: Duration = Duration::from_secs(2);
/// Claims that wait for one proxy. What is newest counts, so there should be none that grow old.
const WAITING: usize = 1;

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    proxies: BTreeSet<MemberName>,
    snapshots: Snapshots,
    followers: RoleFollowers,
    read_leases: bool,
}

impl Service {
    pub(super) fn new(
        proxies: BTreeSet<MemberName>,
        read_leases: bool,
        snapshots: Snapshots,
        followers: RoleFollowers,
    ) -> Self {
        Self { proxies, snapshots, followers, read_leases }
    }

    /// The proxy that calls.
    fn proxy<T>(&self, request: &Request<T>) -> Result<MemberName, Status> {
        let identity = caller(request)?;
        // A host that carries both PostgreSQL and a proxy has one certificate: its name decides, not its role.
        let known = identity.name.parse().ok().filter(|name| self.proxies.contains(name));
        known.ok_or_else(|| {
            Status::permission_denied(format!("{} is no proxy in this host's file", identity.name))
        })
    }
}

#[tonic::async_trait]
impl Roles for Service {
    type FollowStream = ReceiverStream<Result<RoleClaim, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<ProxyReport>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let proxy = self.proxy(&request)?;
        let (claims, stream) = mpsc::channel(WAITING);
        let follower = Follower {
            following: self.followers.join(proxy.clone()),
            proxy,
            snapshots: self.snapshots.clone(),
            claims,
            last: None,
        };
        tokio::spawn(follower.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn read_lease(
        &self,
        request: Request<ReadLeaseQuestion>,
    ) -> Result<Response<ReadLeaseAnswer>, Status> {
        // The proxy asked before this instant, and counts from then.
        let now = boottime();
        self.proxy(&request)?;
        if !self.read_leases {
            return Err(Status::failed_precondition(
                "routing.reads is not \"linearizable\" in the file of this host, or was not when its agent started",
            ));
        }
        let picture = self.snapshots.borrow().clone();
        let lease = picture.and_then(|picture| picture.status.read_lease);
        Ok(Response::new(lease.map_or_else(ReadLeaseAnswer::default, |lease| ReadLeaseAnswer {
            epoch: lease.epoch.0,
            lasts_ns: u64::try_from(lease.until.since(now).as_nanos()).unwrap_or(u64::MAX),
        })))
    }
}

/// One stream.
struct Follower {
    proxy: MemberName,
    following: Following,
    snapshots: Snapshots,
    claims: mpsc::Sender<Result<RoleClaim, Status>>,
    last: Option<Sent>,
}

/// The claim that was sent last.
struct Sent {
    claim: RoleClaim,
    at: Instant,
    holds_until: Option<MonoTime>,
}

impl Follower {
    async fn run(mut self, mut reports: Streaming<ProxyReport>) {
        tracing::info!(proxy = %self.proxy, "a proxy follows this member's role");
        let ended = self.follow(&mut reports).await;
        match &ended {
            Ok(()) => tracing::info!(proxy = %self.proxy, "a proxy follows no longer"),
            Err(status) => {
                tracing::info!(proxy = %self.proxy, reason = status.message(), "the stream to a proxy ended");
            }
        }
        if let Err(status) = ended {
            let Self { claims, following, .. } = self;
            drop(following);
            // Nobody may be listening any more.
            drop(timeout(TAKES_NOTHING, claims.send(Err(status))).await);
        }
    }

    async fn follow(&mut self, reports: &mut Streaming<ProxyReport>) -> Result<(), Status> {
        loop {
            self.claim().await?;
            let due = self.due();
            tokio::select! {
                report = reports.message() => match report? {
                    Some(report) => self.reported(&report)?,
                    None => return Ok(()),
                },
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("the agent ends"))?;
                }
                () = sleep_until(due) => {}
                () = self.claims.closed() => return Ok(()),
            }
        }
    }

    /// When to claim again at the latest.
    fn due(&self) -> Instant {
        let Some(sent) = &self.last else { return Instant::now() + BEAT };
        let beat = sent.at + BEAT;
        // A deadline that has passed without a change is not waited for again.
        let left = sent.holds_until.map(|until| until.since(boottime())).filter(|left| !left.is_zero());
        left.map_or(beat, |left| beat.min(Instant::now() + left))
    }

    /// Says what this member is, if that is not said already.
    async fn claim(&mut self) -> Result<(), Status> {
        let picture: Option<Arc<AgentSnapshot>> = self.snapshots.borrow_and_update().clone();
        let Some(picture) = picture else { return Ok(()) };
        let Some(mut claim) = role_claim::make(&picture, boottime()) else { return Ok(()) };
        let mut sequence = 1;
        if let Some(last) = &self.last {
            if role_claim::says_the_same(&last.claim, &claim) && last.at.elapsed() < BEAT {
                return Ok(());
            }
            sequence = last.claim.sequence + 1;
        }
        claim.sequence = sequence;
        let holds_until = role_claim::holds_until(&picture, &claim);
        // Before it is sent: the proxy's answer may be faster than what comes after the sending.
        self.following.claimed(sequence, claim.holding, claim.takes_writes);
        match timeout(TAKES_NOTHING, self.claims.send(Ok(claim.clone()))).await {
            Ok(Ok(())) => {}
            // The proxy is gone, which the other direction says as well.
            Ok(Err(_)) => return Err(Status::cancelled("the proxy is gone")),
            Err(_) => return Err(Status::deadline_exceeded("the proxy takes no claims")),
        }
        self.last = Some(Sent { claim, at: Instant::now(), holds_until });
        Ok(())
    }

    fn reported(&self, report: &ProxyReport) -> Result<(), Status> {
        if report.proxy != self.proxy.as_str() {
            let message = format!("the certificate is of {}, the report of {:?}", self.proxy, report.proxy);
            return Err(Status::permission_denied(message));
        }
        let newest = self.last.as_ref().map_or(0, |sent| sent.claim.sequence);
        if report.in_force > newest {
            let message = format!("claim {} was never made on this stream", report.in_force);
            return Err(Status::invalid_argument(message));
        }
        self.following.confirmed(report.in_force);
        if report.replaced {
            self.following.step_aside();
        }
        Ok(())
    }
}
