//! A data path between fake PostgreSQL servers and clients on loopback ports, all driven step by step by the test.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_core::{Epoch, MemberName, MonoTime};
use ha_routing::balance::Balance;
use ha_routing::{AdminState, Route, RouteState, SeenRole, Source, Table, UpstreamView};
use pg_proxy::data_path::{Counters, DataPath, Options, Port, SessionReport, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `future`, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened within 10 s")
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "never happened: {what}");
}

/// The data path under test.
pub(crate) struct Proxy {
    pub(crate) path: DataPath,
    table: Arc<ArcSwap<Table>>,
    pub(crate) reports: UnboundedReceiver<SessionReport>,
}

impl Proxy {
    /// With generous limits, changed by `adjust`; holding on both ports.
    pub(crate) fn start(servers: &[SocketAddr], adjust: impl FnOnce(&mut Options)) -> Self {
        Self::start_by(servers, adjust, DataPath::start)
    }

    /// The same, started by `start`.
    pub(crate) fn start_by(
        servers: &[SocketAddr],
        adjust: impl FnOnce(&mut Options),
        start: impl FnOnce(Options, Arc<ArcSwap<Table>>, UnboundedSender<SessionReport>) -> io::Result<DataPath>,
    ) -> Self {
        let member = |number| format!("pg{number}").parse::<MemberName>().expect("a valid name");
        let upstreams: Vec<_> =
            servers.iter().zip(1..).map(|(&address, number)| (member(number), address)).collect();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut options = Options {
            listeners: vec![(Port::Writes, any), (Port::Reads, any)],
            workers: 2,
            other_proxies: false,
            upstreams: upstreams.clone(),
            shares: Vec::new(),
            pin_threads: false,
            read_leases: None,
            tls: None,
            proxy_protocol_from: Vec::new(),
            at_start: Settings {
                max_connections: 100,
                upstream_connections: 50,
                queue_timeout: Duration::from_secs(10),
                hold_timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(1),
                balance: Balance::RoundRobin,
                log_sessions: false,
                client_timeout: None,
                server_timeout: None,
                refuse_cancelled_commits: true,
                refuse_lowered_commits: false,
                require_tls: false,
                name_clients: false,
            },
        };
        adjust(&mut options);
        let view = |(member, address): &(MemberName, SocketAddr)| UpstreamView {
            member: member.clone(),
            address: *address,
            role: SeenRole::Unknown,
            source: Source::None,
            heard_at: None,
            epoch: Epoch(0),
            timeline: None,
            synchronous: false,
            takes_writes: false,
            takes_reads: false,
            lag_bytes: None,
            admin: AdminState::Ready,
            reason: String::new(),
        };
        let table = Arc::new(ArcSwap::from_pointee(Table {
            generation: 1,
            writes: route(RouteState::Holding, &[], "no agent has been heard yet"),
            reads: route(RouteState::Holding, &[], "no agent has been heard yet"),
            upstreams: upstreams.iter().map(view).collect(),
            maintenance: None,
        }));
        let (sender, reports) = unbounded_channel();
        let path = start(options, Arc::clone(&table), sender).expect("the data path starts");
        Self { path, table, reports }
    }

    /// With one server that takes writes.
    pub(crate) async fn with_leader() -> (Self, FakeServer) {
        let server = FakeServer::start().await;
        let proxy = Self::start(&[server.address], |_| {});
        proxy.open(Port::Writes, &[0]);
        (proxy, server)
    }

    pub(crate) fn open(&self, port: Port, upstreams: &[usize]) {
        self.swap(port, route(RouteState::Open, upstreams, ""));
    }

    pub(crate) fn hold(&self, port: Port, reason: &str) {
        self.swap(port, route(RouteState::Holding, &[], reason));
    }

    pub(crate) fn refuse(&self, port: Port, reason: &str) {
        self.swap(port, route(RouteState::Refusing, &[], reason));
    }

    fn swap(&self, port: Port, route: Route) {
        let mut table = Table::clone(&self.table.load());
        table.generation += 1;
        match port {
            Port::Writes => table.writes = route,
            Port::Reads => table.reads = route,
        }
        self.table.store(Arc::new(table));
        self.path.table_changed();
    }

    pub(crate) fn counters(&self) -> Counters {
        self.path.counters()
    }

    pub(crate) fn address(&self, port: Port) -> SocketAddr {
        self.path.local_addresses()[usize::from(port == Port::Reads)]
    }

    pub(crate) async fn connect(&self, port: Port) -> TcpStream {
        soon(TcpStream::connect(self.address(port))).await.expect("the proxy accepts")
    }

    /// A client that has sent its startup packet.
    pub(crate) async fn client(&self, port: Port, user: &str) -> TcpStream {
        let mut client = self.connect(port).await;
        client.write_all(&startup(user)).await.expect("the startup packet is taken");
        client
    }

    /// A session whose login is done, with both its ends.
    pub(crate) async fn session(
        &self,
        port: Port,
        server: &FakeServer,
        key: &[u8],
    ) -> (TcpStream, TcpStream) {
        let mut client = self.client(port, "alice").await;
        let mut upstream = server.accept().await;
        assert_eq!(read_packet(&mut upstream).await, startup("alice"));
        upstream.write_all(&login_done(4711, key)).await.expect("the login is taken");
        let mut seen = vec![0; login_done(4711, key).len()];
        soon(client.read_exact(&mut seen)).await.expect("the login arrives");
        assert_eq!(seen, login_done(4711, key));
        (client, upstream)
    }
}

fn route(state: RouteState, upstreams: &[usize], reason: &str) -> Route {
    Route {
        state,
        upstreams: upstreams.to_vec(),
        epoch: Epoch(1),
        reason: reason.to_owned(),
        since: MonoTime(0),
    }
}

/// A listening socket in the place of a PostgreSQL.
pub(crate) struct FakeServer {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        soon(self.listener.accept()).await.expect("a connection").0
    }

    /// The same, however long nobody comes.
    #[allow(dead_code, reason = "a server of another program waits for the next storm")]
    pub(crate) async fn accept_patiently(&self) -> TcpStream {
        self.listener.accept().await.expect("a connection").0
    }

    /// Asserts that nobody connects for a moment.
    pub(crate) async fn nobody_comes(&self) {
        let moment = Duration::from_millis(100);
        assert!(tokio::time::timeout(moment, self.listener.accept()).await.is_err(), "somebody connected");
    }

    /// The user of the next session; the connection stays open as long as the returned socket.
    pub(crate) async fn next_user(&self) -> (String, TcpStream) {
        let mut session = self.accept().await;
        let packet = read_packet(&mut session).await;
        let user = packet[13..].split(|&byte| byte == 0).next().expect("a user");
        (String::from_utf8_lossy(user).into_owned(), session)
    }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    FakeServer::start().await.address
}

pub(crate) fn startup(user: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(b"user\0");
    body.extend(user.as_bytes());
    body.extend(b"\0\0");
    packet(&body)
}

pub(crate) fn cancel(pid: u32, key: &[u8]) -> Vec<u8> {
    packet(&[&80_877_102_u32.to_be_bytes(), &pid.to_be_bytes()[..], key].concat())
}

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub(crate) const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

fn packet(body: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(body.len() + 4).expect("short").to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(packet(body));
    message
}

pub(crate) fn error_response(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{sqlstate}\0Mtest\0\0").as_bytes())
}

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
pub(crate) fn login_done(pid: u32, key: &[u8]) -> Vec<u8> {
    let key = [&pid.to_be_bytes(), key].concat();
    [message(b'R', &[0; 4]), message(b'K', &key), message(b'Z', b"I")].concat()
}

pub(crate) async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut packet = vec![0; 4];
    soon(stream.read_exact(&mut packet)).await.expect("a packet's length");
    let length = u32::from_be_bytes(packet[..4].try_into().expect("four bytes"));
    packet.resize(length as usize, 0);
    soon(stream.read_exact(&mut packet[4..])).await.expect("a packet's body");
    packet
}

pub(crate) async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon(stream.read_exact(&mut bytes)).await.expect("the bytes arrive");
    bytes
}

/// Everything until the peer closes; an error says that it was no clean end.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let ended = soon(stream.read_to_end(&mut bytes)).await.map(drop);
    (bytes, ended)
}

/// The error that a refused client reads: SQLSTATE and message. Anything but exactly one error and a clean end fails.
pub(crate) async fn read_refusal(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let (bytes, ended) = read_all(stream).await;
    assert!(ended.is_ok(), "no clean end: {ended:?}");
    parse_error(&bytes)
}

pub(crate) fn parse_error(bytes: &[u8]) -> (String, String) {
    assert_eq!(bytes.first(), Some(&b'E'), "no error but {bytes:?}");
    let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes"));
    assert_eq!(bytes.len(), length as usize + 1, "more or less than one error: {bytes:?}");
    let field = |kind| {
        let found = bytes[5..].split(|&byte| byte == 0).find_map(|field| field.strip_prefix(&[kind]));
        String::from_utf8_lossy(found.expect("the field is there")).into_owned()
    };
    (field(b'C'), field(b'M'))
}

/// Lets the coming close of `stream` send a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger is set");
    drop(stream);
}
