//! Two ends on 127.0.0.1 with certificates of one authority.

use std::path::Path;
use std::time::Duration;

use ha_core::peer_message::{Beat, PeerMessage};
use ha_core::{Epoch, Generation, MonoTime};
use ha_decision::SwitchoverMethod;
use ha_rpc::proto::agent_client::AgentClient;
use ha_rpc::proto::peer_client::PeerClient;
use ha_rpc::proto::{RestartRequest, StatusRequest, SwitchoverRequest};
use ha_rpc::status_code::Outcome;
use ha_rpc::{channel, peer_envelope};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::*;

mod following;

use crate::peers::{self, PeerOptions, Peers};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    dir: tempfile::TempDir,
    address: SocketAddr,
    server: tokio::task::JoinHandle<Result<(), ServerError>>,
    events: mpsc::Receiver<PeerEvent>,
    requests: mpsc::Receiver<OperatorRequest>,
    pictures: watch::Sender<Option<Arc<AgentSnapshot>>>,
    followers: RoleFollowers,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `<holder>.{ca,crt,key}`; the holder is the path of the certificate's URI with dashes.
    fn issue(&self, dir: &Path, holder: &str) {
        let mut params = CertificateParams::default();
        let name = holder.split('/').next_back().unwrap();
        params.subject_alt_names = vec![
            SanType::DnsName(name.try_into().unwrap()),
            SanType::URI(format!("matriarch://{holder}").try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let files = files(dir, holder);
        std::fs::write(files.ca, self.0.pem()).unwrap();
        std::fs::write(files.cert, certificate.pem()).unwrap();
        std::fs::write(files.key, key.serialize_pem()).unwrap();
    }
}

fn files(dir: &Path, holder: &str) -> TlsFiles {
    let file = |end: &str| dir.join(format!("{}.{end}", holder.replace('/', "-")));
    TlsFiles { ca: file("ca"), cert: file("crt"), key: file("key") }
}

fn name(text: &str) -> MemberName {
    text.parse().unwrap()
}

fn beat(number: u64) -> PeerMessage {
    PeerMessage::Beat(Beat {
        epoch: Epoch(1),
        generation: Generation(1),
        sent_at: MonoTime(number),
        asks_to_refuse: false,
    })
}

/// The agent of pg1 serves.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    for holder in [
        "demo/host/pg1",
        "demo/host/pg2",
        "demo/host/pg9",
        "demo/proxy/ha1",
        "demo/proxy/ha9",
        "demo/host/pg3",
        "demo/admin/admin",
        "other/host/pg2",
    ] {
        authority.issue(dir.path(), holder);
    }
    let incoming = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let options = RpcOptions {
        cluster: "demo".parse().unwrap(),
        address,
        members: ["pg1", "pg2", "pg3"].map(name).into(),
        // A host may carry a proxy beside PostgreSQL.
        proxies: ["ha1", "ha2", "pg3"].map(name).into(),
        read_leases: true,
        tls: files(dir.path(), "demo/host/pg1"),
    };
    let (peer_events, events) = mpsc::channel(16);
    let (requests_out, requests) = mpsc::channel(1);
    let (pictures, snapshots) = watch::channel(None);
    let followers = RoleFollowers::default();
    let service = serve_on(incoming, options, snapshots, requests_out, peer_events, followers.clone());
    let server = tokio::spawn(service);
    World { dir, address, server, events, requests, pictures, followers }
}

impl World {
    fn files(&self, holder: &str) -> TlsFiles {
        files(self.dir.path(), holder)
    }

    async fn agent(&self, holder: &str) -> AgentClient<tonic::transport::Channel> {
        AgentClient::new(channel::connect("pg1", self.address, &self.files(holder)).await.unwrap())
    }

    /// The outgoing side of pg2.
    fn pg2(&self) -> Peers {
        let others = vec![(name("pg1"), self.address)];
        peers::start(PeerOptions { me: name("pg2"), others, tls: self.files("demo/host/pg2") }).0
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(LIMIT, self.events.recv()).await.unwrap().unwrap()
    }

    /// One envelope on a stream of its own; how the call ended.
    async fn talk(&self, holder: &str, from: &str) -> Status {
        let channel = channel::connect("pg1", self.address, &self.files(holder)).await.unwrap();
        let mut client = PeerClient::new(channel);
        let messages = tokio_stream::iter([peer_envelope::write(&name(from), &beat(1))]);
        timeout(LIMIT, client.talk(messages)).await.unwrap().unwrap_err()
    }
}

#[tokio::test]
async fn what_a_peer_says_arrives_in_order_and_the_end_of_its_stream_is_told() {
    let mut world = world();
    let peers = world.pg2();
    let started = tokio::time::Instant::now();
    for number in 0..20 {
        peers.send(&name("pg1"), beat(number));
    }
    // Nobody waits in `send`, although there is no connection yet.
    assert!(started.elapsed() < Duration::from_millis(100));
    for number in 0..20 {
        let expected = PeerEvent::Message { from: name("pg2"), message: beat(number) };
        assert_eq!(world.event().await, expected);
    }
    drop(peers);
    assert_eq!(world.event().await, PeerEvent::Lost { from: name("pg2") });
}

#[tokio::test]
async fn a_newer_stream_replaces_an_older_one_without_a_loss() {
    let mut world = world();
    let old = world.pg2();
    old.send(&name("pg1"), beat(1));
    assert!(matches!(world.event().await, PeerEvent::Message { .. }));
    let new = world.pg2();
    new.send(&name("pg1"), beat(2));
    assert_eq!(world.event().await, PeerEvent::Message { from: name("pg2"), message: beat(2) });
    drop(old);
    new.send(&name("pg1"), beat(3));
    assert_eq!(world.event().await, PeerEvent::Message { from: name("pg2"), message: beat(3) });
    drop(new);
    assert_eq!(world.event().await, PeerEvent::Lost { from: name("pg2") });
}

#[tokio::test]
async fn nobody_speaks_for_another_member() {
    let world = world();
    for (holder, from) in [
        ("demo/host/pg2", "pg3"),
        ("demo/host/pg9", "pg9"),
        ("demo/proxy/ha1", "ha1"),
        ("demo/admin/admin", "pg2"),
        ("other/host/pg2", "pg2"),
    ] {
        let refused = world.talk(holder, from).await;
        assert_eq!(refused.code(), Code::PermissionDenied, "{holder} as {from}: {refused}");
    }
}

#[tokio::test]
async fn proxies_read_only_and_admins_may_ask() {
    let mut world = world();
    let mut proxy = world.agent("demo/proxy/ha1").await;
    let refused = proxy.switchover(SwitchoverRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Allowed, but there is no picture yet: a typed refusal.
    let not_yet = proxy.status(StatusRequest {}).await.unwrap_err();
    assert_eq!(Outcome::of(&not_yet), Some(Outcome::NotNow));

    let mut admin = world.agent("demo/admin/admin").await;
    let ask = tokio::spawn(async move {
        let request = SwitchoverRequest { candidate: Some("pg3".to_owned()), ..SwitchoverRequest::default() };
        let switchover = admin.switchover(request).await;
        let restart = admin.restart(RestartRequest {}).await;
        (switchover, restart)
    });
    let asked = timeout(LIMIT, world.requests.recv()).await.unwrap().unwrap();
    assert_eq!(
        asked.request,
        Request::Switchover { candidate: Some(name("pg3")), method: SwitchoverMethod::CleanStop }
    );
    asked.reply.send(Err(Refusal::NotStreaming { member: name("pg3") })).unwrap();
    let asked = timeout(LIMIT, world.requests.recv()).await.unwrap().unwrap();
    assert_eq!(asked.request, Request::Restart);
    // A driver that ends without an answer.
    drop(asked.reply);
    let (switchover, restart) = timeout(LIMIT, ask).await.unwrap().unwrap();
    let refused = switchover.unwrap_err();
    assert_eq!(Outcome::of(&refused), Some(Outcome::Refused));
    assert_eq!(refused.message(), "pg3 does not stream from the leader");
    assert_eq!(Outcome::of(&restart.unwrap_err()), None);
}

#[tokio::test]
async fn without_a_certificate_of_the_authority_nothing_is_answered() {
    let world = world();
    let stranger = Authority::new();
    let foreign = "demo/host/pg3";
    stranger.issue(world.dir.path(), foreign);
    let mut files = world.files(foreign);
    // It trusts the server, the server does not trust it.
    files.ca = world.files("demo/host/pg1").ca;
    // With TLS 1.3 the client learns of the refusal when it uses the connection.
    let answered = match channel::connect("pg1", world.address, &files).await {
        Ok(channel) => {
            AgentClient::new(channel).status(StatusRequest {}).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let error = answered.unwrap_err();
    assert!(!error.contains("just started"), "{error}");

    let nothing = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(std::fs::read(&files.ca).unwrap()))
        .domain_name("pg1");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", world.address)).unwrap();
    let channel = endpoint.tls_config(nothing).unwrap().connect_lazy();
    let error = AgentClient::new(channel).status(StatusRequest {}).await.unwrap_err();
    assert_eq!(Outcome::of(&error), None, "{error}");
}

#[tokio::test]
async fn a_server_that_is_another_member_is_not_talked_to() {
    let world = world();
    let files = world.files("demo/host/pg2");
    assert!(channel::connect("pg1", world.address, &files).await.is_ok());
    assert!(channel::connect("pg3", world.address, &files).await.is_err());
}
