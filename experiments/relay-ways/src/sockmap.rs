//! After the login the kernel passes the bytes on by itself (BPF sockmap, redirected to the other socket's send side). This process
//! hears of a session again only when it ends.
//!
//! A measuring instrument, not a relay to use: what has come between the last look and the hand-over to the kernel is looked
//! for once, and what the kernel still has under way at the end may be lost.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::Route;
use crate::bpf::{SocketMap, cookie};
use crate::epoll::{self, Epoll};

struct Session {
    client: OwnedFd,
    server: OwnedFd,
    cookies: [u64; 2],
    /// The kernel passes its bytes on.
    handed_over: bool,
}

enum Read {
    Some(usize),
    Nothing,
    End,
}

fn read(from: RawFd, buffer: &mut [u8]) -> Read {
    // SAFETY: the kernel writes no more than there is room for.
    match unsafe { libc::recv(from, buffer.as_mut_ptr().cast(), buffer.len(), 0) } {
        0 => Read::End,
        count if count > 0 => Read::Some(count as usize),
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Read::Nothing,
        _ => Read::End,
    }
}

/// Small messages only: a login, and what follows it at once.
fn write(to: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: the bytes outlive the call.
    let count = unsafe { libc::send(to, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    count == bytes.len() as isize
}

/// Whether a server's answer ends with ReadyForQuery: the client has the word, nothing is under way.
fn is_ready(answer: &[u8]) -> bool {
    answer.len() >= 6 && answer[answer.len() - 6..answer.len() - 1] == *b"Z\0\0\0\x05"
}

impl Session {
    /// Copies what there is; false at the end.
    fn copy(&mut self, buffer: &mut [u8], map: &SocketMap) -> io::Result<bool> {
        let (client, server) = (self.client.as_raw_fd(), self.server.as_raw_fd());
        loop {
            match read(client, buffer) {
                Read::Some(count) if write(server, &buffer[..count]) => {}
                Read::Nothing => break,
                _ => return Ok(false),
            }
        }
        loop {
            match read(server, buffer) {
                Read::Some(count) => {
                    // Before the client can answer.
                    if is_ready(&buffer[..count]) && !self.handed_over {
                        map.lead(self.cookies[0], server)?;
                        map.lead(self.cookies[1], client)?;
                        self.handed_over = true;
                    }
                    if !write(client, &buffer[..count]) {
                        return Ok(false);
                    }
                }
                Read::Nothing => return Ok(true),
                Read::End => return Ok(false),
            }
        }
    }
}

pub(crate) fn run(route: Route) -> io::Result<()> {
    let map = SocketMap::new()?;
    let listener = epoll::listen(route.listen)?;
    let poll = Epoll::new()?;
    poll.add(listener.as_raw_fd(), libc::EPOLLIN, 0)?;
    let mut sessions: HashMap<u64, Session> = HashMap::new();
    let mut next = 1;
    let mut buffer = vec![0; 64 * 1024];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        for event in poll.wait(&mut events)? {
            let token = event.u64;
            if token == 0 {
                while let Some(client) = epoll::accept(&listener)? {
                    let server = epoll::connect(route.to)?;
                    let cookies = [cookie(client.as_raw_fd())?, cookie(server.as_raw_fd())?];
                    for socket in [&client, &server] {
                        poll.add(socket.as_raw_fd(), libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET, next)?;
                    }
                    sessions.insert(next, Session { client, server, cookies, handed_over: false });
                    next += 1;
                }
                continue;
            }
            let Some(session) = sessions.get_mut(&token) else { continue };
            let ended = event.events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0;
            if !session.copy(&mut buffer, &map)? || ended {
                for cookie in session.cookies {
                    // Not there before the login is done.
                    drop(map.forget(cookie));
                }
                sessions.remove(&token);
            }
        }
    }
}
