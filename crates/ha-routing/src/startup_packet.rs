//! The first bytes of a PostgreSQL client, from a stream that may give them one by one.

use std::net::SocketAddr;

use crate::cancel_request::{CANCEL_CODE, CancelRequest, KEY_LENGTHS};
use crate::refusal::Refusal;

/// Longest packet before the login, its length field included: what PostgreSQL itself accepts.
pub const LONGEST: usize = 10_000;

/// Length and code: what every packet before the login begins with.
const HEADER: usize = 8;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
/// First byte of a TLS handshake record. As the first byte of a length it would mean hundreds of megabytes.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It asks for TLS: one byte has to be answered, then it begins again. Bytes that were sent together with the
    /// request must be refused when TLS is granted: they were not encrypted, and anybody may have put them there.
    SslRequest,
    /// It asks for GSSAPI encryption; the same holds.
    GssRequest,
    /// It wants to cancel another session's statement. No answer is expected.
    Cancel(CancelRequest),
    /// It wants to log in.
    Startup(StartupInfo),
    /// It speaks TLS from the first byte. Nothing was consumed.
    DirectTls,
}

/// What a client wants besides SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Nothing: an ordinary session.
    None,
    /// Physical replication: `replication=true`.
    Physical,
    /// Logical replication: `replication=database`.
    Logical,
}

/// A login as the client asked for it. For routing, limits and the log: the packet itself goes to the server unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupInfo {
    /// Never empty. Bytes that are not UTF-8 are replaced.
    pub user: String,
    /// The user's name unless given.
    pub database: String,
    /// Empty unless given.
    pub application_name: String,
    /// Whether it replicates.
    pub replication: Replication,
    /// Protocol version, major and minor; any minor of 3 is accepted, because the server negotiates it.
    pub protocol: (u16, u16),
    /// Length of the packet in bytes.
    pub length: usize,
    /// Whether a parameter, or the server options among them, names `synchronous_commit`.
    pub names_synchronous_commit: bool,
}

/// Bytes that are no beginning of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Too long.
    #[error("the first packet claims {length} bytes, more than {LONGEST}")]
    TooLong {
        /// The length field.
        length: u32,
    },
    /// Not as the protocol wants it.
    #[error("the first packet is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Another major version.
    #[error("protocol version {major}.{minor} is not supported, only 3.0 and newer minor versions")]
    Unsupported {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A login without a name.
    #[error("the login names no user")]
    NoUser,
}

impl OpeningError {
    /// What to answer.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLong { .. } | Self::Malformed { .. } => Refusal::protocol_violation(&self.to_string()),
            Self::Unsupported { .. } => Refusal::unsupported(&self.to_string()),
            Self::NoUser => Refusal::not_allowed(&self.to_string()),
        }
    }
}

/// Reads one client's beginning. After [`Opening::SslRequest`] and [`Opening::GssRequest`] it goes on with the next
/// packet; each of the two is accepted once.
#[derive(Debug, Default)]
pub struct OpeningReader {
    packet: Vec<u8>,
    complete: bool,
    asked_ssl: bool,
    asked_gss: bool,
    encrypted: bool,
}

impl OpeningReader {
    /// Begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins inside TLS, where no encryption can be asked for any more.
    pub fn encrypted() -> Self {
        Self { encrypted: true, ..Self::default() }
    }

    /// The largest number of bytes to read now without reading past the packet: reading more would swallow bytes that
    /// belong to the TLS handshake or to the session. Never 0.
    pub fn wanted(&self) -> usize {
        let have = if self.complete { 0 } else { self.packet.len() };
        if have < HEADER { HEADER - have } else { self.length().saturating_sub(have).max(1) }
    }

    /// Takes bytes; says how many were consumed and what they completed. Never consumes a byte behind the packet.
    ///
    /// # Errors
    /// When no session can begin like this; the reader is of no use after that. Judged as early as possible: a length
    /// is refused when its four bytes are there, and nothing is kept for it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Opening>), OpeningError> {
        if self.complete {
            self.packet.clear();
            self.complete = false;
        }
        if !self.encrypted && self.packet.is_empty() && bytes.first() == Some(&TLS_HANDSHAKE) {
            return Ok((0, Some(Opening::DirectTls)));
        }
        let mut consumed = 0;
        while let Some(missing) = self.missing()? {
            let left = &bytes[consumed..];
            if left.is_empty() {
                return Ok((consumed, None));
            }
            let taken = missing.min(left.len());
            self.packet.extend_from_slice(&left[..taken]);
            consumed += taken;
        }
        self.complete = true;
        Ok((consumed, Some(self.understand()?)))
    }

    /// The packet that [`push`](Self::push) completed last, length field included: what goes to the server.
    pub fn packet(&self) -> &[u8] {
        if self.complete { &self.packet } else { &[] }
    }

    /// The same, moved out.
    pub fn into_packet(self) -> Vec<u8> {
        if self.complete { self.packet } else { Vec::new() }
    }

    /// How many bytes are missing of the header or the packet; `None` when it is complete.
    fn missing(&self) -> Result<Option<usize>, OpeningError> {
        let have = self.packet.len();
        if have < 4 {
            return Ok(Some(4 - have));
        }
        let length = self.length();
        if length > LONGEST {
            return Err(OpeningError::TooLong { length: u32::try_from(length).unwrap_or(u32::MAX) });
        }
        if length < HEADER {
            return Err(OpeningError::Malformed { what: "its length is too small" });
        }
        Ok((have < length).then(|| length - have))
    }

    fn length(&self) -> usize {
        usize::try_from(number(&self.packet, 0)).unwrap_or(usize::MAX)
    }

    fn understand(&mut self) -> Result<Opening, OpeningError> {
        let body = &self.packet[HEADER..];
        match number(&self.packet, 4) {
            SSL_CODE | GSS_CODE if self.encrypted => {
                Err(OpeningError::Malformed { what: "a request for encryption inside TLS" })
            }
            SSL_CODE => {
                once(&mut self.asked_ssl, body, "a second request for TLS")?;
                Ok(Opening::SslRequest)
            }
            GSS_CODE => {
                once(&mut self.asked_gss, body, "a second request for GSSAPI encryption")?;
                Ok(Opening::GssRequest)
            }
            CANCEL_CODE => cancel(body).map(Opening::Cancel),
            version => startup(version, body, self.packet.len()).map(Opening::Startup),
        }
    }
}

fn once(asked: &mut bool, body: &[u8], again: &'static str) -> Result<(), OpeningError> {
    if !body.is_empty() {
        return Err(OpeningError::Malformed { what: "a request for encryption has 8 bytes" });
    }
    if std::mem::replace(asked, true) {
        return Err(OpeningError::Malformed { what: again });
    }
    Ok(())
}

fn cancel(body: &[u8]) -> Result<CancelRequest, OpeningError> {
    match body.split_at_checked(4) {
        Some((pid, key)) if KEY_LENGTHS.contains(&key.len()) => {
            Ok(CancelRequest { pid: number(pid, 0), key: key.to_vec() })
        }
        _ => Err(OpeningError::Malformed { what: "a cancel request has a key of 4 to 256 bytes" }),
    }
}

fn startup(version: u32, body: &[u8], length: usize) -> Result<StartupInfo, OpeningError> {
    // The cast keeps the low half, which is the minor version.
    let (major, minor) = ((version >> 16) as u16, version as u16);
    if major != 3 {
        return Err(OpeningError::Unsupported { major, minor });
    }
    let (mut user, mut database, mut application_name) = (String::new(), String::new(), String::new());
    let mut replication = Replication::None;
    let mut names_synchronous_commit = false;
    let mut rest = body;
    loop {
        let name = text(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let value = text(&mut rest)?;
        // The last one of a name counts, as in PostgreSQL.
        match name {
            b"user" => user = String::from_utf8_lossy(value).into_owned(),
            b"database" => database = String::from_utf8_lossy(value).into_owned(),
            b"application_name" => application_name = String::from_utf8_lossy(value).into_owned(),
            b"replication" => replication = replicates(value),
            b"options" => names_synchronous_commit |= mentions(value, b"synchronous_commit"),
            _ => names_synchronous_commit |= name.eq_ignore_ascii_case(b"synchronous_commit"),
        }
    }
    if !rest.is_empty() {
        return Err(OpeningError::Malformed { what: "bytes follow the end of its parameters" });
    }
    if user.is_empty() {
        return Err(OpeningError::NoUser);
    }
    if database.is_empty() {
        database.clone_from(&user);
    }
    Ok(StartupInfo {
        user,
        database,
        application_name,
        replication,
        protocol: (major, minor),
        length,
        names_synchronous_commit,
    })
}

/// Bytes of `application_name` that PostgreSQL keeps (NAMEDATALEN less one).
const LONGEST_NAME: usize = 63;

/// The packet of a login, with the client's address behind its `application_name`: the server sees the proxy's only. A packet that
/// would become longer than [`LONGEST`] stays as it is.
pub fn with_client(packet: &[u8], info: &StartupInfo, client: SocketAddr) -> Vec<u8> {
    let address = client.to_string();
    let room = LONGEST_NAME.saturating_sub(address.len() + 1);
    let mut end = info.application_name.len().min(room);
    while !info.application_name.is_char_boundary(end) {
        end -= 1;
    }
    let name = &info.application_name[..end];
    let value = if name.is_empty() { address } else { format!("{name} {address}") };
    let more = [&b"application_name\0"[..], value.as_bytes(), b"\0"].concat();
    let Some((last, rest)) = packet.split_last() else { return Vec::new() };
    if packet.len() + more.len() > LONGEST {
        return packet.to_vec();
    }
    // Of two parameters with one name the last one counts.
    let mut longer = [rest, &more, &[*last]].concat();
    let length = u32::try_from(longer.len()).unwrap_or(u32::MAX);
    longer[..4].copy_from_slice(&length.to_be_bytes());
    longer
}

fn mentions(text: &[u8], word: &[u8]) -> bool {
    // In the options of a login '-' and '_' are the same in names (PostgreSQL's ParseLongOption).
    let plain: Vec<u8> =
        text.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect();
    plain.windows(word.len()).any(|part| part == word)
}

/// A value that is neither a truth value nor `database` is the server's to refuse.
fn replicates(value: &[u8]) -> Replication {
    let value = value.to_ascii_lowercase();
    match value.as_slice() {
        b"database" => Replication::Logical,
        b"" | b"0" | b"f" | b"fa" | b"fal" | b"fals" | b"false" | b"n" | b"no" | b"of" | b"off" => {
            Replication::None
        }
        _ => Replication::Physical,
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], OpeningError> {
    let end = rest.iter().position(|&byte| byte == 0);
    let end = end.ok_or(OpeningError::Malformed { what: "its parameters do not end" })?;
    let (found, after) = rest.split_at(end);
    *rest = &after[1..];
    Ok(found)
}

/// The 32-bit number at `at`; 0 where bytes are missing.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}
