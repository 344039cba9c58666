//! The cluster of one test: files of `hactl init`, daemons that say what the test tells them, and hactl.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::agent_server::{Agent, AgentServer};
use ha_rpc::proto::proxy_server::{Proxy, ProxyServer};
use ha_rpc::proto::vrrp_server::{Vrrp, VrrpServer};
use ha_rpc::proto::{
    AdministerReply, AdministerRequest, DrainReply, DrainRequest, FailoverRequest, HistoryEntry,
    HistoryReply, HistoryRequest, MoveReply, MoveRequest, OperationReply, PauseRequest, PeerReport,
    PolicyKind, ProxyStatusReply, ProxyStatusRequest, ReinitializeRequest, ReloadRequest, RestartRequest,
    ResumeRequest, Route, RouteState, Server, ServerState, StatusReply, StatusRequest, SwitchoverRequest,
    SyncState, TakeOverReply, TakeOverRequest, Upstream, VirtualRouter, VirtualRouterState, VrrpStatusReply,
    VrrpStatusRequest,
};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Request, Response, Status};

/// What the agents of one test share.
#[derive(Default)]
pub(crate) struct Play {
    /// Who leads; a switchover changes it.
    pub(crate) leader: Mutex<(u64, String)>,
    /// What was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// How a switchover ends, unless it succeeds.
    pub(crate) refusal: Mutex<Option<Status>>,
    /// Proxy hosts that say that they hold the floating address.
    pub(crate) holders: Mutex<Vec<&'static str>>,
    /// The proxy that holds new write sessions.
    pub(crate) holding: Mutex<Option<&'static str>>,
}

struct FakeAgent {
    name: &'static str,
    play: &'static Play,
}

impl FakeAgent {
    fn note(&self, what: &str) -> Result<Response<OperationReply>, Status> {
        self.play.asked.lock().unwrap().push(format!("{} {what}", self.name));
        Ok(Response::new(OperationReply { leader: None }))
    }
}

#[tonic::async_trait]
impl Agent for FakeAgent {
    async fn history(&self, _: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let epoch = self.play.leader.lock().unwrap().0;
        let entry = |epoch: u64| HistoryEntry {
            timeline: u32::try_from(epoch).unwrap(),
            epoch,
            leader: if epoch.is_multiple_of(2) { "pg2" } else { "pg1" }.to_owned(),
            from_lsn: (epoch > 1).then_some(epoch << 24),
            reason: "switchover".to_owned(),
            at: "2026-01-02T03:04:05Z".to_owned(),
            phases: None,
        };
        // pg2 has been cut off from the store for a while.
        let last = if self.name == "pg2" { epoch - 1 } else { epoch };
        Ok(Response::new(HistoryReply { entries: (1..=last).map(entry).collect() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let (epoch, leader) = self.play.leader.lock().unwrap().clone();
        let leads = leader == self.name;
        let state = if leads { ServerState::RunningPrimary } else { ServerState::Streaming };
        let id = |name: &str| format!("{name}@0000000{}", &name[2..]);
        let members = ["pg1", "pg2"].into_iter().filter(|name| *name != leader).map(id).collect();
        Ok(Response::new(StatusReply {
            member: self.name.to_owned(),
            server: Some(Server {
                state: state.into(),
                timeline: Some(1),
                flush: Some(5 << 20),
                replay: Some(5 << 20),
                incarnation: id(self.name).split('@').next_back().map(str::to_owned),
                ..Server::default()
            }),
            serves_writes: leads,
            store_connected: true,
            mode: "synchronous".to_owned(),
            sync: Some(SyncState {
                epoch,
                leader: id(&leader),
                policy: PolicyKind::Quorum.into(),
                policy_epoch: epoch,
                members,
                k: 1,
                ..SyncState::default()
            }),
            ..StatusReply::default()
        }))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Result<Response<OperationReply>, Status> {
        let SwitchoverRequest { candidate, without_stop } = request.into_inner();
        self.note(if without_stop { "switchover without a stop" } else { "switchover" })?;
        if let Some(refusal) = self.play.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let mut leader = self.play.leader.lock().unwrap();
        *leader = (leader.0 + 1, candidate.unwrap());
        Ok(Response::new(OperationReply { leader: Some(leader.1.clone()) }))
    }

    async fn failover(&self, request: Request<FailoverRequest>) -> Result<Response<OperationReply>, Status> {
        self.note(&format!("failover {}", request.into_inner().accept_data_loss))?;
        let mut leader = self.play.leader.lock().unwrap();
        *leader = (leader.0 + 1, self.name.to_owned());
        Ok(Response::new(OperationReply { leader: Some(leader.1.clone()) }))
    }

    async fn restart(&self, _: Request<RestartRequest>) -> Result<Response<OperationReply>, Status> {
        self.note("restart")
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<OperationReply>, Status> {
        self.note("reload")
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<OperationReply>, Status> {
        let PauseRequest { duration_ms, reason } = request.into_inner();
        self.note(&format!("pause {duration_ms} {reason}"))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<OperationReply>, Status> {
        self.note("resume")
    }

    async fn reinitialize(
        &self,
        _: Request<ReinitializeRequest>,
    ) -> Result<Response<OperationReply>, Status> {
        self.note("reinit")
    }
}

/// pg-proxy of one host: it leads to whoever leads.
struct FakeProxy {
    name: &'static str,
    play: &'static Play,
}

#[tonic::async_trait]
impl Proxy for FakeProxy {
    async fn administer(
        &self,
        request: Request<AdministerRequest>,
    ) -> Result<Response<AdministerReply>, Status> {
        let request = request.into_inner();
        let word = request.admin().as_str_name().to_owned();
        self.play.asked.lock().unwrap().push(format!("{} {} {word}", self.name, request.member));
        Ok(Response::new(AdministerReply { sessions: 7 }))
    }

    async fn status(&self, _: Request<ProxyStatusRequest>) -> Result<Response<ProxyStatusReply>, Status> {
        let (epoch, leader) = self.play.leader.lock().unwrap().clone();
        let standby = if leader == "pg1" { "pg2" } else { "pg1" }.to_owned();
        let route = |port: u32, member: &String| Route {
            port,
            state: RouteState::Open.into(),
            members: vec![member.clone()],
            epoch,
            ..Route::default()
        };
        let mut writes = route(5000, &leader);
        if *self.play.holding.lock().unwrap() == Some(self.name) {
            writes.state = RouteState::Holding.into();
            writes.members.clear();
            writes.reason = "a switchover is under way".to_owned();
        }
        let upstream = |member: &str| Upstream { member: member.to_owned(), epoch, ..Upstream::default() };
        Ok(Response::new(ProxyStatusReply {
            proxy: self.name.to_owned(),
            writes: Some(writes),
            reads: Some(route(5001, &standby)),
            upstreams: vec![upstream("pg1"), upstream("pg2")],
            ..ProxyStatusReply::default()
        }))
    }
}

/// vrrpd of one host: it holds the address when the test says so.
struct FakeVrrp {
    name: &'static str,
    play: &'static Play,
}

#[tonic::async_trait]
impl Vrrp for FakeVrrp {
    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let address = request.into_inner().address;
        self.play.asked.lock().unwrap().push(format!("{} moves {address}", self.name));
        if let Some(refusal) = self.play.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        Ok(Response::new(MoveReply { active_address: "127.91.63.22".to_owned() }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let what = if request.into_inner().drain { "drained" } else { "undrained" };
        self.play.asked.lock().unwrap().push(format!("{} is {what}", self.name));
        let holds = self.play.holders.lock().unwrap().contains(&self.name);
        Ok(Response::new(DrainReply { held: holds.then(|| VIP.to_owned()).into_iter().collect() }))
    }

    async fn exchange(&self, _: Request<PeerReport>) -> Result<Response<PeerReport>, Status> {
        Err(Status::unimplemented("hosts talk among themselves"))
    }

    async fn take_over(&self, _: Request<TakeOverRequest>) -> Result<Response<TakeOverReply>, Status> {
        Err(Status::unimplemented("hosts talk among themselves"))
    }

    async fn status(&self, _: Request<VrrpStatusRequest>) -> Result<Response<VrrpStatusReply>, Status> {
        let holds = self.play.holders.lock().unwrap().contains(&self.name);
        let state = if holds { VirtualRouterState::Active } else { VirtualRouterState::Backup };
        let router = VirtualRouter {
            address: VIP.to_owned(),
            state: state.into(),
            priority: 150,
            holds_address: holds,
            ..VirtualRouter::default()
        };
        let (host, proxy) = (self.name.to_owned(), "serving".to_owned());
        Ok(Response::new(VrrpStatusReply {
            host,
            proxy,
            routers: vec![router],
            ..VrrpStatusReply::default()
        }))
    }
}

/// Nobody binds it: the file must not name a loopback address here.
const VIP: &str = "10.9.9.9";

pub(crate) struct World {
    dir: tempfile::TempDir,
    files: PathBuf,
    network: u8,
    pub(crate) play: &'static Play,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Files for pg1 and pg2 on 127.91.`network`.1 and .2; nobody serves yet. pg1 leads epoch 3.
    pub(crate) fn new(network: u8) -> Self {
        Self::of_hosts(network, &[])
    }

    /// The same with the proxy hosts ha1 and ha2 and a floating address, which ha1 holds.
    pub(crate) fn with_proxies(network: u8) -> Self {
        let world = Self::of_hosts(network, &["ha1", "ha2"]);
        *world.play.holders.lock().unwrap() = vec!["ha1"];
        world
    }

    fn of_hosts(network: u8, proxies: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        let play: &'static Play = Box::leak(Box::default());
        *play.leader.lock().unwrap() = (3, "pg1".to_owned());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Self { dir, files, network, play, runtime };
        let mut text = "name = \"pg-cluster\"\n".to_owned();
        for (list, name) in ["pg1", "pg2"]
            .iter()
            .map(|name| ("database", name))
            .chain(proxies.iter().map(|name| ("proxy", name)))
        {
            let address = world.address(name);
            write!(text, "[[{list}]]\nname = \"{name}\"\naddress = \"{address}\"\n").unwrap();
        }
        if !proxies.is_empty() {
            write!(text, "[[vip]]\naddress = \"{VIP}/24\"\ninterface = \"lo\"\n").unwrap();
        }
        let config = world.dir.path().join("cluster.toml");
        std::fs::write(&config, text).unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_hactl"))
            .arg("init")
            .arg("--out")
            .arg(&world.files)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        world
    }

    fn address(&self, name: &str) -> IpAddr {
        let (kind, number) = name.split_at(2);
        let number: u8 = number.parse().unwrap();
        IpAddr::from([127, 91, self.network, number + if kind == "ha" { 20 } else { 0 }])
    }

    /// Starts the daemons of these hosts.
    pub(crate) fn serve(self, names: &[&'static str]) -> Self {
        for &name in names {
            let play = self.play;
            if name.starts_with("pg") {
                self.mount(name, ha_config::GRPC_PORT, AgentServer::new(FakeAgent { name, play }));
            } else {
                self.mount(name, 7001, ProxyServer::new(FakeProxy { name, play }));
                self.mount(name, ha_config::VRRPD_GRPC_PORT, VrrpServer::new(FakeVrrp { name, play }));
            }
        }
        self
    }

    fn mount<S>(&self, name: &str, port: u16, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let tls = self.files.join(name).join("etc/matriarch/tls");
        let files =
            TlsFiles { ca: tls.join("ca.crt"), cert: tls.join("host.crt"), key: tls.join("host.key") };
        let _inside = self.runtime.enter();
        let incoming = ha_rpc::server::listen(SocketAddr::new(self.address(name), port)).unwrap();
        let gate = Gate::new("pg-cluster".parse().unwrap(), service);
        let router = ha_rpc::server::builder(&files).unwrap().add_service(gate);
        self.runtime.spawn(router.serve_with_incoming(incoming));
    }

    /// hactl with the admin's certificate, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hactl"));
        command
            .arg("--config")
            .arg(self.files.join("pg1/etc/matriarch/cluster.toml"))
            .arg("--cert-dir")
            .arg(self.files.join("admin"))
            .args(arguments)
            .stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn hactl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs hactl and checks its exit code; its standard output and error.
    pub(crate) fn expect(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.hactl(arguments);
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        (out, err)
    }

    /// The same with a JSON document on standard output.
    pub(crate) fn expect_json(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        let (out, _) = self.expect(&[arguments, &["--format", "json"]].concat(), code);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in:\n{out}"))
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.play.asked.lock().unwrap())
    }
}
