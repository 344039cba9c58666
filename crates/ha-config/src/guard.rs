//! `[guard]`: how pg-guard bounds a leader's time.

use std::path::PathBuf;
use std::time::Duration;

use ha_core::guard_link::LayerMode;

use crate::failover::Failover;
use crate::reader::Table;
use crate::units::show_duration;

/// Settings of pg-guard. Its deadline is the send time of the newest evidence + TTL - [`Guard::margin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Whether a leader needs an armed guard.
    pub mode: LayerMode,
    /// Allowance for what is still on the way when the lease ends.
    pub net_margin: Duration,
    /// How long before the lease ends the processes are killed.
    pub kill_lead: Duration,
    /// How long before the kill PostgreSQL is asked to stop.
    pub soft_lead: Duration,
    /// Largest difference between two hosts' clock rates, in parts per thousand of the TTL.
    pub drift: u32,
    /// The guard's socket (SOCK_SEQPACKET).
    pub socket: PathBuf,
    /// Directory of the cgroup v2 group that holds PostgreSQL.
    pub cgroup: PathBuf,
    /// Whether a leader needs a group that the kernel kills at once (`cgroup.kill`).
    pub group_kill: LayerMode,
    /// Whether a leader needs the kernel fuse.
    pub fuse: LayerMode,
    /// Whether a watchdog device must stand behind the deadline.
    pub watchdog: LayerMode,
    /// The device (a test may name a socket).
    pub watchdog_device: PathBuf,
    /// Its timeout in whole seconds, if it is not to follow from the TTL.
    pub watchdog_timeout: Option<Duration>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: LayerMode::Required,
            net_margin: Duration::from_millis(500),
            kill_lead: Duration::from_secs(1),
            soft_lead: Duration::from_secs(1),
            drift: 10,
            socket: PathBuf::from("/run/matriarch/guard.sock"),
            cgroup: PathBuf::from("/sys/fs/cgroup/matriarch"),
            group_kill: LayerMode::Automatic,
            fuse: LayerMode::Automatic,
            watchdog: LayerMode::Automatic,
            watchdog_device: PathBuf::from("/dev/watchdog"),
            watchdog_timeout: None,
        }
    }
}

impl Guard {
    /// The part of a time to live that two clocks may disagree about.
    pub fn drift_of(&self, ttl: Duration) -> Duration {
        ttl.saturating_mul(self.drift) / 1000
    }

    /// The watchdog's timeout: half the TTL, so that in normal operation there is always time for a ping that would let
    /// the machine be reset before the lease ends.
    pub fn watchdog_timeout(&self, ttl: Duration) -> Duration {
        self.watchdog_timeout.unwrap_or_else(|| Duration::from_secs((ttl.as_secs() / 2).max(1)))
    }

    /// How long before the lease's end the kill comes: drift + net_margin + kill_lead.
    pub fn margin(&self, ttl: Duration) -> Duration {
        self.drift_of(ttl) + self.net_margin + self.kill_lead
    }
}

/// A watchdog is pinged this often at least.
const WATCHDOG_PING: Duration = Duration::from_secs(1);

/// The longest timeout with which a healthy leader may ping at any time: between the newest evidence and the one after
/// it, a ping may not let the machine live longer than the lease.
pub fn longest_watchdog_timeout(failover: &Failover) -> Duration {
    failover.lease_ttl.saturating_sub(failover.renew_interval + failover.call_deadline + WATCHDOG_PING)
}

/// The longest path that fits into a unix socket's address (`sun_path` without its closing zero).
const SOCKET_PATH_MAX: usize = 107;

const WATCHDOG_SHORTEST: Duration = Duration::from_secs(1);
/// What softdog takes at most; there are devices with less.
const WATCHDOG_LONGEST: Duration = Duration::from_secs(300);

impl Guard {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let margin = |name, otherwise| {
            table.duration(name, Duration::ZERO..=Duration::from_secs(60)).unwrap_or(otherwise)
        };
        let mode = |name, otherwise| {
            let found =
                table.read(name, "\"required\", \"automatic\" or \"off\"", |value| match value.as_str()? {
                    "required" => Some(LayerMode::Required),
                    "automatic" => Some(LayerMode::Automatic),
                    "off" => Some(LayerMode::Off),
                    _ => None,
                });
            found.map_or(otherwise, |at| at.value)
        };
        let read = Self {
            mode: mode("mode", default.mode),
            net_margin: margin("net_margin", default.net_margin),
            kill_lead: margin("kill_lead", default.kill_lead),
            soft_lead: margin("soft_lead", default.soft_lead),
            drift: table.number("drift", 0..=100).unwrap_or(default.drift),
            socket: table.path("socket").unwrap_or(default.socket),
            cgroup: table.path("cgroup").unwrap_or(default.cgroup),
            group_kill: mode("group_kill", default.group_kill),
            fuse: mode("fuse", default.fuse),
            watchdog: mode("watchdog", default.watchdog),
            watchdog_device: table.path("watchdog_device").unwrap_or(default.watchdog_device),
            watchdog_timeout: table.duration("watchdog_timeout", WATCHDOG_SHORTEST..=WATCHDOG_LONGEST),
        };
        if let Some(timeout) = read.watchdog_timeout.filter(|timeout| timeout.subsec_nanos() != 0) {
            let expected = "whole seconds: watchdog devices have no finer unit";
            table.refuse("watchdog_timeout", format!("{:?}", show_duration(timeout)), expected);
        }
        let length = read.socket.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            table.refuse(
                "socket",
                format!("a path of {length} bytes"),
                format!("at most {SOCKET_PATH_MAX} bytes: a unix socket's address holds no more"),
            );
        }
        read
    }
}
