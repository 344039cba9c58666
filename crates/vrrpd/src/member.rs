//! One virtual router of a group and what it acts through: the sockets of its interface and the kernel's list of addresses.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use ha_core::MonoTime;
use vrrp::{Setup, SharedSettings, VirtualRouter};

use crate::announcer::Announcer;
use crate::configuration::RouterPlan;
use crate::frame_sender::FrameSender;
use crate::interface_watch::{Place, Wanted};
use crate::netlink::{Message, Picture, Requests, whole_prefix};
use crate::raw_socket::{Receiver, Sender};
use crate::resumption::is_fresh;
use crate::router::Tools;
use crate::short_text::InterfaceName;
use crate::snapshot::RouterView;
use crate::virtual_device::VirtualDevice;

/// Alarms that are shown at a time before more memory is asked for.
const ALARMS: usize = 8;

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
    sends: Sends,
    announcer: Announcer,
}

/// What advertisements leave by.
enum Sends {
    /// The interface, from its own hardware address.
    Plain(Sender),
    /// An interface of the virtual router's own, which has the floating address as well.
    Virtual { device: VirtualDevice, sender: FrameSender },
}

impl Standing {
    fn open(place: Place, setup: &Setup, virtual_mac: bool, tools: &mut Tools) -> Result<Self, String> {
        let failed = |error: io::Error| format!("sockets on {}: {error}", place.name);
        let device = if virtual_mac {
            Some(VirtualDevice::open(setup, place.index, &mut tools.parents, &mut tools.requests)?)
        } else {
            let text = match VirtualDevice::sweep(setup, &mut tools.requests) {
                Ok(false) => None,
                Ok(true) => Some("removed the address's own interface, which was left over".to_owned()),
                Err(error) => Some(format!("remove the address's own interface, left over here: {error}")),
            };
            if let Some(text) = text {
                tools.log.warn(Some(setup.vrid), text);
            }
            None
        };
        let receiver = if setup.unicast {
            Receiver::of_address(place.name.as_str(), place.index, place.source)
        } else {
            Receiver::of_group(place.name.as_str(), place.index, place.source)
        };
        let receiver = receiver.map_err(failed)?;
        let (sends, announcer) = match device {
            None => {
                let sender = Sender::open(place.name.as_str(), place.index, place.source).map_err(failed)?;
                (Sends::Plain(sender), Announcer::open(place.index, place.hardware))
            }
            Some(device) => {
                let (index, hardware) = (device.index, device.hardware);
                let sender = FrameSender::open(index, hardware, place.source).map_err(failed)?;
                (Sends::Virtual { device, sender }, Announcer::open(index, hardware))
            }
        };
        Ok(Self { receiver, sends, announcer: announcer.map_err(failed)?, place })
    }

    fn device(&self) -> Option<&VirtualDevice> {
        match &self.sends {
            Sends::Virtual { device, .. } => Some(device),
            Sends::Plain(_) => None,
        }
    }

    fn device_mut(&mut self) -> Option<&mut VirtualDevice> {
        match &mut self.sends {
            Sends::Virtual { device, .. } => Some(device),
            Sends::Plain(_) => None,
        }
    }

    /// The interface that the floating address belongs on.
    fn home(&self) -> u32 {
        self.device().map_or(self.place.index, |device| device.index)
    }

    fn send(&mut self, packet: &[u8], destination: IpAddr, requests: &mut Requests) -> io::Result<()> {
        match &mut self.sends {
            Sends::Plain(sender) => sender.send(packet, destination),
            Sends::Virtual { device, sender } => {
                device.raise(requests)?;
                sender.send(packet, destination)
            }
        }
    }

    fn hold(&mut self, address: IpAddr, lifetime_secs: u32, requests: &mut Requests) -> io::Result<()> {
        if let Sends::Virtual { device, .. } = &mut self.sends {
            device.raise(requests)?;
        }
        requests.hold(self.home(), address, lifetime_secs)
    }

    /// How it is called in the log.
    fn shown(&self) -> String {
        let Place { name, source, .. } = &self.place;
        match self.device() {
            None => format!("on {name} from {source}"),
            Some(device) => format!("on {name} from {source}, by {}", device.name),
        }
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
    /// Its own device, while it stands nowhere.
    left: Option<u32>,
    /// It was said that routers may give addresses to its device.
    warned: bool,
}

impl Member {
    pub(crate) fn new(plan: RouterPlan) -> Self {
        let RouterPlan { wanted, setup, settings } = plan;
        Self {
            wanted,
            setup,
            settings,
            standing: None,
            holding: None,
            absent: None,
            trouble: None,
            left: None,
            warned: false,
        }
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
        self.holding.is_some() && self.holding == self.standing.as_ref().map(Standing::home)
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
            Message::Link(link) if self.device().is_some_and(|device| device.differs(link)) => true,
            Message::LinkGone(index) if self.device().is_some_and(|device| device.index == *index) => true,
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
            // Its own device may be gone: then everything is opened anew, and the address will be missed.
            Ok(place) if here == Some(&place) && self.has_device(picture) => {
                self.look_at_device(tools);
                return Finding::Same;
            }
            Ok(place) => place,
            Err(why) => return self.falls(why),
        };
        if here.is_some_and(|here| here.index != place.index) {
            return Finding::Moves(format!("{} is another interface now", place.name));
        }
        match Standing::open(place, &self.setup, self.wanted.vip.virtual_mac, tools) {
            Ok(standing) => {
                tools.log.info(Some(self.setup.vrid), standing.shown());
                (self.standing, self.absent) = (Some(standing), None);
                Finding::Stands
            }
            Err(why) => self.falls(why),
        }
    }

    fn device(&self) -> Option<&VirtualDevice> {
        self.standing.as_ref().and_then(Standing::device)
    }

    /// Whether its own device is there, if it has one.
    fn has_device(&self, picture: &Picture) -> bool {
        self.device().is_none_or(|device| device.is_among(&picture.links))
    }

    /// Its own device may have been set up or down by somebody. Says whether it is up, or there is none.
    fn find_device(&mut self, picture: &Picture) -> bool {
        let Some(device) = self.standing.as_mut().and_then(Standing::device_mut) else { return true };
        let link = picture.links.iter().find(|link| link.index == device.index);
        // One that is not in the picture was made after it, and down.
        link.is_none_or(|link| {
            device.found(link.up);
            link.up
        })
    }

    /// Once it is there for a while, so that the host's settings for new interfaces have come into force.
    fn look_at_device(&mut self, tools: &mut Tools) {
        if let Some(Err(error)) = self.device().map(|device| device.prepare(&mut tools.requests)) {
            self.report("prepare its interface", Err(error), tools);
        }
        let hears = self.device().filter(|device| !self.warned && device.hears_routers());
        if let Some(device) = hears {
            let name = &device.name;
            let text = format!(
                "{name} takes addresses and routes from routers on the link: set net.ipv6.conf.{name}.accept_ra to 0"
            );
            tools.log.warn(Some(self.setup.vrid), text);
            self.warned = true;
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
        self.left = self.device().map(|device| device.index);
        self.standing = None;
    }

    /// The addresses must be here exactly when this member holds them. Says whether they must and are not.
    pub(crate) fn has_lost_address(&mut self, picture: &Picture, tools: &mut Tools) -> bool {
        let Some(interface) = self.holding else {
            self.remove_leftovers(picture, tools);
            self.find_device(picture);
            self.rest(tools);
            return false;
        };
        // Set down by somebody: an IPv4 address stays on it, and nobody can reach it.
        let mut lost = !self.find_device(picture);
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
        let device = self.device().map(|device| device.index);
        for left in self.wanted.leftovers(picture, device) {
            let (vrid, address) = (Some(self.setup.vrid), left.address);
            match tools.requests.remove(left.interface, address, left.prefix) {
                Ok(_) => tools.log.warn(vrid, format!("removed {address}, which was left over here")),
                Err(error) => tools.log.warn(vrid, format!("remove {address}, left over here: {error}")),
            }
        }
    }

    pub(crate) fn send(&mut self, packet: &[u8], destination: IpAddr, tools: &mut Tools) {
        let Some(standing) = &mut self.standing else { return };
        let sent = standing.send(packet, destination, &mut tools.requests);
        self.report("send an advertisement", sent, tools);
    }

    pub(crate) fn announce(&mut self, tools: &mut Tools) {
        let Some(standing) = &self.standing else { return };
        let announced = self.setup.addresses().try_for_each(|address| standing.announcer.announce(address));
        self.report("announce the address", announced, tools);
    }

    /// Installs or refreshes the addresses; false when that is not possible.
    pub(crate) fn hold(&mut self, lifetime_secs: u32, tools: &mut Tools) -> bool {
        let Some(standing) = &mut self.standing else { return true };
        let mut addresses = self.setup.addresses();
        let held =
            addresses.try_for_each(|address| standing.hold(address, lifetime_secs, &mut tools.requests));
        self.holding = held.is_ok().then_some(standing.home());
        if held.is_err() {
            self.report("install the address", held, tools);
        }
        self.holding.is_some()
    }

    /// Removes the addresses, whether or not they are known to be here.
    pub(crate) fn drop_address(&mut self, tools: &mut Tools) {
        let here = self.standing.as_ref().map(Standing::home);
        let Some(interface) = self.holding.take().or(here) else { return };
        for address in self.setup.addresses() {
            if let Err(error) = tools.requests.remove(interface, address, whole_prefix(address)) {
                self.report("remove the address", Err(error), tools);
            }
        }
    }

    /// Its router does not speak: neither does its device.
    pub(crate) fn rest(&mut self, tools: &mut Tools) {
        if self.holding.is_some() {
            return; // from an earlier process: it is not decided yet whether this one goes on
        }
        if let Some(device) = self.standing.as_mut().and_then(Standing::device_mut)
            && let Err(error) = device.lower(&mut tools.requests)
        {
            self.report("set its interface down", Err(error), tools);
        }
    }

    /// At the end.
    pub(crate) fn leave(&mut self, tools: &mut Tools) {
        if let Some(index) = self.device().map(|device| device.index).or(self.left) {
            let removed = tools.requests.remove_device(index);
            self.report("remove its interface", removed, tools);
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

    /// Shows how it looks from outside at this place of `views`, in the memory of what stands there; it is the member with this
    /// number of the machine.
    pub(crate) fn show(
        &self,
        now: MonoTime,
        machine: &VirtualRouter,
        number: usize,
        views: &mut Vec<RouterView>,
        place: usize,
    ) {
        let earlier = views.get_mut(place).map(|view| mem::take(&mut view.status.alarms));
        let alarms = earlier.unwrap_or_else(|| Vec::with_capacity(ALARMS));
        let view = RouterView {
            address: self.setup.address,
            vrid: self.setup.vrid,
            version: self.setup.version.number(),
            interface: self.interface(),
            interval: self.setup.interval,
            settings: Arc::clone(&self.settings),
            holds: self.holding.is_some(),
            status: machine.status_in(now, number, alarms),
        };
        match views.get_mut(place) {
            Some(earlier) => *earlier = view,
            None => views.push(view),
        }
    }

    /// Where it stands, or is to stand.
    fn interface(&self) -> InterfaceName {
        let here = self.standing.as_ref().map(|standing| standing.place.name);
        let named = || self.wanted.vip.interface.as_deref().map(InterfaceName::from);
        here.or_else(named).unwrap_or_default()
    }
}
