//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::Epoch;

/// A log sequence number: a byte position in the write-ahead log. Text form `16/B374D848`, as PostgreSQL prints
/// `pg_lsn`. Always say *which* position it is: written, flushed, received or replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// Text was no log sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log sequence number such as 16/B374D848")]
pub struct LsnParseError(String);

impl Lsn {
    /// Bytes from `earlier` to here; zero if `earlier` is ahead.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, LsnParseError> {
        let refused = || LsnParseError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(refused)?;
        if high.len() > 8 || low.len() > 8 {
            return Err(refused());
        }
        let high = u64::from_str_radix(high, 16).map_err(|_| refused())?;
        let low = u64::from_str_radix(low, 16).map_err(|_| refused())?;
        Ok(Self(high << 32 | low))
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnParseError;

    fn try_from(text: String) -> Result<Self, LsnParseError> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

/// A PostgreSQL timeline identifier; 1 after `initdb`, a new one at each promotion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The following timeline id.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How much history a member holds, ordered as elections need it: epoch of the timeline that its last WAL belongs to
/// first, then the flushed position. A member with any WAL of epoch e holds everything acknowledged in earlier epochs,
/// because the leader of e started from a covering position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Epoch whose leader created the timeline.
    pub epoch: Epoch,
    /// End of the WAL that is durably on disk.
    pub flush: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.flush, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_text_is_postgres_text() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!("16/B374D848".parse::<Lsn>().unwrap(), Lsn(0x16_B374_D848));
        assert_eq!("0/0".parse::<Lsn>().unwrap(), Lsn(0));
        for bad in ["", "0", "0/", "/0", "0/100000000", "x/0", "123456789/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn epoch_outranks_lsn() {
        let old_but_long = Position { epoch: Epoch(3), flush: Lsn(900) };
        let new_but_short = Position { epoch: Epoch(4), flush: Lsn(100) };
        assert!(new_but_short > old_but_long);
    }
}
