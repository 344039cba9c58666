//! `[[vip]]`: floating addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ha_core::MemberName;

use crate::cluster::{DatabaseHost, ProxyHost};
use crate::priorities::PriorityModel;
use crate::reader::Table;
use crate::track::Track;
use crate::units::show_duration;

/// The longest name of a network interface (`IFNAMSIZ` of Linux without its end).
const INTERFACE_NAME_MAX: usize = 15;

/// What signatures behind advertisements (keepalived's `auth_hmac`) mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipSigning {
    /// None are sent, those of others mean nothing.
    Off,
    /// None are sent; wrong ones are told.
    ReceiveOnly,
    /// They are sent; missing and wrong ones are told.
    Permissive,
    /// They are sent, and nothing counts without a right one.
    Enforce,
}

/// One floating address, held by one proxy host at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The address itself.
    pub address: IpAddr,
    /// Length of the subnet's prefix in bits.
    pub prefix: u8,
    /// Floating link-local address beside an IPv6 address; `None` = made from the virtual router identifier, or `address`
    /// is link-local itself.
    pub link_local: Option<Ipv6Addr>,
    /// Network interface; `None` = the one with an address in the subnet.
    pub interface: Option<String>,
    /// Those of one name are held or left together; `None` = alone.
    pub group: Option<String>,
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
    /// By unicast: how many routers an advertisement may have passed, by its TTL or hop limit.
    pub max_hops: u8,
    /// Give the floating address a hardware address of its own (RFC 9568 section 7.3), which moves with it.
    pub virtual_mac: bool,
    /// Signatures behind advertisements.
    pub signing: VipSigning,
    /// How far from our clock the first signature of a host may be; `None` = clocks do not matter.
    pub replay_window: Option<Duration>,
    /// Whether a host that is preferred takes the address back from one that is as healthy.
    pub preempt: bool,
    /// How long it waits before it does.
    pub preempt_delay: Duration,
    /// What priorities are made of.
    pub priority_model: PriorityModel,
    /// What it follows beside pg-proxy.
    pub tracks: Vec<Track>,
}

impl Vip {
    /// A floating address with everything else at its default.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            link_local: None,
            interface: None,
            group: None,
            vrid: None,
            version: 3,
            interval: Duration::from_millis(200),
            preference: Vec::new(),
            unicast: false,
            max_hops: 0,
            virtual_mac: false,
            signing: VipSigning::Off,
            replay_window: None,
            preempt: true,
            preempt_delay: Duration::from_secs(30),
            priority_model: PriorityModel::Tiers,
            tracks: Vec::new(),
        }
    }

    /// The virtual router identifier: as given, or the last byte of the address (1 for 0).
    pub fn router_id(&self) -> u8 {
        let last = match self.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        self.vrid.unwrap_or(last.max(1))
    }

    /// Proxy hosts in the order in which they should hold the address: the preferred ones first, then the others.
    pub fn order<'a>(&'a self, proxies: &'a [ProxyHost]) -> Vec<&'a MemberName> {
        let rest = proxies.iter().map(|host| &host.name).filter(|name| !self.preference.contains(name));
        self.preference.iter().chain(rest).collect()
    }

    /// What differs from another of the same group and must not, because they decide as one.
    pub(crate) fn disagreement(&self, other: &Self, proxies: &[ProxyHost]) -> Option<&'static str> {
        let differs = [
            ("interval", self.interval != other.interval),
            ("preference", self.order(proxies) != other.order(proxies)),
            ("preempt", self.preempt != other.preempt),
            ("preempt_delay", self.preempt_delay != other.preempt_delay),
        ];
        differs.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
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

impl Vip {
    /// Reads one `[[vip]]`; `None` when its address is unusable.
    pub(crate) fn read(table: &Table<'_>, databases: &[DatabaseHost], proxies: &[ProxyHost]) -> Option<Self> {
        let address =
            table.required("address", "an address with its subnet, such as \"10.0.1.10/24\"", |value| {
                let (address, prefix) = value.as_str()?.split_once('/')?;
                let address: IpAddr = address.parse().ok()?;
                let prefix: u8 = prefix.parse().ok()?;
                let longest = if address.is_ipv4() { 32 } else { 128 };
                let usable = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
                (usable && (1..=longest).contains(&prefix)).then_some((address, prefix))
            });
        let version = table.number("version", 2..=3).and_then(|version| u8::try_from(version).ok());
        let vrid = table.number("vrid", 1..=255).and_then(|vrid| u8::try_from(vrid).ok());
        let interface = table
            .read("interface", "the name of a network interface, at most 15 bytes", |value| {
                value
                    .as_str()
                    .filter(|name| (1..=INTERFACE_NAME_MAX).contains(&name.len()))
                    .map(str::to_owned)
            })
            .map(|at| at.value);
        let group = table.read("group", "a name, the same for all that move together", |value| {
            value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        let link_local = table.read("link_local", "an address in fe80::/10", |value| {
            value.as_str()?.parse().ok().filter(Ipv6Addr::is_unicast_link_local)
        });
        let unicast = table.boolean("unicast").unwrap_or(false);
        let virtual_mac = table.boolean("virtual_mac").unwrap_or(false);
        let max_hops = table.number("max_hops", 0..=254).and_then(|hops| u8::try_from(hops).ok());
        let names = "\"off\", \"receive-only\", \"permissive\" or \"enforce\"";
        let signing = table.read("signing", names, |value| match value.as_str()? {
            "off" => Some(VipSigning::Off),
            "receive-only" => Some(VipSigning::ReceiveOnly),
            "permissive" => Some(VipSigning::Permissive),
            "enforce" => Some(VipSigning::Enforce),
            _ => None,
        });
        let window = Duration::from_secs(1)..=Duration::from_secs(300);
        let replay_window = table.duration("replay_window", window);
        let preempt = table.boolean("preempt").unwrap_or(true);
        let preempt_delay = table.duration("preempt_delay", Duration::ZERO..=Duration::from_secs(1000));
        // RFC 9568 §5.2.7: 12 bits of centiseconds.
        let interval = table.duration("interval", Duration::from_millis(10)..=Duration::from_millis(40_950));
        let preference = read_preference(table, proxies);
        let (address, prefix) = address?.value;
        let mut vip = Self::new(address, prefix);
        vip.version = version.unwrap_or(vip.version);
        vip.interval = interval.unwrap_or(vip.interval);
        (vip.vrid, vip.interface, vip.unicast, vip.preference) = (vrid, interface, unicast, preference);
        (vip.link_local, vip.group) = (link_local.map(|at| at.value), group.map(|at| at.value));
        (vip.preempt, vip.max_hops, vip.virtual_mac) = (preempt, max_hops.unwrap_or(0), virtual_mac);
        vip.priority_model = PriorityModel::read(table, proxies);
        if vip.priority_model != PriorityModel::Tiers {
            // A priority that has fallen below another's moves the address; keepalived does not wait either.
            vip.preempt_delay = Duration::ZERO;
        }
        vip.preempt_delay = preempt_delay.unwrap_or(vip.preempt_delay);
        vip.tracks = table.tables("track").iter().filter_map(Track::read).collect();
        vip.check_weights(table);
        vip.signing = signing.map_or(vip.signing, |at| at.value);
        vip.replay_window = replay_window;
        vip.check_protocol(table);
        vip.check_neighbours(table, databases, proxies);
        vip.check_unicast(table, proxies);
        Some(vip)
    }

    fn check_weights(&self, table: &Table<'_>) {
        let weighted = self.tracks.iter().find(|track| track.weight != 0);
        if let (PriorityModel::Tiers, Some(track)) = (&self.priority_model, weighted) {
            let found = format!("weight {} of {}", track.weight, track.name());
            table.refuse("track", found, "weight 0 (a fault), or priority_model = \"keepalived\"");
        }
    }

    fn check_protocol(&self, table: &Table<'_>) {
        if let (Some(window), VipSigning::Off) = (self.replay_window, self.signing) {
            let found = format!("{:?}", show_duration(window));
            table.refuse("replay_window", found, "nothing without vip.signing");
        }
        if self.version == 2 && self.address.is_ipv6() {
            table.refuse("version", "2 with an IPv6 address", "3: VRRP version 2 knows IPv4 only");
        }
        if let Some(link_local) = self.link_local
            && !matches!(self.address, IpAddr::V6(address) if !address.is_unicast_link_local())
        {
            let expected = "nothing: only an IPv6 address that is not link-local has one beside it";
            table.refuse("link_local", format!("{:?}", link_local.to_string()), expected);
        }
        let interval = self.interval;
        if self.version == 2 && (interval.is_zero() || interval.subsec_nanos() != 0) {
            let found = format!("{:?} with version = 2", show_duration(interval));
            table.refuse("interval", found, "whole seconds: VRRP version 2 has no finer unit");
        } else if !interval.subsec_millis().is_multiple_of(10) {
            let found = format!("{:?}", show_duration(interval));
            table.refuse("interval", found, "a multiple of 10ms, the unit of VRRP version 3");
        }
    }

    /// Advertisements can be sent only to addresses of the family that they are about.
    fn check_unicast(&self, table: &Table<'_>, proxies: &[ProxyHost]) {
        if !self.unicast {
            if self.max_hops > 0 {
                let expected = "0, or vip.unicast: multicast never passes a router";
                table.refuse("max_hops", self.max_hops.to_string(), expected);
            }
            return;
        }
        if self.virtual_mac {
            let expected =
                "false with vip.unicast: who needs unicast has no link on which hardware addresses may move";
            table.refuse("virtual_mac", "true", expected);
        }
        if proxies.len() == 1 {
            table.refuse("unicast", "true", "false, or a second [[proxy]] to talk to");
        }
        let mut others = proxies.iter().filter(|host| host.address.is_ipv4() != self.address.is_ipv4());
        if let Some(host) = others.next() {
            let family = if self.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let expected =
                format!("false, or an {family} address of each [[proxy]] ({} {})", host.name, host.address);
            table.refuse("unicast", "true", expected);
        }
    }

    /// The address must be nobody's own, and every proxy host must be able to hold it.
    fn check_neighbours(&self, table: &Table<'_>, databases: &[DatabaseHost], proxies: &[ProxyHost]) {
        let found = format!("\"{}/{}\"", self.address, self.prefix);
        let hosts = databases
            .iter()
            .map(|host| (&host.name, host.address))
            .chain(proxies.iter().map(|host| (&host.name, host.address)));
        if let Some((name, _)) = hosts.clone().find(|(_, address)| *address == self.address) {
            table.refuse("address", found, format!("an address of its own: this one is {name}'s"));
            return;
        }
        if self.is_network_or_broadcast() {
            table.refuse("address", found, "an address that a host can have, not the subnet's first or last");
            return;
        }
        if proxies.is_empty() && !table.report.refused("proxy") {
            table.refuse("address", found, "at least one [[proxy]] that can hold it");
            return;
        }
        let outside: Vec<&str> = proxies
            .iter()
            .filter(|host| !self.subnet_contains(host.address))
            .map(|host| host.name.as_str())
            .collect();
        if self.interface.is_none() && !outside.is_empty() {
            table.refuse(
                "address",
                found,
                format!(
                    "a subnet that contains every proxy host ({} outside), or vip.interface",
                    outside.join(", ")
                ),
            );
        }
    }

    fn is_network_or_broadcast(&self) -> bool {
        let IpAddr::V4(address) = self.address else { return false };
        let host_bits = 32 - u32::from(self.prefix);
        let mask = 1_u32.checked_shl(host_bits).map_or(u32::MAX, |size| size - 1);
        host_bits >= 2 && [0, mask].contains(&(address.to_bits() & mask))
    }
}

fn read_preference(table: &Table<'_>, proxies: &[ProxyHost]) -> Vec<MemberName> {
    let names: Vec<&str> = proxies.iter().map(|host| host.name.as_str()).collect();
    let expected = format!("the name of a [[proxy]]: {}", names.join(", "));
    let mut preference: Vec<MemberName> = Vec::new();
    for entry in table.list("preference", &expected).unwrap_or_default() {
        match proxies.iter().find(|host| host.name.as_str() == entry.value) {
            Some(host) if preference.contains(&host.name) => {
                let found = format!("{:?} a second time", entry.value);
                table.report.push(entry.line, entry.key, found, "each proxy host once");
            }
            Some(host) => preference.push(host.name.clone()),
            None => table.report.push(entry.line, entry.key, format!("{:?}", entry.value), &*expected),
        }
    }
    preference
}
