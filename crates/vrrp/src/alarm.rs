//! What should not be seen on the link: remembered for a minute, told once a minute.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ha_core::MonoTime;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmKind {
    /// Wrong kind of authentication or wrong password.
    WrongPassword,
    /// Version 2: an interval other than ours, which makes packets invalid.
    WrongInterval {
        /// Theirs.
        theirs: Duration,
    },
    /// Wrong checksum, or a form of it that the configuration excludes.
    WrongChecksum,
    /// The same virtual router in another version of the protocol.
    WrongVersion {
        /// Theirs.
        theirs: u8,
    },
    /// Multicast where unicast is configured, or the other way round.
    WrongDestination {
        /// Where it was sent to.
        destination: Ipv4Addr,
    },
    /// Version 3: an interval other than ours; used, but probably not meant.
    OtherInterval {
        /// Theirs.
        theirs: Duration,
    },
    /// The same virtual router with other addresses: another cluster, or an old file.
    OtherAddresses {
        /// Theirs.
        theirs: Vec<Ipv4Addr>,
    },
    /// Our own address as source: a loop, or a copy of this machine.
    OwnSource,
    /// Takes part, but is no host of the file.
    UnknownRouter,
    /// Not from this link.
    WrongTtl {
        /// What was left of it.
        ttl: u8,
    },
    /// Not a usable packet; no alarm, a note only.
    Malformed {
        /// In words.
        why: String,
    },
    /// Another virtual router on the link; no alarm, a note only.
    OtherVirtualRouter {
        /// Its identifier.
        vrid: u8,
    },
    /// Somebody removes the floating address from this host.
    AddressRemoved,
}

/// Something seen, how often, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// From whom, if it came over the wire.
    pub source: Option<Ipv4Addr>,
    /// First time.
    pub since: MonoTime,
    /// Last time.
    pub last: MonoTime,
    /// How often.
    pub times: u64,
}

impl AlarmKind {
    /// Whether a human must see it.
    pub fn needs_attention(&self) -> bool {
        !matches!(self, Self::Malformed { .. } | Self::OtherVirtualRouter { .. })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(f, "{source}: {}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongPassword => {
                f.write_str("heard, but its password or kind of authentication is not ours")
            }
            Self::WrongInterval { theirs } => write!(f, "heard, but its interval {theirs:?} is not ours"),
            Self::WrongChecksum => {
                f.write_str("heard, but its checksum is wrong or of the form that is not accepted")
            }
            Self::WrongVersion { theirs } => write!(f, "heard, but it speaks version {theirs}"),
            Self::WrongDestination { destination } => {
                write!(f, "heard, but it sends to {destination}: multicast and unicast are mixed")
            }
            Self::OtherInterval { theirs } => write!(f, "its interval {theirs:?} is not ours"),
            Self::OtherAddresses { theirs } => {
                write!(f, "uses the same virtual router for other addresses: {theirs:?}")
            }
            Self::OwnSource => f.write_str("our own address sends to us: a loop, or a copy of this machine"),
            Self::UnknownRouter => f.write_str("takes part, but is no host of the file"),
            Self::WrongTtl { ttl } => write!(f, "TTL {ttl} instead of 255: not from this link"),
            Self::Malformed { why } => write!(f, "packet not usable: {why}"),
            Self::OtherVirtualRouter { vrid } => write!(f, "another virtual router, identifier {vrid}"),
            Self::AddressRemoved => f.write_str("somebody removes the floating address from this host"),
        }
    }
}
