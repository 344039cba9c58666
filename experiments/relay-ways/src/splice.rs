//! Through a pipe for each direction: the bytes never come to this process.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Route;
use crate::epoll::{self, Epoll, check};

const MOST: usize = 1 << 20;

struct Direction {
    from: RawFd,
    to: RawFd,
    /// Reading and writing end.
    pipe: (OwnedFd, OwnedFd),
    filled: usize,
    ended: bool,
    over: bool,
}

struct Session {
    _sockets: [OwnedFd; 2],
    directions: [Direction; 2],
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors, which nobody else owns afterwards.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: no memory is passed.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), most, flags) };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(moved as usize) }
}

impl Direction {
    fn new(from: &OwnedFd, to: &OwnedFd) -> io::Result<Self> {
        let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
        Ok(Self { from, to, pipe: pipe()?, filled: 0, ended: false, over: false })
    }

    /// Moves what there is. An error ends the session.
    fn run(&mut self) -> io::Result<()> {
        loop {
            while self.filled > 0 {
                match splice(self.pipe.0.as_raw_fd(), self.to, self.filled) {
                    Ok(moved) => self.filled -= moved,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if self.ended {
                if !self.over {
                    self.over = true;
                    // SAFETY: no memory is passed.
                    unsafe { libc::shutdown(self.to, libc::SHUT_WR) };
                }
                return Ok(());
            }
            match splice(self.from, self.pipe.1.as_raw_fd(), MOST) {
                Ok(0) => self.ended = true,
                Ok(moved) => self.filled = moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

pub(crate) fn run(route: Route) -> io::Result<()> {
    let listener = epoll::listen(route.listen)?;
    let poll = Epoll::new()?;
    poll.add(listener.as_raw_fd(), libc::EPOLLIN, 0)?;
    let mut sessions: HashMap<u64, Session> = HashMap::new();
    let mut next = 1;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        for event in poll.wait(&mut events)? {
            let token = event.u64;
            if token == 0 {
                while let Some(client) = epoll::accept(&listener)? {
                    let server = epoll::connect(route.to)?;
                    let directions = [Direction::new(&client, &server)?, Direction::new(&server, &client)?];
                    let wanted = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
                    for socket in [&client, &server] {
                        poll.add(socket.as_raw_fd(), wanted, next)?;
                    }
                    sessions.insert(next, Session { _sockets: [client, server], directions });
                    next += 1;
                }
                continue;
            }
            let Some(session) = sessions.get_mut(&token) else { continue };
            let broken = session.directions.iter_mut().any(|direction| direction.run().is_err());
            if broken || session.directions.iter().all(|direction| direction.over) {
                sessions.remove(&token);
            }
        }
    }
}
