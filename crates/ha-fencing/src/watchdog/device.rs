//! What can be known of a watchdog device, and whether it may stand behind a deadline.

use std::fmt;
use std::time::Duration;

use ha_core::guard_link::LayerMode;

/// Bits of `watchdog_info.options` (Linux: include/uapi/linux/watchdog.h).
pub mod option {
    /// The timeout can be set.
    pub const SET_TIMEOUT: u32 = 0x80;
    /// Only a `V` in the last write before the close stops it.
    pub const MAGIC_CLOSE: u32 = 0x100;
    /// Raises an alarm instead of resetting the machine.
    pub const ALARM_ONLY: u32 = 0x400;
}

/// What may be expected of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogRules {
    /// Whether it must be there.
    pub mode: LayerMode,
    /// The timeout wanted; a device that makes it longer is refused where it is required.
    pub timeout: Duration,
    /// The longest timeout with which a healthy leader can ping at any time.
    pub longest: Duration,
    /// From a deadline to the earliest end of the lease in the store: the margins that the agent took off.
    pub after_deadline: Duration,
}

/// A device seen without opening it, which would start it (Linux: /sys/class/watchdog). What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchdogSight {
    /// What it calls itself.
    pub identity: String,
    /// The shortest timeout it can have.
    pub shortest: Option<Duration>,
    /// Once started it can never be stopped.
    pub nowayout: Option<bool>,
    /// It runs already.
    pub active: bool,
}

/// A device that has been opened and given a timeout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchdogFacts {
    /// What it calls itself.
    pub identity: String,
    /// See [`option`].
    pub options: u32,
    /// The timeout it has now; absent if it does not tell.
    pub timeout: Option<Duration>,
    /// Once started it can never be stopped; absent if that cannot be seen.
    pub nowayout: Option<bool>,
    /// It says that it caused the present boot (`GETBOOTSTATUS`: CARDRESET).
    pub caused_boot: bool,
}

/// Why a device could not be looked at, opened or pinged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchdogTrouble {
    /// There is none (ENOENT).
    Absent,
    /// Somebody else has it open (EBUSY).
    Busy,
    /// Not permitted (EACCES, EPERM).
    Denied,
    /// It has gone (ENODEV, ENXIO).
    Gone,
    /// Anything else, in the system's words.
    Failed(String),
}

impl fmt::Display for WatchdogTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such device: load its driver (softdog where there is no hardware)"),
            Self::Busy => f.write_str(
                "another process holds the device, and only one may: systemd does when RuntimeWatchdogSec is set in \
                 system.conf, else look for the watchdog daemon, sbd or corosync; `fuser` names it",
            ),
            Self::Denied => f.write_str("the guard may not open the device (it needs root and access to it)"),
            Self::Gone => f.write_str("the device is gone"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// Why a device cannot stand behind a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It could not be used at all.
    Trouble(WatchdogTrouble),
    /// It raises an alarm and resets nothing.
    AlarmOnly,
    /// The end of the guard would stop it, without a word.
    StopsWithTheGuard,
    /// It does not tell how long it waits.
    UnknownTimeout,
    /// It waits longer than it may.
    TooLong {
        /// So long.
        timeout: Duration,
        /// So long at most.
        bound: Duration,
    },
    /// A ping now would let the machine live longer than the lease.
    TooLate,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::AlarmOnly => f.write_str("the device only raises an alarm, it resets nothing"),
            Self::StopsWithTheGuard => f.write_str(
                "the device stops when the guard ends, however it ends (no magic close): load its driver with nowayout=1",
            ),
            Self::UnknownTimeout => f.write_str("the device does not tell its timeout"),
            Self::TooLong { timeout, bound } => write!(
                f,
                "the device waits {} s, {} s are allowed: raise failover.lease_ttl, or take another device (softdog can do \
                 any)",
                timeout.as_secs(),
                bound.as_secs()
            ),
            Self::TooLate => {
                f.write_str("the deadline is too near: starting the device now could keep the machine past its lease")
            }
        }
    }
}

impl WatchdogRules {
    /// Judges what was seen before the device is started.
    ///
    /// # Errors
    /// When opening it would be useless, or start something that cannot be stopped.
    pub fn judge_sight(&self, sight: &WatchdogSight) -> Result<(), Unfit> {
        let bound = self.bound();
        match sight.shortest {
            Some(timeout) if timeout > bound => Err(Unfit::TooLong { timeout, bound }),
            _ => Ok(()),
        }
    }

    /// Judges a device that has been opened; says whether its timeout is longer than wanted.
    ///
    /// # Errors
    /// When it may not be relied upon. It should be closed again then, if it can be.
    pub fn judge_facts(&self, facts: &WatchdogFacts) -> Result<bool, Unfit> {
        if facts.options & option::ALARM_ONLY != 0 {
            return Err(Unfit::AlarmOnly);
        }
        if facts.options & option::MAGIC_CLOSE == 0 && facts.nowayout != Some(true) {
            return Err(Unfit::StopsWithTheGuard);
        }
        let timeout = facts.timeout.filter(|timeout| !timeout.is_zero()).ok_or(Unfit::UnknownTimeout)?;
        let bound = self.bound();
        if timeout > bound {
            return Err(Unfit::TooLong { timeout, bound });
        }
        Ok(timeout > self.timeout)
    }

    /// The longest timeout that is accepted.
    pub(super) fn bound(&self) -> Duration {
        match self.mode {
            LayerMode::Required => self.timeout,
            LayerMode::Automatic | LayerMode::Off => self.timeout.max(self.longest),
        }
    }
}
