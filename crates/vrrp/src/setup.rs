//! What a virtual router is configured with.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::packet::is_link_local;
use crate::priority::{HIGHEST_PREFERENCE, PriorityModel};
use crate::signature::{KEY_LEN, Key};
use crate::version::Version;

/// How the checksum of version 3 over IPv4 is formed. RFC 9568 settled it as the message alone; keepalived puts an
/// IPv4 pseudo header in front unless told otherwise. Version 2 never has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Accept both; send as RFC 9568 says unless every router heard in the last hour used the pseudo header.
    #[default]
    Auto,
    /// The message alone, sending and receiving.
    Rfc9568,
    /// With pseudo header, sending and receiving.
    Pseudo,
}

/// What signatures mean, in the order in which hosts come to use them: each step can be taken host by host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SigningMode {
    /// Send none; tell of those that are wrong. A receiver that knows no signatures discards a packet that has one, so
    /// that first all must know them.
    ReceiveOnly,
    /// Send them; tell of packets without and of those that are wrong.
    Permissive,
    /// Send them; accept nothing without a right one.
    Enforce,
}

/// What counts as a packet that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// One that is not younger than the youngest from its source. Clocks of different hosts need not agree.
    Monotonic,
    /// And, as the first from its source, one whose stamp is further from our clock than this. Half of it is told.
    Time(Duration),
}

/// Signed advertisements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// What they mean.
    pub mode: SigningMode,
    /// What we sign with.
    pub key: Key,
    /// What others may sign with as well, while keys are changed.
    pub next_key: Option<Key>,
    /// What is too old.
    pub replay: Replay,
}

/// Settings of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Identifier of the virtual router on this link, 1 to 255.
    pub vrid: u8,
    /// Version spoken.
    pub version: Version,
    /// Own interval of advertisements.
    pub interval: Duration,
    /// The floating address; its family is that of the virtual router.
    pub address: IpAddr,
    /// The floating link-local address that an IPv6 virtual router has beside `address` and lists first (RFC 9568 section
    /// 5.2.9); `None` for IPv4, or when `address` is link-local itself.
    pub link_local: Option<Ipv6Addr>,
    /// What the priority is made of.
    pub model: PriorityModel,
    /// 0 (last) to 39; added to the base of the tier.
    pub preference: u8,
    /// Whether to take the address back from a router that is as healthy and less preferred.
    pub preempt: bool,
    /// How long such a router must have been heard before that.
    pub preempt_delay: Duration,
    /// Up to what this delay grows when the address moves again and again; no more than the delay itself: it stays.
    pub preempt_delay_limit: Duration,
    /// Password of version 2, padded with zero bytes; `None` = no authentication. Never used in version 3.
    pub auth: Option<[u8; 8]>,
    /// Signatures; `None` = none are sent, and those of others mean nothing.
    pub signing: Option<Signing>,
    /// Form of the checksum of version 3.
    pub checksum: ChecksumMode,
    /// Own addresses of the other hosts that may hold the address. Only these can keep this router from taking over
    /// by packets that are heard but not valid; empty = whoever uses the same identifier.
    pub peers: Vec<IpAddr>,
    /// Send to `peers` one by one instead of to the multicast group, and listen to nobody else.
    pub unicast: bool,
    /// By unicast: how many routers an advertisement may have passed. A sender that does not begin with 255 seems to be behind
    /// some: keepalived begins with 64 over IPv6, as if it were 191 hops away.
    pub max_hops: u8,
    /// How long a peer that is heard but not understood keeps this router from taking over.
    pub conflict_hold: Duration,
    /// After the link came back: how long to listen before taking over, unless an advertisement is heard. Switch
    /// ports may need as long before they forward.
    pub link_settle: Duration,
}

/// Of the settings those that may change while a router runs; nothing on the wire but the priority depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// See [`Setup::model`].
    pub model: PriorityModel,
    /// See [`Setup::preference`].
    pub preference: u8,
    /// See [`Setup::preempt`].
    pub preempt: bool,
    /// See [`Setup::preempt_delay`].
    pub preempt_delay: Duration,
}

impl Setup {
    /// What of it may change.
    pub fn tuning(&self) -> Tuning {
        let Self { model, preference, preempt, preempt_delay, .. } = *self;
        Tuning { model, preference, preempt, preempt_delay }
    }

    /// The same with another tuning.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        let Tuning { model, preference, preempt, preempt_delay } = tuning;
        Self { model, preference: preference.min(HIGHEST_PREFERENCE), preempt, preempt_delay, ..self }
    }

    /// Version 3, 200 ms, by multicast, preempting after 30 s, least preferred; over IPv6 with [`link_local`].
    pub fn new(vrid: u8, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self {
            vrid,
            version: Version::V3,
            interval: Duration::from_millis(200),
            address,
            link_local: (address.is_ipv6() && !is_link_local(address)).then(|| link_local(vrid)),
            model: PriorityModel::Tiers,
            preference: 0,
            preempt: true,
            preempt_delay: Duration::from_secs(30),
            preempt_delay_limit: Duration::from_secs(600),
            auth: None,
            signing: None,
            checksum: ChecksumMode::Auto,
            peers: Vec::new(),
            unicast: false,
            max_hops: 0,
            conflict_hold: Duration::from_secs(60),
            link_settle: Duration::from_secs(5),
        }
    }

    /// Every floating address, in the order in which they are advertised.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone + use<> {
        self.link_local.map(IpAddr::V6).into_iter().chain([self.address])
    }

    /// Whether both come to the same decisions.
    pub(crate) fn decides_like(&self, other: &Self) -> bool {
        let decides = |setup: &Self| {
            let Self { interval, preference, preempt, preempt_delay, conflict_hold, link_settle, .. } =
                *setup;
            (interval, preference, preempt, preempt_delay, conflict_hold, link_settle)
        };
        decides(self) == decides(other)
    }

    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let unit = self.version.interval_unit();
        let longest = unit * u32::from(self.version.longest_interval());
        if self.vrid == 0 {
            return Err(SetupError::RouterIdentifier);
        }
        if self.interval < unit
            || self.interval > longest
            || !self.interval.as_nanos().is_multiple_of(unit.as_nanos())
        {
            return Err(SetupError::Interval { version: self.version, found: self.interval, unit, longest });
        }
        if self.preference > HIGHEST_PREFERENCE {
            return Err(SetupError::Preference { found: self.preference });
        }
        if self.unicast && self.peers.is_empty() {
            return Err(SetupError::NoPeers);
        }
        if let Some(signing) = &self.signing {
            let keys = [Some(&signing.key), signing.next_key.as_ref()].into_iter().flatten();
            let same = signing.next_key.as_ref().is_some_and(|next| next.id == signing.key.id);
            if same || self.auth.is_some() {
                return Err(SetupError::Signing);
            }
            for key in keys {
                if key.id == 0 || !KEY_LEN.contains(&key.secret.len()) {
                    return Err(SetupError::Key { id: key.id });
                }
            }
        }
        if self.max_hops > 0 && !self.unicast {
            return Err(SetupError::Hops);
        }
        if self.address.is_ipv6() && self.version == Version::V2 {
            return Err(SetupError::VersionOfIpv6);
        }
        if self.link_local.is_none_or(|address| !address.is_unicast_link_local())
            && (self.address.is_ipv6() && !is_link_local(self.address) || self.link_local.is_some())
        {
            return Err(SetupError::LinkLocal);
        }
        if self.peers.iter().any(|peer| peer.is_ipv4() != self.address.is_ipv4()) {
            return Err(SetupError::Families);
        }
        Ok(())
    }
}

/// The floating link-local address of an IPv6 virtual router, unless another is given: `fe80::5e00:2XX` with the
/// identifier in the last byte, as in the router's virtual hardware address 00-00-5E-00-02-XX (RFC 9568 section 7.3).
/// No interface makes this address for itself, because interface identifiers made from hardware addresses have `ff:fe`
/// in the middle (RFC 4291 appendix A), and random ones have 64 bits.
pub fn link_local(vrid: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x5e00, 0x0200 | u16::from(vrid))
}

/// Settings that no virtual router can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Identifier 0.
    #[error("identifier of the virtual router is 0, expected 1 to 255")]
    RouterIdentifier,
    /// An interval that does not fit into the packet.
    #[error("interval {found:?} with version {version}, expected a multiple of {unit:?} up to {longest:?}")]
    Interval {
        /// Version spoken.
        version: Version,
        /// The interval.
        found: Duration,
        /// What it must be a multiple of.
        unit: Duration,
        /// Its upper limit.
        longest: Duration,
    },
    /// A preference that would reach into the next tier.
    #[error("preference {found}, expected 0 to {HIGHEST_PREFERENCE}")]
    Preference {
        /// The preference.
        found: u8,
    },
    /// Unicast to nobody.
    #[error("unicast without peers, expected at least one")]
    NoPeers,
    /// A group of nobody.
    #[error("no member, expected at least one")]
    NoMember,
    /// Members of a group that would decide differently.
    #[error(
        "{one} and {other} are one group: expected the same interval, preference and preemption for both"
    )]
    Disagree {
        /// Floating address of the first member.
        one: IpAddr,
        /// That of the one that differs.
        other: IpAddr,
    },
    /// Signatures beside a password, or with two keys of one number.
    #[error(
        "signatures with a password or with two keys of one number, expected no password and different numbers"
    )]
    Signing,
    /// A key that cannot be one.
    #[error("key {id} of signatures, expected a number of 1 to 255 and 32 to 64 bytes")]
    Key {
        /// Its number.
        id: u8,
    },
    /// Hops by multicast, which never leaves its link.
    #[error("hops without unicast, expected 0")]
    Hops,
    /// Version 2 with an IPv6 address.
    #[error("version 2 with an IPv6 address, expected 3")]
    VersionOfIpv6,
    /// An IPv6 virtual router whose first address is not link-local.
    #[error("no link-local address, expected one in fe80::/10 beside an IPv6 address")]
    LinkLocal,
    /// Peers of the other family.
    #[error("peers of another address family than the floating address")]
    Families,
}
