//! One host of its own for each test: a directory, a configuration, a guard and a real PostgreSQL, all gone afterwards.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod agent;
mod client;
mod watchdog;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ha_core::{BootId, MonoTime};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, Uid, User};
use tempfile::TempDir;

pub(crate) use agent::Agent;
#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use client::{Client, Writer};
pub(crate) use watchdog::StandIn;

const BIN_DIR: &str = "/usr/lib/postgresql/15/bin";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> MonoTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock of all deadlines");
    MonoTime(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

pub(crate) fn boot_id() -> BootId {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    BootId(text.trim().to_owned())
}

pub(crate) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// Looks again and again until there is something, or fails the test with `what`.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(ms(2)); // between two looks, not instead of one
    }
}

fn postgres() -> User {
    User::from_name("postgres").expect("the user database").expect("a user postgres")
}

/// A data directory made once and kept with the build; each host gets a copy.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        assert!(Uid::effective().is_root(), "these tests start pg-guard, which needs root: run them as root");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guard-data");
        if !kept.join("done").exists() {
            let dir = tempfile::Builder::new().prefix("guard-initdb-").tempdir().expect("a directory");
            let user = postgres();
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
            let mut initdb = Command::new(format!("{BIN_DIR}/initdb"));
            initdb.args(["-N", "-A", "trust", "-U", "postgres", "-D"]).arg(dir.path().join("data"));
            let output = as_postgres(&mut initdb).output().expect("initdb");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            fs::create_dir_all(&kept).expect("a directory");
            copy(&dir.path().join("data"), &kept);
            fs::write(kept.join("done"), "").expect("mark the template");
        }
        kept
    })
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy {}", from.display());
}

fn as_postgres(command: &mut Command) -> &mut Command {
    let user = postgres();
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/")
}

/// One host. Dropping it ends everything in it, by process id.
pub(crate) struct Host {
    dir: TempDir,
    name: String,
    guard: Option<Child>,
    group: Option<PathBuf>,
    arguments: &'static [&'static str],
}

impl Host {
    /// A host whose guard runs.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// A host whose guard runs, with more lines in `[guard]`. Nothing that is tested so may start the watchdog of this
    /// machine.
    pub(crate) fn with(guard_keys: &str) -> Self {
        Self::with_arguments(guard_keys, &[])
    }

    /// The same, with more arguments for the guard.
    pub(crate) fn with_arguments(guard_keys: &str, arguments: &'static [&'static str]) -> Self {
        let mut host = Self::without_guard(&format!("watchdog = \"off\"\n{guard_keys}"), arguments);
        host.start_guard();
        host
    }

    /// A host without a guard yet; the keys go into the table `[guard]` and after it, `{root}` is the host's directory.
    pub(crate) fn without_guard(guard_keys: &str, arguments: &'static [&'static str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let template = template();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("guardtest-{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix("guard-").tempdir().expect("a directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        copy(&template.join("data"), dir.path());
        let user = postgres();
        for sub in ["sockets", "log"] {
            fs::create_dir(dir.path().join(sub)).expect("a directory");
            chown(dir.path().join(sub), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        }
        let host = Self { dir, name, guard: None, group: None, arguments };
        host.write_configuration(guard_keys);
        host
    }

    fn write_configuration(&self, guard_keys: &str) {
        let root = self.dir.path().display();
        let text = format!(
            "name = \"{}\"\n\
             [[database]]\nname = \"pg1\"\naddress = \"127.0.0.1\"\n\
             [postgres]\nbin_dir = \"{BIN_DIR}\"\ndata_dir = \"{root}/data\"\nsocket_dir = \"{root}/sockets\"\n\
             log_file = \"{root}/log/postgresql.log\"\n\
             [guard]\nsocket = \"{root}/run/guard.sock\"\n{}\n",
            self.name,
            guard_keys.replace("{root}", &root.to_string())
        );
        fs::write(self.path("cluster.toml"), text).expect("write the configuration");
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Starts a guard and waits until its socket answers.
    pub(crate) fn start_guard(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("guard.log")).expect("a log");
        let guard = Command::new(env!("CARGO_BIN_EXE_pg-guard"))
            .arg("--config")
            .arg(self.path("cluster.toml"))
            .args(["--node", "pg1", "--state-dir"])
            .arg(self.path("state"))
            .args(self.arguments)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn();
        self.guard = Some(guard.expect("start pg-guard"));
        let socket = self.path("run/guard.sock");
        wait_for("the guard's socket", || Agent::try_connect(&socket));
        self.group = Some(wait_for("the group in the log", || {
            let log = self.guard_log();
            let (_, rest) = log.rsplit_once("group=")?;
            rest.split_once('\n').map(|(path, _)| PathBuf::from(path))
        }));
    }

    pub(crate) fn guard_log(&self) -> String {
        fs::read_to_string(self.path("guard.log")).unwrap_or_default()
    }

    pub(crate) fn guard_pid(&self) -> u32 {
        self.guard.as_ref().expect("a guard").id()
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::connect(&self.path("run/guard.sock"))
    }

    pub(crate) fn client(&self) -> Client {
        let socket = self.path("sockets/.s.PGSQL.5432");
        wait_for("PostgreSQL to accept connections", || Client::connect(&socket).ok())
    }

    pub(crate) fn signal_guard(&self, signal: Signal) {
        signal_process(self.guard_pid(), signal);
    }

    /// Waits until no process is left in the group.
    pub(crate) fn wait_empty(&self) {
        wait_for("the group to be empty", || self.processes().is_empty().then_some(()));
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill_guard(&mut self) {
        let mut guard = self.guard.take().expect("a guard");
        guard.kill().expect("kill the guard");
        guard.wait().expect("reap the guard");
    }

    /// The guard's exit code, once it has ended.
    pub(crate) fn guard_exit(&mut self) -> Option<i32> {
        let guard = self.guard.as_mut()?;
        guard.try_wait().expect("wait for the guard")?.code()
    }

    /// Directory of PostgreSQL's group.
    pub(crate) fn group(&self) -> &Path {
        self.group.as_deref().expect("the guard has begun")
    }

    /// Process ids in the group; without one, of those that work in this host's directory.
    pub(crate) fn processes(&self) -> Vec<u32> {
        if self.group() == Path::new("none") {
            return self.inhabitants();
        }
        let text = fs::read_to_string(self.group().join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn inhabitants(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let data = self.path("data");
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect()
    }

    /// Of a process in the group, by a part of its command line.
    pub(crate) fn process_named(&self, part: &str) -> Option<u32> {
        let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        self.processes().into_iter().find(|pid| String::from_utf8_lossy(&line(pid)).contains(part))
    }

    pub(crate) fn control_data(&self) -> String {
        let mut command = Command::new(format!("{BIN_DIR}/pg_controldata"));
        let output = as_postgres(command.arg(self.path("data"))).output().expect("pg_controldata");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.kill());
            drop(guard.wait());
        }
        // Not read back for its error: the group may be gone, and then there is nothing to end.
        if let Some(group) = &self.group
            && fs::write(group.join("cgroup.kill"), "1").is_ok()
        {
            for _ in 0..500 {
                if self.processes().is_empty() {
                    break;
                }
                std::thread::sleep(ms(2));
            }
            drop(fs::remove_dir(group));
        } else if self.group.is_some() {
            for pid in self.processes() {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            wait_for("the last processes to end", || self.processes().is_empty().then_some(()));
        }
        if std::thread::panicking() {
            eprint_lines("guard", &self.guard_log());
            let log = fs::read_to_string(self.path("log/postgresql.log")).unwrap_or_default();
            eprint_lines("postgresql", &log);
        }
    }
}

#[allow(clippy::print_stderr, reason = "shown only when a test fails")]
fn eprint_lines(who: &str, text: &str) {
    for line in text.lines() {
        eprintln!("{who}: {line}");
    }
}

pub(crate) fn signal_process(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("send a signal");
}

/// Whether the process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Field 4 of `/proc/PID/stat`, after the name in parentheses (proc(5)).
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    parent.expect("a parent")
}

/// The process between the guard and the namespace of this postmaster.
pub(crate) fn fuse_of(postmaster: u32) -> u32 {
    let fuse = parent(parent(postmaster));
    let name = fs::read_to_string(format!("/proc/{fuse}/comm")).expect("a process");
    assert_eq!(name.trim(), "pg-guard-fuse");
    fuse
}
