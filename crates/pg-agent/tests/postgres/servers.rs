//! Real servers on loopback ports in a directory of their own. PostgreSQL refuses to run as root, and the agent runs as
//! the same user as PostgreSQL; so a test that is started by root starts itself again as `postgres`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_config::{Postgres as PostgresConfig, PostgresPaths, Secret, Secrets, Tls};
use ha_core::postgres_view::{Instance, PostgresProcess};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Epoch, Incarnation, MemberId};
use ha_decision::{Access, ServerSettings, Upstream};
use pg_agent::postgres::{DirectStarter, Place, Postgres, UserSettings};

/// Longest wait for anything; a healthy machine needs a fraction of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `body` as a user who may run PostgreSQL. `test` is the name of the calling test.
pub(crate) fn run<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if nix::unistd::Uid::effective().is_root() {
        let status = Command::new("setpriv")
            .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"])
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .current_dir("/")
            .env("HOME", "/nonexistent")
            .status()
            .expect("setpriv of util-linux");
        assert!(status.success(), "{test} failed as user postgres");
        return;
    }
    ha_daemon::init_logging();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
}

/// One member.
pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    pub(crate) id: MemberId,
    pub(crate) place: Place,
}

/// Servers and their directory; both end with it.
pub(crate) struct Servers {
    pub(crate) members: Vec<Server>,
    _directory: tempfile::TempDir,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &self.members {
            let data = &server.place.paths.data_dir;
            if data.join("postmaster.pid").exists() {
                let pg_ctl = server.place.paths.bin_dir.join("pg_ctl");
                drop(
                    Command::new(pg_ctl).arg("-D").arg(data).args(["-m", "immediate", "-s", "stop"]).status(),
                );
            }
            if std::thread::panicking() {
                let log = std::fs::read_to_string(&server.place.paths.log_file).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(25);
                tracing::error!(member = %server.id, "end of its log:\n{}", lines[from..].join("\n"));
            }
        }
    }
}

impl Servers {
    /// Members pg1, pg2, ... with nothing in their directories.
    pub(crate) fn new(count: u32) -> Self {
        Self::build(count, |_| None)
    }

    /// The same with a certificate of one authority.
    pub(crate) fn with_certificates(count: u32) -> Self {
        Self::build(count, |directory| Some(certificates(directory)))
    }

    fn build(count: u32, tls: impl FnOnce(&Path) -> Option<Tls>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = tls(directory.path());
        let paths = PostgresConfig::default()
            .resolve(&"main".parse().unwrap())
            .expect("these tests need an installed PostgreSQL");
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let members = listeners
            .iter()
            .zip(1..)
            .map(|(listener, number)| {
                server(directory.path(), number, listener.local_addr().unwrap().port(), &paths, tls.clone())
            })
            .collect();
        Self { members, _directory: directory }
    }

    /// How `member` streams from `leader` at `epoch`.
    pub(crate) fn upstream(&self, member: usize, leader: usize, epoch: u64) -> Upstream {
        Upstream {
            member: self.members[leader].id.name.clone(),
            address: "127.0.0.1".into(),
            port: self.members[leader].place.port,
            announced: StandbyName { member: self.members[member].id.clone(), epoch: Epoch(epoch) },
        }
    }

    /// pg1 made by initdb and running blocked and closed; the others cloned and streaming at epoch 1; pg1 then waits for
    /// any one of them and is open.
    pub(crate) async fn bring_up(&self) {
        let primary = &self.members[0];
        primary.postgres.initialize(primary.id.incarnation, &blocked(None)).await.unwrap();
        let others: Vec<_> = self.members[1..].iter().map(|m| (m.id.name.clone(), None)).collect();
        primary.postgres.keep_slots(&others).await.unwrap();
        for index in 1..self.members.len() {
            let standby = &self.members[index];
            let upstream = self.upstream(index, 0, 1);
            standby.postgres.clone_from(&upstream, standby.id.incarnation).await.unwrap();
            standby.postgres.start(true, &blocked(Some(upstream))).await.unwrap();
            standby.wait("streams", |i| i.receiver.as_ref().is_some_and(|r| r.streaming)).await;
        }
        let ids = self.members[1..].iter().map(|m| m.id.clone()).collect();
        primary.postgres.configure(any_one(&ids, 1)).await.unwrap();
    }
}

fn server(directory: &Path, number: u32, port: u16, paths: &PostgresPaths, tls: Option<Tls>) -> Server {
    let id = MemberId::new(format!("pg{number}").parse().unwrap(), Incarnation(number));
    let home = directory.join(id.name.as_str());
    std::fs::create_dir(&home).unwrap();
    let place = Place {
        cluster: "main".parse().unwrap(),
        me: id.name.clone(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port,
        socket_dir: home.clone(),
        paths: PostgresPaths { data_dir: home.join("data"), log_file: home.join("log"), ..paths.clone() },
        state_dir: home.clone(),
        superuser: "postgres".into(),
        replication_user: "replicator".into(),
        rewind_user: "rewind_user".into(),
        secrets: Secrets {
            superuser_password: Secret::new("super:secret"),
            replication_password: Secret::new(r"repli\cation:secret"),
            rewind_password: Secret::new("rewind secret"),
            heartbeat_key: None,
        },
        member_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        tls,
        initdb: vec![],
        slots: true,
        max_slot_wal_keep_size: Some(1 << 30),
        wal_receiver_timeout: Place::wal_receiver_timeout_for(Duration::from_secs(1)),
    };
    let parameters = [("shared_buffers", "16MB"), ("max_connections", "30")];
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let user = UserSettings { parameters, hba: vec![] };
    let postgres = Postgres::new(place.clone(), user, Arc::new(DirectStarter::new(place.clone())));
    Server { postgres, id, place }
}

impl Server {
    /// Waits until an observation shows a running server that fulfils the condition.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn(&Instance) -> bool) -> Instance {
        let begun = Instant::now();
        loop {
            let view = self.postgres.observe().await;
            if let PostgresProcess::Running(instance) = &view.process
                && condition(instance)
            {
                return (**instance).clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{} never {what}: {view:#?}", self.id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The running server now.
    pub(crate) async fn instance(&self) -> Instance {
        self.wait("runs", |_| true).await
    }

    /// Runs SQL as superuser over the unix socket.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = Command::new(self.place.paths.bin_dir.join("psql"))
            .args(["-XAtq", "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg("-h")
            .arg(&self.place.socket_dir)
            .args(["-p", &self.place.port.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// Blocked and closed.
pub(crate) fn blocked(upstream: Option<Upstream>) -> ServerSettings {
    ServerSettings { standby_names: StandbyNames::blocked(), upstream, access: Access::Closed }
}

/// A primary that waits for any one of these.
pub(crate) fn any_one(members: &BTreeSet<MemberId>, epoch: u64) -> ServerSettings {
    ServerSettings {
        standby_names: StandbyNames::any(1, members, Epoch(epoch)),
        upstream: None,
        access: Access::Open,
    }
}

/// An authority and a certificate for 127.0.0.1.
fn certificates(directory: &Path) -> Tls {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let tls = Tls {
        ca: directory.join("ca.crt"),
        cert: directory.join("host.crt"),
        key: directory.join("host.key"),
    };
    std::fs::write(&tls.ca, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut host = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // Without a name of its own it would pass for a copy of the authority's certificate.
    host.distinguished_name.push(rcgen::DnType::CommonName, "host");
    std::fs::write(&tls.cert, host.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(&tls.key, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    tls
}
