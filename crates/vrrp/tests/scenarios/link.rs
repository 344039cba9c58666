//! A link with hosts on it, in virtual time. Each host drives its router as the program does: packets first, then the
//! timer, then the actions. The address is on a lease that runs out with the host's clock, not with its router.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ha_core::{MemberName, MonoTime};
use vrrp::packet::{self, group_of};
use vrrp::{Action, Event, ProxyHealth, Reason, Setup, State, Status, Version, VirtualRouter};

pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 10));
pub(crate) const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10));
pub(crate) const INTERVAL: Duration = ms(200);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Own address of a host.
pub(crate) fn address(host: usize) -> IpAddr {
    IpAddr::from([10, 0, 1, 21 + u8::try_from(host).expect("few hosts")])
}

/// Its link-local address.
pub(crate) fn address_v6(host: usize) -> IpAddr {
    IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x21 + u16::try_from(host).expect("few hosts")])
}

/// The settings of host 0 (preferred), 1, ... of two or three.
pub(crate) fn setup(host: usize) -> Setup {
    let peers = (0..3).filter(|other| *other != host).map(address).collect();
    let preference = 39 - u8::try_from(host).expect("few hosts");
    // No longer delays for an address that moves often, but where that is looked at.
    Setup { preference, peers, preempt_delay_limit: Duration::ZERO, ..Setup::new(51, VIP) }
}

pub(crate) fn setup_v2(host: usize) -> Setup {
    let (version, interval) = (Version::V2, Duration::from_secs(1));
    Setup { version, interval, auth: Some(*b"cfgha26\0"), ..setup(host) }
}

/// Over IPv6, where the others' link-local addresses are not known beforehand.
pub(crate) fn setup_v6(host: usize) -> Setup {
    Setup { preference: 39 - u8::try_from(host).expect("few hosts"), ..Setup::new(51, VIP_V6) }
}

/// What a host did that can be seen on the wire or in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Advertised { priority: u8 },
    Installed,
    Removed,
    Announced,
    Noted(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Running,
    /// Stopped by a signal or a hypervisor: packets queue up, the clock goes on.
    Frozen,
    Off,
}

pub(crate) struct Host {
    /// Own address on the link of each member.
    sources: Vec<IpAddr>,
    pub(crate) router: VirtualRouter,
    condition: Condition,
    link: bool,
    /// When the kernel removes the address.
    lease: Option<MonoTime>,
    queue: Vec<(usize, IpAddr, Vec<u8>)>,
}

impl Host {
    /// A new program, which has not started yet; the address of the old one stays while its lease runs.
    pub(crate) fn revive(&mut self, setup: Setup, now: MonoTime) {
        self.router = VirtualRouter::new(setup, now).expect("a usable setup");
        self.condition = Condition::Running;
        self.queue.clear();
    }
}

/// Host and member that a packet comes to, its source, and itself.
type Arrival = (usize, usize, IpAddr, Vec<u8>);

pub(crate) struct Link {
    pub(crate) now: MonoTime,
    pub(crate) hosts: Vec<Host>,
    pub(crate) seen: Vec<(MonoTime, usize, Seen)>,
    /// One way, without jitter.
    pub(crate) delay: Duration,
    /// Up to this much more.
    pub(crate) jitter: Duration,
    /// Of a thousand.
    pub(crate) loss: u64,
    /// Pairs (from, to) that hear nothing.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Members of groups whose packets are lost everywhere.
    pub(crate) mute: BTreeSet<usize>,
    pub(crate) random: u64,
    /// Who asked whom over the peer channel to take over, with which priority and number.
    pub(crate) asked: Vec<(usize, MemberName, u8, u64)>,
    /// The last message that was sent.
    pub(crate) last_packet: Option<Vec<u8>>,
    in_flight: BTreeMap<(MonoTime, u64), Arrival>,
    sent: u64,
}

impl Link {
    /// Hosts that are not started yet.
    pub(crate) fn new(setups: impl IntoIterator<Item = Setup>) -> Self {
        Self::of_groups(setups.into_iter().map(|setup| vec![setup]))
    }

    /// Hosts with a group each; members of one number belong together, and each family has one at most.
    pub(crate) fn of_groups(groups: impl IntoIterator<Item = Vec<Setup>>) -> Self {
        let now = MonoTime(1_000_000_000_000);
        let source = |number, setup: &Setup| {
            if setup.address.is_ipv4() { address(number) } else { address_v6(number) }
        };
        let host = |(number, group): (usize, Vec<Setup>)| Host {
            sources: group.iter().map(|setup| source(number, setup)).collect(),
            router: VirtualRouter::group(group, now).expect("a usable setup"),
            condition: Condition::Running,
            link: true,
            lease: None,
            queue: Vec::new(),
        };
        Self {
            now,
            hosts: groups.into_iter().enumerate().map(host).collect(),
            seen: Vec::new(),
            delay: Duration::from_micros(200),
            jitter: Duration::ZERO,
            loss: 0,
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            random: 7,
            asked: Vec::new(),
            last_packet: None,
            in_flight: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Two hosts of ours that serve, the preferred one Active.
    pub(crate) fn settled() -> Self {
        Self::settled_with([setup(0), setup(1)])
    }

    pub(crate) fn settled_with(setups: impl IntoIterator<Item = Setup>) -> Self {
        let mut link = Self::new(setups);
        link.start_all();
        link.run(Duration::from_secs(10));
        assert_eq!(link.actives(), [0]);
        link.seen.clear();
        link
    }

    pub(crate) fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
    }

    /// Program and proxy of a host start.
    pub(crate) fn start(&mut self, host: usize) {
        self.links_up(host);
        self.event(host, Event::Started);
        self.proxy(host, ProxyHealth::Serving);
    }

    pub(crate) fn proxy(&mut self, host: usize, health: ProxyHealth) {
        self.event(host, Event::ProxyChanged(health));
    }

    pub(crate) fn event(&mut self, host: usize, event: Event<'_>) {
        self.event_of(host, 0, event);
    }

    pub(crate) fn event_of(&mut self, host: usize, member: usize, event: Event<'_>) {
        self.hosts[host].router.handle_event_of(self.now, member, event);
        self.carry_out(host);
    }

    pub(crate) fn link_up(&mut self, host: usize, member: usize) {
        let source = self.hosts[host].sources[member];
        self.event_of(host, member, Event::LinkUp { source });
    }

    fn links_up(&mut self, host: usize) {
        for member in 0..self.hosts[host].sources.len() {
            self.link_up(host, member);
        }
    }

    /// Another address of its own for a member.
    pub(crate) fn set_source(&mut self, host: usize, member: usize, source: IpAddr) {
        self.hosts[host].sources[member] = source;
        self.link_up(host, member);
    }

    /// Power off, or SIGKILL for the program with the lease left to run.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].condition = Condition::Off;
    }

    pub(crate) fn freeze(&mut self, host: usize) {
        self.hosts[host].condition = Condition::Frozen;
    }

    pub(crate) fn thaw(&mut self, host: usize) {
        self.hosts[host].condition = Condition::Running;
        for (member, source, packet) in std::mem::take(&mut self.hosts[host].queue) {
            self.event_of(host, member, Event::Received { source, packet: &packet });
        }
        self.hosts[host].router.handle_timeout(self.now);
        self.carry_out(host);
    }

    /// A new program in place of the dead one.
    pub(crate) fn replace(&mut self, host: usize, setup: Setup) {
        self.hosts[host].router = VirtualRouter::new(setup, self.now).expect("a usable setup");
        self.hosts[host].condition = Condition::Running;
        self.hosts[host].queue.clear();
        self.start(host);
    }

    pub(crate) fn unplug(&mut self, host: usize) {
        self.hosts[host].link = false;
        for member in 0..self.hosts[host].sources.len() {
            self.event_of(host, member, Event::LinkDown { why: "no carrier".into() });
        }
    }

    pub(crate) fn plug(&mut self, host: usize) {
        self.hosts[host].link = true;
        self.links_up(host);
    }

    /// Sets every clock to this time in UTC.
    pub(crate) fn set_utc(&mut self, utc: Duration) {
        for host in 0..self.hosts.len() {
            self.set_utc_of(host, utc);
        }
    }

    pub(crate) fn set_utc_of(&mut self, host: usize, utc: Duration) {
        self.hosts[host].router.set_utc(self.now, utc);
    }

    /// Neither hears the other any more.
    pub(crate) fn part(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    /// A packet from nowhere arrives at a host.
    pub(crate) fn inject(&mut self, host: usize, source: IpAddr, packet: Vec<u8>) {
        self.event(host, Event::Received { source, packet: &packet });
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Runs until the condition holds after some step; how long that took.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let (begin, end) = (self.now, self.now + limit);
        while !done(self) {
            assert!(self.step(end), "not within {limit:?}: {:#?}", self.seen);
        }
        self.now.since(begin)
    }

    /// The next thing that happens before `end`; false when that is nothing.
    fn step(&mut self, end: MonoTime) -> bool {
        let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let awake = self.hosts.iter().filter(|host| host.condition == Condition::Running);
        let timer = awake.filter_map(|host| host.router.poll_timeout()).min();
        let lease = self.hosts.iter().filter_map(|host| host.lease).min();
        let next = [arrival, timer, lease].into_iter().flatten().min().filter(|next| *next <= end);
        self.now = self.now.max(next.unwrap_or(end));
        if next.is_none() {
            return false;
        }
        self.expire_leases();
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, member, source, packet) = entry.remove();
            self.deliver(to, member, source, packet);
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].condition == Condition::Running {
                self.hosts[host].router.handle_timeout(self.now);
                self.carry_out(host);
            }
        }
        true
    }

    fn expire_leases(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].lease.is_some_and(|lease| lease <= self.now) {
                self.hosts[host].lease = None;
                self.seen.push((self.now, host, Seen::Removed));
            }
        }
    }

    fn deliver(&mut self, to: usize, member: usize, source: IpAddr, packet: Vec<u8>) {
        if !self.hosts[to].link {
            return;
        }
        match self.hosts[to].condition {
            Condition::Running => {
                self.event_of(to, member, Event::Received { source, packet: &packet });
            }
            Condition::Frozen => self.hosts[to].queue.push((member, source, packet)),
            Condition::Off => {}
        }
    }

    fn carry_out(&mut self, host: usize) {
        while let Some(action) = self.hosts[host].router.poll_action() {
            let seen = match action {
                Action::Send { member, destination, packet } => {
                    let priority = packet[2];
                    self.transmit(host, member, destination, &packet);
                    Seen::Advertised { priority }
                }
                Action::HoldAddress { lifetime_secs } => {
                    let until = self.now + Duration::from_secs(u64::from(lifetime_secs));
                    if self.hosts[host].lease.replace(until).is_some() {
                        continue;
                    }
                    Seen::Installed
                }
                Action::DropAddress => {
                    if self.hosts[host].lease.take().is_none() {
                        continue;
                    }
                    Seen::Removed
                }
                Action::Announce => Seen::Announced,
                Action::AskTakeOver { peer, priority, epoch } => {
                    self.asked.push((host, peer, priority, epoch));
                    continue;
                }
                Action::Note(reason) => Seen::Noted(reason),
            };
            self.seen.push((self.now, host, seen));
        }
    }

    fn transmit(&mut self, from: usize, member: usize, destination: IpAddr, message: &[u8]) {
        let source = self.hosts[from].sources[member];
        self.last_packet = Some(message.to_vec());
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let addressed = destination == group_of(source) || self.hosts[to].sources.contains(&destination);
            let lost = self.next_random() % 1000 < self.loss || self.cut.contains(&(from, to));
            let lost = lost || self.mute.contains(&member);
            if !addressed || lost || !self.hosts[from].link {
                continue;
            }
            let jitter = u64::try_from(self.jitter.as_nanos()).expect("a short time");
            let delay = self.delay + Duration::from_nanos(self.next_random() % (jitter + 1));
            self.sent += 1;
            let packet = ip_packet(source, destination, message);
            self.in_flight.insert((self.now + delay, self.sent), (to, member, source, packet));
        }
    }

    fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn status(&self, host: usize) -> Status {
        self.hosts[host].router.status(self.now)
    }

    pub(crate) fn state(&self, host: usize) -> State {
        self.status(host).state
    }

    pub(crate) fn is_up(&self, host: usize) -> bool {
        self.hosts[host].condition == Condition::Running
    }

    /// Hosts that are up and whose router is Active.
    pub(crate) fn actives(&self) -> Vec<usize> {
        let up = |host: &usize| self.hosts[*host].condition == Condition::Running;
        (0..self.hosts.len()).filter(up).filter(|host| self.state(*host) == State::Active).collect()
    }

    /// Hosts that have the address, dead ones included while their lease runs.
    pub(crate) fn owners(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].lease.is_some()).collect()
    }

    /// When a host did this for the first time since [`Self::seen`] was cleared.
    pub(crate) fn first(&self, host: usize, what: &Seen) -> Option<MonoTime> {
        self.seen.iter().find(|(_, who, seen)| *who == host && seen == what).map(|(at, ..)| *at)
    }

    pub(crate) fn times(&self, host: usize, what: &Seen) -> Vec<MonoTime> {
        self.seen.iter().filter(|(_, who, seen)| *who == host && seen == what).map(|(at, ..)| *at).collect()
    }

    pub(crate) fn noted(&self, host: usize, matches: impl Fn(&Reason) -> bool) -> bool {
        self.seen
            .iter()
            .any(|(_, who, seen)| *who == host && matches!(seen, Seen::Noted(reason) if matches(reason)))
    }
}

/// The packet as it arrives.
pub(crate) fn ip_packet(source: IpAddr, destination: IpAddr, message: &[u8]) -> Vec<u8> {
    let length =
        |header: usize| u16::try_from(header + message.len()).expect("a short message").to_be_bytes();
    let (mut packet, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = length(20);
            let packet = vec![0x45, packet::TOS, high, low, 0, 1, 0, 0, packet::TTL, 112, 0, 0];
            (packet, [source.octets(), destination.octets()].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length(0);
            (
                vec![0x6c, 0, 0, 0, high, low, 112, packet::TTL],
                [source.octets(), destination.octets()].concat(),
            )
        }
        _ => panic!("{source} to {destination}"),
    };
    packet.extend(addresses);
    packet.extend(message);
    packet
}
