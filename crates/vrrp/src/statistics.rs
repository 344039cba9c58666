//! Counters of a virtual router.

/// Counted since the router was made; none ever goes down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes of state.
    pub transitions: u64,
    /// Times it became Active.
    pub became_active: u64,
    /// Advertisements sent, those with priority 0 included; with unicast one for each peer.
    pub sent: u64,
    /// Of those, with priority 0.
    pub sent_priority_zero: u64,
    /// Valid advertisements of this virtual router.
    pub received: u64,
    /// Of those, with priority 0.
    pub received_priority_zero: u64,
    /// Packets that were not used, all the causes below together.
    pub discarded: u64,
    /// Not an IP packet with a complete VRRP message.
    pub discarded_malformed: u64,
    /// TTL or hop limit other than 255: not from this link.
    pub discarded_ttl: u64,
    /// Other version than configured.
    pub discarded_version: u64,
    /// Wrong checksum, or a form of it that the configuration excludes.
    pub discarded_checksum: u64,
    /// Wrong kind of authentication or wrong password.
    pub discarded_password: u64,
    /// No signature, a wrong one, or one that was used before, while they are enforced.
    pub discarded_signature: u64,
    /// Version 2: other interval than configured. Version 3: interval 0.
    pub discarded_interval: u64,
    /// Sent to a group although unicast is configured, or the other way round, or not to us.
    pub discarded_destination: u64,
    /// From our own address, with unicast from an address that is no peer, or of another cluster with the same identifier.
    pub discarded_source: u64,
    /// Of another virtual router on the same link; that is no fault. Not part of `discarded`.
    pub other_vrid: u64,
    /// Times that a timer was seen to more than a quarter of an interval late: the program did not get to run.
    pub late_ticks: u64,
    /// Times that the address was put back after somebody removed it.
    pub address_restored: u64,
}
