//! The envelope and the primitive values: `version u8, kind u8, body, crc32 u32` (little endian; the CRC covers all
//! bytes before it).

use std::time::Duration;

use crate::{BootId, Epoch, MonoTime};

/// First byte of each message. A guard and an agent of different versions refuse each other's messages.
pub const PROTOCOL_VERSION: u8 = 1;

/// The longest message in bytes; a receive buffer of this size plus one shows a longer one.
pub const MESSAGE_MAX: usize = 4096;

/// A message was refused before anybody looked at its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than an empty message, or a value cut off.
    #[error("guard message: cut off")]
    CutOff,
    /// More than [`MESSAGE_MAX`] bytes.
    #[error("guard message: longer than {MESSAGE_MAX} bytes")]
    TooLong,
    /// The checksum does not match.
    #[error("guard message: wrong checksum")]
    Checksum,
    /// Not [`PROTOCOL_VERSION`].
    #[error("guard message: protocol version {0}, expected {PROTOCOL_VERSION}")]
    Version(u8),
    /// No message has this kind (in this direction).
    #[error("guard message: unknown kind {0}")]
    Kind(u8),
    /// A value that its field cannot have.
    #[error("guard message: impossible value of {0}")]
    Value(&'static str),
    /// Bytes after the last field.
    #[error("guard message: bytes after its end")]
    Trailing,
}

/// Builds one message.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![PROTOCOL_VERSION, kind])
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn word(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn time(self, value: MonoTime) -> Self {
        self.long(value.0)
    }

    pub(super) fn epoch(self, value: Epoch) -> Self {
        self.long(value.0)
    }

    pub(super) fn span(self, value: Duration) -> Self {
        self.long(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn flag(self, value: bool) -> Self {
        self.byte(u8::from(value))
    }

    pub(super) fn text(mut self, value: &str) -> Self {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(&value.as_bytes()[..usize::from(length)]);
        self
    }

    /// A text for people: shortened at a character, so that the message always fits.
    pub(super) fn remark(self, value: &str) -> Self {
        const REMARK_MAX: usize = 1024;
        let mut end = value.len().min(REMARK_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.text(&value[..end])
    }

    pub(super) fn boot(self, value: &BootId) -> Self {
        self.text(&value.0)
    }

    pub(super) fn option<T>(self, value: Option<T>, write: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => write(self.byte(1), value),
            None => self.byte(0),
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Reads one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the envelope; returns the kind and the body.
    pub(super) fn open(bytes: &'a [u8]) -> Result<(u8, Self), FrameError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(FrameError::TooLong);
        }
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(FrameError::CutOff)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(FrameError::Checksum);
        }
        let ([version, kind], rest) = content.split_first_chunk::<2>().ok_or(FrameError::CutOff)?;
        if *version != PROTOCOL_VERSION {
            return Err(FrameError::Version(*version));
        }
        Ok((*kind, Self { rest }))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(FrameError::CutOff)?;
        self.rest = rest;
        Ok(*value)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn short(&mut self) -> Result<u16, FrameError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn word(&mut self) -> Result<u32, FrameError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u64, FrameError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Result<MonoTime, FrameError> {
        self.long().map(MonoTime)
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch, FrameError> {
        self.long().map(Epoch)
    }

    pub(super) fn span(&mut self) -> Result<Duration, FrameError> {
        self.long().map(Duration::from_nanos)
    }

    pub(super) fn flag(&mut self) -> Result<bool, FrameError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Value("a flag")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, FrameError> {
        let length = usize::from(self.short()?);
        let (text, rest) = self.rest.split_at_checked(length).ok_or(FrameError::CutOff)?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).map_err(|_| FrameError::Value("a text"))
    }

    pub(super) fn boot(&mut self) -> Result<BootId, FrameError> {
        self.text().map(BootId)
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Hands `message` out if nothing is left over.
    pub(super) fn close<T>(self, message: T) -> Result<T, FrameError> {
        if self.rest.is_empty() { Ok(message) } else { Err(FrameError::Trailing) }
    }
}
