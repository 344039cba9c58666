//! Runs a command inside a host.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{User, setgid, setgroups, setuid};

use crate::process_id::ProcessId;

/// Namespaces of a host, in the order in which they are entered: mounts last but one, because `/proc` changes with them.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// A command that runs `argv` in the host whose first process is `init`, as `user`. It ends with the caller, and its exit
/// status is the command's.
pub(crate) fn command(program: &Path, init: ProcessId, user: &str, argv: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["host-enter", "--pid", &init.pid.to_string(), "--started", &init.started.to_string()])
        .args(["--user", user, "--"])
        .args(argv);
    command
}

/// Body of the outer half: enters the namespaces and starts the inner half, which is in the PID namespace too.
pub(crate) fn run_outer(init: ProcessId, user: &str, argv: &[String]) -> Result<ExitStatus> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for the caller's death")?;
    let mut handles = Vec::new();
    for (name, flag) in NAMESPACES {
        let path = format!("/proc/{}/ns/{name}", init.pid);
        handles.push((flag, File::open(&path).with_context(|| format!("open {path}"))?));
    }
    if !init.is_alive() {
        bail!("the host is off");
    }
    for (flag, handle) in handles {
        setns(handle, flag).context("enter a namespace of the host: root is needed")?;
    }
    std::env::set_current_dir("/").context("enter the host's root")?;
    // The inner half hears Ctrl-C itself.
    keyboard_signals().thread_block().context("block signals")?;
    let mut child = Command::new(format!("{}/hactl-lab", crate::host::PROGRAM_DIR))
        .args(["host-exec", "--user", user, "--"])
        .args(argv)
        .spawn()
        .context("start a process in the host")?;
    child.wait().context("wait for the process in the host")
}

/// What the keyboard sends to both halves at once.
fn keyboard_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT])
}

/// Body of the inner half: becomes the user and then the command.
pub(crate) fn run_inner(user: &str, argv: &[String]) -> Result<std::convert::Infallible> {
    use std::os::unix::process::CommandExt as _;
    let (program, arguments) = argv.split_first().context("no command")?;
    let account = User::from_name(user)
        .with_context(|| format!("look up user {user}"))?
        .with_context(|| format!("user {user}: found no such user"))?;
    if !account.uid.is_root() {
        setgroups(&[]).context("drop supplementary groups")?;
        setgid(account.gid).context("change the group")?;
        setuid(account.uid).context("change the user")?;
    }
    // A blocked signal stays so in every program that follows, and Ctrl-C would be lost on it.
    keyboard_signals().thread_unblock().context("unblock signals")?;
    // Changing the user cancels an earlier wish.
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for the outer half's death")?;
    let error = Command::new(program)
        .args(arguments)
        .env(
            "PATH",
            format!(
                "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                crate::host::PROGRAM_DIR
            ),
        )
        .env("HOME", if account.uid.is_root() { "/root".into() } else { account.dir.clone() })
        .env("USER", user)
        .exec();
    Err(error).with_context(|| format!("start {program}"))
}
