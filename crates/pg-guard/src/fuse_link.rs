//! Between a guard and the fuse of the running PostgreSQL: a socket in the run directory, for this guard and those that
//! follow it. A message is one datagram of [`LENGTH`] bytes; the same form says what to hold and what is held.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use ha_core::MonoTime;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

/// `version u8, tied u8, has a deadline u8, deadline u64` (little endian).
pub(crate) const LENGTH: usize = 11;
/// A guard may be newer than the fuse that it finds: this form is for ever, or answered by nobody.
const VERSION: u8 = 1;
/// Guards that wait to be accepted: one, and the next.
const BACKLOG: i32 = 4;

/// What a fuse holds, or shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// When the kernel ends everything.
    pub(crate) deadline: Option<MonoTime>,
    /// The end of the fuse's process ends PostgreSQL.
    pub(crate) tied: bool,
}

impl Held {
    pub(crate) fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..3].copy_from_slice(&[VERSION, u8::from(self.tied), u8::from(self.deadline.is_some())]);
        bytes[3..].copy_from_slice(&self.deadline.unwrap_or(MonoTime(0)).0.to_le_bytes());
        bytes
    }

    /// `None` for anything that is not exactly one message.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([VERSION, tied @ 0..=1, has @ 0..=1], deadline) = bytes.split_first_chunk::<3>()? else {
            return None;
        };
        let deadline = MonoTime(u64::from_le_bytes(deadline.try_into().ok()?));
        Some(Self { deadline: (*has == 1).then_some(deadline), tied: *tied == 1 })
    }
}

/// The guard's end.
#[derive(Debug)]
pub(crate) struct FuseLink {
    pub(crate) stream: UnixStream,
}

impl FuseLink {
    /// Makes the socket for a new fuse and connects to it. What is told waits there until the fuse's process takes the
    /// listening end over.
    pub(crate) fn open(path: &Path) -> io::Result<(UnixListener, Self)> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok((UnixListener::from(fd), Self::connect(path)?))
    }

    /// The fuse that an earlier guard has started, if it answers.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        Self::connect(path).ok()
    }

    fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { stream: fd.into() })
    }

    /// Tells it what to hold. Never waits; false when it does not listen any more.
    pub(crate) fn tell(&self, deadline: Option<MonoTime>) -> bool {
        let bytes = Held { deadline, tied: deadline.is_some() }.to_bytes();
        (&self.stream).write(&bytes).is_ok_and(|length| length == bytes.len())
    }

    /// What it has said, and whether it is gone.
    pub(crate) fn hear(&self) -> (Vec<Held>, bool) {
        let mut said = vec![];
        let mut bytes = [0; LENGTH + 1];
        loop {
            match (&self.stream).read(&mut bytes) {
                Ok(0) => return (said, true),
                Ok(length) => said.extend(Held::from_bytes(&bytes[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (said, false),
                Err(_) => return (said, true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_reads_back_and_nothing_else_is_understood() {
        for (deadline, tied) in [(None, false), (Some(MonoTime(0)), true), (Some(MonoTime(u64::MAX)), false)]
        {
            let held = Held { deadline, tied };
            let bytes = held.to_bytes();
            assert_eq!(Held::from_bytes(&bytes), Some(held));
            for length in 0..bytes.len() {
                assert_eq!(Held::from_bytes(&bytes[..length]), None);
            }
        }
        let mut longer = [0; LENGTH + 1];
        longer[0] = VERSION;
        assert_eq!(Held::from_bytes(&longer), None);
        assert_eq!(Held::from_bytes(&[2; LENGTH]), None);
    }
}
