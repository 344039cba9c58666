//! A lab, as tests and the demo use it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::control::{self, HostRequest, HostStatus, KeeperRequest, KeeperStatus};
use crate::http::{self, HttpAnswer};
use crate::lab_dir::{HOST_SOCKET, IDLE_MARK, KEEPER_SOCKET, LabDir, PROGRAMS, Plan};
use crate::leftovers;
use crate::options::{LabOptions, Life};
use crate::process_id::ProcessId;
use crate::topology::{CLIENT, LabHost, Role, hosts_of};
use crate::wait::wait_for;
use crate::{enter, files};

/// A lab that is up: its hosts, faults in it, and questions to it.
///
/// When an owned lab is dropped, it is ended and its files are removed; after a failed test the files stay.
#[derive(Debug)]
pub struct Lab {
    dir: LabDir,
    plan: Plan,
    /// The keeper, when this process started it and owns it.
    owned: Option<Child>,
    /// Whether files stay when this is dropped.
    keep_files: bool,
}

/// What a command in a host printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Lab {
    /// Brings a lab up: files, network, hosts, daemons. Returns when every host's daemons are started, not when the
    /// cluster is healthy (see [`Self::wait_healthy`]).
    ///
    /// # Errors
    /// Not root, a program is not built, or something that the lab needs is not installed.
    pub fn start(options: &LabOptions) -> Result<Self> {
        let lab = Self::prepare(options)?;
        lab.power_everything_on()?;
        Ok(lab)
    }

    /// Like [`Self::start`], but leaves the hosts off.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prepare(options: &LabOptions) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: namespaces, mounts and a bridge");
        for program in PROGRAMS {
            let path = options.bin_dir.join(program);
            ensure!(
                path.exists(),
                "{}: not built; run `make build`, or set MATRIARCH_BIN_DIR",
                path.display()
            );
        }
        let dir = LabDir::new(&options.directory)?;
        leftovers::end_lab(&dir)?;
        leftovers::remove_files(&dir)?;
        fs::create_dir_all(dir.path()).with_context(|| format!("create {}", dir.path().display()))?;
        let cluster = files::make_bundles(&dir, options)?;
        let mut hosts = hosts_of(&cluster, options.proxies)?;
        for (name, units) in &options.units {
            let host = hosts.iter_mut().find(|host| host.name == *name);
            host.with_context(|| format!("units of {name}: no such host"))?.units.clone_from(units);
        }
        files::install(&dir, options, &hosts)?;
        let plan = Plan {
            hosts,
            bin_dir: options.bin_dir.clone(),
            log_filter: options.log_filter.clone(),
            synchronous: cluster.replication.mode.waits_for_standbys(),
            data_disk: options.data_disk,
            masked: options.masked.clone(),
            vip: cluster.vips.first().and_then(|vip| match vip.address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
        };
        dir.write_plan(&plan)?;
        let mut lab = Self { dir, plan, owned: None, keep_files: options.life == Life::Detached };
        lab.start_keeper(options.life)?;
        Ok(lab)
    }

    /// A lab that another process started.
    ///
    /// # Errors
    /// There is none in this directory.
    pub fn open(directory: &Path) -> Result<Self> {
        let dir = LabDir::new(directory)?;
        let plan =
            dir.plan().with_context(|| format!("no lab in {}: bring one up first", directory.display()))?;
        let lab = Self { dir, plan, owned: None, keep_files: true };
        lab.status()?;
        Ok(lab)
    }

    fn start_keeper(&mut self, life: Life) -> Result<()> {
        let log = File::create(self.dir.path().join("keeper.log")).context("create the keeper's log")?;
        let mut command = Command::new(self.program());
        command.arg("keeper").arg("--lab").arg(self.dir.path());
        if life == Life::Owned {
            command.arg("--owned").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        let mut keeper = command
            // A group of its own: Ctrl-C must end the one who asked, and the keeper in its own order.
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program().display()))?;
        let waited = wait_for("the lab's keeper", Duration::from_secs(10), || {
            if let Ok(Some(status)) = keeper.try_wait() {
                let log = fs::read_to_string(self.dir.path().join("keeper.log")).unwrap_or_default();
                return Ok(Err(anyhow::anyhow!("the lab's keeper ended: {status}: {}", log.trim())));
            }
            self.status().map(|_| Ok(())).map_err(|error| format!("{error:#}"))
        });
        if life == Life::Owned {
            self.owned = Some(keeper);
        }
        waited?
    }

    /// Powers every host on.
    pub(crate) fn power_everything_on(&self) -> Result<()> {
        let names: Vec<&str> = self.plan.hosts.iter().map(|host| host.name.as_str()).collect();
        self.power_on(&names)
    }

    fn program(&self) -> PathBuf {
        self.plan.bin_dir.join("hactl-lab")
    }

    /// Where the lab's files are.
    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    /// Whether commits wait for standbys in this cluster.
    pub fn is_synchronous(&self) -> bool {
        self.plan.synchronous
    }

    /// Says whether the lab's files are of any use to anybody: those of an idle lab go when the process that owns it ends,
    /// even if it is not dropped.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn mark_idle(&self, idle: bool) -> Result<()> {
        let mark = self.dir.path().join(IDLE_MARK);
        let done = if idle { fs::write(&mark, "") } else { fs::remove_file(&mark) };
        match done {
            Err(error) if idle || error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("mark {}", mark.display()))
            }
            _ => Ok(()),
        }
    }

    /// From now on the lab's files stay when it ends.
    pub fn keep_files(&mut self) {
        self.keep_files = true;
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every host.
    pub fn hosts(&self) -> &[LabHost] {
        &self.plan.hosts
    }

    /// Names of the database hosts.
    pub fn databases(&self) -> Vec<&str> {
        self.hosts_that_are(Role::Database)
    }

    /// Names of the proxy hosts, in the order of the file.
    pub fn proxies(&self) -> Vec<&str> {
        self.hosts_that_are(Role::Proxy)
    }

    fn hosts_that_are(&self, role: Role) -> Vec<&str> {
        self.plan.hosts.iter().filter(|host| host.role == role).map(|host| host.name.as_str()).collect()
    }

    /// Names of the database hosts except some.
    pub fn databases_except(&self, not: &[&str]) -> Vec<&str> {
        self.databases().into_iter().filter(|name| !not.contains(name)).collect()
    }

    /// A host's address.
    ///
    /// # Errors
    /// There is no such host.
    pub fn address(&self, host: &str) -> Result<Ipv4Addr> {
        let found = self.plan.hosts.iter().find(|other| other.name == host);
        Ok(found.with_context(|| format!("the lab has no host {host:?}"))?.address)
    }

    /// The floating address.
    ///
    /// # Errors
    /// The cluster file names none.
    pub fn vip(&self) -> Result<Ipv4Addr> {
        self.plan.vip.context("the cluster file names no floating address")
    }

    /// The times of failover that the cluster file gives, or its defaults.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn failover_times(&self) -> Result<ha_config::Failover> {
        Ok(ha_config::load(&self.dir.path().join("cluster.toml"))?.failover)
    }

    /// How long a leader's lease lives without being renewed.
    ///
    /// # Errors
    /// As [`Self::failover_times`].
    pub fn lease_ttl(&self) -> Result<Duration> {
        Ok(self.failover_times()?.lease_ttl)
    }

    /// The hosts, and what is cut.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn status(&self) -> Result<KeeperStatus> {
        self.ask_keeper(&KeeperRequest::Status)
    }

    /// The daemons of a host.
    ///
    /// # Errors
    /// The host is off.
    pub fn host_status(&self, host: &str) -> Result<HostStatus> {
        self.ask_host(host, &HostRequest::Status)
    }

    /// The first process of a host that is on.
    ///
    /// # Errors
    /// It is off.
    pub fn init_of(&self, host: &str) -> Result<ProcessId> {
        let status = self.status()?;
        let state = status.hosts.into_iter().find(|state| state.host.name == host);
        state
            .with_context(|| format!("the lab has no host {host:?}"))?
            .init
            .with_context(|| format!("{host} is off"))
    }

    /// A command that will run in a host as `user`; it ends with this process.
    ///
    /// # Errors
    /// The host is off.
    pub fn command(&self, host: &str, user: &str, argv: &[&str]) -> Result<Command> {
        Ok(enter::command(&self.program(), self.init_of(host)?, user, argv))
    }

    /// Runs a command in a host as root to its end.
    ///
    /// # Errors
    /// It could not be started. Its failure is in the [`Output`].
    pub fn exec(&self, host: &str, argv: &[&str]) -> Result<Output> {
        self.exec_as(host, "root", argv)
    }

    /// Runs a command in a host to its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn exec_as(&self, host: &str, user: &str, argv: &[&str]) -> Result<Output> {
        let output = self
            .command(host, user, argv)?
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {argv:?} in {host}"))?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `hactl` on the client host.
    ///
    /// # Errors
    /// It could not be started.
    pub fn hactl(&self, arguments: &[&str]) -> Result<Output> {
        let mut argv = vec!["hactl"];
        argv.extend(arguments);
        self.exec(CLIENT, &argv)
    }

    /// Runs SQL on a host's PostgreSQL as its superuser, over the local socket. One line per row, columns by `|`.
    ///
    /// # Errors
    /// PostgreSQL refused; the message is its.
    pub fn sql(&self, host: &str, sql: &str) -> Result<String> {
        let limit = "PGCONNECT_TIMEOUT=5";
        let output = self.exec_as(
            host,
            "postgres",
            &[
                "env",
                limit,
                "psql",
                "-X",
                "-h",
                "/run/postgresql",
                "-d",
                "postgres",
                "-v",
                "ON_ERROR_STOP=1",
                "-qAtc",
                sql,
            ],
        )?;
        if output.code != Some(0) {
            bail!("{sql:?} on {host}: {}", output.stderr.trim());
        }
        Ok(output.stdout.trim_end().to_owned())
    }

    /// `GET` of an agent's REST interface, asked from the client host.
    ///
    /// # Errors
    /// No answer within 2 s.
    pub fn rest(&self, host: &str, path: &str) -> Result<HttpAnswer> {
        self.rest_method("GET", host, path)
    }

    /// Any method of an agent's REST interface, asked from the client host.
    ///
    /// # Errors
    /// No answer within 2 s.
    pub fn rest_method(&self, method: &str, host: &str, path: &str) -> Result<HttpAnswer> {
        self.http(method, host, ha_config::REST_PORT, path)
    }

    /// Any HTTP request to a host, asked from the client host.
    ///
    /// # Errors
    /// No answer within 2 s.
    pub fn http(&self, method: &str, host: &str, port: u16, path: &str) -> Result<HttpAnswer> {
        let address = self.address(host)?;
        let (method, path) = (method.to_owned(), path.to_owned());
        self.in_network_of(CLIENT, move || http::request(&method, address, port, &path))?
    }

    /// Runs a function on a thread that lives in a host's network.
    ///
    /// # Errors
    /// The host is off.
    pub fn in_network_of<T: Send + 'static>(
        &self,
        host: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let joined = self.spawn_in_network_of(host, run)?.join();
        joined.map_err(|_| anyhow::anyhow!("a thread in the network of {host} panicked"))?
    }

    /// Starts a thread that lives in a host's network.
    ///
    /// # Errors
    /// The host is off.
    pub fn spawn_in_network_of<T: Send + 'static>(
        &self,
        host: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let path = format!("/proc/{}/ns/net", self.init_of(host)?.pid);
        let network = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).context("enter a host's network")?;
            Ok(run())
        }))
    }

    /// Ends the lab and removes its files.
    ///
    /// # Errors
    /// Something could not be ended or removed.
    pub fn down(mut self) -> Result<()> {
        self.end()?;
        leftovers::remove_files(&self.dir)
    }

    fn end(&mut self) -> Result<()> {
        let ended = leftovers::end_lab(&self.dir);
        if let Some(mut keeper) = self.owned.take() {
            drop(keeper.stdin.take());
            keeper.wait().context("reap the keeper")?;
        }
        ended
    }

    pub(crate) fn ask_keeper<A: serde::de::DeserializeOwned>(&self, request: &KeeperRequest) -> Result<A> {
        control::ask(self.dir.path(), KEEPER_SOCKET, request)
    }

    pub(crate) fn ask_host<A: serde::de::DeserializeOwned>(
        &self,
        host: &str,
        request: &HostRequest,
    ) -> Result<A> {
        control::ask(&self.dir.host(host), HOST_SOCKET, request).with_context(|| format!("host {host}"))
    }

    pub(crate) fn instant(&self, request: &KeeperRequest) -> Result<Duration> {
        let answer: Value = self.ask_keeper(request)?;
        Ok(Duration::from_nanos(answer["at_nanos"].as_u64().context("no time in the keeper's answer")?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned.is_none() {
            return;
        }
        // Nobody to tell in a drop; the next lab's start sweeps what is left.
        self.end().ok();
        if self.keep_files || thread::panicking() {
            fs::write(self.dir.path().join("kept"), "A failed test left this for you; remove it at will.\n")
                .ok();
        } else {
            leftovers::remove_files(&self.dir).ok();
        }
    }
}
