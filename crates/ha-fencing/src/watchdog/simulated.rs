//! A watchdog device as the kernel presents it, in virtual time: for tests, and for a test's stand-in in another process.
//!
//! What it imitates (Linux: drivers/watchdog/watchdog_dev.c): one opener at a time; opening starts it; any write is a
//! ping, and decides anew whether the next close may stop it; a close that may not stop it pings once more.

use std::time::Duration;

use ha_core::MonoTime;

use super::device::option;

/// Numbers of errors, as a system call would give them (Linux: asm-generic/errno-base.h).
pub mod errno {
    /// EIO.
    pub const IO: i32 = 5;
    /// EBUSY.
    pub const BUSY: i32 = 16;
    /// EINVAL.
    pub const INVALID: i32 = 22;
    /// EOPNOTSUPP.
    pub const NOT_SUPPORTED: i32 = 95;
}

/// What kind of device it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedKind {
    /// See [`option`].
    pub options: u32,
    /// Once started it cannot be stopped.
    pub nowayout: bool,
    /// Shortest timeout in seconds; a shorter one is refused.
    pub shortest: u32,
    /// Longest timeout in seconds; a longer one is refused.
    pub longest: u32,
    /// The timeout is rounded up to a multiple of this.
    pub step: u32,
    /// The timeout before anybody sets one.
    pub initial: u32,
}

impl Default for SimulatedKind {
    /// Like softdog.
    fn default() -> Self {
        let options = option::SET_TIMEOUT | option::MAGIC_CLOSE | 0x8000;
        Self { options, nowayout: false, shortest: 1, longest: 65_535, step: 1, initial: 60 }
    }
}

/// The device.
#[derive(Debug, Clone)]
pub struct SimulatedWatchdog {
    /// Its kind.
    pub kind: SimulatedKind,
    /// Every write fails with EIO.
    pub broken: bool,
    timeout: u32,
    open: bool,
    may_stop: bool,
    /// The last ping, while it runs.
    running: Option<MonoTime>,
    pings: u64,
}

impl SimulatedWatchdog {
    /// A device that nobody has opened yet.
    pub fn new(kind: SimulatedKind) -> Self {
        let timeout = kind.initial;
        Self { kind, broken: false, timeout, open: false, may_stop: false, running: None, pings: 0 }
    }

    /// When the machine is reset if nothing more comes; `None` while it does not run.
    pub fn reset_at(&self) -> Option<MonoTime> {
        self.running.map(|ping| ping + Duration::from_secs(self.timeout.into()))
    }

    /// How often its time began anew.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// The timeout in seconds.
    pub fn timeout(&self) -> u32 {
        self.timeout
    }

    /// Opens it. One that still runs is not started anew.
    ///
    /// # Errors
    /// EBUSY while somebody else has it open.
    pub fn open(&mut self, now: MonoTime) -> Result<(), i32> {
        if std::mem::replace(&mut self.open, true) {
            return Err(errno::BUSY);
        }
        self.may_stop = false;
        if self.running.is_none() {
            self.ping(now);
        }
        Ok(())
    }

    /// Sets the timeout, which also pings; the timeout that it has then.
    ///
    /// # Errors
    /// EOPNOTSUPP if it cannot, EINVAL out of its range.
    pub fn set_timeout(&mut self, now: MonoTime, seconds: u32) -> Result<u32, i32> {
        let kind = &self.kind;
        if kind.options & option::SET_TIMEOUT == 0 {
            return Err(errno::NOT_SUPPORTED);
        }
        if seconds < kind.shortest || seconds > kind.longest {
            return Err(errno::INVALID);
        }
        self.timeout = seconds.div_ceil(kind.step) * kind.step;
        self.ping(now);
        Ok(self.timeout)
    }

    /// A write: a ping, whatever the bytes are.
    ///
    /// # Errors
    /// EIO when it is broken.
    pub fn write(&mut self, now: MonoTime, bytes: &[u8]) -> Result<usize, i32> {
        if self.broken {
            return Err(errno::IO);
        }
        if !bytes.is_empty() {
            self.may_stop = bytes.contains(&b'V');
            self.ping(now);
        }
        Ok(bytes.len())
    }

    /// The last descriptor is closed, in whatever way its holder ended.
    pub fn close(&mut self, now: MonoTime) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let asked = std::mem::take(&mut self.may_stop) || self.kind.options & option::MAGIC_CLOSE == 0;
        if asked && !self.kind.nowayout {
            self.running = None;
        } else {
            self.ping(now);
        }
    }

    fn ping(&mut self, now: MonoTime) {
        self.running = Some(now);
        self.pings += 1;
    }
}
