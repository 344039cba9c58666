//! What should not be seen on the link: remembered for a minute, told once a minute.

use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::{MemberName, MonoTime};

use crate::packet::{Addresses, Discarded};

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
    /// No signature where we sign.
    Unsigned,
    /// A signature that is not right.
    WrongSignature {
        /// Number of its key.
        key: u8,
    },
    /// Signed with a key that we do not have.
    UnknownKey {
        /// Its number.
        key: u8,
    },
    /// Signed rightly, with the other of our keys: a change of keys is under way, or was left half done.
    OtherKey {
        /// Its number.
        key: u8,
    },
    /// Signed no later than what was heard before, or by a clock that is too far from ours: sent again by somebody, or a
    /// clock that was set back before its program started.
    Replayed,
    /// Signed rightly, by a clock that is far from ours.
    ClockApart {
        /// How far.
        by: Duration,
    },
    /// Over IPv6, without a link-local address in the first place.
    NoLinkLocal,
    /// The same virtual router in another version of the protocol.
    WrongVersion {
        /// Theirs.
        theirs: u8,
    },
    /// Multicast where unicast is configured, or the other way round.
    WrongDestination {
        /// Where it was sent to.
        destination: IpAddr,
    },
    /// Version 3: an interval other than ours; used, but probably not meant.
    OtherInterval {
        /// Theirs.
        theirs: Duration,
    },
    /// The same virtual router with other addresses: another cluster, or an old file.
    OtherAddresses {
        /// Theirs.
        theirs: Addresses,
    },
    /// It owns the address (priority 255), as this host does.
    OtherOwner,
    /// Our own address as source: a loop, or a copy of this machine.
    OwnSource,
    /// Takes part, but is no host of the file.
    UnknownRouter,
    /// Not from this link.
    WrongTtl {
        /// What was left of it, or of the hop limit.
        ttl: u8,
    },
    /// Not a usable packet; no alarm, a note only.
    Malformed {
        /// What is wrong with it.
        why: Discarded,
    },
    /// Another virtual router on the link; no alarm, a note only.
    OtherVirtualRouter {
        /// Its identifier.
        vrid: u8,
    },
    /// Somebody removes the floating address from this host.
    AddressRemoved,
    /// A timer was seen to so late that others may take this host for dead: it has too little of the processor.
    LateTick {
        /// How late.
        by: Duration,
    },
    /// Another host says over the peer channel that its settings are not ours.
    OtherSettings {
        /// Who.
        peer: MemberName,
        /// What differs, in words.
        what: Arc<str>,
    },
}

/// Something seen, how often, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// From whom, if it came over the wire.
    pub source: Option<IpAddr>,
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

    /// Whether it is the same thing, perhaps with other details.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OtherVirtualRouter { vrid: a }, Self::OtherVirtualRouter { vrid: b }) => a == b,
            (Self::OtherSettings { peer: a, .. }, Self::OtherSettings { peer: b, .. }) => a == b,
            _ => mem::discriminant(self) == mem::discriminant(other),
        }
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
            Self::Unsigned => f.write_str("advertises without a signature"),
            Self::WrongSignature { key } => write!(f, "its signature with key {key} is wrong"),
            Self::UnknownKey { key } => write!(f, "signs with key {key}, which is none of ours"),
            Self::OtherKey { key } => write!(f, "signs with key {key}: the change of keys is not complete"),
            Self::Replayed => f.write_str(
                "an old advertisement was sent again, or its clock was set back before it started",
            ),
            Self::ClockApart { by } => write!(f, "signs by a clock that is {by:?} from ours"),
            Self::NoLinkLocal => {
                f.write_str("heard, but the first of its IPv6 addresses is not link-local, as it must be")
            }
            Self::WrongVersion { theirs } => write!(f, "heard, but it speaks version {theirs}"),
            Self::WrongDestination { destination } => {
                write!(f, "heard, but it sends to {destination}: multicast and unicast are mixed")
            }
            Self::OtherInterval { theirs } => write!(f, "its interval {theirs:?} is not ours"),
            Self::OtherAddresses { theirs } => {
                write!(f, "uses the same virtual router for other addresses: {theirs:?}")
            }
            Self::OtherOwner => f.write_str(
                "owns the address (priority 255) as this host does: only one of the two can be right",
            ),
            Self::OwnSource => f.write_str("our own address sends to us: a loop, or a copy of this machine"),
            Self::UnknownRouter => f.write_str("takes part, but is no host of the file"),
            Self::WrongTtl { ttl } => {
                write!(f, "TTL {ttl} instead of 255: not from this link, or not meant for it")
            }
            Self::Malformed { why } => write!(f, "packet not usable: {why}"),
            Self::OtherVirtualRouter { vrid } => write!(f, "another virtual router, identifier {vrid}"),
            Self::LateTick { by } => {
                write!(f, "this process runs {} ms late: it gets too little of the processor", by.as_millis())
            }
            Self::OtherSettings { peer, what } => {
                write!(f, "{peer} has other settings: {what}; neither accepts what the other advertises")
            }
            Self::AddressRemoved => f.write_str("somebody removes the floating address from this host"),
        }
    }
}

/// How long something that is not seen again stays an alarm, and after which time it is told again.
const MEMORY: Duration = Duration::from_secs(60);

/// Different things remembered. Sources can be forged: the one seen longest ago is forgotten for a new one.
const LIMIT: usize = 64;

/// Things told within [`MEMORY`] at most, for the same reason.
const TOLD_LIMIT: usize = 20;

/// Everything seen lately. It has its whole room from the beginning.
#[derive(Debug)]
pub(crate) struct AlarmBook {
    entries: Vec<Entry>,
    told: Vec<MonoTime>,
}

#[derive(Debug)]
struct Entry {
    alarm: Alarm,
    told_at: Option<MonoTime>,
}

impl Default for AlarmBook {
    fn default() -> Self {
        Self { entries: Vec::with_capacity(LIMIT), told: Vec::with_capacity(TOLD_LIMIT) }
    }
}

impl AlarmBook {
    /// Writes down what was seen; returns it when it is time to tell it.
    pub(crate) fn record(&mut self, now: MonoTime, kind: AlarmKind, source: Option<IpAddr>) -> Option<Alarm> {
        let index = self.entry_of(now, kind, source);
        let again = self.entries[index].told_at.is_none_or(|told| {
            // Another virtual router is nothing to be told of twice.
            !matches!(self.entries[index].alarm.kind, AlarmKind::OtherVirtualRouter { .. })
                && now.since(told) >= MEMORY
        });
        self.told.retain(|told| now.since(*told) < MEMORY);
        if !again || self.told.len() >= TOLD_LIMIT {
            return None;
        }
        self.told.push(now);
        self.entries[index].told_at = Some(now);
        Some(self.entries[index].alarm.clone())
    }

    fn entry_of(&mut self, now: MonoTime, kind: AlarmKind, source: Option<IpAddr>) -> usize {
        let known = self
            .entries
            .iter()
            .position(|entry| entry.alarm.source == source && entry.alarm.kind.is_like(&kind));
        if let Some(index) = known {
            let alarm = &mut self.entries[index].alarm;
            if now.since(alarm.last) > MEMORY {
                alarm.since = now;
                alarm.times = 0;
            }
            (alarm.kind, alarm.last, alarm.times) = (kind, now, alarm.times + 1);
            return index;
        }
        if self.entries.len() >= LIMIT
            && let Some((oldest, _)) =
                self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.alarm.last)
        {
            self.entries.remove(oldest);
        }
        let alarm = Alarm { kind, source, since: now, last: now, times: 1 };
        self.entries.push(Entry { alarm, told_at: None });
        self.entries.len() - 1
    }

    /// What a human must see now.
    pub(crate) fn current(&self, now: MonoTime) -> impl Iterator<Item = &Alarm> {
        let alarms = self.entries.iter().map(|entry| &entry.alarm);
        alarms.filter(move |alarm| alarm.kind.needs_attention() && now.since(alarm.last) <= MEMORY)
    }
}
