//! The processes that this one replaced, directly or before that, as long as they have sessions: what they are told, and
//! what they say.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

/// This process takes sessions.
pub(crate) const SERVING: &str = "serving";
/// The service is to end.
pub(crate) const LEAVING: &str = "leaving";
/// This process ends before it has served; the reason follows.
pub(crate) const FAILED: &str = "failed: ";

/// A process that was replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReplacedShown {
    /// Its number; 0 until it has said something.
    pub process: u32,
    /// Sessions that it still has.
    pub sessions: u32,
}

impl ReplacedShown {
    /// The line by which it says so.
    pub(crate) fn line(self) -> String {
        format!("process {} sessions {}\n", self.process, self.sessions)
    }

    fn of_line(line: &str) -> Option<Self> {
        let (process, sessions) = line.strip_prefix("process ")?.split_once(" sessions ")?;
        Some(Self { process: process.parse().ok()?, sessions: sessions.parse().ok()? })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Replaced {
    streams: Vec<Stream>,
    is_successor: bool,
}

#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    /// It waits for this process to serve.
    direct: bool,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    shown: ReplacedShown,
}

impl Replaced {
    /// The one that waits for this process to serve, and those from before.
    pub fn new(direct: Option<UnixStream>, others: Vec<UnixStream>) -> Self {
        let is_successor = direct.is_some();
        let others = others.into_iter().map(|socket| (socket, false));
        let all = direct.into_iter().map(|socket| (socket, true)).chain(others);
        let stream = |(socket, direct): (UnixStream, bool)| {
            // One that blocks could only hold up what it is told.
            socket.set_nonblocking(true).ok()?;
            Some(Stream { socket, direct, rest: Vec::new(), shown: ReplacedShown::default() })
        };
        Self { streams: all.filter_map(stream).collect(), is_successor }
    }

    /// Whether this process was started to replace another one.
    pub fn is_successor(&self) -> bool {
        self.is_successor
    }

    /// Whether the process that this one was to replace is gone. It can tell nobody any more that this one is its successor.
    pub fn is_orphan(&self) -> bool {
        self.is_successor && !self.streams.iter().any(|stream| stream.direct)
    }

    /// This process takes sessions: the other one need not any more.
    pub fn say_serving(&self) {
        self.streams.iter().filter(|stream| stream.direct).for_each(|stream| stream.say(SERVING));
    }

    /// This process was asked to end, and with it the service.
    pub fn say_leaving(&self) {
        self.streams.iter().for_each(|stream| stream.say(LEAVING));
    }

    /// This process ends before it has served.
    pub fn say_failed(&self, why: &str) {
        let words = format!("{FAILED}{why}");
        self.streams.iter().filter(|stream| stream.direct).for_each(|stream| stream.say(&words));
    }

    /// Hears what they say, and forgets those that are gone.
    pub fn hear(&mut self) {
        self.streams.retain_mut(|stream| stream.hear().is_ok());
    }

    /// Those that are left.
    pub fn shown(&self) -> Vec<ReplacedShown> {
        self.streams.iter().map(|stream| stream.shown).collect()
    }

    /// The streams once more, for a successor.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.streams.iter().map(|stream| stream.socket.as_fd().try_clone_to_owned()).collect()
    }
}

impl Stream {
    fn say(&self, words: &str) {
        if let Err(error) = writeln!(&self.socket, "{words}") {
            tracing::debug!(%error, "a process that was replaced is gone");
        }
    }

    /// An error at its end.
    fn hear(&mut self) -> io::Result<()> {
        let mut buffer = [0; 512];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            // What is not understood is of another version.
            if let Some(newest) =
                String::from_utf8_lossy(&whole).lines().filter_map(ReplacedShown::of_line).next_back()
            {
                self.shown = newest;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_and_heard_until_they_are_gone() {
        let (direct, mut old) = UnixStream::pair().unwrap();
        let (other, mut older) = UnixStream::pair().unwrap();
        let mut replaced = Replaced::new(Some(direct), vec![other]);
        assert!(replaced.is_successor());
        replaced.say_serving();
        replaced.say_leaving();
        let mut said = [0; 16];
        old.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"serving\nleaving\n");
        older.read_exact(&mut said[..8]).unwrap();
        assert_eq!(&said[..8], b"leaving\n");

        let shown = |process, sessions| ReplacedShown { process, sessions };
        old.write_all(shown(7, 3).line().as_bytes()).unwrap();
        old.write_all(shown(7, 2).line().as_bytes()).unwrap();
        old.write_all(b"process 7 ").unwrap();
        replaced.hear();
        assert_eq!(replaced.shown(), [shown(7, 2), ReplacedShown::default()]);
        old.write_all(b"sessions 1\nsomething new\n").unwrap();
        drop(older);
        replaced.hear();
        assert_eq!(replaced.shown(), [shown(7, 1)]);
        assert_eq!(replaced.copies().unwrap().len(), 1);
        assert!(!replaced.is_orphan());
        drop(old);
        replaced.hear();
        assert!(replaced.shown().is_empty() && replaced.is_successor() && replaced.is_orphan());
        assert!(!Replaced::default().is_orphan());
    }
}
