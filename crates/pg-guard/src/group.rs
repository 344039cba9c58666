//! Everything that belongs to PostgreSQL, and the means to kill it: a directory of cgroup v2 where there is one, the
//! freezer of cgroup v1 where there is that, and a walk through the process table where there is neither.

mod freezer;
mod unified;
mod walk;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ha_config::LayerMode;
use ha_core::guard_link::FenceMethod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;
use freezer::Freezer;
use unified::Unified;
use walk::Walk;

/// `/proc/self/ns/pid` of the first namespace always has this number (Linux: PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// By what PostgreSQL's processes are known.
#[derive(Debug)]
pub(crate) struct Group(Kind);

#[derive(Debug)]
enum Kind {
    Unified(Unified),
    Freezer(Freezer),
    Walk(Walk),
}

/// What a test may force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KillBy {
    /// cgroup v2.
    Unified,
    /// The freezer of cgroup v1.
    Freezer,
    /// The process table.
    Walk,
}

impl Group {
    /// Takes the best that works here; tells why nothing better did.
    pub(crate) fn open(place: &Place) -> anyhow::Result<(Self, Vec<String>)> {
        let mut why = vec![];
        let forced = |kind| place.kill_by.is_none_or(|by| by == kind);
        if place.group_kill != LayerMode::Off {
            if forced(KillBy::Unified) {
                match Unified::open(&place.cgroup, &place.group_name, &place.run_dir) {
                    Ok(group) => return Ok((Self(Kind::Unified(group)), why)),
                    Err(error) if place.kill_by.is_some() => return Err(error),
                    Err(error) => why.push(format!("no cgroup v2: {error:#}")),
                }
            }
            if forced(KillBy::Freezer) {
                match Freezer::open(&place.group_name) {
                    Ok(group) => return Ok((Self(Kind::Freezer(group)), why)),
                    Err(error) if place.kill_by.is_some() => return Err(error),
                    Err(error) => why.push(format!("{error:#}")),
                }
            }
        }
        Ok((Self(Kind::Walk(Walk::new(&place.data_dir))), why))
    }

    fn dir(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Unified(group) => Some(group.dir()),
            Kind::Freezer(group) => Some(group.dir()),
            Kind::Walk(_) => None,
        }
    }

    /// Where it is, for the log.
    pub(crate) fn place(&self) -> String {
        self.dir().map_or_else(|| "none".to_owned(), |dir| dir.display().to_string())
    }

    /// The file that moves a process into it, if that is needed.
    pub(crate) fn entrance(&self) -> Option<PathBuf> {
        self.dir().map(|dir| dir.join("cgroup.procs"))
    }

    /// What becomes ready (POLLPRI) when it becomes empty or populated. Without that, look now and then.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Kind::Unified(group) => Some(group.events().as_fd()),
            Kind::Freezer(_) | Kind::Walk(_) => None,
        }
    }

    /// Whether the kernel kills all of it at once.
    pub(crate) fn has_kill(&self) -> bool {
        matches!(&self.0, Kind::Unified(group) if group.has_kill())
    }

    /// In which way it is worse than it could be.
    pub(crate) fn shortcoming(&self) -> Option<&'static str> {
        match &self.0 {
            Kind::Unified(group) if group.has_kill() => None,
            Kind::Unified(_) => Some("no cgroup.kill (Linux before 5.14): processes are killed one by one"),
            Kind::Freezer(_) => Some("cgroup v1: processes are frozen, then killed one by one"),
            Kind::Walk(_) => {
                Some("no control group: processes are found by their parents and killed one by one")
            }
        }
    }

    /// Remembers which process is the postmaster.
    pub(crate) fn note(&mut self, postmaster: u32) {
        if let Kind::Walk(walk) = &mut self.0 {
            walk.note(postmaster);
        }
    }

    /// Whether any process is in it. What cannot be seen counts as yes.
    pub(crate) fn populated(&self) -> bool {
        match &self.0 {
            Kind::Unified(group) => group.populated(),
            Kind::Freezer(group) => group.populated(),
            Kind::Walk(walk) => walk.populated(),
        }
    }

    /// Kills everything in it, once.
    pub(crate) fn kill_all(&self) -> FenceMethod {
        match &self.0 {
            Kind::Unified(group) => group.kill_all(),
            Kind::Freezer(group) => group.kill_all(),
            Kind::Walk(walk) => walk.kill_all(),
        }
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match &self.0 {
            Kind::Unified(group) => group.processes(),
            Kind::Freezer(group) => group.processes(),
            Kind::Walk(walk) => walk.processes(),
        }
    }

    /// Moves a process into it.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        match &self.0 {
            Kind::Unified(group) => group.add(pid),
            Kind::Freezer(group) => group.add(pid),
            Kind::Walk(_) => Ok(()),
        }
    }

    /// Removes the empty group; the parent stays, others may use it.
    pub(crate) fn remove(self) {
        // Still populated, or used by a successor already: then it has to stay.
        drop(self.dir().map(fs::remove_dir));
    }
}

/// Mount points of a hierarchy, out of `/proc/self/mountinfo` (proc(5): type and super options follow the " - ").
fn mount_points(mountinfo: &str, wanted: impl Fn(&str, &str) -> bool) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        wanted(kind, options).then(|| before.split(' ').nth(4).map(PathBuf::from))?
    };
    mountinfo.lines().filter_map(point).collect()
}

/// Where a hierarchy can be reached: a mount that another one covers is listed, too.
fn reachable(wanted: impl Fn(&str, &str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut points = mount_points(&mounts, wanted);
    points.retain(|point| point.join("cgroup.procs").exists());
    Ok(points)
}

/// Hosts that are only namespaces of one machine may share a hierarchy: their groups must not be one.
fn own_name(name: &str) -> anyhow::Result<String> {
    let namespace = fs::metadata("/proc/self/ns/pid").context("look at /proc/self/ns/pid")?.ino();
    Ok(match namespace {
        FIRST_PID_NAMESPACE => name.to_owned(),
        other => format!("{name}-ns{other}"),
    })
}

fn listed(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn enter(dir: &Path, pid: u32) -> io::Result<()> {
    let file = File::options().write(true).open(dir.join("cgroup.procs"))?;
    io::Write::write_all(&mut &file, pid.to_string().as_bytes())
}

fn kill_each(processes: &[u32]) {
    for pid in processes {
        // Gone already, or hanging in the kernel: the caller looks whether the group is empty.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
42 30 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let unified = mount_points(HYBRID, |kind, _| kind == "cgroup2");
        assert_eq!(unified, [PathBuf::from("/sys/fs/cgroup/unified")]);
        let freezer = mount_points(HYBRID, |kind, options| kind == "cgroup" && options.ends_with("freezer"));
        assert_eq!(freezer, [PathBuf::from("/sys/fs/cgroup/freezer")]);
        assert!(mount_points("24 23 0:22 / /x rw - tmpfs tmpfs rw", |kind, _| kind == "cgroup2").is_empty());
    }
}
