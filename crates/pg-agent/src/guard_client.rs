//! The agent's end of the guard's socket: one request after the other, replies found by their number, notices passed
//! on. A lost connection changes nothing at the guard; the client comes back by itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ha_core::BootId;
use ha_core::guard_link::{GuardStatus, MESSAGE_MAX, Reply, Request};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::postgres::Starter;

/// Requests that may wait for the connection. The link sends one at a time and the starter one at a time.
const CALLS_WAITING: usize = 16;
/// Notices that may wait for the link; each is small and rare.
const NOTICES_WAITING: usize = 64;
/// Pause before connecting again.
const RECONNECT: Duration = Duration::from_millis(200);
/// How long the guard may take to answer: it does nothing slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Starting and killing take the kernel's time.
const SLOW_ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// The guard did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// No connection, or it ended before the answer.
    #[error("the guard cannot be reached at {}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
    },
    /// Connected, but silent.
    #[error("the guard did not answer within {limit:?}")]
    Silent {
        /// How long it had.
        limit: Duration,
    },
    /// It refused.
    #[error("the guard refused: {text}")]
    Refused {
        /// Its words.
        text: String,
    },
    /// An answer that does not fit the request.
    #[error("the guard answered {found} to {asked}")]
    Unexpected {
        /// What was asked.
        asked: &'static str,
        /// What came.
        found: String,
    },
}

/// What the guard says by itself.
#[derive(Debug)]
pub enum Notice {
    /// Connected; what it holds and what runs.
    Connected(Box<GuardStatus>),
    /// The connection is gone.
    Lost,
    /// A notice of the protocol (never an answer).
    Said(Box<Reply>),
}

type Build = Box<dyn FnOnce(u64) -> Request + Send>;

struct Call {
    build: Build,
    answer: oneshot::Sender<Reply>,
}

/// A handle; clones share the connection.
#[derive(Debug, Clone)]
pub struct GuardClient {
    socket: PathBuf,
    calls: mpsc::Sender<Call>,
}

impl GuardClient {
    /// Begins to connect, in the background, again and again.
    pub fn start(socket: PathBuf, boot: BootId) -> (Self, mpsc::Receiver<Notice>) {
        let (calls, waiting) = mpsc::channel(CALLS_WAITING);
        let (notices, said) = mpsc::channel(NOTICES_WAITING);
        tokio::spawn(keep_connected(socket.clone(), boot, waiting, notices));
        (Self { socket, calls }, said)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`GuardError::Unreachable`] or [`GuardError::Silent`]; the request may have been carried out nevertheless.
    pub async fn ask(
        &self,
        limit: Duration,
        build: impl FnOnce(u64) -> Request + Send + 'static,
    ) -> Result<Reply, GuardError> {
        let unreachable = || GuardError::Unreachable { socket: self.socket.clone() };
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let call = Call { build: Box::new(build), answer };
            self.calls.send(call).await.map_err(|_| unreachable())?;
            answered.await.map_err(|_| unreachable())
        };
        tokio::time::timeout(limit, asked).await.map_err(|_| GuardError::Silent { limit })?
    }

    /// What the guard holds and what runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<GuardStatus, GuardError> {
        match self.ask(ANSWER_LIMIT, |seq| Request::Status { seq }).await? {
            Reply::Status { status, .. } => Ok(status),
            other => Err(unexpected("status", &other)),
        }
    }
}

/// How often its status is asked for, to be shown. Nothing is decided by it.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// The guard's status as it was a moment ago; none while it does not answer.
pub type GuardShown = watch::Receiver<Option<Arc<GuardStatus>>>;

impl GuardClient {
    /// Asks for the status in the background, until nobody follows any more.
    pub fn follow(&self) -> GuardShown {
        let (current, follow) = watch::channel(None);
        let client = self.clone();
        tokio::spawn(async move {
            while current.receiver_count() > 0 {
                current.send_replace(client.status().await.ok().map(Arc::new));
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        });
        follow
    }
}

/// The limit for requests that the guard answers at once.
pub(crate) const fn answer_limit() -> Duration {
    ANSWER_LIMIT
}

pub(crate) fn unexpected(asked: &'static str, reply: &Reply) -> GuardError {
    match reply {
        Reply::Refused { text, .. } | Reply::StartFailed { text, .. } => {
            GuardError::Refused { text: text.clone() }
        }
        other => GuardError::Unexpected { asked, found: format!("{other:?}") },
    }
}

#[async_trait]
impl Starter for GuardClient {
    async fn start(&self, settings: Vec<(String, String)>) -> Result<(), String> {
        let reply = self.ask(SLOW_ANSWER_LIMIT, |seq| Request::Start { seq, settings }).await;
        match reply.map_err(|e| e.to_string())? {
            Reply::Started { .. } => Ok(()),
            other => Err(unexpected("start", &other).to_string()),
        }
    }

    async fn kill_all(&self, reason: &str) -> Result<(), String> {
        let reason = reason.to_owned();
        let reply = self.ask(SLOW_ANSWER_LIMIT, |seq| Request::KillAll { seq, reason }).await;
        match reply.map_err(|e| e.to_string())? {
            Reply::Ack { .. } => Ok(()),
            other => Err(unexpected("kill", &other).to_string()),
        }
    }

    async fn is_populated(&self) -> Result<bool, String> {
        self.status().await.map(|status| status.populated).map_err(|e| e.to_string())
    }
}

/// A `SOCK_SEQPACKET` socket reads and writes like a stream socket, one whole message at a time.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    UnixStream::from_std(fd.into())
}

async fn send(link: &UnixStream, request: &Request) -> io::Result<()> {
    let bytes = request.encode();
    loop {
        link.writable().await?;
        match link.try_write(&bytes) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The next message. By `try_read`, which goes on until the kernel has nothing: `AsyncRead` takes a read that does not
/// fill its buffer for the end of what there is, and would leave a second message waiting.
async fn receive(link: &UnixStream) -> io::Result<Reply> {
    let mut buffer = [0; MESSAGE_MAX];
    loop {
        link.readable().await?;
        match link.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                return Reply::decode(&buffer[..length])
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn keep_connected(
    socket: PathBuf,
    boot: BootId,
    mut calls: mpsc::Receiver<Call>,
    notices: mpsc::Sender<Notice>,
) {
    let mut told_lost = false;
    loop {
        match connect(&socket) {
            Ok(link) => {
                told_lost = false;
                match converse(&link, &boot, &mut calls, &notices).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "the guard's connection ended"),
                }
            }
            Err(error) if !told_lost => tracing::warn!(%error, socket = %socket.display(), "no guard"),
            Err(_) => {}
        }
        if !told_lost {
            told_lost = true;
            if notices.send(Notice::Lost).await.is_err() {
                return;
            }
        }
        // What waits for a guard that is away is answered as unreachable at once, by dropping it.
        while calls.try_recv().is_ok() {}
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Until the connection ends (an error), or nobody wants anything any more (Ok).
async fn converse(
    link: &UnixStream,
    boot: &BootId,
    calls: &mut mpsc::Receiver<Call>,
    notices: &mpsc::Sender<Notice>,
) -> io::Result<()> {
    let mut seq = 1;
    send(link, &Request::Hello { seq, boot_id: boot.clone() }).await?;
    let mut pending: BTreeMap<u64, oneshot::Sender<Reply>> = BTreeMap::new();
    loop {
        tokio::select! {
            reply = receive(link) => {
                let reply = reply?;
                let notice = match (reply.seq(), reply) {
                    (Some(1), Reply::Status { status, .. }) => Notice::Connected(Box::new(status)),
                    (Some(1), other) => return Err(io::Error::other(format!("greeting refused: {other:?}"))),
                    (Some(n), reply) => {
                        if let Some(answer) = pending.remove(&n) {
                            // Whoever asked may have stopped waiting.
                            drop(answer.send(reply));
                        }
                        continue;
                    }
                    (None, reply) => Notice::Said(Box::new(reply)),
                };
                if notices.send(notice).await.is_err() {
                    return Ok(());
                }
            }
            call = calls.recv() => {
                let Some(call) = call else { return Ok(()) };
                seq += 1;
                pending.insert(seq, call.answer);
                send(link, &(call.build)(seq)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
