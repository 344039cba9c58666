//! The errands themselves, in a process of their own: becoming the postmaster, and looking at the data directory.
//!
//! What is said on standard output is read by `errand.rs`: lines of `system N`, then `exec` as the last word before the
//! program is replaced. Anything after that, or no `exec`, means that there is no postmaster.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, dup2_stderr, dup2_stdin, dup2_stdout, initgroups, setgid, setuid};

use crate::args::LaunchOrder;

/// The last word before the launcher becomes the postmaster.
pub(crate) const EXEC: &str = "exec";
/// Before the system identifier.
pub(crate) const SYSTEM: &str = "system ";
/// Before the postmaster's number, where it is not the launcher's.
pub(crate) const POSTMASTER: &str = "postmaster ";
/// Before how the postmaster ended, from the init of its PID namespace: `code N` or `signal N`.
pub(crate) const ENDED: &str = "ended ";
/// What `inspect` says of a standby.
pub(crate) const STANDBY: &str = "standby";
/// What `inspect` says of anything else.
pub(crate) const PRIMARY: &str = "primary";

/// Becomes the postmaster when told so on standard input; returns only if that fails, having said why.
pub(crate) fn launch(order: &LaunchOrder) -> ExitCode {
    let go = || {
        let mut go = [0];
        if std::io::stdin().read(&mut go).context("wait for the guard")? == 0 {
            bail!("the guard took its order back");
        }
        // The report's end closes by itself when the program is replaced; a failure to do so can still be said on it.
        let report = std::io::stdout().as_fd().try_clone_to_owned().context("keep the report open")?;
        become_postmaster(order, &File::from(report))
    };
    if let Err(error) = go() {
        drop(writeln!(std::io::stdout(), "{error:#}"));
    }
    ExitCode::FAILURE
}

/// Becomes the postmaster at once, inside of a PID namespace; what is said goes to its init.
pub(crate) fn launch_inside(order: &LaunchOrder, report: OwnedFd) -> ! {
    let report = File::from(report);
    if let Err(error) = become_postmaster(order, &report) {
        drop(writeln!(&report, "{error:#}"));
    }
    std::process::exit(1)
}

fn become_postmaster(order: &LaunchOrder, mut report: &File) -> anyhow::Result<()> {
    // The guard's blocked signals are inherited; PostgreSQL lives by them.
    SigSet::empty().thread_set_mask().context("unblock signals")?;
    let user = User::from_name(&order.user)
        .with_context(|| format!("look up user {}", order.user))?
        .with_context(|| format!("no user {:?}", order.user))?;
    prepare_log_dir(&order.log_file, &user)?;
    become_user(&user)?;

    // From here on with the rights of PostgreSQL's own user.
    umask(Mode::from_bits_truncate(0o077));
    std::env::set_current_dir(&order.data_dir)
        .with_context(|| format!("enter the data directory {}", order.data_dir.display()))?;
    remove_stale_pid_file(&order.data_dir)?;
    let log = File::options().create(true).append(true).mode(0o640).open(&order.log_file);
    let log = log.with_context(|| format!("open the log file {}", order.log_file.display()))?;
    let nothing = File::open("/dev/null").context("open /dev/null")?;

    if let Some(system_id) = system_id(&order.data_dir) {
        writeln!(report, "{SYSTEM}{system_id}").context("report")?;
    }
    writeln!(report, "{EXEC}").context("report")?;
    dup2_stdin(&nothing).context("redirect standard input")?;
    dup2_stdout(&log).context("redirect standard output")?;
    dup2_stderr(&log).context("redirect standard error")?;
    let error = postmaster(order, &user).exec();
    drop(writeln!(report, "run {}: {error}", order.program.display()));
    Ok(())
}

fn postmaster(order: &LaunchOrder, user: &User) -> Command {
    let mut command = Command::new(&order.program);
    command.arg("-D").arg(&order.data_dir);
    for setting in &order.settings {
        command.arg("-c").arg(setting);
    }
    // Nothing of the guard's own environment (sockets of the service manager, log filters) is PostgreSQL's business.
    let kept = ["LANG", "LC_ALL", "TZ"].map(|name| (name, std::env::var_os(name)));
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &user.dir);
    command.envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    // The postmaster inherits the guard's protection from the out-of-memory killer, its children do not.
    command.env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj").env("PG_OOM_ADJUST_VALUE", "0");
    command
}

/// Distributions make it; a host installed by other means may not have it.
fn prepare_log_dir(log_file: &Path, user: &User) -> anyhow::Result<()> {
    let Some(dir) = log_file.parent().filter(|dir| !dir.exists()) else { return Ok(()) };
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("chown {}", dir.display()))
}

fn become_user(user: &User) -> anyhow::Result<()> {
    let name = CString::new(user.name.as_str()).context("the user's name")?;
    initgroups(&name, user.gid).with_context(|| format!("take the groups of {}", user.name))?;
    setgid(user.gid).with_context(|| format!("become group {}", user.gid))?;
    setuid(user.uid).with_context(|| format!("become user {}", user.name))
}

/// A `postmaster.pid` that an unclean end has left names a number which any process of the same user may have by now;
/// PostgreSQL then refuses to start. Whoever has it, if it does not run in this directory it is no postmaster of it.
/// The guard has seen its group empty; a postmaster that somebody started by hand is outside of it and is respected.
fn remove_stale_pid_file(data_dir: &Path) -> anyhow::Result<()> {
    let path = data_dir.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let number = text.lines().next().and_then(|line| line.trim().parse::<i64>().ok()).map(i64::unsigned_abs);
    if let Some(pid) = number
        && runs_in(pid, data_dir)
    {
        bail!(
            "process {pid} runs in {} already, outside of the guard's group: stop it, then try again",
            data_dir.display()
        );
    }
    fs::remove_file(&path).with_context(|| format!("remove the stale {}", path.display()))
}

fn runs_in(pid: u64, data_dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let is_postgres = fs::read_to_string(proc.join("comm"))
        .is_ok_and(|name| name.starts_with("postgres") || name.starts_with("postmaster"));
    // A zombie has no working directory any more.
    let canonical = fs::canonicalize(data_dir).ok();
    is_postgres && fs::read_link(proc.join("cwd")).ok() == canonical
}

/// The system identifier is the first value of the control file (PostgreSQL: `ControlFileData.system_identifier`).
fn system_id(data_dir: &Path) -> Option<u64> {
    let mut bytes = [0; 8];
    File::open(data_dir.join("global/pg_control")).ok()?.read_exact(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Says whether a directory is marked as a standby's. The mark vanishes at the end of recovery.
pub(crate) fn inspect(data_dir: &Path) -> ExitCode {
    let marked = match fs::metadata(data_dir.join("standby.signal")) {
        Ok(_) => STANDBY,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => PRIMARY,
        Err(_) => return ExitCode::FAILURE,
    };
    drop(writeln!(std::io::stdout(), "{marked}"));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_directory_is_no_postmaster_of_this_one() {
        let own = u64::from(std::process::id());
        assert!(!runs_in(own, &std::env::current_dir().unwrap()), "this test is no postgres");
        assert!(!runs_in(u64::from(u32::MAX), Path::new("/")));
    }
}
