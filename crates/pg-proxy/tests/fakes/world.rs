//! Three members, one proxy, and the proxy's program as it was built.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ha_rpc::TlsFiles;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::agent::FakeAgent;
use super::certificates::Authority;
use super::postgres::FakePostgres;
use super::{POSTGRES_PORT, wait_for};

/// Names of the members.
pub(crate) const MEMBERS: [&str; 3] = ["pg1", "pg2", "pg3"];

/// For what should happen at once, on a machine that does other things as well.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The world of one test. The proxy is killed at its end.
pub(crate) struct World {
    dir: tempfile::TempDir,
    network: u8,
    authority: Authority,
    proxy: Option<Child>,
}

impl World {
    /// Files for a proxy at 127.72.`network`.21; nothing runs yet. `routing` are lines of that table.
    pub(crate) fn new(network: u8, routing: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let world = Self { dir, network, authority, proxy: None };
        let mut file = "name = \"demo\"\n".to_owned();
        for name in MEMBERS {
            file += &format!("[[database]]\nname = \"{name}\"\naddress = \"{}\"\n", world.member(name));
        }
        file += &format!("[[proxy]]\nname = \"ha1\"\naddress = \"{}\"\n", world.proxy_address());
        file += &format!("[postgres]\nport = {POSTGRES_PORT}\n[routing]\n{routing}\n[tls]\n");
        let tls = world.authority.issue(world.dir.path(), "proxy", "ha1", world.proxy_address());
        for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            file += &format!("{key} = \"{}\"\n", path.display());
        }
        std::fs::write(world.file(), file).unwrap();
        world
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    pub(crate) fn link_path(&self) -> PathBuf {
        self.dir.path().join("proxy.sock")
    }

    pub(crate) fn member(&self, name: &str) -> IpAddr {
        IpAddr::from([127, 72, self.network, name[2..].parse().unwrap()])
    }

    fn proxy_address(&self) -> IpAddr {
        IpAddr::from([127, 72, self.network, 21])
    }

    fn on(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.proxy_address(), port)
    }

    pub(crate) fn writes(&self) -> SocketAddr {
        self.on(5000)
    }

    pub(crate) fn reads(&self) -> SocketAddr {
        self.on(5001)
    }

    pub(crate) fn page(&self) -> SocketAddr {
        self.on(7000)
    }

    pub(crate) fn grpc(&self) -> SocketAddr {
        self.on(7001)
    }

    pub(crate) fn certificate(&self, role: &str, name: &str, address: IpAddr) -> TlsFiles {
        self.authority.issue(self.dir.path(), role, name, address)
    }

    /// The agent of a member, which says nothing yet.
    pub(crate) fn agent(&self, name: &'static str) -> FakeAgent {
        let address = self.member(name);
        FakeAgent::start(name, address, self.certificate("host", name, address))
    }

    /// A server of every member.
    pub(crate) fn servers(&self) -> Vec<FakePostgres> {
        MEMBERS.iter().map(|name| FakePostgres::start(name, self.member(name))).collect()
    }

    /// Starts the proxy and waits until it serves.
    pub(crate) fn start_proxy(&mut self) {
        self.start_proxy_by(Command::new(env!("CARGO_BIN_EXE_pg-proxy")));
    }

    /// Other lines of `[routing]` in the file, put in its place whole.
    pub(crate) fn write_routing(&self, routing: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        let (before, rest) = text.split_once("[routing]").unwrap();
        let (_, after) = rest.split_once("[tls]").unwrap();
        self.write_file(&format!("{before}[routing]\n{routing}\n[tls]{after}"));
    }

    /// Another file, put in its place whole.
    pub(crate) fn write_file(&self, text: &str) {
        let beside = self.dir.path().join("cluster.toml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.file()).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process that serves now.
    pub(crate) fn process(&self) -> u32 {
        u32::try_from(self.status()["process"].as_u64().unwrap()).unwrap()
    }

    /// Starts a program that is the proxy or becomes it, and waits until it serves.
    pub(crate) fn start_proxy_by(&mut self, command: Command) {
        self.spawn_proxy_by(command);
        wait_for("the proxy to serve", SOON, || {
            self.assert_runs();
            UnixStream::connect(self.link_path()).ok()
        });
    }

    /// Starts it with the arguments of this world.
    pub(crate) fn spawn_proxy_by(&mut self, mut command: Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let child = command
            .arg("--config")
            .arg(self.file())
            .args(["--node", "ha1", "--link-socket"])
            .arg(self.link_path())
            .env("MATRIARCH_LOG", "info,pg_proxy=debug")
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.proxy = Some(child);
    }

    fn assert_runs(&mut self) {
        let ended = self.proxy.as_mut().unwrap().try_wait().unwrap();
        assert_eq!(ended, None, "the proxy ended:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Every process of a proxy of this world.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let file = self.file();
        let name = file.as_os_str().as_encoded_bytes();
        let of_this_world = |id: &i32| {
            let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| argument == name)
        };
        let all = std::fs::read_dir("/proc").unwrap();
        let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(of_this_world).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.proxy.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for the proxy's end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut child = self.proxy.take().unwrap();
        wait_for("the proxy to end", SOON, || child.try_wait().unwrap())
    }

    /// Status code, head and body of a page.
    pub(crate) fn get(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.page()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.to_owned(), body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status.json").2).unwrap()
    }

    /// Waits until the status has `value` at `pointer`.
    #[track_caller]
    pub(crate) fn wait_until(&self, pointer: &str, value: impl Into<Value>, limit: Duration) -> Duration {
        let (began, value) = (Instant::now(), value.into());
        let mut last = Value::Null;
        let what = format!("{pointer} = {value}");
        let deadline = began + limit;
        loop {
            let status = self.status();
            if status.pointer(pointer) == Some(&value) {
                return began.elapsed();
            }
            if Instant::now() > deadline {
                last = status;
            }
            assert!(last.is_null(), "waited for {what}:\n{last:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lines of the local link.
    pub(crate) fn link(&self) -> Link {
        Link::of(UnixStream::connect(self.link_path()).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.proxy.take() {
            drop(child.kill());
            drop(child.wait());
        }
        // Successors are nobody's children; their file is in this world's directory and in no other.
        for id in self.processes() {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let log = self.log();
            // Of sessions there are thousands.
            let told = log.lines().filter(|line| !line.contains("session ended"));
            let tail = told.rev().take(60).collect::<Vec<_>>();
            eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A reader of the local link, as vrrpd is one.
pub(crate) struct Link(BufReader<UnixStream>);

impl Link {
    pub(crate) fn of(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line).expect("a line within two seconds") {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap()),
        }
    }
}

/// The mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
