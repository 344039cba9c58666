//! What a received packet is worth. Everything that is dropped here lets a Backup's Down timer run on, so that each
//! mismatch would end in two Actives: packets of a peer that differ only in settings are therefore remembered as a
//! sign of life.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::MonoTime;

use super::VirtualRouter;
use super::member::Member;
use super::signing::Verdict;
use crate::alarm::AlarmKind;
use crate::checksum::Coverage;
use crate::packet::{self, Addresses, Auth, Discarded, Heard, Received, TTL, group_of};
use crate::priority::OWNER;
use crate::setup::ChecksumMode;
use crate::state::State;
use crate::version::Version;

/// How long a router's form of the checksum is remembered.
const DIALECT_MEMORY: Duration = Duration::from_secs(3600);

/// A valid advertisement of this virtual router by somebody else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Valid {
    /// Which member heard it.
    pub(super) member: usize,
    pub(super) source: IpAddr,
    pub(super) priority: u8,
    pub(super) interval: Duration,
}

/// The form of the checksum that a router uses.
#[derive(Debug)]
pub(super) struct Dialect {
    pseudo: bool,
    heard_at: MonoTime,
}

impl VirtualRouter {
    pub(super) fn receive(&mut self, now: MonoTime, member: usize, source: IpAddr, packet: &[u8]) {
        if !matches!(self.state, State::Backup | State::Active) {
            return;
        }
        match packet::decode(packet) {
            Ok(received) => self.judge(now, member, &received),
            Err(discarded) => self.undecodable(now, member, source, &discarded),
        }
    }

    fn judge(&mut self, now: MonoTime, member: usize, received: &Received<'_>) {
        let Received { source, ttl, ref advertisement, .. } = *received;
        let heard = Heard { source, ttl, vrid: advertisement.vrid, priority: advertisement.priority };
        if !self.is_ours(now, member, heard) {
            return;
        }
        let utc = self.utc(now);
        match self.members[member].verdict(received, utc) {
            Verdict::Nothing | Verdict::Right(None) => {}
            Verdict::Wrong(kind) if self.members[member].enforces() => {
                // Whoever cannot prove that he belongs here is nobody: not even a reason to wait.
                self.members[member].counters.discarded_signature += 1;
                self.discard(now, member, kind, source);
                return;
            }
            Verdict::Right(Some(kind)) | Verdict::Wrong(kind) => self.notice(now, kind, Some(source)),
        }
        let interval = advertisement.interval;
        if let Some(kind) = self.mismatch(member, received) {
            self.unintelligible(now, member, heard, kind, Some(interval));
            return;
        }
        let Member { setup, counters, .. } = &mut self.members[member];
        if setup.unicast && !setup.peers.contains(&source) {
            counters.discarded_source += 1;
            self.discard(now, member, AlarmKind::UnknownRouter, source);
            return;
        }
        if self.members[member].is_foreign(source, &advertisement.addresses) {
            self.foreign(now, member, heard, advertisement.addresses.clone(), interval);
            return;
        }
        let counters = &mut self.members[member].counters;
        counters.received += 1;
        counters.received_priority_zero += u64::from(heard.priority == 0);
        self.members[member].remember_dialect(now, source, received.coverage);
        if !self.members[member].is_peer(source) {
            self.notice(now, AlarmKind::UnknownRouter, Some(source));
        }
        if interval != self.setup.interval {
            self.notice(now, AlarmKind::OtherInterval { theirs: interval }, Some(source));
        }
        if heard.priority == OWNER && self.is_owner() {
            self.notice(now, AlarmKind::OtherOwner, Some(source));
        }
        let mut ours = self.members[member].setup.addresses();
        let all = ours.clone().count() == advertisement.addresses.len();
        if !all || !ours.all(|address| advertisement.addresses.contains(&address)) {
            let theirs = advertisement.addresses.clone();
            self.notice(now, AlarmKind::OtherAddresses { theirs }, Some(source));
        }
        let valid = Valid { member, source, priority: heard.priority, interval };
        match self.state {
            State::Active => self.heard_as_active(now, &valid),
            _ => self.heard_as_backup(now, &valid),
        }
    }

    /// Whether it is about this virtual router and from somebody else on this link.
    fn is_ours(&mut self, now: MonoTime, member: usize, heard: Heard) -> bool {
        let own = self.members[member].own();
        let Member { setup, counters, .. } = &mut self.members[member];
        if heard.vrid != setup.vrid {
            counters.other_vrid += 1;
            self.notice(now, AlarmKind::OtherVirtualRouter { vrid: heard.vrid }, Some(heard.source));
        } else if own == Some(heard.source) {
            counters.discarded_source += 1;
            self.discard(now, member, AlarmKind::OwnSource, heard.source);
        } else if heard.ttl < TTL - setup.max_hops {
            counters.discarded_ttl += 1;
            let kind = AlarmKind::WrongTtl { ttl: heard.ttl };
            if setup.unicast && !self.members[member].enforces() {
                // A peer that begins with less is alive.
                self.unintelligible(now, member, heard, kind, None);
            } else {
                self.discard(now, member, kind, heard.source);
            }
        } else {
            return true;
        }
        false
    }

    /// What is not as configured in a packet that is otherwise right.
    fn mismatch(&mut self, member: usize, received: &Received<'_>) -> Option<AlarmKind> {
        let own = self.members[member].own();
        let Member { setup, counters, .. } = &mut self.members[member];
        let advertisement = &received.advertisement;
        let version = advertisement.version;
        if version != setup.version {
            counters.discarded_version += 1;
            return Some(AlarmKind::WrongVersion { theirs: version.number() });
        }
        if version == Version::V2 {
            let ours = setup.auth.map_or(Auth::None, Auth::Password);
            if advertisement.auth != ours {
                counters.discarded_password += 1;
                return Some(AlarmKind::WrongPassword);
            }
            if advertisement.interval != setup.interval {
                counters.discarded_interval += 1;
                return Some(AlarmKind::WrongInterval { theirs: advertisement.interval });
            }
        }
        let pseudo = received.coverage != Coverage::Message;
        let accepted = match setup.checksum {
            _ if setup.address.is_ipv6() => true, // there is one form only
            ChecksumMode::Auto => true,
            ChecksumMode::Rfc9568 => !pseudo,
            ChecksumMode::Pseudo => pseudo || version == Version::V2,
        };
        if !accepted {
            counters.discarded_checksum += 1;
            return Some(AlarmKind::WrongChecksum);
        }
        let destination = received.destination;
        let expected = if setup.unicast { own } else { Some(group_of(setup.address)) };
        if Some(destination) != expected {
            counters.discarded_destination += 1;
            return Some(AlarmKind::WrongDestination { destination });
        }
        None
    }

    fn undecodable(&mut self, now: MonoTime, member: usize, source: IpAddr, discarded: &Discarded) {
        if let Some(heard) = discarded.heard() {
            if !self.is_ours(now, member, heard) {
                return;
            }
            let counters = &mut self.members[member].counters;
            let kind = match discarded {
                Discarded::Checksum { .. } => {
                    counters.discarded_checksum += 1;
                    AlarmKind::WrongChecksum
                }
                Discarded::NoLinkLocal { .. } => {
                    counters.discarded_malformed += 1;
                    AlarmKind::NoLinkLocal
                }
                _ => {
                    counters.discarded_password += 1;
                    AlarmKind::WrongPassword
                }
            };
            if self.members[member].enforces() {
                // Anybody may have sent it.
                self.discard(now, member, kind, source);
            } else {
                self.unintelligible(now, member, heard, kind, None);
            }
            return;
        }
        let counters = &mut self.members[member].counters;
        match discarded {
            Discarded::Version(_) => counters.discarded_version += 1,
            Discarded::IntervalZero => counters.discarded_interval += 1,
            _ => counters.discarded_malformed += 1,
        }
        self.discard(now, member, AlarmKind::Malformed { why: discarded.clone() }, source);
    }

    /// Right but for the settings: not used, but a peer that sends it is alive.
    fn unintelligible(
        &mut self,
        now: MonoTime,
        member: usize,
        heard: Heard,
        kind: AlarmKind,
        interval: Option<Duration>,
    ) {
        if self.state == State::Backup && heard.priority != 0 && self.members[member].is_peer(heard.source) {
            self.heard_unintelligibly(now, interval);
        }
        self.discard(now, member, kind, heard.source);
    }

    /// Its advertisements decide nothing here: following them would leave our address on no host. But whoever begins beside it
    /// waits, because ours would disturb the other cluster.
    fn foreign(&mut self, now: MonoTime, member: usize, heard: Heard, theirs: Addresses, interval: Duration) {
        self.members[member].counters.discarded_source += 1;
        if self.state == State::Backup && heard.priority != 0 && self.active.is_none() {
            self.heard_foreign(now, heard.source, interval);
        }
        self.discard(now, member, AlarmKind::OtherAddresses { theirs }, heard.source);
    }

    fn discard(&mut self, now: MonoTime, member: usize, kind: AlarmKind, source: IpAddr) {
        self.members[member].counters.discarded += 1;
        self.notice(now, kind, Some(source));
    }
}

impl Member {
    /// Another cluster uses our identifier: no host of the file, and none of our addresses.
    fn is_foreign(&self, source: IpAddr, addresses: &[IpAddr]) -> bool {
        // Not the link-local address of IPv6, which may be made from the identifier by both.
        !self.setup.peers.contains(&source) && !addresses.contains(&self.setup.address)
    }

    fn remember_dialect(&mut self, now: MonoTime, source: IpAddr, coverage: Coverage) {
        let pseudo = coverage != Coverage::Message;
        self.dialects.put(source, Dialect { pseudo, heard_at: now }, |dialect| dialect.heard_at);
    }

    /// The form in which to send.
    pub(super) fn coverage(&self, now: MonoTime, source: IpAddr, destination: IpAddr) -> Coverage {
        let mut recent =
            self.dialects.values().filter(|dialect| now.since(dialect.heard_at) <= DIALECT_MEMORY).peekable();
        let pseudo = match self.setup.checksum {
            ChecksumMode::Rfc9568 => false,
            ChecksumMode::Pseudo => true,
            ChecksumMode::Auto => recent.peek().is_some() && recent.all(|dialect| dialect.pseudo),
        };
        if source.is_ipv6() || pseudo && self.setup.version == Version::V3 {
            Coverage::PseudoHeader { source, destination }
        } else {
            Coverage::Message
        }
    }
}
