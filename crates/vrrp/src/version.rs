//! Which version of the protocol is spoken.

use std::fmt;
use std::time::Duration;

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 3768: whole seconds, IPv4, password of RFC 2338.
    V2,
    /// RFC 9568: hundredths of a second.
    V3,
}

impl Version {
    /// As it stands in the packet and in the configuration.
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The version of this number; `None` for any other than 2 and 3.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// The unit in which this version tells its interval.
    pub fn interval_unit(self) -> Duration {
        match self {
            Self::V2 => Duration::from_secs(1),
            Self::V3 => Duration::from_millis(10),
        }
    }

    /// The longest interval, in units, that fits into the packet: 8 bits of seconds, 12 bits of hundredths.
    pub fn longest_interval(self) -> u16 {
        match self {
            Self::V2 => 255,
            Self::V3 => 4095,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}
