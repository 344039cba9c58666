//! Proxies follow this member's role.

use std::time::Instant;

use ha_daemon::boottime;
use ha_decision::{MemberRole, ReadLease};
use ha_rpc::proto::roles_client::RolesClient;
use ha_rpc::proto::{
    ClaimedRole, HistoryRequest, ProxyReport, ReadLeaseAnswer, ReadLeaseQuestion, RoleClaim,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;
use crate::rest::fixture;

/// One proxy's stream.
struct Proxy {
    reports: mpsc::Sender<ProxyReport>,
    claims: Streaming<RoleClaim>,
}

fn report(proxy: &str, in_force: u64) -> ProxyReport {
    ProxyReport { proxy: proxy.to_owned(), in_force, replaced: false }
}

impl World {
    async fn follow(&self, holder: &str, proxy: &str) -> Result<Proxy, Status> {
        let channel = channel::connect("pg1", self.address, &self.files(holder)).await.unwrap();
        let (reports, waiting) = mpsc::channel(8);
        reports.send(report(proxy, 0)).await.unwrap();
        let call = RolesClient::new(channel);
        let claims = timeout(LIMIT, { call }.follow(ReceiverStream::new(waiting))).await.unwrap()?;
        Ok(Proxy { reports, claims: claims.into_inner() })
    }

    /// How following ends for somebody who may not.
    async fn refused(&self, holder: &str, proxy: &str) -> Status {
        match self.follow(holder, proxy).await {
            Err(status) => status,
            Ok(mut proxy) => loop {
                // A claim may be under way already; it is open to every proxy of the file.
                if let Err(status) = proxy.next().await {
                    return status;
                }
            },
        }
    }

    fn show(&self, mut picture: AgentSnapshot) {
        let now = boottime();
        picture.at = now;
        picture.status.deadline = picture.status.deadline.map(|_| now + LIMIT);
        self.pictures.send_replace(Some(Arc::new(picture)));
    }
}

impl Proxy {
    async fn next(&mut self) -> Result<RoleClaim, Status> {
        let claim = timeout(LIMIT, self.claims.message()).await.unwrap()?;
        Ok(claim.expect("the stream goes on"))
    }

    async fn claim(&mut self) -> RoleClaim {
        self.next().await.unwrap()
    }
}

fn holding() -> AgentSnapshot {
    let mut picture = fixture::leader();
    picture.status.holding = true;
    picture.status.successor = Some(name("pg2"));
    picture
}

#[tokio::test]
async fn the_first_claim_comes_at_once_a_change_is_pushed_and_the_rest_is_repeated() {
    let world = world();
    world.show(fixture::leader());
    let mut proxy = world.follow("demo/proxy/ha1", "ha1").await.unwrap();
    let first = proxy.claim().await;
    assert_eq!((first.sequence, first.role(), first.takes_writes), (1, ClaimedRole::Leader, true));

    let before = Instant::now();
    world.show(holding());
    let change = proxy.claim().await;
    assert_eq!((change.sequence, change.holding, change.successor.as_deref()), (2, true, Some("pg2")));
    assert!(before.elapsed() < Duration::from_millis(200), "it waited for the beat: {:?}", before.elapsed());

    // The same again, and positions that move, come with the beat only.
    let before = Instant::now();
    world.show(holding());
    let beat = proxy.claim().await;
    let waited = before.elapsed();
    assert_eq!((beat.sequence, beat.holding), (3, true));
    assert!(waited > Duration::from_millis(200), "nothing had changed: {waited:?}");
    assert!(waited < Duration::from_millis(800), "not twice a second: {waited:?}");

    world.show(fixture::standby(MemberRole::SyncStandby, 0));
    assert_eq!(proxy.claim().await.role(), ClaimedRole::Standby);
}

#[tokio::test]
async fn nothing_is_claimed_before_anything_is_known() {
    let world = world();
    let mut proxy = world.follow("demo/proxy/ha1", "ha1").await.unwrap();
    let mut undecided = fixture::leader();
    undecided.status.serves_writes = false;
    undecided.status.undecided = true;
    world.show(undecided);
    let early = timeout(Duration::from_millis(600), proxy.claims.message()).await;
    assert!(early.is_err(), "{early:?}");
    world.show(fixture::leader());
    let first = proxy.claim().await;
    assert_eq!((first.sequence, first.takes_writes), (1, true));
}

#[tokio::test]
async fn a_hold_counts_when_every_proxy_has_confirmed_it() {
    let world = world();
    world.show(fixture::leader());
    let mut ha1 = world.follow("demo/proxy/ha1", "ha1").await.unwrap();
    // A host that carries a proxy as well has a certificate of role host.
    let mut pg3 = world.follow("demo/host/pg3", "pg3").await.unwrap();
    for (proxy, who) in [(&mut ha1, "ha1"), (&mut pg3, "pg3")] {
        let first = proxy.claim().await;
        proxy.reports.send(report(who, first.sequence)).await.unwrap();
    }
    world.show(holding());
    let followers = world.followers.clone();
    let held = tokio::spawn(async move { followers.all_hold().await });
    for (proxy, who) in [(&mut ha1, "ha1"), (&mut pg3, "pg3")] {
        let mut asked = proxy.claim().await;
        while !asked.holding {
            asked = proxy.claim().await;
        }
        assert!(!held.is_finished(), "{who} has not confirmed yet");
        proxy.reports.send(report(who, asked.sequence)).await.unwrap();
    }
    timeout(LIMIT, held).await.unwrap().unwrap();
    // Nobody is waited for who is gone.
    drop((ha1, pg3));
    world.show(fixture::leader());
    timeout(LIMIT, world.followers.all_hold()).await.unwrap();
}

#[tokio::test]
async fn only_proxies_of_the_file_follow_and_nobody_reports_for_another() {
    let world = world();
    world.show(fixture::leader());
    for (holder, proxy) in [
        ("demo/proxy/ha1", "ha2"),
        ("demo/proxy/ha1", ""),
        ("demo/proxy/ha9", "ha9"),
        ("demo/host/pg2", "pg2"),
        ("demo/host/pg2", "ha1"),
        ("demo/admin/admin", "ha1"),
        ("other/host/pg2", "pg2"),
    ] {
        let refused = world.refused(holder, proxy).await;
        assert_eq!(refused.code(), Code::PermissionDenied, "{holder} as {proxy}: {refused}");
    }
    let mut proxy = world.follow("demo/proxy/ha1", "ha1").await.unwrap();
    let first = proxy.claim().await;
    proxy.reports.send(report("ha1", first.sequence + 100)).await.unwrap();
    let refused = loop {
        if let Err(status) = proxy.next().await {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "a claim that was never made: {refused}");
}

#[tokio::test]
async fn history_is_told_once_the_store_was_seen() {
    let world = world();
    let mut admin = world.agent("demo/admin/admin").await;
    let not_yet = admin.history(HistoryRequest {}).await.unwrap_err();
    assert_eq!(Outcome::of(&not_yet), Some(Outcome::NotNow));
    let mut picture = fixture::leader();
    picture.view = Some(ha_core::cluster_view::StoreView::default());
    world.show(picture);
    let mut proxy = world.agent("demo/proxy/ha1").await;
    assert!(proxy.history(HistoryRequest {}).await.unwrap().into_inner().entries.is_empty());
}

#[tokio::test]
async fn proxies_of_the_file_may_ask_for_how_long_nobody_else_can_lead() {
    let world = world();
    let ask = async |holder: &str| {
        let channel = channel::connect("pg1", world.address, &world.files(holder)).await.unwrap();
        RolesClient::new(channel).read_lease(ReadLeaseQuestion {}).await.map(tonic::Response::into_inner)
    };
    assert_eq!(ask("demo/proxy/ha1").await.unwrap(), ReadLeaseAnswer::default(), "no picture yet");
    let mut picture = fixture::leader();
    picture.status.read_lease = Some(ReadLease { epoch: Epoch(7), until: boottime() + LIMIT });
    world.show(picture);
    let answer = ask("demo/proxy/ha1").await.unwrap();
    assert_eq!(answer.epoch, 7);
    let lasts = Duration::from_nanos(answer.lasts_ns);
    assert!(!lasts.is_zero() && lasts < LIMIT, "{lasts:?}");
    for holder in ["demo/admin/admin", "demo/proxy/ha9", "demo/host/pg2"] {
        assert_eq!(ask(holder).await.unwrap_err().code(), Code::PermissionDenied, "{holder}");
    }
}
