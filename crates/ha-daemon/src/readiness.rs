//! What the service manager is told, when it asks for it (`Type=notify`,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>). Without `NOTIFY_SOCKET`, or when nobody
//! listens, nothing happens: all of this is a courtesy to the supervisor, no reason to stop.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use ha_core::MonoTime;
use nix::time::{ClockId, clock_gettime};

/// The daemon serves: for the first time, or again after [`notify_reloading`].
pub fn notify_ready() {
    notify("READY=1");
}

/// The daemon reads its configuration again; [`notify_ready`] ends that.
pub fn notify_reloading() {
    // Of the clock by which the service manager tells a new reload from an old one.
    let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", since_boot.as_micros()));
}

/// Another process of this service is its main one from now on, and serves.
pub fn notify_main_process(id: u32) {
    notify(&format!("MAINPID={id}\nREADY=1"));
}

/// The daemon takes leave.
pub fn notify_stopping() {
    notify("STOPPING=1");
}

/// The service manager's patience: it ends a daemon that shows no sign of life for so long (`WatchdogSec=`).
#[derive(Debug)]
pub struct Watchdog {
    /// Half of its patience.
    interval: Duration,
    fed_at: MonoTime,
    /// A sign of life was due and could not be given.
    withheld: bool,
}

impl Watchdog {
    /// By `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that another process is meant.
    pub fn from_environment(now: MonoTime) -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|micros| meant && *micros > 0)?;
        Some(Self { interval: Duration::from_micros(patience) / 2, fed_at: now, withheld: false })
    }

    /// Gives a sign of life when one is due and `alive`. To be called more often than it is due.
    pub fn feed(&mut self, now: MonoTime, alive: bool) {
        match self.due(now, alive) {
            Due::Feed => notify("WATCHDOG=1"),
            Due::Withhold => {
                tracing::error!(
                    "a thread does not answer: the service manager gets no sign of life until it does"
                );
            }
            Due::Nothing => {}
        }
    }

    fn due(&mut self, now: MonoTime, alive: bool) -> Due {
        if now.since(self.fed_at) < self.interval {
            return Due::Nothing;
        }
        if alive {
            (self.fed_at, self.withheld) = (now, false);
            return Due::Feed;
        }
        if std::mem::replace(&mut self.withheld, true) { Due::Nothing } else { Due::Withhold }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Feed,
    /// For the first time since it was fed.
    Withhold,
}

fn notify(message: &str) {
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, message.as_bytes()) {
        tracing::warn!(socket = %name, %error, message, "the service manager was not told");
    }
}

fn send(name: &str, message: &[u8]) -> std::io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that hangs must not hang its daemons.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_reaches_a_socket_by_path() {
        let dir = std::env::temp_dir().join(format!("ha-daemon-ready-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), b"READY=1").unwrap();
        let mut buffer = [0; 32];
        let length = socket.recv(&mut buffer).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn signs_of_life_come_in_time_and_only_from_the_living() {
        let at = |millis: u64| MonoTime(millis * 1_000_000);
        let mut watchdog = Watchdog { interval: Duration::from_millis(500), fed_at: at(0), withheld: false };
        assert_eq!(watchdog.due(at(499), true), Due::Nothing);
        assert_eq!(watchdog.due(at(500), true), Due::Feed);
        assert_eq!(watchdog.due(at(999), false), Due::Nothing);
        assert_eq!(watchdog.due(at(1000), false), Due::Withhold);
        assert_eq!(watchdog.due(at(1100), false), Due::Nothing, "told once");
        assert_eq!(watchdog.due(at(1200), true), Due::Feed, "as soon as it lives again");
        assert_eq!(watchdog.due(at(1700), false), Due::Withhold);
    }
}
