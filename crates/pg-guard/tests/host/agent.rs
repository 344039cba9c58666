//! The agent's side of the link, as thin as can be.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ha_core::guard_link::{GuardStatus, MESSAGE_MAX, NoPrimary, RefusalCode, Reply, Request};
use ha_core::{Epoch, Generation, MonoTime};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{boot_id, now};

/// One connection to a guard.
pub(crate) struct Agent {
    stream: UnixStream,
    seq: u64,
    notices: VecDeque<Reply>,
}

impl Agent {
    pub(crate) fn try_connect(path: &Path) -> Option<Self> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).ok()?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
        let stream = UnixStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        Some(Self { stream, seq: 0, notices: VecDeque::new() })
    }

    pub(crate) fn connect(path: &Path) -> Self {
        Self::try_connect(path).expect("connect to the guard")
    }

    pub(crate) fn seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.stream.write(bytes).expect("send to the guard"), bytes.len());
    }

    fn receive(&mut self) -> Reply {
        let mut bytes = [0; MESSAGE_MAX + 1];
        let length = self.stream.read(&mut bytes).expect("an answer of the guard");
        assert!(length > 0, "the guard has hung up");
        Reply::decode(&bytes[..length]).expect("a message of the guard")
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.send_bytes(&request.encode());
        loop {
            let reply = self.receive();
            if reply.seq() == Some(request.seq()) {
                return reply;
            }
            self.notices.push_back(reply);
        }
    }

    /// The first notice that `pick` likes; others before it are dropped.
    pub(crate) fn notice<T>(&mut self, pick: impl Fn(&Reply) -> Option<T>) -> T {
        loop {
            let notice = match self.notices.pop_front() {
                Some(notice) => notice,
                None => self.receive(),
            };
            if let Some(found) = pick(&notice) {
                return found;
            }
        }
    }

    pub(crate) fn emptied(&mut self) {
        self.notice(|notice| matches!(notice, Reply::Emptied { .. }).then_some(()));
    }

    /// Starts PostgreSQL without a network; the postmaster's process id and the number of the start.
    pub(crate) fn start(&mut self) -> (u32, u64) {
        self.start_with(&[])
    }

    /// The same with more settings.
    pub(crate) fn start_with(&mut self, more: &[(&str, &str)]) -> (u32, u64) {
        let seq = self.seq();
        let settings = [
            ("listen_addresses", ""),
            ("restart_after_crash", "off"),
            ("unix_socket_directories", "../sockets"),
        ];
        let settings =
            settings.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = settings.collect();
        match self.ask(&Request::Start { seq, settings }) {
            Reply::Started { pid, start, .. } => (pid, start),
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) fn arm(&mut self, epoch: u64, deadline: MonoTime) -> Result<(), RefusalCode> {
        let (seq, epoch, generation) = (self.seq(), Epoch(epoch), Generation(1));
        done(self.ask(&Request::Arm { seq, epoch, generation, deadline, boot_id: boot_id() }))
    }

    pub(crate) fn renew(&mut self, epoch: u64, deadline: MonoTime) -> Result<(), RefusalCode> {
        let seq = self.seq();
        done(self.ask(&Request::Renew { seq, epoch: Epoch(epoch), deadline }))
    }

    pub(crate) fn release(&mut self, epoch: u64, proof: NoPrimary) -> Result<(), RefusalCode> {
        let seq = self.seq();
        done(self.ask(&Request::Release { seq, epoch: Epoch(epoch), proof }))
    }

    pub(crate) fn hold(&mut self, epoch: u64, span: Duration) -> Result<(), RefusalCode> {
        let (seq, until) = (self.seq(), now() + span);
        done(self.ask(&Request::Hold { seq, epoch: Epoch(epoch), until }))
    }

    pub(crate) fn acknowledge(&mut self, epoch: u64) -> Result<(), RefusalCode> {
        let seq = self.seq();
        done(self.ask(&Request::AcknowledgeFenced { seq, epoch: Epoch(epoch) }))
    }

    pub(crate) fn status(&mut self) -> GuardStatus {
        let seq = self.seq();
        match self.ask(&Request::Hello { seq, boot_id: boot_id() }) {
            Reply::Status { status, .. } => status,
            other => panic!("no status: {other:?}"),
        }
    }
}

pub(crate) fn done(reply: Reply) -> Result<(), RefusalCode> {
    match reply {
        Reply::Ack { .. } => Ok(()),
        Reply::Refused { code, .. } => Err(code),
        other => panic!("neither acknowledged nor refused: {other:?}"),
    }
}
