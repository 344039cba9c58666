//! One decision and the virtual routers that follow it: one, or a group (`vip.group`) that hold or leave their addresses
//! together.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, SystemTime};

use ha_core::MonoTime;
use ha_daemon::boottime;
use vrrp::{Action, Event, Headline, SetupError, VirtualRouter};

use crate::configuration::RouterPlan;
use crate::log_queue::LogQueue;
use crate::member::{Finding, Identity, Member};
use crate::netlink::{Message, Picture, Requests};
use crate::peer_channel::{Outgoing, PeerQueue};
use crate::raw_socket::{self, PACKET_MAX};
use crate::snapshot::RouterView;
use crate::virtual_device::Parents;

/// Packets taken from the socket at one go: a few milliseconds of work, more than a full socket holds. A flood must not
/// keep timers waiting.
const PACKETS_AT_ONCE: usize = 512;

/// What all virtual routers of the process act through.
pub(crate) struct Tools {
    pub(crate) requests: Requests,
    pub(crate) parents: Parents,
    pub(crate) log: LogQueue,
    pub(crate) peers: PeerQueue,
}

/// Since 1970, for the stamps of signatures and the numbers of holdings.
fn utc() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A virtual router or a group of them.
pub(crate) struct Router {
    machine: VirtualRouter,
    /// In the machine's order; never empty.
    members: Vec<Member>,
}

impl Router {
    pub(crate) fn new(plans: Vec<RouterPlan>, now: MonoTime) -> Result<Self, SetupError> {
        let machine = VirtualRouter::group(plans.iter().map(|plan| plan.setup.clone()).collect(), now)?;
        Ok(Self { machine, members: plans.into_iter().map(Member::new).collect() })
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let standing = self.members.iter().filter_map(|member| member.standing.as_ref());
        standing.map(|standing| standing.receiver.as_fd())
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.machine.poll_timeout()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.machine.is_stopped()
    }

    /// Whether its interfaces can take part.
    pub(crate) fn is_standing(&self) -> bool {
        self.members.iter().all(|member| member.standing.is_some())
    }

    /// By which packets find their router.
    pub(crate) fn identities(&self) -> impl Iterator<Item = Identity> {
        self.members.iter().filter_map(Member::identity)
    }

    pub(crate) fn event(&mut self, now: MonoTime, event: Event<'_>, tools: &mut Tools) {
        self.event_of(now, 0, event, tools);
    }

    fn event_of(&mut self, now: MonoTime, member: usize, event: Event<'_>, tools: &mut Tools) {
        self.machine.set_utc(now, utc());
        self.machine.handle_event_of(now, member, event);
        self.carry_out(tools);
    }

    pub(crate) fn timeout(&mut self, now: MonoTime, tools: &mut Tools) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.machine.set_utc(now, utc());
            self.machine.handle_timeout(now);
            self.carry_out(tools);
        }
    }

    /// Hands in what has arrived; `all` are the identities of this process's routers. Packets of another of them are
    /// left to it (each has a socket of its own); packets of foreign routers are worth noticing. Gives how many there
    /// were.
    pub(crate) fn receive(&mut self, now: MonoTime, all: &[Identity], tools: &mut Tools) -> usize {
        (0..self.members.len()).map(|member| self.receive_of(now, member, all, tools)).sum()
    }

    fn receive_of(&mut self, now: MonoTime, member: usize, all: &[Identity], tools: &mut Tools) -> usize {
        let mut buffer = [0; PACKET_MAX];
        for number in 0..PACKETS_AT_ONCE {
            let one = &self.members[member];
            let Some((own, standing)) = one.identity().zip(one.standing.as_ref()) else { return number };
            // An error is ENETDOWN or the like: the link's own event says it better.
            let Ok(Some(packet)) = standing.receiver.receive(&mut buffer) else { return number };
            let of_another = raw_socket::named_router(packet)
                .is_some_and(|vrid| own.with(vrid) != own && all.contains(&own.with(vrid)));
            if let (false, Some(source)) = (of_another, raw_socket::source(packet)) {
                self.event_of(now, member, Event::Received { source, packet }, tools);
            }
        }
        PACKETS_AT_ONCE
    }

    /// Other floating addresses than before are no sources of advertisements.
    pub(crate) fn set_floating(&mut self, floating: &[IpAddr]) {
        for member in &mut self.members {
            member.wanted.floating = floating.to_vec();
        }
    }

    /// Whether [`Self::look`] is needed after this change.
    pub(crate) fn is_concerned(&self, change: &Message) -> bool {
        self.members.iter().any(|member| member.is_concerned(change))
    }

    /// Compares the picture with what this router rests on, and tells it the difference.
    pub(crate) fn look(&mut self, picture: &Picture, tools: &mut Tools) {
        for member in 0..self.members.len() {
            while let Finding::Moves(why) = self.look_at(member, picture, tools) {
                self.fall(member, why, tools);
            }
            if self.members[member].has_lost_address(picture, tools) {
                self.event_of(boottime(), member, Event::AddressLost, tools);
            }
        }
    }

    fn look_at(&mut self, member: usize, picture: &Picture, tools: &mut Tools) -> Finding {
        let finding = self.members[member].look(picture, tools);
        match &finding {
            Finding::Falls(why) => self.fall(member, why.clone(), tools),
            Finding::Stands => {
                if let Some(standing) = &self.members[member].standing {
                    let source = standing.place.source;
                    self.event_of(boottime(), member, Event::LinkUp { source }, tools);
                }
            }
            Finding::Same | Finding::Moves(_) => {}
        }
        finding
    }

    /// The interface cannot take part.
    fn fall(&mut self, member: usize, why: String, tools: &mut Tools) {
        // The router may still want to say good-bye and to remove the address: the sockets go after that.
        self.event_of(boottime(), member, Event::LinkDown { why: why.into() }, tools);
        self.members[member].fall();
    }

    /// Does what the machine asks for, in its order.
    fn carry_out(&mut self, tools: &mut Tools) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { member, destination, packet } => {
                    if let Some(member) = self.members.get_mut(member) {
                        member.send(&packet, destination, tools);
                    }
                }
                Action::HoldAddress { lifetime_secs } => self.hold(lifetime_secs, tools),
                Action::DropAddress => self.drop_address(tools),
                Action::Announce => self.members.iter_mut().for_each(|member| member.announce(tools)),
                Action::AskTakeOver { peer, priority, epoch } => {
                    let Some(address) = self.address() else { continue };
                    tools.peers.put(Outgoing::TakeOver { peer, address, priority, epoch });
                }
                Action::Note(reason) if reason.needs_attention() => tools.log.warn(self.vrid(), reason),
                Action::Note(reason) => tools.log.info(self.vrid(), reason),
            }
        }
        if !self.machine.is_speaking() {
            self.members.iter_mut().for_each(|member| member.rest(tools));
        }
    }

    fn vrid(&self) -> Option<u8> {
        self.members.first().map(|member| member.setup.vrid)
    }

    fn hold(&mut self, lifetime_secs: u32, tools: &mut Tools) {
        let mut failed = 0;
        for member in &mut self.members {
            failed += usize::from(!member.hold(lifetime_secs, tools));
        }
        if failed > 0 {
            // Whoever cannot have the address must not go on as its holder: the machine tries again a few times,
            // then leaves it to others.
            self.machine.handle_event(boottime(), Event::AddressLost);
        }
    }

    /// Removes the addresses, whether or not they are known to be here.
    pub(crate) fn drop_address(&mut self, tools: &mut Tools) {
        for member in &mut self.members {
            member.drop_address(tools);
        }
    }

    /// At the end: removes what else was made for it.
    pub(crate) fn leave(&mut self, tools: &mut Tools) {
        self.members.iter_mut().for_each(|member| member.leave(tools));
    }

    /// What the outside is told at once when it changes: of every member, as of [`RouterView::headline`].
    pub(crate) fn headlines(&self) -> impl Iterator<Item = (Headline, bool)> {
        let headline = self.machine.headline();
        self.members.iter().map(move |member| (headline, member.holding.is_some()))
    }

    /// Before the first look: whether an earlier process held the addresses until just now, so that they must not be taken
    /// for leftovers.
    pub(crate) fn recognise(&mut self, picture: &Picture) -> bool {
        let unrecognised =
            self.members.iter_mut().filter_map(|member| (!member.recognise(picture)).then_some(()));
        unrecognised.count() == 0
    }

    /// Starts, where an earlier process ended or anew.
    pub(crate) fn start(&mut self, now: MonoTime, epoch: Option<u64>, tools: &mut Tools) {
        match epoch {
            Some(epoch) if self.members.iter().all(Member::holds_where_it_stands) => {
                self.event(now, Event::Resumed { epoch }, tools);
            }
            _ => self.event(now, Event::Started, tools),
        }
    }

    /// The floating address of the member that decides, as others name the router.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.members.first().map(|member| member.setup.address)
    }

    /// Whether it is the router of this floating address.
    pub(crate) fn is_of(&self, address: IpAddr) -> bool {
        self.members.iter().any(|member| member.setup.address == address)
    }

    /// Shows every member in `views` from `place` on; gives the place behind them.
    pub(crate) fn show(&self, now: MonoTime, views: &mut Vec<RouterView>, place: usize) -> usize {
        for (number, member) in self.members.iter().enumerate() {
            member.show(now, &self.machine, number, views, place + number);
        }
        place + self.members.len()
    }
}
