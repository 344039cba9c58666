//! `[[vip]]`: floating addresses.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::MemberName;

/// One floating address, held by one proxy host at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The address itself.
    pub address: IpAddr,
    /// Length of the subnet's prefix in bits.
    pub prefix: u8,
    /// Network interface; `None` = the one with an address in the subnet.
    pub interface: Option<String>,
    /// Virtual router identifier, 1 to 255; `None` = derived from the address.
    pub vrid: Option<u8>,
    /// VRRP version, 2 or 3.
    pub version: u8,
    /// Interval of advertisements.
    pub interval: Duration,
    /// Proxy hosts in the order in which they should hold the address; empty = the order of the file.
    pub preference: Vec<MemberName>,
    /// Advertise by unicast to the other proxy hosts instead of by multicast.
    pub unicast: bool,
}

impl Vip {
    /// A floating address with everything else at its default.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            interface: None,
            vrid: None,
            version: 3,
            interval: Duration::from_millis(200),
            preference: Vec::new(),
            unicast: false,
        }
    }

    /// Whether `other` lies in this address's subnet.
    pub fn subnet_contains(&self, other: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u32, prefix: u8) -> bool {
            let host_bits = bits - u32::from(prefix).min(bits);
            a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
        }
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32, self.prefix)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128, self.prefix),
            _ => false,
        }
    }
}
