//! keepalived's signature behind an advertisement (`auth_hmac`, since 2.4): HMAC-SHA-256 (RFC 2104), shortened to 128 bits,
//! with a time stamp against packets that are sent again. Neither a checksum nor a length in the message covers it.
//!
//! ```text
//!  0        type 1                      1        number of the key
//!  2..4     reserved, zero              4..12    stamp: seconds of UTC, 16 bits of their fraction, 16 bits of counter
//! 12..28    code over: a header of family (4 or 6), version, router, 0 and the source's 4 or 16 bytes, padded to 20;
//!           the message, its checksum as zero; the first 12 bytes of this; 16 zero bytes
//! ```

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Length of the whole.
pub const SIGNATURE_LEN: usize = 28;

const TYPE: u8 = 1;
/// Where the code begins.
const CODE_AT: usize = 12;
const CODE_LEN: usize = SIGNATURE_LEN - CODE_AT;
const HEADER_LEN: usize = 20;
/// Where the checksum is in the message.
const CHECKSUM_AT: usize = 6;

/// How long a key must be and may be, in bytes.
pub const KEY_LEN: std::ops::RangeInclusive<usize> = 32..=64;

/// A key and its number.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// By which both ends mean the same one, 1 to 255.
    pub id: u8,
    /// 32 to 64 bytes.
    pub secret: Vec<u8>,
}

// By hand, so that it reaches no log by accident.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// When something was signed, so that each is greater than the one before: seconds of UTC, 16 bits of their fraction, and a
/// counter of 16 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// For this time since 1970. The 32 bits of seconds begin anew in 2106.
    pub fn at(utc: Duration) -> Self {
        let fraction = (u64::from(utc.subsec_nanos()) << 16) / 1_000_000_000;
        Self((utc.as_secs() & 0xffff_ffff) << 32 | fraction << 16)
    }

    /// The next one, of a signer whose clock shows `utc`: greater than this one even if the clock was set back.
    #[must_use]
    pub fn next(self, utc: Duration) -> Self {
        Self::at(utc).max(Self(self.0.saturating_add(1)))
    }

    /// How far from `utc` it was made, whichever is earlier.
    pub fn distance(self, utc: Duration) -> Duration {
        let micros = |stamp: Self| (u128::from(stamp.0) * 1_000_000) >> 32;
        let apart = micros(self).abs_diff(micros(Self::at(utc)));
        Duration::from_micros(u64::try_from(apart).unwrap_or(u64::MAX))
    }
}

/// A signature as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub(crate) [u8; SIGNATURE_LEN]);

impl Signature {
    /// Signs a message whose checksum may already be there.
    pub fn sign(key: &Key, source: IpAddr, message: &[u8], stamp: Stamp) -> Self {
        let mut signature = Self([0; SIGNATURE_LEN]);
        (signature.0[0], signature.0[1]) = (TYPE, key.id);
        signature.0[4..CODE_AT].copy_from_slice(&stamp.0.to_be_bytes());
        if let Some(code) = signature.code(key, source, message) {
            signature.0[CODE_AT..].copy_from_slice(&code.finalize().into_bytes()[..CODE_LEN]);
        }
        signature
    }

    /// What follows a message, if it is a signature.
    pub fn read(rest: &[u8]) -> Option<Self> {
        rest.try_into().ok().filter(|bytes: &[u8; SIGNATURE_LEN]| bytes[0] == TYPE).map(Self)
    }

    /// The bytes to send behind the message.
    pub fn bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.0
    }

    /// Which key it claims to be made with.
    pub fn key_id(&self) -> u8 {
        self.0[1]
    }

    /// When it claims to have been made.
    pub fn stamp(&self) -> Stamp {
        let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = self.0;
        Stamp(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Whether it was made with this key over this message from this source. Takes the same time wherever it differs.
    pub fn is_valid(&self, key: &Key, source: IpAddr, message: &[u8]) -> bool {
        let code = self.code(key, source, message);
        code.is_some_and(|code| code.verify_truncated_left(&self.0[CODE_AT..]).is_ok())
    }

    /// The computation before its end; `None` for a message without a checksum.
    fn code(&self, key: &Key, source: IpAddr, message: &[u8]) -> Option<Hmac<Sha256>> {
        let (front, rest) = message.split_at_checked(CHECKSUM_AT)?;
        let behind = rest.get(2..)?;
        let mut header = [0; HEADER_LEN];
        (header[1], header[2]) = (front[0] >> 4, front[1]);
        match source {
            IpAddr::V4(source) => {
                header[0] = 4;
                header[4..8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                header[0] = 6;
                header[4..].copy_from_slice(&source.octets());
            }
        }
        let mut code = Hmac::<Sha256>::new_from_slice(&key.secret).ok()?;
        for part in [&header[..], front, &[0, 0], behind, &self.0[..CODE_AT], &[0; CODE_LEN]] {
            code.update(part);
        }
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_whatever_the_clock_does() {
        let at = Duration::from_millis;
        assert_eq!(Stamp::at(at(1500)), Stamp(1 << 32 | 0x8000 << 16));
        let first = Stamp::default().next(at(5_000));
        let second = first.next(at(5_000));
        let back = second.next(at(1_000));
        assert!(first < second && second < back && back < back.next(at(5_001)));
        assert_eq!((first.distance(at(4_000)), first.distance(at(5_250))), (at(1_000), at(250)));
    }
}
