//! Ends and removes what a lab left whose keeper is gone. Everything is found by recorded ids, never by name.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::control::{self, KeeperRequest};
use crate::lab_dir::{KEEPER_SOCKET, LabDir, boot_id};

/// How long the kernel may take to end one process.
const DEATH: Duration = Duration::from_secs(10);

/// Ends the lab in this directory if there is one, in whatever state it is. Its files stay.
///
/// # Errors
/// A process did not end or a control group was not empty.
pub fn end_lab(lab: &LabDir) -> Result<()> {
    let Ok(remains) = lab.remains() else { return Ok(()) };
    if remains.boot_id != boot_id()? {
        return Ok(());
    }
    if let Some(keeper) = remains.keeper.filter(|keeper| keeper.is_alive()) {
        // Asked first, because only a keeper that ends by itself leaves nothing; one that does not answer is killed.
        let asked: Result<serde_json::Value> =
            control::ask(lab.path(), KEEPER_SOCKET, &KeeperRequest::Shutdown);
        if asked.is_err() {
            keeper.kill_and_wait(DEATH)?;
        }
        crate::wait::wait_for("end of the keeper", DEATH, || {
            if keeper.is_alive() { Err("still there".to_owned()) } else { Ok(()) }
        })?;
    }
    for process in &remains.hosts {
        process.kill_and_wait(DEATH)?;
    }
    remove_recorded_cgroup(lab, &remains.cgroup)
}

/// Ends every lab below `labs` whose keeper is gone (its test was killed) and removes its files. Directories of running
/// labs are left alone.
///
/// # Errors
/// Something could not be ended or removed.
pub fn sweep(labs: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(labs) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", labs.display()))?.path();
        let lab = LabDir::new(&path)?;
        let Ok(remains) = lab.remains() else { continue };
        let runs = remains.boot_id == boot_id()? && remains.keeper.is_some_and(|keeper| keeper.is_alive());
        if !runs && !path.join("kept").exists() {
            end_lab(&lab)?;
            remove_files(&lab)?;
        }
    }
    Ok(())
}

/// Removes a lab's directory.
///
/// # Errors
/// A file could not be removed.
pub fn remove_files(lab: &LabDir) -> Result<()> {
    match fs::remove_dir_all(lab.path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", lab.path().display()))
        }
        _ => Ok(()),
    }
}

/// Removes an empty control group and those below it.
pub(crate) fn remove_cgroup(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", path.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", path.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The keeper's mount of the hierarchy went with it: look where the machine has its own, in a throw-away mount otherwise.
fn remove_recorded_cgroup(lab: &LabDir, cgroup: &str) -> Result<()> {
    if cgroup.is_empty() {
        return Ok(());
    }
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let path = Path::new(root).join(cgroup);
        if path.exists() {
            return crate::wait::wait_for("empty control group", DEATH, || {
                remove_cgroup(&path).map_err(|error| format!("{error:#}"))
            });
        }
    }
    let place = lab.cgroups();
    if !place.exists() {
        return Ok(());
    }
    let none: Option<&str> = None;
    nix::mount::mount(Some("cgroup2"), &place, Some("cgroup2"), nix::mount::MsFlags::empty(), none)
        .context("mount the control groups")?;
    let removed = crate::wait::wait_for("empty control group", DEATH, || {
        remove_cgroup(&place.join(cgroup)).map_err(|error| format!("{error:#}"))
    });
    nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).context("unmount the control groups")?;
    removed
}
