//! One virtual router of a group and what it acts through: the sockets of its interface and the kernel's list of addresses.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ha_core::MonoTime;
use vrrp::{Setup, SharedSettings, VirtualRouter};

use crate::announcer::Announcer;
use crate::configuration::RouterPlan;
use crate::interface_watch::{Place, Wanted};
use crate::netlink::{Message, Picture, whole_prefix};
use crate::raw_socket::{Receiver, Sender};
use crate::resumption::is_fresh;
use crate::router::Tools;
use crate::snapshot::RouterView;

/// What a packet must name to be for a virtual router: both families of an interface may have the same identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    interface: u32,
    ipv6: bool,
    vrid: u8,
}

impl Identity {
    /// The same with another identifier.
    pub(crate) fn with(self, vrid: u8) -> Self {
        Self { vrid, ..self }
    }
}

/// Where a member stands, while the interface can take part.
pub(crate) struct Standing {
    pub(crate) place: Place,
    pub(crate) receiver: Receiver,
    sender: Sender,
    announcer: Announcer,
}

impl Standing {
    fn open(place: Place, setup: &Setup) -> io::Result<Self> {
        let receiver = if setup.unicast {
            Receiver::of_address(&place.name, place.index, place.source)
        } else {
            Receiver::of_group(&place.name, place.index, place.source)
        }?;
        let sender = Sender::open(&place.name, place.index, place.source)?;
        let announcer = Announcer::open(place.index, place.hardware)?;
        Ok(Self { place, receiver, sender, announcer })
    }
}

/// What looking at the kernel's picture says to the machine about a member.
pub(crate) enum Finding {
    /// As before.
    Same,
    /// The interface (again) can take part, or has another source address.
    Stands,
    /// It cannot, for this reason; the sockets are still there, so that the machine may say good-bye.
    Falls(String),
    /// It is another interface than before: first it falls, then [`Member::look`] is to be called again.
    Moves(String),
}

/// One virtual router.
pub(crate) struct Member {
    pub(crate) wanted: Wanted,
    pub(crate) setup: Setup,
    /// What must be the same on all hosts.
    settings: Arc<SharedSettings>,
    pub(crate) standing: Option<Standing>,
    /// The interface that has the addresses because of us.
    pub(crate) holding: Option<u32>,
    /// Why it stands nowhere, as last told to the machine.
    absent: Option<String>,
    /// What went wrong last, so that it is logged once and not five times a second.
    trouble: Option<String>,
}

impl Member {
    pub(crate) fn new(plan: RouterPlan) -> Self {
        let RouterPlan { wanted, setup, settings } = plan;
        Self { wanted, setup, settings, standing: None, holding: None, absent: None, trouble: None }
    }

    /// Whether an earlier process held its address until just now; see [`crate::router::Router::recognise`].
    pub(crate) fn recognise(&mut self, picture: &Picture) -> bool {
        // Others take over after three intervals and a skew time.
        let limit = self.setup.interval * 3;
        let mut here = picture.addresses.iter().filter(|one| one.address == self.setup.address);
        self.holding = here.find(|one| is_fresh(one, limit)).map(|one| one.interface);
        self.holding.is_some()
    }

    /// Whether the address is where the sockets are.
    pub(crate) fn holds_where_it_stands(&self) -> bool {
        self.holding.is_some() && self.holding == self.standing.as_ref().map(|standing| standing.place.index)
    }

    /// By which packets find it.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (ipv6, vrid) = (self.setup.address.is_ipv6(), self.setup.vrid);
        self.standing.as_ref().map(|standing| Identity { interface: standing.place.index, ipv6, vrid })
    }

    /// Whether [`Self::look`] is needed after this change.
    pub(crate) fn is_concerned(&self, change: &Message) -> bool {
        let floating = |address: IpAddr| self.setup.addresses().any(|one| one == address);
        match change {
            // Somebody may have put it here, or taken it away; what we do ourselves goes the other way round.
            Message::Address(new) if floating(new.address) => self.holding.is_none(),
            Message::AddressGone(old) if floating(old.address) => self.holding.is_some(),
            _ => {
                let place = self.standing.as_ref().map(|standing| &standing.place);
                self.wanted.is_concerned(place, change)
            }
        }
    }

    /// Compares the picture with what this member rests on; opens the sockets of a new place.
    pub(crate) fn look(&mut self, picture: &Picture, tools: &mut Tools) -> Finding {
        let here = self.standing.as_ref().map(|standing| &standing.place);
        let place = match self.wanted.find(picture) {
            Ok(place) if here == Some(&place) => return Finding::Same,
            Ok(place) => place,
            Err(why) => return self.falls(why),
        };
        if here.is_some_and(|here| here.index != place.index) {
            return Finding::Moves(format!("{} is another interface now", place.name));
        }
        match Standing::open(place.clone(), &self.setup) {
            Ok(standing) => {
                let text = format!("on {} from {}", place.name, place.source);
                tools.log.info(Some(self.setup.vrid), text);
                (self.standing, self.absent) = (Some(standing), None);
                Finding::Stands
            }
            Err(error) => self.falls(format!("sockets on {}: {error}", place.name)),
        }
    }

    fn falls(&mut self, why: String) -> Finding {
        if self.absent.as_ref() == Some(&why) {
            return Finding::Same; // nothing new
        }
        self.absent = Some(why.clone());
        Finding::Falls(why)
    }

    /// Closes the sockets.
    pub(crate) fn fall(&mut self) {
        self.standing = None;
    }

    /// The addresses must be here exactly when this member holds them. Says whether they must and are not.
    pub(crate) fn has_lost_address(&mut self, picture: &Picture, tools: &mut Tools) -> bool {
        let Some(interface) = self.holding else {
            self.remove_leftovers(picture, tools);
            return false;
        };
        let mut lost = false;
        for address in self.setup.addresses() {
            let mut here = picture.addresses.iter().filter(|one| one.interface == interface);
            let found = here.find(|one| one.address == address);
            if found.is_some_and(|one| one.doubtful) {
                // Somebody has put it there in another way than ours; a refresh would leave it as it is.
                let removed = tools.requests.remove(interface, address, whole_prefix(address));
                self.report("remove an address that does not work", removed.map(drop), tools);
            }
            lost |= found.is_none_or(|one| one.doubtful);
        }
        lost
    }

    fn remove_leftovers(&self, picture: &Picture, tools: &mut Tools) {
        for left in self.wanted.leftovers(picture) {
            let (vrid, address) = (Some(self.setup.vrid), left.address);
            match tools.requests.remove(left.interface, address, left.prefix) {
                Ok(_) => tools.log.warn(vrid, format!("removed {address}, which was left over here")),
                Err(error) => tools.log.warn(vrid, format!("remove {address}, left over here: {error}")),
            }
        }
    }

    pub(crate) fn send(&mut self, packet: &[u8], destination: IpAddr, tools: &mut Tools) {
        let Some(standing) = &self.standing else { return };
        let sent = standing.sender.send(packet, destination);
        self.report("send an advertisement", sent, tools);
    }

    pub(crate) fn announce(&mut self, tools: &mut Tools) {
        let Some(standing) = &self.standing else { return };
        let announced = self.setup.addresses().try_for_each(|address| standing.announcer.announce(address));
        self.report("announce the address", announced, tools);
    }

    /// Installs or refreshes the addresses; false when that is not possible.
    pub(crate) fn hold(&mut self, lifetime_secs: u32, tools: &mut Tools) -> bool {
        let Some(standing) = &self.standing else { return true };
        let interface = standing.place.index;
        let mut addresses = self.setup.addresses();
        let held = addresses.try_for_each(|address| tools.requests.hold(interface, address, lifetime_secs));
        self.holding = held.is_ok().then_some(interface);
        if held.is_err() {
            self.report("install the address", held, tools);
        }
        self.holding.is_some()
    }

    /// Removes the addresses, whether or not they are known to be here.
    pub(crate) fn drop_address(&mut self, tools: &mut Tools) {
        let here = self.standing.as_ref().map(|standing| standing.place.index);
        let Some(interface) = self.holding.take().or(here) else { return };
        for address in self.setup.addresses() {
            if let Err(error) = tools.requests.remove(interface, address, whole_prefix(address)) {
                self.report("remove the address", Err(error), tools);
            }
        }
    }

    /// Logs a failure when it is new; the state of the link decides what follows from it.
    fn report(&mut self, what: &str, result: io::Result<()>, tools: &mut Tools) {
        let trouble = result.err().map(|error| format!("{what}: {error}"));
        if let Some(text) = trouble.as_ref().filter(|text| self.trouble.as_ref() != Some(*text)) {
            tools.log.warn(Some(self.setup.vrid), text.clone());
        }
        self.trouble = trouble;
    }

    /// How it looks from outside; it is the member with this number of the machine.
    pub(crate) fn view(&self, now: MonoTime, machine: &VirtualRouter, number: usize) -> RouterView {
        let name = self.standing.as_ref().map(|standing| standing.place.name.clone());
        RouterView {
            address: self.setup.address.to_string(),
            vrid: self.setup.vrid,
            version: self.setup.version.number(),
            interface: name.or_else(|| self.wanted.vip.interface.clone()).unwrap_or_default(),
            interval: self.setup.interval,
            settings: Arc::clone(&self.settings),
            holds: self.holding.is_some(),
            status: machine.status_of(now, number),
        }
    }
}
