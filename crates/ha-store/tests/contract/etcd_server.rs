//! A real etcd: its own directory and ports, ended by process id even when a test panics.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const PROGRAM: &str = "/usr/bin/etcd";

/// Certificates of a server that speaks TLS and demands a client certificate.
#[derive(Debug, Clone)]
pub(crate) struct ServerTls {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What may differ from server to server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    pub(crate) tls: Option<ServerTls>,
    pub(crate) quota_bytes: Option<u64>,
}

pub(crate) struct EtcdServer {
    directory: TempDir,
    client_port: u16,
    /// Its name, and all members of its cluster: name and peer URL.
    name: &'static str,
    members: Vec<(&'static str, String)>,
    setup: Setup,
    process: Mutex<Option<Child>>,
}

impl EtcdServer {
    /// A cluster of one.
    pub(crate) async fn start(setup: Setup) -> Self {
        let [server] = Self::start_all(&["only"], &setup).await.try_into().ok().expect("one server");
        server
    }

    /// A cluster of these members, all running.
    pub(crate) async fn start_all(names: &[&'static str], setup: &Setup) -> Vec<Self> {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: install etcd (on Debian: apt install etcd-server), this test runs against a real one"
        );
        // Somebody may take a port between our choice and etcd's start: then etcd ends, and we choose again.
        for _ in 0..5 {
            let peer = |name: &&'static str| (*name, format!("http://127.0.0.1:{}", free_port()));
            let members: Vec<_> = names.iter().map(peer).collect();
            let servers: Vec<Self> = names.iter().map(|name| Self::spawn(name, &members, setup)).collect();
            let mut all_listen = true;
            for server in &servers {
                all_listen = all_listen && server.listens().await;
            }
            if all_listen {
                return servers;
            }
        }
        panic!("etcd did not start in five attempts");
    }

    fn spawn(name: &'static str, members: &[(&'static str, String)], setup: &Setup) -> Self {
        let server = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            client_port: free_port(),
            name,
            members: members.to_vec(),
            setup: setup.clone(),
            process: Mutex::new(None),
        };
        server.run();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.client_port
    }

    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.setup.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn run(&self) {
        let own = |(name, _): &&(&str, String)| *name == self.name;
        let peer = &self.members.iter().find(own).expect("a member of its cluster").1;
        let cluster: Vec<String> = self.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let log = File::options().create(true).append(true).open(self.directory.path().join("log"));
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .current_dir(self.directory.path())
            .args(["--name", self.name, "--logger", "zap", "--log-level", "warn", "--data-dir"])
            .arg(self.data())
            .args(["--listen-client-urls", &self.endpoint(), "--advertise-client-urls", &self.endpoint()])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"));
        if let Some(tls) = &self.setup.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
        }
        if let Some(quota) = self.setup.quota_bytes {
            command.args(["--quota-backend-bytes", &quota.to_string()]);
        }
        let child = command.spawn().expect("starting etcd");
        *self.process() = Some(child);
    }

    /// Waits until the client port takes connections; false if the process ended instead.
    async fn listens(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if std::net::TcpStream::connect(("127.0.0.1", self.client_port)).is_ok() {
                return true;
            }
            let ended =
                self.process().as_mut().is_none_or(|child| child.try_wait().is_ok_and(|s| s.is_some()));
            if ended {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = self.process().as_ref() {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
            kill(pid, signal).expect("signalling our etcd");
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends the process at once, as a crash would. What etcd confirmed is on disk.
    pub(crate) fn stop(&self) {
        if let Some(mut child) = self.process().take() {
            // A stopped process dies of SIGKILL as well.
            child.kill().expect("killing our etcd");
            child.wait().expect("reaping our etcd");
        }
    }

    pub(crate) async fn start_again(&self) {
        self.run();
        assert!(self.listens().await, "etcd did not start again");
    }

    /// Copies the data directory while the server is down for it.
    pub(crate) async fn back_up(&self) -> TempDir {
        self.stop();
        let backup = tempfile::tempdir().expect("a temporary directory");
        copy(&self.data(), &backup.path().join("data"));
        self.start_again().await;
        backup
    }

    pub(crate) async fn restore(&self, backup: &TempDir) {
        self.stop();
        std::fs::remove_dir_all(self.data()).expect("removing the data");
        copy(&backup.path().join("data"), &self.data());
        self.start_again().await;
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            // Captured by the test harness and shown with the failure.
            #[allow(clippy::print_stderr)]
            tail.iter().rev().for_each(|line| eprintln!("etcd: {line}"));
        }
        if let Some(mut child) = self.process().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("reading a directory") {
        let entry = entry.expect("a directory entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copying a file");
        }
    }
}
