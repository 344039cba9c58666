//! The watchdog device: carries out what the decider says, with the kernel's device or with a test's stand-in.

mod kernel;
mod sight;
mod stand_in;

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::BootId;
use ha_fencing::{WatchdogAction, WatchdogEvent, WatchdogFacts, WatchdogSight, WatchdogTrouble, option};

use crate::clock::now;

/// What every back end does. Times are whole seconds, as in the kernel's interface.
trait Device: std::fmt::Debug {
    /// What it calls itself, and its option bits.
    fn support(&self) -> io::Result<(String, u32)>;
    /// Whether it says that it reset the machine last.
    fn caused_boot(&self) -> io::Result<bool>;
    /// Sets the timeout; the one that it has then.
    fn set_timeout(&self, seconds: u32) -> io::Result<u32>;
    fn timeout(&self) -> io::Result<u32>;
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
}

/// Written to ping: any byte but the magic one.
const PING: &[u8] = b"\0";
/// The magic character: the next close may stop the device.
const STOP: &[u8] = b"V";

/// The device of this host, open or not.
#[derive(Debug)]
pub(crate) struct Watchdog {
    path: PathBuf,
    /// Says to a later guard of this boot that the device was started and not stopped.
    mark: PathBuf,
    boot_id: BootId,
    device: Option<Box<dyn Device>>,
}

impl Watchdog {
    pub(crate) fn new(path: &Path, run_dir: &Path, boot_id: &BootId) -> Self {
        let mark = run_dir.join("guard.watchdog");
        Self { path: path.to_owned(), mark, boot_id: boot_id.clone(), device: None }
    }

    /// Whether an earlier guard of this boot started the device and did not stop it.
    pub(crate) fn left_running(&self) -> bool {
        fs::read_to_string(&self.mark).is_ok_and(|text| text.trim() == self.boot_id.0)
    }

    pub(crate) fn carry_out(&mut self, action: WatchdogAction) -> WatchdogEvent {
        let began = now();
        match action {
            WatchdogAction::Look => WatchdogEvent::Seen(self.look().map_err(trouble)),
            WatchdogAction::Open { timeout } => {
                WatchdogEvent::Opened { began, result: self.open(timeout).map_err(trouble) }
            }
            WatchdogAction::Ping => {
                let pinged = self.device.as_ref().map_or_else(|| Err(closed()), |device| device.write(PING));
                WatchdogEvent::Pinged { began, result: pinged.map_err(trouble) }
            }
            WatchdogAction::Close => {
                self.close();
                WatchdogEvent::Closed
            }
        }
    }

    fn look(&self) -> io::Result<WatchdogSight> {
        if is_socket(&self.path)? { stand_in::look(&self.path) } else { sight::look(&self.path) }
    }

    fn open(&mut self, timeout: Duration) -> io::Result<WatchdogFacts> {
        let device: Box<dyn Device> = if is_socket(&self.path)? {
            Box::new(stand_in::StandIn::open(&self.path)?)
        } else {
            Box::new(kernel::KernelDevice::open(&self.path)?)
        };
        // It runs from here on: whatever fails now, it must not be left so without a word.
        drop(fs::write(&self.mark, &self.boot_id.0));
        let facts = prepare(device.as_ref(), timeout);
        self.device = Some(device);
        if facts.is_err() {
            self.close();
        }
        facts
    }

    fn close(&mut self) {
        let Some(device) = self.device.take() else { return };
        // If this fails the device goes on, and the mark stays for whoever opens it next.
        if device.write(STOP).is_ok() {
            drop(fs::remove_file(&self.mark));
        }
    }
}

fn prepare(device: &dyn Device, timeout: Duration) -> io::Result<WatchdogFacts> {
    let (identity, options) = device.support()?;
    let wanted = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    let set = match options & option::SET_TIMEOUT {
        0 => None,
        // One that refuses the value keeps its own, which is read back.
        _ => device.set_timeout(wanted).ok(),
    };
    let seconds = device.timeout().ok().or(set);
    Ok(WatchdogFacts {
        identity,
        options,
        timeout: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        nowayout: None,
        caused_boot: device.caused_boot().unwrap_or(false),
    })
}

fn is_socket(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.file_type().is_socket())
}

fn closed() -> io::Error {
    io::Error::other("the device is not open")
}

fn trouble(error: io::Error) -> WatchdogTrouble {
    match error.raw_os_error() {
        Some(libc::ENOENT) => WatchdogTrouble::Absent,
        Some(libc::EBUSY) => WatchdogTrouble::Busy,
        Some(libc::EACCES | libc::EPERM) => WatchdogTrouble::Denied,
        Some(libc::ENODEV | libc::ENXIO) => WatchdogTrouble::Gone,
        _ => WatchdogTrouble::Failed(error.to_string()),
    }
}
