//! An interface with a virtual router's own hardware address (`vip.virtual_mac`, RFC 9568 section 7.3): a macvlan on the
//! interface where the router stands. The floating address lies on it, and advertisements and announcements leave by it; the
//! source of advertisements stays the host's own address, and they are received where they always are.
//!
//! It is up only while the router is Active: a Backup must not take frames for the virtual hardware address, and programs
//! that speak on every interface (LLDP, DHCP, mDNS) would else teach switches that it is here.
//!
//! The interface below must neither answer ARP for the floating address nor ask with it as its own: either would spread the
//! host's hardware address. Its earlier settings are written on the devices (`ip link` shows them), so that a process that
//! takes a killed one's place can still restore them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use vrrp::Setup;
use vrrp::frame::{HardwareAddress, virtual_hardware};

use crate::netlink::{ArpSettings, Link, NewDevice, Requests};
use crate::short_text::InterfaceName;

/// What is written on our devices, before the earlier settings of the interface below.
const MARK: &str = "matriarch vrrpd";
/// One less than IPv6 needs (RFC 8200 section 5): on a device for an IPv4 address the kernel has no IPv6 at all, which so can
/// neither be heard there nor take part in anything. Packets that arrive may be longer, and what sessions send leaves by the
/// interface below; advertisements have some fifty bytes.
const MTU_WITHOUT_IPV6: u32 = 1279;

/// What device a virtual router wants.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    parent: u32,
    hardware: HardwareAddress,
}

/// What there is of the name that a device is to have.
#[derive(Debug, PartialEq, Eq)]
enum There<'l> {
    Nothing,
    /// One as it is to be; whoever made it, it does.
    Same(&'l Link),
    /// One of ours that is not, for another interface for instance.
    Outdated(&'l Link),
    Foreign,
}

impl Wanted {
    fn look<'l>(&self, links: &'l [Link]) -> There<'l> {
        let Some(link) = links.iter().find(|link| link.name.as_str() == self.name) else {
            return There::Nothing;
        };
        let same =
            link.bridged_macvlan && link.parent == Some(self.parent) && link.hardware == Some(self.hardware);
        match (same, link.alias.as_str().starts_with(MARK)) {
            (true, _) => There::Same(link),
            (false, true) => There::Outdated(link),
            (false, false) => There::Foreign,
        }
    }
}

/// The name of a virtual router's device.
fn device_name(setup: &Setup) -> String {
    let family = if setup.address.is_ipv6() { 6 } else { 4 };
    format!("vrrp{family}-{}", setup.vrid)
}

/// A virtual router's own interface.
#[derive(Debug)]
pub(crate) struct VirtualDevice {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) hardware: HardwareAddress,
    ipv6: bool,
    /// We have set it up, or found it so.
    up: bool,
}

impl VirtualDevice {
    /// Makes the device on the interface with the index `below`, or takes over the one that an earlier process has left, and
    /// prepares both. The error is in words.
    pub(crate) fn open(
        setup: &Setup,
        below: u32,
        parents: &mut Parents,
        requests: &mut Requests,
    ) -> Result<Self, String> {
        let ipv6 = setup.address.is_ipv6();
        if !ipv6 && let Some(why) = deafness(system_wide) {
            return Err(why);
        }
        let hardware = virtual_hardware(setup.vrid, ipv6);
        let wanted = Wanted { name: device_name(setup), parent: below, hardware };
        let name = &wanted.name;
        let failed = |what: &str, error: io::Error| format!("{what} {name}: {error}");
        let mut links = requests.links().map_err(|error| failed("look for", error))?;
        match wanted.look(&links) {
            There::Same(_) => {}
            There::Foreign => {
                return Err(format!(
                    "there is an interface {name} that vrrpd did not make: remove it, or give the address another vip.vrid"
                ));
            }
            found @ (There::Nothing | There::Outdated(_)) => {
                if let There::Outdated(link) = found {
                    requests.remove_device(link.index).map_err(|error| failed("replace", error))?;
                }
                let mtu = (!ipv6).then_some(MTU_WITHOUT_IPV6);
                let device = NewDevice { name, parent: below, hardware, mtu };
                requests.make_device(device).map_err(|error| failed("make", error))?;
                links = requests.links().map_err(|error| failed("look for", error))?;
            }
        }
        let There::Same(link) = wanted.look(&links) else {
            return Err(format!("{name} was made, and is not as it was to be"));
        };
        let (index, up) = (link.index, link.up);
        let mut prepare = |requests: &mut Requests| {
            requests.prepare_device(index, ipv6)?;
            let earlier = if ipv6 { None } else { parents.quiet(below, &links, requests)? };
            requests.set_alias(index, &mark(earlier))
        };
        prepare(requests).map_err(|error| failed("prepare", error))?;
        let name = wanted.name;
        Ok(Self { index, name, hardware, ipv6, up })
    }

    /// For a router that has none any more: removes the one that a killed process has left, and sets the interface below as it
    /// was, unless another device needs it so. Says whether there was one.
    pub(crate) fn sweep(setup: &Setup, requests: &mut Requests) -> io::Result<bool> {
        let links = requests.links()?;
        let name = device_name(setup);
        let ours = |link: &&Link| link.alias.as_str().starts_with(MARK);
        let Some(left) = links.iter().filter(ours).find(|link| link.name.as_str() == name) else {
            return Ok(false);
        };
        requests.remove_device(left.index)?;
        let mut others = links.iter().filter(ours).filter(|link| link.index != left.index);
        if let (Some(below), Some(earlier)) = (left.parent, earlier_of(left.alias.as_str()))
            && !others.any(|other| other.parent == Some(below))
        {
            requests.set_arp(below, earlier)?;
        }
        Ok(true)
    }

    /// Whether it is still there as it was made.
    pub(crate) fn is_among(&self, links: &[Link]) -> bool {
        let same = |link: &&Link| link.index == self.index;
        links.iter().find(same).is_some_and(|link| link.hardware == Some(self.hardware))
    }

    /// Whether this says that somebody has changed it.
    pub(crate) fn differs(&self, link: &Link) -> bool {
        link.index == self.index && (link.up != self.up || link.hardware != Some(self.hardware))
    }

    /// The router is Active.
    pub(crate) fn raise(&mut self, requests: &mut Requests) -> io::Result<()> {
        self.set(true, requests)
    }

    /// It is no longer.
    pub(crate) fn lower(&mut self, requests: &mut Requests) -> io::Result<()> {
        self.set(false, requests)
    }

    /// Settings of the host for all new interfaces may have come after ours: udev applies them when it hears of one.
    pub(crate) fn prepare(&self, requests: &mut Requests) -> io::Result<()> {
        requests.prepare_device(self.index, self.ipv6)
    }

    fn set(&mut self, up: bool, requests: &mut Requests) -> io::Result<()> {
        if self.up != up {
            if up {
                self.prepare(requests)?;
            }
            requests.set_up(self.index, up)?;
            self.up = up;
        }
        Ok(())
    }

    /// Somebody else has set it up or down.
    pub(crate) fn found(&mut self, up: bool) {
        self.up = up;
    }

    /// Whether routers on the link may give it addresses and routes.
    pub(crate) fn hears_routers(&self) -> bool {
        let value = |name| kernel_value(format_args!("ipv6/conf/{}/{name}", self.name));
        match value("accept_ra") {
            Some(1) => value("forwarding") == Some(0),
            Some(accepts) => accepts > 1,
            None => false,
        }
    }
}

/// What all of our devices on an interface say of it.
fn mark(earlier: Option<ArpSettings>) -> String {
    match earlier {
        Some(ArpSettings { ignore, announce }) => {
            format!("{MARK}: below arp_ignore was {ignore}, arp_announce {announce}")
        }
        None => MARK.to_owned(),
    }
}

/// The reverse.
fn earlier_of(alias: &str) -> Option<ArpSettings> {
    let numbers = alias.strip_prefix(MARK)?.strip_prefix(": below arp_ignore was ")?;
    let (ignore, announce) = numbers.split_once(", arp_announce ")?;
    Some(ArpSettings { ignore: ignore.parse().ok()?, announce: announce.parse().ok()? })
}

/// What an interface below must be set to: no laxer than it was.
fn quiet(earlier: ArpSettings) -> ArpSettings {
    // 2 and 8 answer still less than 1; 3 answers for addresses of other interfaces.
    let ignore = if [0, 3].contains(&earlier.ignore) { 1 } else { earlier.ignore };
    ArpSettings { ignore, announce: 2 }
}

/// How it is to be in the end. What somebody else has set meanwhile stays.
fn restored(now: ArpSettings, earlier: ArpSettings) -> ArpSettings {
    let ours = quiet(earlier);
    let one = |now, ours, earlier| if now == ours { earlier } else { now };
    ArpSettings {
        ignore: one(now.ignore, ours.ignore, earlier.ignore),
        announce: one(now.announce, ours.announce, earlier.announce),
    }
}

/// The interfaces below our devices, and how they were set before.
#[derive(Debug, Default)]
pub(crate) struct Parents(BTreeMap<u32, ArpSettings>);

impl Parents {
    /// Keeps an interface from speaking for the floating address; gives how it was set before. `None` where IPv4 is off.
    fn quiet(
        &mut self,
        index: u32,
        links: &[Link],
        requests: &mut Requests,
    ) -> io::Result<Option<ArpSettings>> {
        let Some(now) = links.iter().find(|link| link.index == index).and_then(|link| link.arp) else {
            return Ok(None);
        };
        let earlier = self.0.get(&index).copied().unwrap_or_else(|| as_before(index, now, links));
        self.0.insert(index, earlier);
        if now != quiet(earlier) {
            requests.set_arp(index, quiet(earlier))?;
        }
        Ok(Some(earlier))
    }

    /// Somebody may have set them back, `sysctl --system` for instance. Gives the interfaces that had to be set again.
    pub(crate) fn keep(
        &self,
        links: &[Link],
        requests: &mut Requests,
    ) -> Vec<(InterfaceName, io::Result<()>)> {
        let mut again = Vec::new();
        for (index, earlier) in &self.0 {
            let link = links.iter().find(|link| link.index == *index);
            if let Some(link) = link.filter(|link| link.arp.is_some_and(|now| now != quiet(*earlier))) {
                again.push((link.name, requests.set_arp(*index, quiet(*earlier))));
            }
        }
        again
    }

    /// Sets all of them as they were before, at the end.
    pub(crate) fn restore(&mut self, requests: &mut Requests) -> io::Result<()> {
        let links = if self.0.is_empty() { Vec::new() } else { requests.links()? };
        for (index, earlier) in std::mem::take(&mut self.0) {
            let link = links.iter().find(|link| link.index == index);
            if let Some(now) = link.and_then(|link| link.arp) {
                requests.set_arp(index, restored(now, earlier))?;
            }
        }
        Ok(())
    }
}

/// How an interface was set before any process of ours changed it.
fn as_before(index: u32, now: ArpSettings, links: &[Link]) -> ArpSettings {
    let on_it = links.iter().filter(|link| link.parent == Some(index));
    on_it.filter_map(|link| earlier_of(link.alias.as_str())).next().unwrap_or(now)
}

/// Settings of all interfaces that would make a device deaf, because it cannot be set to undo them: the kernel joins both.
fn deafness(value: impl Fn(&str) -> Option<u32>) -> Option<String> {
    let set = |name: &str, most: u32, why: &str| {
        let found = value(name).filter(|found| *found > most)?;
        let wanted = if most == 0 { "0".to_owned() } else { format!("0 or {most}") };
        Some(format!("net.ipv4.conf.all.{name} is {found}, vip.virtual_mac needs {wanted}: {why}"))
    };
    set("arp_filter", 0, "nobody could find the floating address, because answers leave by another interface")
        .or_else(|| {
            set("arp_ignore", 1, "the floating address would be found on the wrong interface or not at all")
        })
}

fn system_wide(name: &str) -> Option<u32> {
    kernel_value(format_args!("ipv4/conf/all/{name}"))
}

/// Of the network namespace in which this thread is.
fn kernel_value(path: fmt::Arguments<'_>) -> Option<u32> {
    // In place: this is also read by the thread that advertises.
    let (mut name, mut text) = ([0; 128], [0; 16]);
    let mut rest = &mut name[..];
    write!(rest, "/proc/sys/net/{path}").ok()?;
    let unused = rest.len();
    let name = std::str::from_utf8(&name[..128 - unused]).ok()?;
    let length = File::open(name).ok()?.read(&mut text).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: ArpSettings = ArpSettings { ignore: 0, announce: 1 };

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), ..Link::default() }
    }

    fn device() -> Link {
        Link {
            parent: Some(2),
            hardware: Some([0, 0, 0x5E, 0, 1, 51]),
            bridged_macvlan: true,
            alias: mark(Some(BEFORE)).as_str().into(),
            ..link(9, "vrrp4-51")
        }
    }

    #[test]
    fn what_has_the_name_is_taken_over_replaced_or_left_alone() {
        let setup = Setup::new(51, [10, 0, 1, 10]);
        let hardware = virtual_hardware(51, false);
        let wanted = Wanted { name: device_name(&setup), parent: 2, hardware };
        let look = |there: Link| {
            let links = [link(2, "eth0"), there];
            match wanted.look(&links) {
                There::Nothing => "nothing",
                There::Same(_) => "same",
                There::Outdated(_) => "outdated",
                There::Foreign => "foreign",
            }
        };
        assert_eq!(look(link(3, "eth1")), "nothing");
        assert_eq!(look(device()), "same");
        // Killed between making it and writing on it.
        assert_eq!(look(Link { alias: "".into(), ..device() }), "same");
        let other = [0, 0, 0x5E, 0, 1, 52];
        for changed in [
            Link { parent: Some(3), ..device() },
            Link { hardware: Some(other), ..device() },
            Link { bridged_macvlan: false, ..device() },
        ] {
            assert_eq!(look(changed), "outdated");
            assert_eq!(look(Link { alias: "by hand".into(), ..changed }), "foreign");
        }
        let six = Setup::new(255, std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(device_name(&six), "vrrp6-255");
    }

    #[test]
    fn the_settings_of_before_are_those_that_an_earlier_process_found() {
        let now = ArpSettings { ignore: 1, announce: 2 };
        assert_eq!(as_before(2, now, &[link(2, "eth0")]), now);
        assert_eq!(as_before(2, now, &[link(2, "eth0"), device()]), BEFORE);
        assert_eq!(as_before(3, now, &[link(2, "eth0"), device()]), now, "of another interface");
        assert_eq!(earlier_of(&mark(None)), None);
        let quiet_of = |ignore| quiet(ArpSettings { ignore, announce: 0 });
        assert_eq!([0, 1, 2, 3, 8].map(|ignore| quiet_of(ignore).ignore), [1, 1, 2, 1, 8]);
        assert_eq!(quiet_of(0).announce, 2);
        assert_eq!(restored(quiet(BEFORE), BEFORE), BEFORE);
        let meanwhile = ArpSettings { ignore: 8, announce: 2 };
        assert_eq!(restored(meanwhile, BEFORE), ArpSettings { ignore: 8, ..BEFORE });
    }

    #[test]
    fn what_would_make_it_deaf_is_named() {
        let with = |name: &'static str, value| deafness(move |one| (one == name).then_some(value));
        assert_eq!((with("arp_filter", 0), with("arp_ignore", 1), with("rp_filter", 1)), (None, None, None));
        let filter = with("arp_filter", 1).unwrap();
        assert!(
            filter.contains("net.ipv4.conf.all.arp_filter is 1") && filter.contains("needs 0:"),
            "{filter}"
        );
        let ignore = with("arp_ignore", 2).unwrap();
        assert!(ignore.contains("all.arp_ignore is 2") && ignore.contains("needs 0 or 1"), "{ignore}");
    }
}
