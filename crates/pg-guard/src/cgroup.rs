//! The group that holds every process of PostgreSQL: a directory of cgroup v2, wherever that is mounted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ha_core::guard_link::FenceMethod;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the hierarchy is mounted by convention; the configured path is meant relative to it when it is elsewhere.
const CONVENTION: &str = "/sys/fs/cgroup";
/// `/proc/self/ns/pid` of the first namespace always has this number (Linux: PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The group, with everything open that a kill needs.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
    /// Absent before Linux 5.14.
    kill: Option<File>,
    events: File,
    procs: File,
}

impl Group {
    /// Opens the group, creating it where it does not exist. `parent` is the configured directory; where the hierarchy
    /// is not mounted at all it is mounted below `run_dir`.
    pub(crate) fn open(parent: &Path, name: &str, run_dir: &Path) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        // A mount that another one covers is listed too, but cannot be reached.
        let reachable = |point: &PathBuf| point.join("cgroup.procs").exists();
        let points: Vec<PathBuf> = mount_points(&mounts).into_iter().filter(reachable).collect();
        let parent = match locate(parent, &points) {
            Some(path) => path,
            None => mount_privately(run_dir)?.join(relative(parent)),
        };
        // Hosts that are only namespaces of one machine may share the hierarchy: their groups must not be one.
        let namespace = fs::metadata("/proc/self/ns/pid").context("look at /proc/self/ns/pid")?.ino();
        let dir = match namespace {
            FIRST_PID_NAMESPACE => parent.join(name),
            other => parent.join(format!("{name}-ns{other}")),
        };
        fs::create_dir_all(&dir).with_context(|| format!("create the group {}", dir.display()))?;
        let open = |file: &str, write: bool| {
            let path = dir.join(file);
            File::options()
                .read(!write)
                .write(write)
                .open(&path)
                .with_context(|| format!("open {}", path.display()))
        };
        if !dir.join("cgroup.events").exists() {
            bail!("guard.cgroup: {} is not in a cgroup v2 hierarchy", dir.display());
        }
        let kill = open("cgroup.kill", true).ok();
        let (events, procs) = (open("cgroup.events", false)?, open("cgroup.procs", true)?);
        Ok(Self { kill, events, procs, dir })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Becomes ready (POLLPRI) when the group becomes empty or populated.
    pub(crate) fn events(&self) -> &File {
        &self.events
    }

    pub(crate) fn has_kill(&self) -> bool {
        self.kill.is_some()
    }

    /// Whether any process is in it. What cannot be seen counts as yes.
    pub(crate) fn populated(&self) -> bool {
        let mut text = [0; 256];
        let Ok(length) = self.events.read_at(&mut text, 0) else { return true };
        let empty = b"populated 0";
        !text[..length].windows(empty.len()).any(|part| part == empty)
    }

    /// Kills everything in it, once.
    pub(crate) fn kill_all(&self) -> FenceMethod {
        if let Some(file) = &self.kill
            && file.write_at(b"1", 0).is_ok()
        {
            return FenceMethod::CgroupKill;
        }
        for pid in self.processes() {
            // Gone already, or hanging in the kernel: the caller looks whether the group is empty.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        FenceMethod::SignalLoop
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Moves a process into it.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        (&self.procs).write_all(pid.to_string().as_bytes())
    }

    /// Removes the empty group; the parent stays, others may use it.
    pub(crate) fn remove(self) {
        let Self { dir, .. } = self;
        // Still populated, or used by a successor already: then it has to stay.
        drop(fs::remove_dir(dir));
    }
}

/// Mount points of cgroup v2, out of `/proc/self/mountinfo` (proc(5): the type follows the " - ").
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let is_v2 = after.split(' ').next() == Some("cgroup2");
        is_v2.then(|| before.split(' ').nth(4).map(PathBuf::from))?
    };
    mountinfo.lines().filter_map(point).collect()
}

/// The configured directory in the hierarchy as it is mounted here.
fn locate(configured: &Path, mounts: &[PathBuf]) -> Option<PathBuf> {
    if mounts.iter().any(|point| configured.starts_with(point)) {
        return Some(configured.to_owned());
    }
    mounts.first().map(|point| point.join(relative(configured)))
}

fn relative(configured: &Path) -> &Path {
    let below = configured.strip_prefix(CONVENTION).or_else(|_| configured.strip_prefix("/"));
    below.unwrap_or(configured)
}

fn mount_privately(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let point = run_dir.join("cgroup");
    fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), &point, Some("cgroup2"), flags, None::<&str>)
        .with_context(|| format!("mount cgroup v2 at {}", point.display()))?;
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
42 30 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_group_is_where_the_hierarchy_is() {
        let configured = Path::new("/sys/fs/cgroup/matriarch");
        let hybrid = mount_points(HYBRID);
        assert_eq!(hybrid, [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert_eq!(locate(configured, &hybrid).unwrap(), Path::new("/sys/fs/cgroup/unified/matriarch"));
        let pure = mount_points("24 23 0:22 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate");
        assert_eq!(locate(configured, &pure).unwrap(), configured);
        assert_eq!(locate(configured, &[]), None);
        assert_eq!(relative(Path::new("/elsewhere/x")), Path::new("elsewhere/x"));
    }
}
