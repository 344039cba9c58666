//! Which interface a floating address belongs on, and whether that interface can take part now.

use std::net::IpAddr;

use ha_config::Vip;

use crate::announcer::HardwareAddress;
use crate::netlink::{Address, Link, Message, Picture, whole_prefix};
use crate::short_text::InterfaceName;

/// Where a virtual router stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the interface; a new one when an interface is made anew.
    pub(crate) index: u32,
    pub(crate) name: InterfaceName,
    pub(crate) hardware: HardwareAddress,
    /// What advertisements are sent from.
    pub(crate) source: IpAddr,
}

/// What an interface must be to hold a floating address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The floating address; its interface by name, or by its subnet.
    pub(crate) vip: Vip,
    /// What its virtual router puts there: the floating address, and over IPv6 a link-local one.
    pub(crate) addresses: Vec<IpAddr>,
    /// This host's own address: preferred as source, because the other hosts know it.
    pub(crate) own: IpAddr,
    /// Every floating address of the cluster: none of them may become a source (spec: a leftover would otherwise be
    /// taken for the host's own, and decide elections).
    pub(crate) floating: Vec<IpAddr>,
}

impl Wanted {
    /// Whether both ask for the same; how the virtual router decides does not matter, nor which others there are.
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        let place = |wanted: &Self| {
            (wanted.vip.prefix, wanted.vip.interface.clone(), wanted.vip.virtual_mac, wanted.own)
        };
        place(self) == place(other) && self.addresses == other.addresses
    }

    /// Where the virtual router can stand now, or why it cannot.
    pub(crate) fn find(&self, picture: &Picture) -> Result<Place, String> {
        let link = self.link(picture)?;
        let name = link.name;
        if !link.up {
            return Err(format!("{name} is down"));
        }
        if !link.running {
            return Err(format!("{name} has no carrier"));
        }
        let hardware = link.hardware.ok_or_else(|| format!("{name} has no Ethernet address"))?;
        let mut sources = self.own_addresses(picture, link.index);
        let first = sources.clone().next();
        let source = sources.find(|address| *address == self.own).or(first).ok_or_else(|| {
            let kind = match self.vip.address {
                IpAddr::V4(_) => "address",
                IpAddr::V6(_) if self.vip.unicast => "IPv6 address",
                IpAddr::V6(_) => "link-local address",
            };
            format!("{name} has no {kind} of its own")
        })?;
        Ok(Place { index: link.index, name, hardware, source })
    }

    /// Whether this change may lead to another answer of [`Self::find`]. The comings and goings of floating addresses
    /// cannot: there is one each advertisement, and it must cost nothing.
    pub(crate) fn is_concerned(&self, place: Option<&Place>, change: &Message) -> bool {
        let elsewhere = |index: u32| place.is_some_and(|place| place.index != index);
        match change {
            Message::Link(link) => {
                let named = self.vip.interface.as_ref().is_some_and(|name| name == link.name.as_str());
                named || !elsewhere(link.index)
            }
            Message::LinkGone(index) => !elsewhere(*index),
            Message::Address(address) | Message::AddressGone(address) => {
                !self.floating.contains(&address.address) && !elsewhere(address.interface)
            }
            Message::Outcome(_) | Message::Done | Message::Other => false,
        }
    }

    /// Copies of the floating addresses that nobody may be holding now: exactly the /32 or /128, on the interface where it belongs
    /// or on the router's own `device`, or anywhere if marked as ours (the interface may have been another one before).
    pub(crate) fn leftovers<'p>(&self, picture: &'p Picture, device: Option<u32>) -> Vec<&'p Address> {
        let here = [self.link(picture).ok().map(|link| link.index), device];
        let is_left = |address: &&Address| {
            self.addresses.contains(&address.address)
                && address.prefix == whole_prefix(address.address)
                && (address.ours || here.contains(&Some(address.interface)))
        };
        picture.addresses.iter().filter(is_left).collect()
    }

    fn link<'p>(&self, picture: &'p Picture) -> Result<&'p Link, String> {
        if let Some(name) = &self.vip.interface {
            let found = picture.links.iter().find(|link| link.name.as_str() == name);
            return found.ok_or_else(|| format!("there is no interface {name}"));
        }
        let mut inside = picture.addresses.iter().filter(|address| {
            address.prefix < whole_prefix(address.address)
                && !self.floating.contains(&address.address)
                && self.vip.subnet_contains(address.address)
        });
        let first = inside.clone().next();
        let found = inside.find(|address| address.address == self.own).or(first);
        found
            .and_then(|address| picture.links.iter().find(|link| link.index == address.interface))
            .ok_or_else(|| {
                format!(
                    "no interface has an address in the subnet of {}/{}",
                    self.vip.address, self.vip.prefix
                )
            })
    }

    /// Of the floating address's family; over IPv6 link-local ones (RFC 9568 section 5.1.2.1), except by unicast: there the
    /// other hosts know those of the file.
    fn own_addresses<'p>(
        &self,
        picture: &'p Picture,
        index: u32,
    ) -> impl Iterator<Item = IpAddr> + Clone + use<'p, '_> {
        let suitable = |address: &IpAddr| match (self.vip.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) => true,
            (IpAddr::V6(_), IpAddr::V6(address)) => address.is_unicast_link_local() != self.vip.unicast,
            _ => false,
        };
        let here =
            picture.addresses.iter().filter(move |address| address.interface == index && address.primary);
        let here = here.map(|address| address.address);
        here.filter(move |address| suitable(address) && !self.floating.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 1, last].into()
    }

    fn wanted() -> Wanted {
        let (vip, floating) = (Vip::new(ip(10), 24), vec![ip(10), ip(9)]);
        Wanted { vip, addresses: vec![ip(10)], own: ip(21), floating }
    }

    fn link(index: u32, name: &str) -> Link {
        let hardware = Some([2, 0, 0, 0, 0, 1]);
        Link { index, name: name.into(), up: true, running: true, hardware, ..Link::default() }
    }

    fn address(interface: u32, last: u8, prefix: u8) -> Address {
        Address {
            interface,
            address: ip(last),
            prefix,
            primary: true,
            doubtful: false,
            ours: false,
            refreshed: 0,
        }
    }

    fn picture() -> Picture {
        Picture {
            links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
            addresses: vec![address(3, 9, 24), address(2, 20, 24), address(2, 21, 24)],
        }
    }

    #[test]
    fn the_interface_is_found_by_subnet_and_floating_addresses_are_no_sources() {
        let place = wanted().find(&picture()).unwrap();
        assert_eq!((place.index, place.name.as_str(), place.source), (2, "eth0", ip(21)));
        let mut without_own = picture();
        without_own.addresses.pop();
        assert_eq!(wanted().find(&without_own).unwrap().source, ip(20), "the first one");
        without_own.addresses[1].primary = false;
        assert_eq!(wanted().find(&without_own).unwrap_err(), "eth0 has no address of its own");
        without_own.addresses.pop();
        assert!(wanted().find(&without_own).unwrap_err().contains("no interface has an address"));
    }

    #[test]
    fn the_interface_by_name_must_be_there_and_ready() {
        let mut wanted = wanted();
        wanted.vip.interface = Some("eth1".to_owned());
        let mut picture = picture();
        assert_eq!(wanted.find(&picture).unwrap_err(), "eth1 has no address of its own");
        picture.addresses.push(Address { address: IpAddr::from([192, 168, 7, 1]), ..address(3, 0, 24) });
        assert_eq!(wanted.find(&picture).unwrap().source, IpAddr::from([192, 168, 7, 1]));
        picture.links[2].running = false;
        assert_eq!(wanted.find(&picture).unwrap_err(), "eth1 has no carrier");
        picture.links[2].up = false;
        assert_eq!(wanted.find(&picture).unwrap_err(), "eth1 is down");
        picture.links.pop();
        assert_eq!(wanted.find(&picture).unwrap_err(), "there is no interface eth1");
    }

    #[test]
    fn over_ipv6_the_source_is_link_local_and_by_unicast_the_address_of_the_file() {
        let six = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut wanted = wanted();
        (wanted.vip.address, wanted.vip.prefix, wanted.own) = (six("fd00::10"), 64, six("fd00::21"));
        wanted.floating = vec![six("fe80::5e00:20a"), six("fd00::10")];
        let mut picture = picture();
        let no_interface = wanted.find(&picture).unwrap_err();
        assert!(no_interface.contains("in the subnet of fd00::10/64"), "{no_interface}");
        let on = |text| Address { address: six(text), ..address(2, 0, 64) };
        picture.addresses.extend([on("fe80::5e00:20a"), on("fd00::20"), on("fd00::21")]);
        assert_eq!(wanted.find(&picture).unwrap_err(), "eth0 has no link-local address of its own");
        picture.addresses.push(on("fe80::21"));
        assert_eq!(wanted.find(&picture).unwrap().source, six("fe80::21"));
        wanted.vip.unicast = true;
        assert_eq!(wanted.find(&picture).unwrap().source, six("fd00::21"));
    }

    #[test]
    fn only_exact_copies_of_the_address_are_leftovers() {
        let mut picture = picture();
        picture.addresses.extend([address(2, 10, 24), address(2, 10, 32), address(3, 10, 32)]);
        picture.addresses.push(Address { ours: true, ..address(3, 10, 32) });
        let wanted = wanted();
        let found = wanted.leftovers(&picture, None);
        assert_eq!(found, [&picture.addresses[4], &picture.addresses[6]]);
        assert_eq!(wanted.leftovers(&picture, Some(3)).len(), 3, "on the router's own device as well");
    }

    #[test]
    fn refreshed_floating_addresses_and_other_interfaces_concern_nobody() {
        let wanted = wanted();
        let place = wanted.find(&picture()).unwrap();
        let concerned = |change: &Message| wanted.is_concerned(Some(&place), change);
        assert!(!concerned(&Message::Address(address(2, 10, 32))));
        assert!(!concerned(&Message::AddressGone(address(3, 50, 24))));
        assert!(concerned(&Message::AddressGone(address(2, 21, 24))));
        assert!(concerned(&Message::Link(link(2, "eth0"))) && !concerned(&Message::Link(link(3, "eth1"))));
        assert!(concerned(&Message::LinkGone(2)) && !concerned(&Message::LinkGone(3)));
        assert!(wanted.is_concerned(None, &Message::Link(link(9, "eth9"))), "a new one may be the right one");
    }
}
