//! A client that speaks just enough: it logs in without encryption and learns who served it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Nothing here may take longer.
const LIMIT: Duration = Duration::from_secs(15);

/// What a fake server answers to everything: a command's end, and that it is ready.
pub(super) const ANSWER: &[u8; 14] = b"C\0\0\0\x07OK\0Z\0\0\0\x05I";

/// Begins a transaction, and the answer.
pub(super) const BEGIN: &[u8; 11] = b"Q\0\0\0\x0aBEGIN\0";
pub(super) const BEGUN: &[u8; 17] = b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T";

/// How a login ended.
#[derive(Debug)]
pub(crate) enum Login {
    /// It was let in.
    In(Session),
    /// It was told why not.
    Refused { sqlstate: String, message: String },
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who serves it.
    pub(crate) server: String,
    /// When its first byte came.
    pub(crate) first_byte: Instant,
    stream: TcpStream,
}

/// A client that has said who it is and waits.
#[derive(Debug)]
pub(crate) struct Knocking(TcpStream);

/// Connects and says who it is.
pub(crate) fn knock(address: SocketAddr) -> io::Result<Knocking> {
    say_who(TcpStream::connect(address)?)
}

/// The same from this address and port.
pub(crate) fn knock_from(own: SocketAddr, address: SocketAddr) -> io::Result<Knocking> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&own.into())?;
    socket.connect(&address.into())?;
    say_who(socket.into())
}

fn say_who(mut stream: TcpStream) -> io::Result<Knocking> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let body = b"user\0app\0database\0app\0\0";
    let mut packet = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    packet.extend(196_608_u32.to_be_bytes());
    packet.extend(body);
    stream.write_all(&packet)?;
    Ok(Knocking(stream))
}

/// Connects and waits for the answer.
pub(crate) fn login(address: SocketAddr) -> io::Result<Login> {
    knock(address)?.wait()
}

/// Connects and is let in.
#[track_caller]
pub(crate) fn session(address: SocketAddr) -> Session {
    match login(address) {
        Ok(Login::In(session)) => session,
        other => panic!("no session: {other:?}"),
    }
}

impl Knocking {
    /// Reads until it is in or refused.
    pub(crate) fn wait(self) -> io::Result<Login> {
        let mut stream = self.0;
        let mut server = String::new();
        let mut first_byte = None;
        loop {
            let mut head = [0; 5];
            stream.read_exact(&mut head[..1])?;
            let arrived = *first_byte.get_or_insert_with(Instant::now);
            stream.read_exact(&mut head[1..])?;
            let length = u32::from_be_bytes(head[1..].try_into().unwrap());
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            stream.read_exact(&mut body)?;
            match head[0] {
                b'S' => server = String::from_utf8(body).unwrap().split('\0').nth(1).unwrap().to_owned(),
                b'Z' => return Ok(Login::In(Session { server, first_byte: arrived, stream })),
                b'E' => {
                    let (sqlstate, message) = fields(&body);
                    return Ok(Login::Refused { sqlstate, message });
                }
                _ => {}
            }
        }
    }
}

impl Session {
    /// Whether a question is answered.
    pub(crate) fn is_alive(&mut self) -> bool {
        let mut back = [0; ANSWER.len()];
        let asked = self.stream.write_all(b"Q\0\0\0\x06?\0").and_then(|()| self.stream.read_exact(&mut back));
        asked.is_ok() && &back == ANSWER
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self) {
        let mut back = [0; BEGUN.len()];
        self.stream.write_all(BEGIN).unwrap();
        self.stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, BEGUN);
    }

    /// Waits for its end: with an error's SQLSTATE, or with nothing but the end.
    pub(crate) fn end(mut self) -> Option<String> {
        let mut rest = Vec::new();
        let ended = self.stream.read_to_end(&mut rest);
        let timed_out = matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        assert!(!timed_out, "the session goes on");
        (rest.first() == Some(&b'E')).then(|| fields(&rest[5..]).0)
    }
}

/// SQLSTATE and message of an error.
fn fields(body: &[u8]) -> (String, String) {
    let of = |kind: u8| {
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind));
        field.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
    };
    (of(b'C'), of(b'M'))
}
