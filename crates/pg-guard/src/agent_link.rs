//! The agent's way in: a socket whose messages are whole datagrams. What comes over it is believed only as far as the
//! decider's rules go; the end of a connection means nothing.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ha_core::guard_link::{MESSAGE_MAX, Reply, Request};
use ha_fencing::PeerId;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket,
};
use nix::unistd::{Gid, Uid};

/// One agent, its successor while the first still hangs, and a few people with tools. Beyond that the oldest connection
/// is closed, so that a leak cannot lock the agent out.
const PEERS_MAX: usize = 16;
/// Messages read from one peer before the clock is looked at again.
const BATCH: usize = 8;

/// The listening socket and those who have connected.
#[derive(Debug)]
pub(crate) struct AgentLink {
    path: PathBuf,
    pub(crate) listener: UnixListener,
    pub(crate) peers: Vec<Peer>,
    allowed: Uid,
    next: u64,
    /// Messages that did not decode, and connections of other users.
    pub(crate) rejected: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) stream: UnixStream,
}

impl AgentLink {
    /// Listens at `path`, for root and the PostgreSQL user. The caller holds the guard's lock, so a socket that is
    /// there already is a dead guard's.
    pub(crate) fn listen(path: &Path, uid: Uid, gid: Gid) -> anyhow::Result<Self> {
        let open = || -> io::Result<UnixListener> {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            chown(path, Some(0), Some(gid.as_raw()))?;
            fs::set_permissions(path, Permissions::from_mode(0o660))?;
            listen(&fd, Backlog::new(8)?)?;
            Ok(UnixListener::from(fd))
        };
        let listener = open().with_context(|| format!("listen at {}", path.display()))?;
        Ok(Self { path: path.to_owned(), listener, peers: vec![], allowed: uid, next: 1, rejected: 0 })
    }

    /// Takes one waiting connection; tells who had to go for it.
    pub(crate) fn accept(&mut self) -> Option<PeerId> {
        let Ok((stream, _)) = self.listener.accept() else { return None };
        let known = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| {
            let uid = Uid::from_raw(peer.uid());
            uid.is_root() || uid == self.allowed
        });
        if !known || stream.set_nonblocking(true).is_err() {
            self.rejected += 1;
            return None;
        }
        let id = PeerId(self.next);
        self.next += 1;
        self.peers.push(Peer { id, stream });
        (self.peers.len() > PEERS_MAX).then(|| self.peers.remove(0).id)
    }

    /// Reads what a peer has sent, and whether its connection has ended.
    pub(crate) fn receive(&mut self, id: PeerId) -> (Vec<Request>, bool) {
        let Self { peers, rejected, .. } = self;
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == id) else { return (vec![], true) };
        let mut requests = vec![];
        let mut bytes = [0; MESSAGE_MAX + 1];
        for _ in 0..BATCH {
            match peer.stream.read(&mut bytes) {
                Ok(0) => return (requests, true),
                Ok(length) => match Request::decode(&bytes[..length]) {
                    Ok(request) => requests.push(request),
                    Err(_) => *rejected += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return (requests, true),
            }
        }
        (requests, false)
    }

    /// Sends; a peer that does not read until its queue is full is disconnected (it will ask for the status when it
    /// comes back).
    pub(crate) fn send(&mut self, id: PeerId, reply: &Reply) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else { return true };
        let bytes = reply.encode();
        peer.stream.write(&bytes).is_ok_and(|length| length == bytes.len())
    }

    /// Ends a connection.
    pub(crate) fn close(&mut self, id: PeerId) {
        self.peers.retain(|peer| peer.id != id);
    }

    /// Stops listening.
    pub(crate) fn remove(self) {
        drop(fs::remove_file(&self.path));
    }
}
