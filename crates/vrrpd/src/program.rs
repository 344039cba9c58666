//! Programs of the operator's: a list of words, no shell; in a process group of their own, which is ended as a whole; as
//! another user where one is named. Never on the thread that advertises.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};
use tokio::process::{Child, Command};

/// After the request to end, a group has this long before it is killed.
const GRACE: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It took too long, and was killed with its whole group.
    TooLong,
    /// It could not be started.
    NotStarted(io::Error),
}

impl Ended {
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Exit(status) if status.success())
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(status) => status.fmt(f),
            Self::TooLong => f.write_str("it took too long and was killed"),
            Self::NotStarted(error) => write!(f, "it could not be started: {error}"),
        }
    }
}

/// Runs a program to its end, or to `limit`. When this future is dropped, the whole group is killed.
pub(crate) async fn run(words: &[String], user: Option<&str>, limit: Duration) -> Ended {
    let mut group = match start(words, user) {
        Ok(group) => group,
        Err(error) => return Ended::NotStarted(error),
    };
    let waited = tokio::time::timeout(limit, group.child.wait()).await;
    let ended = match waited {
        Ok(Ok(status)) => Ended::Exit(status),
        Ok(Err(error)) => Ended::NotStarted(error),
        Err(_) => {
            group.signal(Signal::SIGTERM);
            drop(tokio::time::timeout(GRACE, group.child.wait()).await);
            Ended::TooLong
        }
    };
    // Also what a program leaves behind that has ended itself.
    group.signal(Signal::SIGKILL);
    if matches!(ended, Ended::TooLong) {
        // One that hangs in the kernel ends when that lets go of it; the runtime reaps it then.
        drop(tokio::time::timeout(GRACE, group.child.wait()).await);
    }
    ended
}

fn start(words: &[String], user: Option<&str>) -> io::Result<Group> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    if let Some(name) = user {
        let unknown = || io::Error::other(format!("there is no user {name}"));
        let user = User::from_name(name).map_err(io::Error::from)?.ok_or_else(unknown)?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let child = command.spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok(Group { child, id })
}

/// A process and those that it started.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            match killpg(id, signal) {
                // Nobody is left of it.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => tracing::warn!(%error, "end a program's process group"),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_exit_code_decides() {
        assert!(run(&shell("exit 0"), None, LONG).await.is_success());
        let failed = run(&shell("exit 3"), None, LONG).await;
        assert!(!failed.is_success() && failed.to_string().contains('3'), "{failed}");
        let absent = run(&["/nowhere/to/be/found".to_owned()], None, LONG).await;
        assert!(absent.to_string().contains("could not be started"), "{absent}");
        let unknown = run(&shell("exit 0"), Some("no-such-user-here"), LONG).await;
        assert!(unknown.to_string().contains("no user no-such-user-here"), "{unknown}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let script = format!("trap '' TERM; sleep 1000 & echo $! $$ > {}; wait; sleep 1000", file.display());
        let begun = Instant::now();
        // Long enough to write the file on a busy machine.
        let ended = run(&shell(&script), None, Duration::from_secs(3)).await;
        assert!(matches!(ended, Ended::TooLong) && begun.elapsed() < LONG, "{ended}");
        for pid in std::fs::read_to_string(file).unwrap().split_whitespace() {
            let gone = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            };
            let end = Instant::now() + LONG;
            while !gone() {
                assert!(Instant::now() < end, "{pid} lives");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn it_runs_as_the_user_that_is_named() {
        if !nix::unistd::Uid::effective().is_root() {
            return; // nobody else can become another user
        }
        let script = "test $(id -un) = nobody && test $(id -G | wc -w) = 1";
        assert!(run(&shell(script), Some("nobody"), LONG).await.is_success());
        assert!(!run(&shell(script), None, LONG).await.is_success());
    }
}
