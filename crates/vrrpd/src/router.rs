//! One virtual router and what it acts through: the sockets of its interface and the kernel's list of addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use ha_core::MonoTime;
use ha_daemon::boottime;
use vrrp::{Action, Event, Setup, SetupError, VirtualRouter};

use crate::announcer::Announcer;
use crate::configuration::RouterPlan;
use crate::interface_watch::{Place, Wanted};
use crate::log_queue::LogQueue;
use crate::netlink::{Message, Picture, Requests, whole_prefix};
use crate::raw_socket::{self, PACKET_MAX, Receiver, Sender};
use crate::snapshot::RouterView;

/// Packets taken from the socket at one go: a few milliseconds of work, more than a full socket holds. A flood must not
/// keep timers waiting.
const PACKETS_AT_ONCE: usize = 512;

/// What a packet must name to be for a virtual router: both families of an interface may have the same identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    interface: u32,
    ipv6: bool,
    vrid: u8,
}

/// What all virtual routers of the process act through.
pub(crate) struct Tools {
    pub(crate) requests: Requests,
    pub(crate) log: LogQueue,
}

/// One virtual router.
pub(crate) struct Router {
    wanted: Wanted,
    setup: Setup,
    machine: VirtualRouter,
    standing: Option<Standing>,
    /// The interface that has the address because of us.
    holding: Option<u32>,
    /// Why it stands nowhere, as last told to the machine.
    absent: Option<String>,
    /// What went wrong last with sending, so that it is logged once and not five times a second.
    trouble: Option<String>,
}

/// Where it stands, while the interface can take part.
struct Standing {
    place: Place,
    receiver: Receiver,
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

impl Router {
    pub(crate) fn new(plan: RouterPlan, now: MonoTime) -> Result<Self, SetupError> {
        let machine = VirtualRouter::new(plan.setup.clone(), now)?;
        let RouterPlan { wanted, setup } = plan;
        Ok(Self { wanted, setup, machine, standing: None, holding: None, absent: None, trouble: None })
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.standing.as_ref().map(|standing| standing.receiver.as_fd())
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.machine.poll_timeout()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.machine.is_stopped()
    }

    /// Whether its interface can take part.
    pub(crate) fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// By which packets find their router.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (ipv6, vrid) = (self.setup.address.is_ipv6(), self.setup.vrid);
        self.standing.as_ref().map(|standing| Identity { interface: standing.place.index, ipv6, vrid })
    }

    pub(crate) fn event(&mut self, now: MonoTime, event: Event, tools: &mut Tools) {
        self.machine.handle_event(now, event);
        self.carry_out(tools);
    }

    pub(crate) fn timeout(&mut self, now: MonoTime, tools: &mut Tools) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
            self.carry_out(tools);
        }
    }

    /// Hands in what has arrived; `all` are the identities of this process's routers. Packets of another of them are
    /// left to it (each has a socket of its own); packets of foreign routers are worth noticing. Gives how many there
    /// were.
    pub(crate) fn receive(&mut self, now: MonoTime, all: &[Identity], tools: &mut Tools) -> usize {
        let mut buffer = [0; PACKET_MAX];
        let Some(own) = self.identity() else { return 0 };
        for number in 0..PACKETS_AT_ONCE {
            let Some(standing) = &self.standing else { return number };
            // An error is ENETDOWN or the like: the link's own event says it better.
            let Ok(Some(packet)) = standing.receiver.receive(&mut buffer) else { return number };
            let named = raw_socket::named_router(packet);
            let of_another =
                named.is_some_and(|vrid| vrid != own.vrid && all.contains(&Identity { vrid, ..own }));
            if let (false, Some(source)) = (of_another, raw_socket::source(packet)) {
                let packet = packet.to_vec();
                self.event(now, Event::Received { source, packet }, tools);
            }
        }
        PACKETS_AT_ONCE
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

    /// Compares the picture with what this router rests on, and tells it the difference.
    pub(crate) fn look(&mut self, picture: &Picture, tools: &mut Tools) {
        let here = self.standing.as_ref().map(|standing| &standing.place);
        match self.wanted.find(picture) {
            Ok(place) if here == Some(&place) => {}
            Ok(place) => self.stand(place, tools),
            Err(why) => self.fall(why, tools),
        }
        self.check_address(picture, tools);
    }

    /// The interface (again) can take part, or has another source address.
    fn stand(&mut self, place: Place, tools: &mut Tools) {
        let same_interface =
            self.standing.as_ref().is_some_and(|standing| standing.place.index == place.index);
        if self.standing.is_some() && !same_interface {
            self.fall(format!("{} is another interface now", place.name), tools);
        }
        match Standing::open(place.clone(), &self.setup) {
            Ok(standing) => {
                let text = format!("on {} from {}", place.name, place.source);
                tools.log.info(Some(self.setup.vrid), text);
                (self.standing, self.absent) = (Some(standing), None);
                self.event(boottime(), Event::LinkUp { source: place.source }, tools);
            }
            Err(error) => self.fall(format!("sockets on {}: {error}", place.name), tools),
        }
    }

    /// The interface cannot take part.
    fn fall(&mut self, why: String, tools: &mut Tools) {
        if self.absent.as_ref() == Some(&why) {
            return; // nothing new
        }
        self.absent = Some(why.clone());
        // The router may still want to say good-bye and to remove the address: the sockets go after that.
        self.event(boottime(), Event::LinkDown { why }, tools);
        self.standing = None;
    }

    /// The addresses must be here exactly when this router holds them.
    fn check_address(&mut self, picture: &Picture, tools: &mut Tools) {
        if let Some(interface) = self.holding {
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
            if lost {
                self.event(boottime(), Event::AddressLost, tools);
            }
            return;
        }
        for left in self.wanted.leftovers(picture) {
            let (vrid, address) = (Some(self.setup.vrid), left.address);
            match tools.requests.remove(left.interface, address, left.prefix) {
                Ok(_) => tools.log.warn(vrid, format!("removed {address}, which was left over here")),
                Err(error) => tools.log.warn(vrid, format!("remove {address}, left over here: {error}")),
            }
        }
    }

    /// Does what the machine asks for, in its order.
    fn carry_out(&mut self, tools: &mut Tools) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { destination, packet } => {
                    let sent = match &self.standing {
                        Some(standing) => standing.sender.send(&packet, destination),
                        None => continue,
                    };
                    self.report("send an advertisement", sent, tools);
                }
                Action::HoldAddress { lifetime_secs } => self.hold(lifetime_secs, tools),
                Action::DropAddress => self.drop_address(tools),
                Action::Announce => {
                    let Some(standing) = &self.standing else { continue };
                    let mut addresses = self.setup.addresses();
                    let announced = addresses.try_for_each(|address| standing.announcer.announce(address));
                    self.report("announce the address", announced, tools);
                }
                Action::Note(reason) if reason.needs_attention() => {
                    tools.log.warn(Some(self.setup.vrid), reason.to_string());
                }
                Action::Note(reason) => tools.log.info(Some(self.setup.vrid), reason.to_string()),
            }
        }
    }

    fn hold(&mut self, lifetime_secs: u32, tools: &mut Tools) {
        let Some(standing) = &self.standing else { return };
        let interface = standing.place.index;
        let mut addresses = self.setup.addresses();
        match addresses.try_for_each(|address| tools.requests.hold(interface, address, lifetime_secs)) {
            Ok(()) => self.holding = Some(interface),
            Err(error) => {
                self.holding = None;
                self.report("install the address", Err(error), tools);
                // Whoever cannot have the address must not go on as its holder: the machine tries again a few times,
                // then leaves it to others.
                self.machine.handle_event(boottime(), Event::AddressLost);
            }
        }
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

    /// Whether it is the router of this floating address.
    pub(crate) fn is_of(&self, address: &str) -> bool {
        self.setup.address.to_string() == address
    }

    pub(crate) fn view(&self, now: MonoTime) -> RouterView {
        let name = self.standing.as_ref().map(|standing| standing.place.name.clone());
        RouterView {
            address: self.setup.address.to_string(),
            vrid: self.setup.vrid,
            version: self.setup.version.number(),
            interface: name.or_else(|| self.wanted.vip.interface.clone()).unwrap_or_default(),
            interval: self.setup.interval,
            holds: self.holding.is_some(),
            status: self.machine.status(now),
        }
    }
}
