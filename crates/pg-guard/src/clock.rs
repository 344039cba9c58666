//! The one clock that decides.

use anyhow::Context as _;
use ha_core::{BootId, MonoTime};
use nix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: also counts while the machine is suspended.
pub(crate) fn now() -> MonoTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39");
    let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    MonoTime(seconds * 1_000_000_000 + nanos)
}

/// Which boot the times belong to.
pub(crate) fn boot_id() -> anyhow::Result<BootId> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(BootId(text.trim().to_owned()))
}
