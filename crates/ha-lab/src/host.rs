//! One host: namespaces, a file system of its own, and a first process that starts daemons and reaps orphans.
//!
//! Two processes make a host. The *anchor* is started by the keeper, makes the namespaces and waits; the *first process*
//! (id 1 inside) lives in them. Killing the first process ends everything on the host at once, as a power failure does.

mod ballast;
mod file_system;
mod init;
mod supervisor;
mod unit_file;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

pub(crate) use file_system::{PROGRAM_DIR, own, prepare_kept as prepare};
pub(crate) use init::run as run_init;

use crate::lab_dir::LabDir;
use crate::topology::LabHost;

/// The host called `name` in the lab's plan.
pub(crate) fn find(lab: &LabDir, name: &str) -> Result<LabHost> {
    let hosts = lab.plan()?.hosts;
    hosts.into_iter().find(|host| host.name == name).with_context(|| format!("the lab has no host {name:?}"))
}

/// Body of the anchor: makes the namespaces, starts the first process in them, reports its id and waits for its end.
///
/// # Errors
/// A namespace is not permitted, or the first process could not be started.
pub(crate) fn run_anchor(lab: &Path, name: &str, cgroup: &Path) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for the keeper's death")?;
    // Joined before the cgroup namespace is made: this group becomes the root that the host sees.
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("join {}", cgroup.display()))?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWPID,
    )
    .context("make the namespaces of a host: root is needed")?;
    let mut init = Command::new("/proc/self/exe")
        .args(["host-init", "--lab"])
        .arg(lab)
        .args(["--host", name])
        // The keeper's end of this pipe closes with the keeper.
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the first process")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", init.id()).and_then(|()| out.flush()).context("report the first process")?;
    init.wait().context("wait for the first process")?;
    Ok(())
}
