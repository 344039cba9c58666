//! What the log says about the watchdog.

use std::fmt;
use std::time::Duration;

use ha_core::MonoTime;

use super::device::{Unfit, WatchdogTrouble};

/// One change of state of the watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchdogReason {
    /// It stands behind the deadline.
    Started {
        /// Its path.
        device: String,
        /// What it calls itself.
        identity: String,
        /// What it made of the timeout.
        timeout: Duration,
        /// The timeout wanted, if it made a longer one of it.
        wanted: Option<Duration>,
    },
    /// It does not run any more.
    Stopped,
    /// It is not behind the deadline.
    NotUsed {
        /// Its path.
        device: String,
        /// Why.
        unfit: Unfit,
    },
    /// Somebody has it open, or left it running.
    ActiveAlready {
        /// Its path.
        device: String,
    },
    /// No more pings: the lease would end before the reset.
    Withheld {
        /// When the machine is reset at the latest, unless nothing is left to fence by then.
        reset_at: MonoTime,
    },
    /// It did not take a ping.
    PingFailed {
        /// Why.
        trouble: WatchdogTrouble,
    },
    /// It takes pings again.
    PingsAgain,
    /// It says that it reset the machine last.
    CausedBoot {
        /// What it calls itself.
        identity: String,
    },
    /// It cannot be stopped, and the guard ends.
    LeftRunning {
        /// So long after that the machine is reset.
        timeout: Duration,
    },
}

impl WatchdogReason {
    /// Somebody must look.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::Started { wanted, .. } => wanted.is_some(),
            Self::NotUsed { unfit, .. } => *unfit != Unfit::Trouble(WatchdogTrouble::Absent),
            Self::Stopped | Self::PingsAgain => false,
            Self::ActiveAlready { .. }
            | Self::Withheld { .. }
            | Self::PingFailed { .. }
            | Self::CausedBoot { .. }
            | Self::LeftRunning { .. } => true,
        }
    }
}

impl fmt::Display for WatchdogReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { device, identity, timeout, wanted } => {
                write!(f, "watchdog started: {device} ({identity}) timeout={} s", timeout.as_secs())?;
                match wanted {
                    Some(wanted) => write!(f, ", longer than the {} s asked for", wanted.as_secs()),
                    None => Ok(()),
                }
            }
            Self::Stopped => f.write_str("watchdog stopped: nothing is left to fence"),
            Self::NotUsed { device, unfit } => write!(f, "no watchdog: {device}: {unfit}"),
            Self::ActiveAlready { device } => write!(
                f,
                "the watchdog {device} runs already: if another process holds it, it will not be there for a leader \
                 (systemd: RuntimeWatchdogSec)"
            ),
            Self::Withheld { reset_at } => write!(
                f,
                "no more pings of the watchdog, the lease has not been renewed: the machine is reset at {reset_at} unless \
                 nothing is left to fence by then"
            ),
            Self::PingFailed { trouble } => {
                write!(f, "the watchdog did not take a ping: {trouble}; the machine may be reset")
            }
            Self::PingsAgain => f.write_str("the watchdog takes pings again"),
            Self::CausedBoot { identity } => {
                write!(f, "the watchdog ({identity}) says that it reset this machine before the present boot")
            }
            Self::LeftRunning { timeout } => write!(
                f,
                "the watchdog cannot be stopped (nowayout): the machine is reset in {} s unless a guard is started",
                timeout.as_secs()
            ),
        }
    }
}
