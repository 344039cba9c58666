//! Where everything is on this host, out of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ha_config::{LayerMode, longest_watchdog_timeout};
use ha_core::guard_link::Layers;
use ha_fencing::{Limits, WatchdogRules};
use nix::unistd::{Gid, Uid, User};

use crate::args::Args;
use crate::group::KillBy;

/// A lease that was granted a little longer than asked for must not look like a forgery.
const REACH_SLACK: Duration = Duration::from_secs(1);
/// Long enough for the checkpoint of a busy primary.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The log collector's last lines.
const STRAGGLER_GRACE: Duration = Duration::from_secs(1);

/// Names and paths of this host.
#[derive(Debug)]
pub(crate) struct Place {
    /// The `postgres` program.
    pub(crate) program: PathBuf,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The postmaster's standard output and error.
    pub(crate) log_file: PathBuf,
    /// Who runs PostgreSQL and the agent.
    pub(crate) user: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// The agent's way in.
    pub(crate) socket: PathBuf,
    /// Not on disk: the state for the guard's successor, the lock, a private cgroup mount.
    pub(crate) run_dir: PathBuf,
    /// On disk: the record of fences.
    pub(crate) state_dir: PathBuf,
    /// The parent directory of the group, as configured.
    pub(crate) cgroup: PathBuf,
    /// The name of the group in it.
    pub(crate) group_name: String,
    /// The only way in which PostgreSQL's processes may be known, for tests.
    pub(crate) kill_by: Option<KillBy>,
    /// Whether the kernel must, may or must not kill the group at once.
    pub(crate) group_kill: LayerMode,
    /// Whether there must, may or must not be a kernel fuse.
    pub(crate) fuse: LayerMode,
    pub(crate) limits: Limits,
    pub(crate) watchdog_device: PathBuf,
    pub(crate) watchdog_rules: WatchdogRules,
}

impl Place {
    /// Where the fuse of the running PostgreSQL listens for guards.
    pub(crate) fn fuse_socket(&self) -> PathBuf {
        self.run_dir.join("fuse.sock")
    }

    /// The layers without which nobody may begin to lead here.
    pub(crate) fn required_layers(&self) -> Layers {
        let needs = [(self.group_kill, Layers::CGROUP_KILL), (self.fuse, Layers::KERNEL_FUSE)];
        let required = needs.into_iter().filter(|(mode, _)| *mode == LayerMode::Required);
        required.fold(Layers::default(), |all, (_, layer)| all.with(layer))
    }

    /// Reads the file and finds this host in it.
    pub(crate) fn from_configuration(args: &Args) -> anyhow::Result<Self> {
        let cluster = ha_config::load(&args.config)?;
        let host = cluster.this_node(args.node.as_deref())?;
        let postgres = &host.postgres;
        let paths = postgres.resolve(&cluster.name)?;
        let user = User::from_name(&postgres.os_user)
            .with_context(|| format!("look up user {}", postgres.os_user))?
            .ok_or_else(|| anyhow!("postgres.os_user: no user {:?} on this host", postgres.os_user))?;
        let guard = &cluster.guard;
        let run_dir = guard
            .socket
            .parent()
            .ok_or_else(|| anyhow!("guard.socket: expected a path below a directory"))?;
        let state_dir = args.state_dir.clone();
        let limits = Limits {
            kill_lead: guard.kill_lead,
            max_ahead: cluster.failover.lease_ttl + REACH_SLACK,
            stop_patience: STOP_PATIENCE,
            straggler_grace: STRAGGLER_GRACE,
            unprotected_grace: guard.kill_lead,
        };
        let ttl = cluster.failover.lease_ttl;
        let watchdog_rules = WatchdogRules {
            mode: guard.watchdog,
            timeout: guard.watchdog_timeout(ttl),
            longest: longest_watchdog_timeout(&cluster.failover),
            after_deadline: guard.drift_of(ttl) + guard.net_margin,
        };
        Ok(Self {
            watchdog_device: guard.watchdog_device.clone(),
            watchdog_rules,
            program: paths.bin_dir.join("postgres"),
            data_dir: paths.data_dir,
            log_file: paths.log_file,
            user: postgres.os_user.clone(),
            uid: user.uid,
            gid: user.gid,
            run_dir: run_dir.to_owned(),
            socket: guard.socket.clone(),
            state_dir: state_dir
                .unwrap_or_else(|| PathBuf::from("/var/lib/matriarch-guard").join(cluster.name.as_str())),
            cgroup: guard.cgroup.clone(),
            group_name: format!("{}-{}-postgres", cluster.name, host.name),
            kill_by: args.kill_by,
            group_kill: guard.group_kill,
            fuse: guard.fuse,
            limits,
        })
    }
}
