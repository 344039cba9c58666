//! Where a lab keeps its files.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::data_disk::DataDisk;
use crate::process_id::ProcessId;
use crate::topology::LabHost;

/// Name of the keeper's socket in the lab's directory.
pub(crate) const KEEPER_SOCKET: &str = "keeper.sock";
/// Name of a host's socket in the host's directory.
pub(crate) const HOST_SOCKET: &str = "control.sock";

/// Name of the mark on a lab whose files nobody needs.
pub(crate) const IDLE_MARK: &str = "idle";

/// The programs that every host finds in `/opt/matriarch/bin`.
pub(crate) const PROGRAMS: [&str; 6] = ["pg-agent", "pg-guard", "pg-proxy", "vrrpd", "hactl", "hactl-lab"];

/// What the processes of a lab must know; written once, before the first of them starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Every host.
    pub hosts: Vec<LabHost>,
    /// Where the built programs are.
    pub bin_dir: PathBuf,
    /// Log filter of the daemons (`MATRIARCH_LOG`).
    pub log_filter: String,
    /// Whether commits wait for standbys.
    pub synchronous: bool,
    /// The file system that holds PostgreSQL's data on each host; the machine's own when absent.
    pub data_disk: Option<DataDisk>,
    /// Daemons that do not start with their hosts, as `host/daemon`.
    pub masked: Vec<String>,
    /// The first floating address of the cluster file.
    pub vip: Option<Ipv4Addr>,
}

/// What must be ended and removed when the lab is gone or its keeper crashed; rewritten at each change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Remains {
    /// The boot these process ids belong to.
    pub(crate) boot_id: String,
    /// The keeper.
    pub(crate) keeper: Option<ProcessId>,
    /// Every host's anchor (outside its PID namespace) and first process.
    pub(crate) hosts: Vec<ProcessId>,
    /// Name of the lab's control group, below the root of the hierarchy.
    pub(crate) cgroup: String,
}

/// A lab's directory.
#[derive(Debug, Clone)]
pub struct LabDir(PathBuf);

impl LabDir {
    /// Names a directory; it need not exist yet.
    ///
    /// # Errors
    /// A relative path and no current directory.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self(std::path::absolute(path).with_context(|| format!("absolute path of {}", path.display()))?))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A host's directory.
    pub fn host(&self, host: &str) -> PathBuf {
        self.0.join(host)
    }

    /// A daemon's log.
    pub fn log(&self, host: &str, unit: &str) -> PathBuf {
        self.host(host).join("log").join(format!("{unit}.log"))
    }

    /// Where `hactl init` put its bundles.
    pub fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// The service descriptions that hosts start from.
    pub(crate) fn units(&self) -> PathBuf {
        self.0.join("units")
    }

    /// Where the keeper mounts the control groups.
    pub(crate) fn cgroups(&self) -> PathBuf {
        self.0.join("cgroup")
    }

    /// Reads the plan.
    ///
    /// # Errors
    /// There is no lab in this directory.
    pub fn plan(&self) -> Result<Plan> {
        read_json(&self.0.join("plan.json"))
    }

    pub(crate) fn write_plan(&self, plan: &Plan) -> Result<()> {
        write_json(&self.0.join("plan.json"), plan)
    }

    pub(crate) fn remains(&self) -> Result<Remains> {
        read_json(&self.0.join("remains.json"))
    }

    pub(crate) fn write_remains(&self, remains: &Remains) -> Result<()> {
        write_json(&self.0.join("remains.json"), remains)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

/// Replaces a file in one step, so that a reader after a crash finds the old content or the new.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(value)?).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("replace {}", path.display()))
}

/// The id of this boot: process ids of another one mean nothing.
pub(crate) fn boot_id() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(text.trim().to_owned())
}
