//! A session in PostgreSQL's own words, for what client libraries hide: the cancel key, and by which way it is sent.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Lab;
use crate::sessions::SAMPLER;
use crate::topology::CLIENT;

/// Limit of each step of a session.
const LIMIT: Duration = Duration::from_secs(5);
/// How many sessions are opened at a time.
const AT_ONCE: usize = 8;
/// Version 3.0 of the protocol.
pub(crate) const PROTOCOL: i32 = 196_608;
/// What a cancel request has in the place of a version.
pub(crate) const CANCEL: i32 = 80_877_102;

/// A session of the sampler's role (see [`crate::sessions::sampling_role`]) from the client host.
#[derive(Debug)]
pub struct WireSession {
    stream: TcpStream,
    key: Vec<u8>,
}

impl WireSession {
    /// Opens one and waits until it may be asked.
    ///
    /// # Errors
    /// Refused; the message is the SQLSTATE.
    pub fn open(lab: &Lab, address: Ipv4Addr, port: u16) -> Result<Self> {
        lab.in_network_of(CLIENT, move || Self::log_in(SocketAddrV4::new(address, port)))?
    }

    /// Opens many, a few at a time.
    ///
    /// # Errors
    /// One was refused, or there are not enough descriptors.
    pub fn open_many(lab: &Lab, address: Ipv4Addr, port: u16, count: usize) -> Result<Vec<Self>> {
        let mut threads = Vec::new();
        for index in 0..AT_ONCE {
            let share = count / AT_ONCE + usize::from(index < count % AT_ONCE);
            threads.push(lab.spawn_in_network_of(CLIENT, move || -> Result<Vec<Self>> {
                (0..share).map(|_| Self::log_in(SocketAddrV4::new(address, port))).collect()
            })?);
        }
        let mut sessions = Vec::with_capacity(count);
        for thread in threads {
            let joined =
                thread.join().map_err(|_| anyhow::anyhow!("a thread that opens sessions panicked"))?;
            sessions.extend(joined??);
        }
        Ok(sessions)
    }

    /// The same on a thread in the network of the client host.
    pub(crate) fn log_in(address: SocketAddrV4) -> Result<Self> {
        let stream = connect(address)?;
        let mut session = Self { stream, key: Vec::new() };
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        body.extend(format!("user\0{SAMPLER}\0database\0postgres\0\0").bytes());
        session.send(&framed(&body)?)?;
        loop {
            match session.message()? {
                (b'K', key) => session.key = key,
                (b'Z', _) => break,
                (b'E', body) => bail!("refused with SQLSTATE {}", sqlstate(&body)),
                _ => {}
            }
        }
        ensure!(!session.key.is_empty(), "the server gave no cancel key");
        Ok(session)
    }

    /// Sends a query and does not wait.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        let mut message = vec![b'Q'];
        message.extend(framed(&body)?);
        self.send(&message)
    }

    /// Sends an empty query and waits until it is done.
    ///
    /// # Errors
    /// There was no answer in time, or an error.
    pub fn ping(&mut self) -> Result<()> {
        self.send_query("")?;
        loop {
            match self.message()? {
                (b'Z', _) => return Ok(()),
                (b'E', body) => bail!("SQLSTATE {}", sqlstate(&body)),
                _ => {}
            }
        }
    }

    /// Sends this session's cancel request by a connection of its own, and waits until the other side has closed it.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn cancel_through(&self, lab: &Lab, address: Ipv4Addr, port: u16) -> Result<()> {
        let address = SocketAddrV4::new(address, port);
        self.cancel_by(lab.in_network_of(CLIENT, move || connect(address))??)
    }

    /// The same on a thread in the network of the client host.
    pub(crate) fn cancel_at(&self, address: SocketAddrV4) -> Result<()> {
        self.cancel_by(connect(address)?)
    }

    fn cancel_by(&self, mut stream: TcpStream) -> Result<()> {
        let mut body = CANCEL.to_be_bytes().to_vec();
        body.extend(&self.key);
        stream.write_all(&framed(&body)?).context("send the cancel request")?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).context("end of the cancel request")?;
        ensure!(rest.is_empty(), "an answer to a cancel request: {rest:?}");
        Ok(())
    }

    /// Whether nothing has come since the query was sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn still_waits(&self) -> Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error).context("look for an answer"),
        }
    }

    /// Waits for the error that ends the query. Returns its SQLSTATE.
    ///
    /// # Errors
    /// The query succeeded, or there was no answer within `limit`.
    pub fn error(&mut self, limit: Duration) -> Result<String> {
        self.stream.set_read_timeout(Some(limit))?;
        loop {
            match self.message()? {
                (b'E', body) => return Ok(sqlstate(&body)),
                (b'C' | b'Z', _) => bail!("the query succeeded"),
                _ => {}
            }
        }
    }

    /// The connection alone.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send to the server")
    }

    fn message(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).context("read a message")?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.checked_sub(4).context("a message's length")?];
        self.stream.read_exact(&mut body).context("read a message's body")?;
        Ok((head[0], body))
    }
}

pub(crate) fn connect(address: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.into(), LIMIT)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// With its length in front.
pub(crate) fn framed(body: &[u8]) -> Result<Vec<u8>> {
    let mut message = i32::try_from(body.len() + 4).context("length of a message")?.to_be_bytes().to_vec();
    message.extend(body);
    Ok(message)
}

/// The code in the fields of an error.
fn sqlstate(fields: &[u8]) -> String {
    let code = fields.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"C"));
    String::from_utf8_lossy(code.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error() {
        assert_eq!(sqlstate(b"SFATAL\0VFATAL\0C57P03\0Mno leader\0\0"), "57P03");
        assert_eq!(framed(b"ab").unwrap(), [0, 0, 0, 6, b'a', b'b']);
    }
}
