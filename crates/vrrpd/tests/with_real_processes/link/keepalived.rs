//! The distribution's keepalived on one of the hosts.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, wait_for};

/// A running keepalived; ended when the test forgets it.
pub(crate) struct Keepalived {
    child: Child,
    log: PathBuf,
}

impl Keepalived {
    /// Starts it with this configuration, and waits until it listens.
    pub(crate) fn start(host: &Host, configuration: &str) -> Self {
        let keepalived = Self::start_owner(host, configuration);
        wait_for("keepalived to begin", || keepalived.said("Entering BACKUP STATE").then_some(()));
        keepalived
    }

    /// Starts one that begins as the owner of the address; nothing is waited for.
    pub(crate) fn start_owner(host: &Host, configuration: &str) -> Self {
        let file = |name: &str| host.dir().join(name);
        std::fs::write(file("keepalived.conf"), configuration).expect("write the configuration");
        let log = file("keepalived.log");
        let output = std::fs::File::create(&log).expect("a log");
        let mut command = host.namespace.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
        command.arg("--use-file").arg(file("keepalived.conf"));
        command.arg("--pid").arg(file("keepalived.pid")).arg("--vrrp_pid").arg(file("keepalived-vrrp.pid"));
        let errors = output.try_clone().expect("the log twice");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.expect("keepalived of the distribution (deploy/setup.sh installs it)");
        Self { child, log }
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Asks it to end, and waits.
    pub(crate) fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        // It may have ended before.
        let _ = kill(pid, Signal::SIGTERM);
        drop(self.child.wait());
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- keepalived\n{}", self.log());
        }
        self.end();
    }
}
