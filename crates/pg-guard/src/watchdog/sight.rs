//! What sysfs tells of a device without starting it (Linux: Documentation/ABI/testing/sysfs-class-watchdog).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_fencing::WatchdogSight;
use nix::sys::stat::{major, minor};

const CLASS: &str = "/sys/class/watchdog";
/// `/dev/watchdog` is another name of the first device, with a number of its own (Linux: WATCHDOG_MINOR).
const ALIAS: (u64, u64) = (10, 130);
const FIRST: &str = "watchdog0";

/// Looks; what the kernel was built without is not known.
pub(super) fn look(device: &Path) -> io::Result<WatchdogSight> {
    let number = fs::metadata(device)?.rdev();
    let Some(dir) = directory((major(number), minor(number))) else { return Ok(WatchdogSight::default()) };
    let value = |name: &str| fs::read_to_string(dir.join(name)).ok().map(|text| text.trim().to_owned());
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    Ok(WatchdogSight {
        identity: value("identity").unwrap_or_default(),
        shortest: number("min_timeout").map(Duration::from_secs),
        nowayout: number("nowayout").map(|flag| flag != 0),
        active: value("state").is_some_and(|state| state == "active"),
    })
}

fn directory(number: (u64, u64)) -> Option<PathBuf> {
    let class = Path::new(CLASS);
    if number == ALIAS {
        return Some(class.join(FIRST)).filter(|dir| dir.exists());
    }
    let wanted = format!("{}:{}", number.0, number.1);
    let entries = fs::read_dir(class).ok()?;
    let dirs = entries.filter_map(|entry| Some(entry.ok()?.path()));
    dirs.into_iter().find(|dir| fs::read_to_string(dir.join("dev")).is_ok_and(|text| text.trim() == wanted))
}
