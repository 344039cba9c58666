//! The clock that deadlines are computed with, and the boot that it belongs to.

use ha_core::{BootId, MonoTime};
use nix::time::{ClockId, clock_gettime};

/// Now, by `CLOCK_BOOTTIME`: it goes on while the machine is suspended, as leases in etcd do.
///
/// # Panics
/// When the kernel does not have that clock (Linux before 2.6.39): nothing here could be decided safely.
pub fn boottime() -> MonoTime {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or_default();
    MonoTime(seconds * 1_000_000_000 + nanos)
}

/// Which boot of the machine this is.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn boot_id() -> std::io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BootId(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_the_boot_stays() {
        let first = boottime();
        assert!(first.0 > 0 && boottime() >= first);
        let boot = boot_id().unwrap();
        assert_eq!(boot.0.len(), 36);
        assert_eq!(boot_id().unwrap(), boot);
    }
}
