//! A device played by another process, for tests: where the configured path is a socket (`SOCK_SEQPACKET`), not a device.
//! It sees the end of this process as the kernel does: as a close without the magic character.
//!
//! A question is one byte and a number, an answer an error number (0: none), three numbers and a text, all 32 bits little
//! endian. The connection is the open descriptor; the question `LOOK` comes on a connection that opens nothing.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ha_fencing::WatchdogSight;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::Device;

const LOOK: u8 = b'L';
const OPEN: u8 = b'O';
const SUPPORT: u8 = b'S';
const SET_TIMEOUT: u8 = b'T';
const TIMEOUT: u8 = b'G';
const WRITE: u8 = b'W';

/// A connection.
#[derive(Debug)]
pub(super) struct StandIn(UnixStream);

struct Answer {
    values: [u32; 3],
    text: String,
}

/// What sysfs would tell.
pub(super) fn look(path: &Path) -> io::Result<WatchdogSight> {
    let Answer { values: [shortest, nowayout, active], text } = StandIn::connect(path)?.ask(LOOK, 0)?;
    Ok(WatchdogSight {
        identity: text,
        shortest: Some(Duration::from_secs(shortest.into())),
        nowayout: Some(nowayout != 0),
        active: active != 0,
    })
}

impl StandIn {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let device = Self::connect(path)?;
        device.ask(OPEN, 0)?;
        Ok(device)
    }

    fn connect(path: &Path) -> io::Result<Self> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        let stream = UnixStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self(stream))
    }

    fn ask(&self, question: u8, number: u32) -> io::Result<Answer> {
        let mut message = vec![question];
        message.extend(number.to_le_bytes());
        (&self.0).write_all(&message)?;
        let mut bytes = [0; 256];
        let length = (&self.0).read(&mut bytes)?;
        let (numbers, text) = bytes[..length].split_at_checked(16).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut words = numbers
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte)));
        let mut next = || words.next().unwrap_or_default();
        match next() {
            0 => Ok(Answer {
                values: [next(), next(), next()],
                text: String::from_utf8_lossy(text).into_owned(),
            }),
            error => Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }
}

impl Device for StandIn {
    fn support(&self) -> io::Result<(String, u32)> {
        self.ask(SUPPORT, 0).map(|answer| (answer.text, answer.values[0]))
    }

    fn caused_boot(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn set_timeout(&self, seconds: u32) -> io::Result<u32> {
        self.ask(SET_TIMEOUT, seconds).map(|answer| answer.values[0])
    }

    fn timeout(&self) -> io::Result<u32> {
        self.ask(TIMEOUT, 0).map(|answer| answer.values[0])
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.ask(WRITE, bytes.first().copied().unwrap_or_default().into()).map(|_| ())
    }
}
