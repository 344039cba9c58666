//! What a host sees as its files: the machine's programs read-only, everything else its own.
//!
//! Nothing of the machine is writable from inside, so daemons use their production paths and leave no trace outside the
//! lab's directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, User, chown, pivot_root};

use crate::lab_dir::{LabDir, PROGRAMS, Plan};
use crate::topology::{LabHost, Role};

/// Where hosts find the programs under test.
pub(crate) const PROGRAM_DIR: &str = "/opt/matriarch/bin";

/// Directories that survive a power-off: below the host's directory, inside the host, owner, mode.
const KEPT: [(&str, &str, &str, u32); 8] = [
    ("etc", "/etc/matriarch", "root", 0o755),
    ("lib/matriarch", "/var/lib/matriarch", "postgres", 0o755),
    ("lib/matriarch-guard", "/var/lib/matriarch-guard", "root", 0o755),
    ("lib/postgresql", "/var/lib/postgresql", "postgres", 0o755),
    ("lib/etcd", "/var/lib/etcd", "etcd", 0o700),
    ("log", "/var/log/matriarch", "root", 0o755),
    ("log/postgresql", "/var/log/postgresql", "postgres", 0o755),
    ("work", "/lab", "root", 0o755),
];

/// What a host needs of the machine's `/etc`. Not in the list: names and addresses of the machine, and its secrets.
const ETC: [&str; 22] = [
    "alternatives",
    "bash.bashrc",
    "default",
    "group",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "login.defs",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "postgresql-common",
    "profile",
    "protocols",
    "services",
    "terminfo",
    "timezone",
    "xattr.conf",
];

/// And whatever begins like this: Java's own configuration, without which it does not start.
const ETC_BEGINS: &str = "java";

/// Device nodes of a host. Above all not `/dev/watchdog`: a guard in a lab must never hold the machine's.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Makes the directories that survive a power-off, with their owners.
pub(crate) fn prepare_kept(lab: &LabDir, host: &LabHost) -> Result<()> {
    for (below, _, owner, mode) in KEPT {
        let path = lab.host(&host.name).join(below);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        own(&path, owner, mode)?;
    }
    Ok(())
}

/// Gives a file to a user of the machine, or to root when the machine has no such user.
pub(crate) fn own(path: &Path, owner: &str, mode: u32) -> Result<()> {
    let (uid, gid) = ids_of(owner)?;
    chown(path, Some(uid), Some(gid)).with_context(|| format!("give {} to {owner}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// The ids of a user, root's when the machine has no such user.
pub(crate) fn ids_of(user: &str) -> Result<(Uid, Gid)> {
    let found = User::from_name(user).with_context(|| format!("look up user {user}"))?;
    Ok(found.map_or((Uid::from_raw(0), Gid::from_raw(0)), |user| (user.uid, user.gid)))
}

/// Builds the host's file system and moves into it. Runs as the host's first process.
pub(crate) fn enter(lab: &LabDir, plan: &Plan, host: &LabHost) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    let root = lab.host(&host.name).join("root");
    fs::create_dir_all(&root).context("create the root")?;
    tmpfs(&root, "mode=0755")?;
    link_programs(&root)?;
    bind_etc(&root, plan, host)?;
    bind_kept(&root, lab, host)?;
    for (path, mode) in
        [("root", 0o700), ("home", 0o755), ("srv", 0o755), ("mnt", 0o755), ("var/tmp", 0o1777)]
    {
        let path = root.join(path);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("set a mode")?;
    }
    devices(&root)?;
    volatile(&root, host)?;
    kernel_views(&root)?;
    let old = root.join(".old");
    fs::create_dir(&old).context("create the old root's place")?;
    pivot_root(&root, &old).context("change the root")?;
    std::env::set_current_dir("/").context("enter the new root")?;
    umount2("/.old", MntFlags::MNT_DETACH).context("let go of the machine's files")?;
    fs::remove_dir("/.old").context("remove the old root's place")
}

fn tmpfs(path: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options))
        .with_context(|| format!("mount tmpfs on {}", path.display()))
}

/// Shows `from` at `to`, whatever it is; a symbolic link is made anew.
fn bind(from: &Path, to: &Path, read_only: bool) -> Result<()> {
    let none: Option<&str> = None;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let kind = fs::symlink_metadata(from).with_context(|| format!("look at {}", from.display()))?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(from).with_context(|| format!("read {}", from.display()))?;
        return symlink(target, to).with_context(|| format!("create {}", to.display()));
    }
    if kind.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    } else {
        fs::write(to, "").with_context(|| format!("create {}", to.display()))?;
    }
    mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))?;
    if read_only {
        mount(none, to, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
            .with_context(|| format!("make {} read-only", to.display()))?;
    }
    Ok(())
}

fn link_programs(root: &Path) -> Result<()> {
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let from = Path::new("/").join(name);
        if fs::symlink_metadata(&from).is_ok() {
            bind(&from, &root.join(name), true)?;
        }
    }
    Ok(())
}

fn bind_etc(root: &Path, plan: &Plan, host: &LabHost) -> Result<()> {
    let etc = root.join("etc");
    for name in ETC {
        let from = Path::new("/etc").join(name);
        if fs::symlink_metadata(&from).is_ok() {
            bind(&from, &etc.join(name), true)?;
        }
    }
    for entry in fs::read_dir("/etc").context("list /etc")? {
        let name = entry.context("list /etc")?.file_name();
        if name.to_string_lossy().starts_with(ETC_BEGINS) {
            bind(&Path::new("/etc").join(&name), &etc.join(&name), true)?;
        }
    }
    let mut names = String::from("127.0.0.1 localhost\n");
    for other in &plan.hosts {
        names.push_str(&format!("{} {}\n", other.address, other.name));
    }
    fs::write(etc.join("hosts"), names).context("write /etc/hosts")?;
    fs::write(etc.join("hostname"), format!("{}\n", host.name)).context("write /etc/hostname")
}

fn bind_kept(root: &Path, lab: &LabDir, host: &LabHost) -> Result<()> {
    for (below, inside, _, _) in KEPT {
        let to = root.join(inside.trim_start_matches('/'));
        bind(&lab.host(&host.name).join(below), &to, false)?;
    }
    bind(&lab.units(), &root.join("etc/systemd/system"), true)?;
    let bin_dir = lab.plan()?.bin_dir;
    for program in PROGRAMS {
        // The file itself: a link would lead to where the host cannot see.
        if let Ok(from) = fs::canonicalize(bin_dir.join(program)) {
            bind(&from, &root.join(PROGRAM_DIR.trim_start_matches('/')).join(program), true)?;
        }
    }
    Ok(())
}

fn devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    tmpfs(&dev, "mode=0755")?;
    for name in DEVICES {
        bind(&Path::new("/dev").join(name), &dev.join(name), false)?;
    }
    let pts = dev.join("pts");
    fs::create_dir(&pts).context("create /dev/pts")?;
    mount(
        Some("devpts"),
        &pts,
        Some("devpts"),
        MsFlags::empty(),
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )
    .context("mount /dev/pts")?;
    for (target, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(name)).with_context(|| format!("create /dev/{name}"))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")
}

/// What a reboot empties.
fn volatile(root: &Path, host: &LabHost) -> Result<()> {
    tmpfs(&root.join("run"), "mode=0755")?;
    tmpfs(&root.join("tmp"), "mode=1777")?;
    symlink("/run", root.join("var/run")).context("create /var/run")?;
    if host.role == Role::Database {
        // The distribution's tmpfiles.d makes this one at boot.
        let sockets = root.join("run/postgresql");
        fs::create_dir(&sockets).context("create /run/postgresql")?;
        own(&sockets, "postgres", 0o2775)?;
    }
    if host.role == Role::Proxy {
        // Both daemons of a proxy host meet here; neither may take it away when it ends.
        let sockets = root.join("run/matriarch");
        fs::create_dir(&sockets).context("create /run/matriarch")?;
        own(&sockets, "root", 0o755)?;
    }
    Ok(())
}

fn kernel_views(root: &Path) -> Result<()> {
    let none: Option<&str> = None;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (name, kind) in [("proc", "proc"), ("sys", "sysfs"), ("sys/fs/cgroup", "cgroup2")] {
        let path: PathBuf = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create /{name}"))?;
        mount(Some(kind), &path, Some(kind), quiet, none).with_context(|| format!("mount /{name}"))?;
    }
    Ok(())
}
