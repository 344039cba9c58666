//! Everything this process is reached by: sockets that it was given, by a service manager or by the process that it replaces,
//! and those that it opens itself where none was given.

use std::fmt::{self, Display};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};

use ha_config::{Cluster, ProxyHost};
use ha_daemon::{Giver, Inherited};
use socket2::{Domain, SockRef, Type};

use crate::configuration;
use crate::data_path::{self, Port};

/// What a socket is for; its name in `FileDescriptorName=` of a `.socket` unit, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Clients that write.
    Write,
    /// Clients that read.
    Read,
    /// The status page.
    Status,
    /// The gRPC interface.
    Grpc,
    /// vrrpd; only from a predecessor.
    Link,
    /// To talk with the predecessor itself.
    Predecessor,
    /// To talk with a process that was replaced before that, and still has sessions.
    Ancestor,
}

impl Purpose {
    const ALL: [Self; 7] =
        [Self::Write, Self::Read, Self::Status, Self::Grpc, Self::Link, Self::Predecessor, Self::Ancestor];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Status => "status",
            Self::Grpc => "grpc",
            Self::Link => "link",
            Self::Predecessor => "predecessor",
            Self::Ancestor => "ancestor",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    fn is_tcp(self) -> bool {
        !matches!(self, Self::Link | Self::Predecessor | Self::Ancestor)
    }
}

impl From<Port> for Purpose {
    fn from(port: Port) -> Self {
        match port {
            Port::Writes => Self::Write,
            Port::Reads => Self::Read,
        }
    }
}

/// Sockets that do not fit: every problem, one a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Misfits(Vec<String>);

impl Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Sockets that this process was given and that it uses.
#[derive(Debug, Default)]
pub struct Given {
    tcp: Vec<(Purpose, SocketAddr, TcpListener)>,
    link: Option<UnixListener>,
}

/// The streams of this purpose, taken out of what a predecessor gave: the processes at their other ends have to hear of a
/// failure, whatever that is.
pub fn take_streams(inherited: &mut Inherited, purpose: Purpose) -> Vec<UnixStream> {
    if inherited.giver != Giver::Predecessor {
        return Vec::new();
    }
    let all = std::mem::take(&mut inherited.sockets);
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name == purpose.name());
    inherited.sockets = others;
    own.into_iter().map(|(_, socket)| socket.into()).collect()
}

impl Given {
    /// Looks at every socket: what it is, where it listens, and whether the file has a use for it.
    ///
    /// # Errors
    /// All that do not fit. A predecessor's socket for which the file has no use any more is closed instead.
    pub fn sort(inherited: Inherited, cluster: &Cluster, host: &ProxyHost) -> Result<Self, Misfits> {
        let wanted = wanted(cluster, host);
        let (mut given, mut misfits) = (Self::default(), Vec::new());
        let by_manager = inherited.giver == Giver::ServiceManager;
        for (name, socket) in inherited.sockets {
            let found = match Purpose::of_name(&name) {
                Some(purpose) if purpose.is_tcp() || !by_manager => given.add(purpose, socket, &wanted),
                _ => Err("that is no name of a socket of pg-proxy: expected write, read, status or grpc"
                    .to_owned()),
            };
            match found {
                Ok(()) => {}
                Err(why) if by_manager => {
                    misfits.push(format!("socket {name:?} of the service manager: {why}"));
                }
                Err(why) => tracing::info!(socket = name, "a socket of the predecessor is not used: {why}"),
            }
        }
        if misfits.is_empty() { Ok(given) } else { Err(Misfits(misfits)) }
    }

    fn add(
        &mut self,
        purpose: Purpose,
        socket: OwnedFd,
        wanted: &[(Purpose, SocketAddr)],
    ) -> Result<(), String> {
        let seen = SockRef::from(&socket);
        let io = |error: io::Error| format!("it cannot be looked at: {error}");
        let listens = seen.r#type().map_err(io)? == Type::STREAM && seen.is_listener().map_err(io)?;
        if !listens {
            return Err("found one that does not listen, expected ListenStream=".to_owned());
        }
        if purpose == Purpose::Link {
            if seen.domain().map_err(io)? != Domain::UNIX {
                return Err("found no unix socket".to_owned());
            }
            self.link = Some(socket.into());
            return Ok(());
        }
        let Some(address) = seen.local_addr().map_err(io)?.as_socket() else {
            return Err("found no address and port, expected a TCP socket".to_owned());
        };
        let expected: Vec<SocketAddr> =
            wanted.iter().filter(|(own, _)| *own == purpose).map(|(_, address)| *address).collect();
        if !expected.iter().any(|wanted| covers(address, *wanted)) {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            return Err(format!("found {address}, expected {}", expected.join(" or ")));
        }
        if let Some((_, other, _)) =
            self.tcp.iter().find(|(own, other, _)| *own == purpose && *other == address)
        {
            return Err(format!("found {other} a second time"));
        }
        seen.set_nonblocking(true).map_err(io)?;
        self.tcp.push((purpose, address, socket.into()));
        Ok(())
    }

    /// The socket that hears who connects to `wanted`, if one was given.
    fn take(&mut self, purpose: Purpose, wanted: SocketAddr) -> Option<TcpListener> {
        let index =
            self.tcp.iter().position(|(own, address, _)| *own == purpose && covers(*address, wanted))?;
        Some(self.tcp.swap_remove(index).2)
    }
}

/// Whether a listener at `own` hears who connects to `wanted`.
fn covers(own: SocketAddr, wanted: SocketAddr) -> bool {
    own.port() == wanted.port() && (own.ip() == wanted.ip() || own.ip().is_unspecified())
}

fn wanted(cluster: &Cluster, host: &ProxyHost) -> Vec<(Purpose, SocketAddr)> {
    let own = |port| SocketAddr::new(host.address, port);
    let clients = configuration::listeners(cluster, host).into_iter();
    let mut all: Vec<_> = clients.map(|(port, address)| (Purpose::from(port), address)).collect();
    all.push((Purpose::Status, own(cluster.routing.status_port)));
    all.push((Purpose::Grpc, own(cluster.routing.grpc_port)));
    all
}

/// What the parts are to listen on.
#[derive(Debug)]
pub struct Listeners {
    /// Clients.
    pub clients: Vec<(Port, TcpListener)>,
    /// The status page.
    pub status: TcpListener,
    /// The gRPC interface.
    pub grpc: TcpListener,
    /// vrrpd, where a predecessor gave it.
    pub link: Option<UnixListener>,
}

/// Takes what was given and opens the rest. What was given and has no use is closed.
///
/// # Errors
/// When an address is taken or not there.
pub fn open(mut given: Given, cluster: &Cluster, host: &ProxyHost) -> io::Result<Listeners> {
    let mut clients = Vec::new();
    // One socket for all addresses serves each of them.
    let mut everywhere: Vec<(Purpose, u16)> = Vec::new();
    for (port, address) in configuration::listeners(cluster, host) {
        let purpose = Purpose::from(port);
        if everywhere.contains(&(purpose, address.port())) {
            continue;
        }
        let listener = match given.take(purpose, address) {
            Some(listener) => {
                if listener.local_addr()?.ip().is_unspecified() {
                    everywhere.push((purpose, address.port()));
                }
                data_path::adopt(&listener)?;
                listener
            }
            None => data_path::listen(address)?,
        };
        clients.push((port, listener));
    }
    let own = |port| SocketAddr::new(host.address, port);
    let mut single = |purpose, what, address| match given.take(purpose, address) {
        Some(listener) => Ok(listener),
        None => bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("{what}: listen on {address}: {error}"))),
    };
    let status = single(Purpose::Status, "status page", own(cluster.routing.status_port))?;
    let grpc = single(Purpose::Grpc, "gRPC server", own(cluster.routing.grpc_port))?;
    Ok(Listeners { clients, status, grpc, link: given.link })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Copies of everything that is listened on, for a successor. While one is kept its port is open.
#[derive(Debug, Default)]
pub struct Endpoints(Mutex<Vec<(Purpose, OwnedFd)>>);

impl Endpoints {
    /// Keeps a copy.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn keep(&self, purpose: Purpose, socket: &impl std::os::fd::AsFd) -> io::Result<()> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((purpose, copy));
        Ok(())
    }

    /// Copies of the copies.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn copies(&self) -> io::Result<Vec<(Purpose, OwnedFd)>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|(purpose, socket)| Ok((*purpose, socket.as_fd().try_clone_to_owned()?))).collect()
    }

    /// Clients are taken no more.
    pub fn close_clients(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(purpose, _)| !matches!(purpose, Purpose::Write | Purpose::Read));
    }

    /// Another process has all of it.
    pub fn close_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn cluster(routing: &str) -> (Cluster, ProxyHost) {
        let file = format!(
            "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"127.0.0.2\"\n\
             [[proxy]]\nname = \"ha1\"\naddress = \"127.0.0.1\"\n[routing]\n{routing}"
        );
        let cluster = ha_config::parse(&file, Path::new("x")).unwrap();
        let host = cluster.proxies[0].clone();
        (cluster, host)
    }

    fn given(giver: Giver, sockets: Vec<(&str, OwnedFd)>, routing: &str) -> Result<Given, Misfits> {
        let (cluster, host) = cluster(routing);
        let sockets = sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)).collect();
        Given::sort(Inherited { giver, sockets }, &cluster, &host)
    }

    fn listener(address: &str) -> (OwnedFd, u16) {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener.into(), port)
    }

    #[test]
    fn what_fits_is_taken_instead_of_opening_it() {
        let ((write, write_port), (read, read_port)) = (listener("127.0.0.1:0"), listener("0.0.0.0:0"));
        let routing = format!("write_port = {write_port}\nread_port = {read_port}\n");
        let mut given =
            given(Giver::ServiceManager, vec![("write", write), ("read", read)], &routing).unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(given.take(Purpose::Write, at(read_port)).is_none());
        assert!(given.take(Purpose::Write, at(write_port)).is_some());
        assert!(given.take(Purpose::Read, at(read_port)).is_some(), "it listens on every address");
        assert!(given.take(Purpose::Read, at(read_port)).is_none(), "taken once");
    }

    #[test]
    fn a_socket_that_does_not_fit_is_named_with_what_was_expected() {
        let (wrong_port, port) = listener("127.0.0.1:0");
        let unknown = listener("127.0.0.1:0").0;
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let stream = UnixStream::pair().unwrap().0.into();
        let all = vec![("write", wrong_port), ("postgres", unknown), ("read", datagrams), ("status", stream)];
        let text = given(Giver::ServiceManager, all, "").unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains(&format!("found 127.0.0.1:{port}, expected 127.0.0.1:5000")), "{text}");
        assert!(
            lines[1].contains("\"postgres\"") && lines[1].contains("write, read, status or grpc"),
            "{text}"
        );
        assert!(lines[2].contains("\"read\"") && lines[2].contains("does not listen"), "{text}");
        assert!(lines[3].contains("\"status\"") && lines[3].contains("does not listen"), "{text}");
    }

    #[test]
    fn a_predecessors_socket_that_the_file_has_no_use_for_is_no_obstacle() {
        let given = given(Giver::Predecessor, vec![("write", listener("127.0.0.1:0").0)], "").unwrap();
        assert!(given.tcp.is_empty());
    }
}
