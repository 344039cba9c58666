//! Socket settings of both sides, and the limit of open files.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Connections that the kernel keeps for us between two calls of accept. It cuts this to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A vanished client is noticed after this time with data unacknowledged. Longer than on the server side, because a
/// client may sit behind a bad link.
const CLIENT_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A vanished server is noticed after this time with data unacknowledged.
const SERVER_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a client that reads slowly that the kernel may keep unsent for one session.
const CLIENT_UNSENT_LIMIT: u32 = 128 * 1024;

/// Descriptors that are needed besides those of the sessions: listeners, epoll, control side, logs.
const OTHER_FILES: u64 = 100;

/// Seconds that the kernel waits for the client's first bytes before it hands out the connection all the same:
/// PostgreSQL clients speak first, so a connection that says nothing wakes nobody.
const SILENT_SECONDS: u32 = 5;

/// Listens on `address`, which need not exist on this host yet (a floating address). What is set here is inherited
/// by the accepted sockets.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    settle(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What a socket for clients is set to, whoever opened it.
pub(super) fn settle(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(Some(CLIENT_USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(CLIENT_UNSENT_LIMIT)?;
    defer_accept::set(socket, SILENT_SECONDS)
}

/// Connects to a PostgreSQL within `limit`.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let settings = SockRef::from(&socket);
    settings.set_tcp_keepalive(&keepalive())?;
    settings.set_tcp_user_timeout(Some(SERVER_USER_TIMEOUT))?;
    match tokio::time::timeout(limit, socket.connect(address)).await {
        Ok(connected) => connected,
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", limit.as_millis())))
        }
    }
}

/// Whether a failed connect says something about this host rather than about the server.
pub(super) fn is_our_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let ours = [EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|&errno| errno as i32 == code))
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3)
}

/// Lets the coming close of `stream` send a reset, so that the peer cannot take it for a clean end.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // A socket that is broken already needs no reset.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// Raises the limit of open files to what the process may have, and says so when that cannot be enough for
/// `connections` sessions.
pub(super) fn raise_open_files(connections: u32) {
    let needed = 2 * u64::from(connections) + OTHER_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "cannot raise the limit of open files");
    }
    if hard < needed {
        let sessions = hard.saturating_sub(OTHER_FILES) / 2;
        tracing::warn!(
            hard,
            needed,
            max_connections = connections,
            sessions,
            "the limit of open files (LimitNOFILE) is too low for max_connections: it is enough for fewer sessions"
        );
    }
}

/// How many files this process may have open; 0 when the kernel does not say.
pub(super) fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

mod defer_accept {
    use nix::sys::socket::SetSockOpt;
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// How long the kernel waits for a client's first bytes.
        DeferAccept,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        u32
    );

    pub(super) fn set(socket: &socket2::SockRef<'_>, seconds: u32) -> std::io::Result<()> {
        Ok(DeferAccept.set(&**socket, &seconds)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn accepted_sockets_have_the_settings_of_their_listener() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(10));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(CLIENT_USER_TIMEOUT));
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), CLIENT_UNSENT_LIMIT);
    }

    #[test]
    fn a_shortage_of_this_host_is_no_failure_of_the_server() {
        use nix::errno::Errno;
        let ours = |errno: Errno| is_our_shortage(&io::Error::from(errno));
        assert!([Errno::EADDRNOTAVAIL, Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS].into_iter().all(ours));
        let theirs = [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ECONNRESET, Errno::ETIMEDOUT];
        assert!(!theirs.into_iter().any(ours));
        assert!(!is_our_shortage(&io::Error::new(io::ErrorKind::TimedOut, "no answer")));
    }

    #[test]
    fn address_that_this_host_does_not_have_can_be_listened_on() {
        listen("192.0.2.1:0".parse().unwrap()).unwrap();
        listen("[2001:db8::1]:0".parse().unwrap()).unwrap();
    }
}
