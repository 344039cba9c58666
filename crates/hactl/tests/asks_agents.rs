//! hactl against agents that say what a test tells them: real files of `hactl init`, real TLS, real exit codes.
//!
//! The agents' port is fixed, so each test has loopback addresses of its own.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

use ha_rpc::TlsFiles;
use ha_rpc::gate::Gate;
use ha_rpc::proto::agent_server::{Agent, AgentServer};
use ha_rpc::proto::{
    FailoverRequest, HistoryReply, HistoryRequest, OperationReply, PauseRequest, PolicyKind,
    ReinitializeRequest, ReloadRequest, RestartRequest, ResumeRequest, Server, ServerState, StatusReply,
    StatusRequest, SwitchoverRequest, SyncState,
};
use ha_rpc::status_code::Outcome;
use tonic::{Request, Response, Status};

/// What the agents of one test share.
#[derive(Default)]
struct Play {
    /// Who leads; a switchover changes it.
    leader: Mutex<(u64, String)>,
    /// What was asked, in order.
    asked: Mutex<Vec<String>>,
    /// How a switchover ends, unless it succeeds.
    refusal: Mutex<Option<Status>>,
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
        Ok(Response::new(HistoryReply::default()))
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
        self.note("switchover")?;
        if let Some(refusal) = self.play.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let mut leader = self.play.leader.lock().unwrap();
        *leader = (leader.0 + 1, request.into_inner().candidate.unwrap());
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

struct World {
    _dir: tempfile::TempDir,
    files: PathBuf,
    network: u8,
    play: &'static Play,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Files for pg1 and pg2 on 127.91.`network`.1 and .2; nobody serves yet. pg1 leads epoch 3.
    fn new(network: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        let play: &'static Play = Box::leak(Box::default());
        *play.leader.lock().unwrap() = (3, "pg1".to_owned());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Self { _dir: dir, files, network, play, runtime };
        let databases = ["pg1", "pg2"].map(|name| format!("{name}={}", world.address(name)));
        let made = Command::new(env!("CARGO_BIN_EXE_hactl"))
            .args(["init", "--out", world.files.to_str().unwrap()])
            .args(["--database", &databases[0], "--database", &databases[1]])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        world
    }

    fn address(&self, name: &str) -> IpAddr {
        IpAddr::from([127, 91, self.network, name[2..].parse().unwrap()])
    }

    fn serve(self, names: &[&'static str]) -> Self {
        for name in names {
            let tls = self.files.join(name).join("etc/matriarch/tls");
            let files =
                TlsFiles { ca: tls.join("ca.crt"), cert: tls.join("host.crt"), key: tls.join("host.key") };
            let address = SocketAddr::new(self.address(name), ha_config::GRPC_PORT);
            let agent = AgentServer::new(FakeAgent { name, play: self.play });
            let _inside = self.runtime.enter();
            let incoming = ha_rpc::server::listen(address).unwrap();
            let gate = Gate::new("pg-cluster".parse().unwrap(), agent);
            let router = ha_rpc::server::builder(&files).unwrap().add_service(gate);
            self.runtime.spawn(router.serve_with_incoming(incoming));
        }
        self
    }

    fn hactl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hactl"))
            .arg("--config")
            .arg(self.files.join("pg1/etc/matriarch/cluster.toml"))
            .arg("--cert-dir")
            .arg(self.files.join("admin"))
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs hactl and checks its exit code; its standard output and error.
    fn expect(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.hactl(arguments);
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        (out, err)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.play.asked.lock().unwrap())
    }
}

#[test]
fn a_switchover_goes_to_the_leader_and_ends_when_the_new_one_takes_writes() {
    let world = World::new(1).serve(&["pg1", "pg2"]);
    let (out, _) = world.expect(&["list"], 0);
    assert!(out.contains("epoch 3  synchronous: quorum 1 of pg2"), "{out}");
    // Nobody is there to confirm.
    let (_, err) = world.expect(&["switchover", "--candidate", "pg2"], 4);
    assert!(err.contains("--yes"), "{err}");
    assert!(world.asked().is_empty());
    let (out, _) = world.expect(&["switchover", "--candidate", "pg2", "--yes"], 0);
    assert!(out.starts_with("pg2 leads epoch 4 and takes writes; took "), "{out}");
    assert_eq!(world.asked(), ["pg1 switchover"]);
    let (out, _) = world.expect(&["list", "--format", "json"], 0);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&rows[0]["Role"], &rows[1]["Role"]), (&"Sync Standby".into(), &"Leader".into()));
}

#[test]
fn refusals_and_broken_connections_have_their_own_exit_codes() {
    let world = World::new(2).serve(&["pg1", "pg2"]);
    let switchover = &["switchover", "--candidate", "pg2", "--yes"];
    for (status, code, text) in [
        (Outcome::Refused.status("pg2 does not stream from the leader"), 3, "does not stream"),
        (Outcome::CalledOff.status("called off after 10 s: pg2 lags"), 1, "called off after 10 s"),
        (Status::unavailable("broken pipe"), 6, "the outcome is not known"),
    ] {
        *world.play.refusal.lock().unwrap() = Some(status);
        let (_, err) = world.expect(switchover, code);
        assert!(err.contains(text), "{err}");
    }
    for wrong in [&["switchover", "--leader", "pg2", "--yes"] as &[&str], &["restart", "pg9", "--yes"]] {
        world.expect(wrong, 3);
    }
}

#[test]
fn without_the_leader_a_failover_goes_to_the_listed_member() {
    let world = World::new(3).serve(&["pg2"]);
    let (out, _) = world.expect(&["list"], 0);
    assert!(out.contains("unreachable") && out.contains("? pg1: "), "{out}");
    let (_, err) = world.expect(&["switchover", "--yes"], 5);
    assert!(err.contains("pg1 leads, but its agent cannot be reached"), "{err}");
    let (out, _) = world.expect(&["failover", "--accept-data-loss", "--yes"], 0);
    assert!(out.contains("Not heard: pg1") && out.contains("pg2 leads epoch 4"), "{out}");
    assert_eq!(world.asked(), ["pg2 failover true"]);
}

#[test]
fn all_members_are_restarted_with_the_leader_last_and_only_if_all_are_there() {
    let world = World::new(4).serve(&["pg1", "pg2"]);
    world.expect(&["restart", "--yes"], 0);
    assert_eq!(world.asked(), ["pg2 restart", "pg1 restart"]);
    world.expect(&["reload"], 0);
    world.expect(&["pause", "--for", "30m", "--reason", "new kernel"], 0);
    world.expect(&["resume"], 0);
    world.expect(&["reinit", "pg2", "--yes"], 0);
    assert_eq!(
        world.asked(),
        ["pg1 reload", "pg2 reload", "pg1 pause 1800000 new kernel", "pg1 resume", "pg2 reinit"]
    );
    let half = World::new(5).serve(&["pg1"]);
    half.expect(&["restart", "--yes"], 5);
    assert!(half.asked().is_empty());
}

#[test]
fn without_any_agent_the_table_and_the_reasons_are_printed() {
    let world = World::new(6);
    let (out, err) = world.expect(&["list"], 5);
    assert!(out.contains("| pg1 "), "{out}");
    assert!(
        err.contains("no agent of cluster pg-cluster can be reached") && err.contains("systemctl"),
        "{err}"
    );
    let elsewhere = world.hactl(&["--cert-dir", "/nowhere", "list"]);
    assert_ne!(elsewhere.status.code(), Some(0));
}
