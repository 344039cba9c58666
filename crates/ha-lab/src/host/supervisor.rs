//! A stand-in for systemd: starts the host's daemons and starts them again by the policy of their service descriptions.
//!
//! As with systemd, what a daemon started ends with it only if its description says `KillMode=control-group`, and it holds no
//! capability that the description does not name.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::file_system::{PROGRAM_DIR, ids_of, own};
use super::unit_file::{Directories, Restart, Unit};
use crate::control::UnitStatus;
use crate::process_id::{Stat, raise_open_files};

/// Where daemons' output goes, inside the host.
const LOG_DIR: &str = "/var/log/matriarch";

struct Service {
    unit: Unit,
    pid: Option<Pid>,
    starts: u32,
    last_end: Option<String>,
    masked: bool,
    /// Ended by an operator: stays down until started by one.
    stopped: bool,
    restart_at: Option<Instant>,
    /// When a stop that TERM did not achieve is finished with KILL.
    kill_at: Option<Instant>,
    ear: UnixDatagram,
}

/// Where a service tells who its main process is (`NOTIFY_SOCKET`).
fn ear(unit: &str) -> Result<UnixDatagram> {
    let path = ear_path(unit);
    // Left from before the host was last switched off.
    fs::remove_file(&path).ok();
    let socket = UnixDatagram::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    socket.set_nonblocking(true).context("make the socket non-blocking")?;
    Ok(socket)
}

fn ear_path(unit: &str) -> PathBuf {
    Path::new("/run").join(format!("{unit}.notify"))
}

/// All services of one host.
pub(crate) struct Supervisor {
    services: Vec<Service>,
    log_filter: String,
}

impl Supervisor {
    /// Reads the descriptions of these services; starts nothing.
    pub(crate) fn new(names: &[String], masked: &[String], log_filter: &str) -> Result<Self> {
        let mut services = Vec::new();
        for name in names {
            let unit = Unit::read(Path::new("/etc/systemd/system"), name)?;
            let masked = masked.iter().any(|other| other == name);
            services.push(Service {
                unit,
                pid: None,
                starts: 0,
                last_end: None,
                masked,
                stopped: masked,
                restart_at: None,
                kill_at: None,
                ear: ear(name)?,
            });
        }
        Ok(Self { services, log_filter: log_filter.to_owned() })
    }

    /// Starts everything that is not masked. A daemon that cannot be started is tried again like one that ended.
    pub(crate) fn start_all(&mut self) {
        for index in 0..self.services.len() {
            if !self.services[index].stopped {
                self.start_or_retry(index);
            }
        }
    }

    /// What to wait for besides: services that say something.
    pub(crate) fn ears(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.services.iter().map(|service| service.ear.as_fd())
    }

    /// Hears what services say. Only another main process matters here; whether they are ready is looked at otherwise.
    pub(crate) fn hear(&mut self) {
        let mut buffer = [0; 512];
        for service in &mut self.services {
            while let Ok(length) = service.ear.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                let id = text.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse::<i32>().ok());
                if let Some(id) = id {
                    note(&format!("{}: process {id} is the main one now", service.unit.name));
                    service.pid = Some(Pid::from_raw(id));
                }
            }
        }
    }

    /// When [`Self::act`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.services.iter().flat_map(|service| [service.restart_at, service.kill_at]).flatten().min()
    }

    /// Does what is due.
    pub(crate) fn act(&mut self, now: Instant) {
        for index in 0..self.services.len() {
            let service = &mut self.services[index];
            if service.kill_at.is_some_and(|at| at <= now) {
                service.kill_at = None;
                if let Some(pid) = service.pid {
                    note(&format!("{}: did not end in time, killed", service.unit.name));
                    // It may have ended meanwhile: that is what was wanted.
                    kill(pid, Signal::SIGKILL).ok();
                }
            }
            if self.services[index].restart_at.is_some_and(|at| at <= now) {
                self.services[index].restart_at = None;
                self.start_or_retry(index);
            }
        }
    }

    /// Takes note of a reaped process, ours or an orphan.
    pub(crate) fn reaped(&mut self, status: WaitStatus) {
        let Some(pid) = status.pid() else { return };
        let Some(service) = self.services.iter_mut().find(|service| service.pid == Some(pid)) else { return };
        let (clean, abnormal, text) = match status {
            WaitStatus::Exited(_, code) => (code == 0, false, format!("exit code {code}")),
            WaitStatus::Signaled(_, signal, _) => (
                matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGPIPE),
                true,
                signal.to_string(),
            ),
            _ => return,
        };
        note(&format!("{}: ended: {text}", service.unit.name));
        if service.unit.kill_group {
            // Fails when the group was never made; then nothing is in it.
            fs::write(group(&service.unit.name).join("cgroup.kill"), "1").ok();
        }
        service.pid = None;
        service.kill_at = None;
        service.last_end = Some(text);
        let again = match service.unit.restart {
            Restart::No => false,
            Restart::OnFailure => !clean,
            Restart::OnAbnormal => abnormal && !clean,
            Restart::Always => true,
        };
        if !service.unit.keep_runtime {
            for directory in &service.unit.runtime_directories.names {
                // As systemd does; nothing to report when it was never made.
                fs::remove_dir_all(Path::new("/run").join(directory)).ok();
            }
        }
        if again && !service.masked && !service.stopped {
            service.restart_at = Some(Instant::now() + service.unit.restart_pause);
        }
    }

    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        let service = &mut self.services[index];
        service.masked = false;
        service.stopped = false;
        service.restart_at = None;
        if service.pid.is_some() { Ok(()) } else { self.launch(index) }
    }

    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        let service = &mut self.services[index];
        service.stopped = true;
        service.restart_at = None;
        if let Some(pid) = service.pid {
            kill(pid, Signal::SIGTERM).with_context(|| format!("stop {name}"))?;
            service.kill_at = Some(Instant::now() + service.unit.stop_limit);
        }
        Ok(())
    }

    pub(crate) fn mask(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        self.services[index].masked = true;
        self.services[index].restart_at = None;
        Ok(())
    }

    /// Sends a signal to a daemon, or to the postmaster when the name is `postgres`.
    pub(crate) fn signal(&self, name: &str, signal: &str) -> Result<()> {
        let signal: Signal =
            signal.parse().with_context(|| format!("signal {signal:?}: found no such signal"))?;
        let pid = if name == "postgres" {
            postmaster().map(Pid::from_raw)
        } else {
            self.services[self.index(name)?].pid
        };
        let Some(pid) = pid else { bail!("{name} is not running here") };
        kill(pid, signal).with_context(|| format!("send {signal} to {name}"))
    }

    pub(crate) fn status(&self) -> Vec<UnitStatus> {
        self.services
            .iter()
            .map(|service| UnitStatus {
                name: service.unit.name.clone(),
                pid: service.pid.map(Pid::as_raw),
                starts: service.starts,
                last_end: service.last_end.clone(),
                masked: service.masked || service.stopped,
            })
            .collect()
    }

    fn index(&self, name: &str) -> Result<usize> {
        let known = |service: &Service| service.unit.name == name;
        self.services.iter().position(known).with_context(|| format!("no daemon {name:?} on this host"))
    }

    fn start_or_retry(&mut self, index: usize) {
        if let Err(error) = self.launch(index) {
            let service = &mut self.services[index];
            note(&format!("{}: {error:#}", service.unit.name));
            service.restart_at =
                Some(Instant::now() + service.unit.restart_pause.max(Duration::from_millis(100)));
        }
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let service = &mut self.services[index];
        let unit = &service.unit;
        make_directories(Path::new("/run"), &unit.runtime_directories, &unit.user)?;
        make_directories(Path::new("/var/lib"), &unit.state_directories, &unit.user)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(Path::new(LOG_DIR).join(format!("{}.log", unit.name)))
            .context("open the log")?;
        // The socket is root's.
        let notified = unit.user == "root";
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--nofile={}", open_files(unit.open_files)?))
            .args(raised_limits(unit))
            .args(["--", "setpriv"])
            .args(privileges(unit)?)
            .arg("--")
            .arg(program(&unit.command[0]))
            .args(&unit.command[1..])
            .env_clear()
            .env(
                "PATH",
                format!("{PROGRAM_DIR}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("LANG", "C.UTF-8")
            .env("MATRIARCH_LOG", &self.log_filter)
            .env("RUST_BACKTRACE", "1")
            .envs(notified.then(|| ("NOTIFY_SOCKET", ear_path(&unit.name))))
            .envs(unit.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicate the log")?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", unit.command[0]))?;
        let group = group(&unit.name);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        // Long before the daemon has children: its first act is to become the program.
        fs::write(group.join("cgroup.procs"), child.id().to_string())
            .with_context(|| format!("move {} into its group", unit.name))?;
        service.starts += 1;
        note(&format!("{}: started as process {}, start {}", unit.name, child.id(), service.starts));
        service.pid = Some(Pid::from_raw(i32::try_from(child.id()).context("process id")?));
        Ok(())
    }
}

fn make_directories(below: &Path, directories: &Directories, user: &str) -> Result<()> {
    for name in &directories.names {
        let path = below.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        own(&path, user, directories.mode)?;
    }
    Ok(())
}

/// What `setpriv` takes away before it becomes the daemon.
fn privileges(unit: &Unit) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    let (uid, gid) = ids_of(&unit.user)?;
    if uid.as_raw() != 0 {
        arguments.extend([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    }
    if let Some(capabilities) = &unit.capabilities {
        let kept: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        arguments.push(format!("--bounding-set=-all{kept}"));
    }
    if !unit.ambient.is_empty() {
        let held: Vec<String> = unit.ambient.iter().map(|name| format!("+{name}")).collect();
        let held = held.join(",");
        arguments.extend([format!("--inh-caps={held}"), format!("--ambient-caps={held}")]);
    }
    if unit.no_new_privileges {
        arguments.push("--no-new-privs".to_owned());
    }
    Ok(arguments)
}

/// How many files a service may hold open: what its description says, or less where this machine lets nobody have more.
/// What the description grants beyond the ordinary; nothing where this machine does not let even root raise limits, as in
/// a container. The daemons say themselves what they go without.
fn raised_limits(unit: &Unit) -> Vec<String> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    if held & CAP_SYS_RESOURCE == 0 {
        return Vec::new();
    }
    let real_time = unit.real_time.map(|priority| format!("--rtprio={priority}"));
    let memory = unit.locks_memory.then(|| "--memlock=unlimited".to_owned());
    real_time.into_iter().chain(memory).collect()
}

fn open_files(wanted: Option<u64>) -> Result<u64> {
    let most = raise_open_files()?;
    Ok(wanted.map_or(most, |wanted| wanted.min(most)))
}

/// A daemon's own control group.
fn group(unit: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(format!("{unit}.service"))
}

/// The program under test if it is one, else what the description says.
fn program(path: &str) -> PathBuf {
    let built = Path::new(path).file_name().map(|name| Path::new(PROGRAM_DIR).join(name));
    built.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(path))
}

/// The postmaster: the one `postgres` whose parent is not `postgres`.
pub(crate) fn postmaster() -> Option<i32> {
    let is_postgres = |stat: &Stat| stat.command == "postgres" && stat.state != 'Z';
    Stat::all_pids().into_iter().find(|&pid| {
        Stat::read(pid).is_some_and(|stat| {
            is_postgres(&stat) && Stat::read(stat.parent).is_none_or(|parent| parent.command != "postgres")
        })
    })
}

/// One line in the supervisor's own log. A full disk must not stop the host.
fn note(text: &str) {
    let path = Path::new(LOG_DIR).join("supervisor.log");
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let now = crate::clock::now();
        writeln!(file, "{:.3} {text}", now.as_secs_f64()).ok();
    }
}
