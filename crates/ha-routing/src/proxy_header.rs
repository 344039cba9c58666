//! The header of the PROXY protocol, with which a load balancer says whose connection it passes on: sections 2.1 (version 1,
//! a line of text) and 2.2 (version 2, binary) of HAProxy's `proxy-protocol.txt`.
//!
//! The header is not signed. It may only be read from a peer that is trusted, and must be demanded from one that is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a header of version 2 begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The same, version and command, family and protocol, length of what follows.
const HEADER_V2: usize = 16;
/// Longest header of version 2, in bytes. Addresses take 216 at most; the rest are notes for others, such as a certificate's
/// names.
pub const LONGEST: usize = 4_096;

/// What a line of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// Longest line of version 1 with its end (section 2.1).
const LONGEST_LINE: usize = 107;
/// Shortest one: `PROXY UNKNOWN` with its end.
const SHORTEST_LINE: usize = 15;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The peer's own, such as a health check, or that of a client whose address it does not tell: its own address counts.
    Peer,
    /// A client's.
    Client(SocketAddr),
}

/// Bytes that are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Neither version begins like this.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Missing,
    /// Too long.
    #[error("the PROXY header claims {length} bytes, more than {LONGEST}")]
    TooLong {
        /// All of it.
        length: usize,
    },
    /// Not as the specification wants it.
    #[error("the PROXY header is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads one header from a stream that may give it byte by byte, and not a byte behind it.
#[derive(Debug, Default)]
pub struct HeaderReader {
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The largest number of bytes to read now without reading past the header. Never 0 before it is complete.
    pub fn wanted(&self) -> usize {
        let have = self.bytes.len();
        if have < SIGNATURE.len() {
            return SIGNATURE.len() - have;
        }
        if self.bytes[0] == SIGNATURE[0] {
            let end = self.length().unwrap_or(HEADER_V2);
            return end.saturating_sub(have).max(1);
        }
        // How long the line is shows at its end only, which is two bytes.
        let end = if self.bytes.ends_with(b"\r") { 1 } else { 2 };
        SHORTEST_LINE.saturating_sub(have).max(end)
    }

    /// Takes at most [`wanted`](Self::wanted) bytes; `Some` when the header is complete.
    ///
    /// # Errors
    /// When this is no header, as early as that is certain. The connection must be closed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Origin>, HeaderError> {
        debug_assert!(bytes.len() <= self.wanted(), "the rest belongs to the session");
        self.bytes.extend_from_slice(bytes);
        let begins = |with: &[u8]| {
            let common = self.bytes.len().min(with.len());
            self.bytes[..common] == with[..common]
        };
        if begins(&SIGNATURE) {
            self.binary()
        } else if begins(WORD) {
            self.line()
        } else {
            Err(HeaderError::Missing)
        }
    }

    /// The whole length of a header of version 2, once it can be read.
    fn length(&self) -> Option<usize> {
        let field = self.bytes.get(14..HEADER_V2)?;
        Some(HEADER_V2 + usize::from(u16::from_be_bytes(field.try_into().ok()?)))
    }

    fn binary(&self) -> Result<Option<Origin>, HeaderError> {
        let (command, family) = (self.bytes.get(12).copied(), self.bytes.get(13).copied());
        if command.is_some_and(|byte| byte >> 4 != 2) {
            return Err(HeaderError::Malformed { what: "its version is not 2" });
        }
        if command.is_some_and(|byte| byte & 0xF > 1) {
            return Err(HeaderError::Malformed { what: "its command is neither LOCAL nor PROXY" });
        }
        let local = command.is_some_and(|byte| byte & 0xF == 0);
        if family.is_some_and(|byte| !local && (byte >> 4 > 3 || byte & 0xF > 2)) {
            return Err(HeaderError::Malformed { what: "its family or protocol is unknown" });
        }
        let Some(length) = self.length() else { return Ok(None) };
        if length > LONGEST {
            return Err(HeaderError::TooLong { length });
        }
        let (Some(family), Some(body)) = (family, self.bytes.get(HEADER_V2..length)) else { return Ok(None) };
        match family {
            _ if local => Ok(Some(Origin::Peer)),
            TCP_V4 => origin::<4>(body),
            TCP_V6 => origin::<16>(body),
            // Valid, but nothing that could be a client of ours: as if the family were not specified.
            _ => Ok(Some(Origin::Peer)),
        }
    }

    fn line(&self) -> Result<Option<Origin>, HeaderError> {
        let Some(line) = self.bytes.strip_suffix(b"\r\n") else {
            let lone =
                self.bytes.iter().rev().skip(1).any(|byte| *byte == b'\r') || self.bytes.contains(&b'\n');
            if lone {
                return Err(HeaderError::Malformed { what: "its line does not end with CR and LF" });
            }
            if self.bytes.len() >= LONGEST_LINE {
                return Err(HeaderError::Malformed { what: "its line is longer than 107 bytes" });
            }
            return Ok(None);
        };
        if self.bytes.len() > LONGEST_LINE {
            return Err(HeaderError::Malformed { what: "its line is longer than 107 bytes" });
        }
        let line = line.strip_prefix(WORD).unwrap_or_default();
        let line =
            std::str::from_utf8(line).map_err(|_| HeaderError::Malformed { what: "its line is no text" })?;
        let mut words = line.split(' ');
        let origin = match words.next() {
            // The rest of the line is to be ignored.
            Some("UNKNOWN") => return Ok(Some(Origin::Peer)),
            Some("TCP4") => addresses::<Ipv4Addr>(&mut words),
            Some("TCP6") => addresses::<Ipv6Addr>(&mut words),
            _ => {
                return Err(HeaderError::Malformed {
                    what: "its protocol is none of TCP4, TCP6 and UNKNOWN",
                });
            }
        };
        match (origin, words.next()) {
            (Some(client), None) => Ok(Some(Origin::Client(client))),
            _ => Err(HeaderError::Malformed { what: "its line has not two addresses and two ports" }),
        }
    }
}

/// Family and protocol of TCP over IPv4 and over IPv6.
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// Source and destination address, source and destination port, then notes of no interest.
fn origin<const N: usize>(body: &[u8]) -> Result<Option<Origin>, HeaderError>
where
    IpAddr: From<[u8; N]>,
{
    let read = || {
        let (source, rest) = body.split_first_chunk::<N>()?;
        let (_destination, rest) = rest.split_first_chunk::<N>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        rest.get(..2)?;
        Some(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*port)))
    };
    let client = read().ok_or(HeaderError::Malformed { what: "it is too short for its addresses" })?;
    Ok(Some(Origin::Client(client)))
}

/// Two addresses and two ports; gives the first of each.
fn addresses<'a, A: FromStr + Into<IpAddr>>(words: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _destination) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        let canonical =
            word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        if canonical { word.parse::<u16>().ok() } else { None }
    };
    let (port, _) = (port()?, port()?);
    Some(SocketAddr::new(source.into(), port))
}
