//! Whatever happened before: after a Down interval of perfect delivery there is exactly one Active.

use std::time::Duration;

use proptest::prelude::*;
use vrrp::checksum::{Coverage, checksum};
use vrrp::packet::{Advertisement, Auth, GROUP, encode};
use vrrp::{Event, ProxyHealth, Setup, State, Version};

use crate::link::{INTERVAL, Link, VIP, address, ip_packet, ms, setup};

const HOSTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Proxy(usize, ProxyHealth),
    Freeze(usize),
    Thaw(usize),
    Restart(usize),
    Unplug(usize),
    Plug(usize),
    Cut(usize, usize),
    Mend,
    Lose(u64),
    AddressLost(usize),
    Maintenance(usize, bool),
    Stop(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let host = || 0..HOSTS;
    let health =
        prop_oneof![Just(ProxyHealth::Dead), Just(ProxyHealth::Draining), Just(ProxyHealth::Serving)];
    prop_oneof![
        6 => (1..2000_u64).prop_map(Step::Wait),
        3 => (host(), health).prop_map(|(host, health)| Step::Proxy(host, health)),
        1 => host().prop_map(Step::Freeze),
        1 => host().prop_map(Step::Thaw),
        1 => host().prop_map(Step::Restart),
        1 => host().prop_map(Step::Unplug),
        1 => host().prop_map(Step::Plug),
        1 => (host(), host()).prop_map(|(from, to)| Step::Cut(from, to)),
        1 => Just(Step::Mend),
        1 => (0..900_u64).prop_map(Step::Lose),
        1 => host().prop_map(Step::AddressLost),
        1 => (host(), any::<bool>()).prop_map(|(host, on)| Step::Maintenance(host, on)),
        1 => host().prop_map(Step::Stop),
    ]
}

/// What happens on a wire that loses nothing, to programs that are never stopped.
fn calm_steps() -> impl Strategy<Value = Step> {
    steps().prop_filter("a wire that loses, or a program that stands still", |step| {
        !matches!(step, Step::Freeze(_) | Step::Thaw(_) | Step::Cut(..) | Step::Mend | Step::Lose(_))
    })
}

/// A world with the conditions of its hosts, so that each step is one that can happen.
struct World {
    link: Link,
    frozen: [bool; HOSTS],
    unplugged: [bool; HOSTS],
    setup: fn(usize, bool) -> Setup,
    preempt: bool,
}

impl World {
    fn new(preempt: bool, seed: u64) -> Self {
        let setup =
            |host, preempt| Setup { preempt, preempt_delay: ms(300), link_settle: ms(500), ..setup(host) };
        let mut link = Link::new((0..HOSTS).map(|host| setup(host, preempt)));
        (link.random, link.jitter) = (seed, ms(3));
        link.start_all();
        Self { link, frozen: [false; HOSTS], unplugged: [false; HOSTS], setup, preempt }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Wait(millis) => self.link.run(ms(millis)),
            Step::Lose(of_thousand) => self.link.loss = of_thousand,
            Step::Mend => self.link.cut.clear(),
            Step::Cut(from, to) => {
                self.link.cut.insert((from, to));
            }
            Step::Thaw(host) => self.thaw(host),
            Step::Plug(host) => self.plug(host),
            Step::Proxy(host, _)
            | Step::Freeze(host)
            | Step::Restart(host)
            | Step::Unplug(host)
            | Step::AddressLost(host)
            | Step::Maintenance(host, _)
            | Step::Stop(host)
                if self.frozen[host] => {}
            Step::Proxy(host, health) => self.link.proxy(host, health),
            Step::Freeze(host) => {
                self.frozen[host] = true;
                self.link.freeze(host);
            }
            Step::Restart(host) => {
                self.plug(host);
                self.link.replace(host, (self.setup)(host, self.preempt));
            }
            Step::Unplug(host) => {
                self.unplugged[host] = true;
                self.link.unplug(host);
            }
            Step::AddressLost(host) => self.link.event(host, Event::AddressLost),
            Step::Maintenance(host, on) => self.link.event(host, Event::MaintenanceChanged(on)),
            Step::Stop(host) => self.link.event(host, Event::Stop),
        }
    }

    fn thaw(&mut self, host: usize) {
        if std::mem::take(&mut self.frozen[host]) {
            self.link.thaw(host);
        }
    }

    fn plug(&mut self, host: usize) {
        if !self.frozen[host] && std::mem::take(&mut self.unplugged[host]) {
            self.link.plug(host);
        }
    }

    fn check_each_router(&self) {
        for host in 0..HOSTS {
            let status = self.link.status(host);
            assert_eq!(status.holds_address, status.state == State::Active, "host {host}");
            assert!((10..=189).contains(&status.priority));
            if !self.frozen[host] && status.state != State::Active {
                assert!(!self.link.owners().contains(&host), "an address without being Active");
            }
        }
    }

    fn heal(&mut self) {
        (self.link.loss, self.link.jitter) = (0, Duration::ZERO);
        self.link.cut.clear();
        for host in 0..HOSTS {
            self.thaw(host);
            self.plug(host);
        }
        self.link.run(ms(50)); // a stop that has begun comes to its end
        for host in 0..HOSTS {
            self.link.event(host, Event::MaintenanceChanged(false));
            if self.link.hosts[host].router.is_stopped() {
                self.link.event(host, Event::Started);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn exactly_one_active_after_a_down_interval_of_perfect_delivery(
        steps in prop::collection::vec(steps(), 0..60),
        preempt: bool,
        seed: u64,
    ) {
        let mut world = World::new(preempt, seed);
        for step in steps {
            world.apply(step);
            world.check_each_router();
        }
        world.heal();
        // The longest Down interval there is.
        world.link.run(INTERVAL * 4);
        let mut two_since = None;
        for _ in 0..400 {
            world.link.run(ms(2));
            world.check_each_router();
            let actives = world.link.actives();
            prop_assert!(!actives.is_empty(), "nobody holds the address");
            // A handover overlaps for as long as one advertisement travels.
            let since = *two_since.get_or_insert(world.link.now);
            if actives.len() == 1 {
                two_since = None;
            } else {
                prop_assert!(world.link.now.since(since) <= ms(2), "{:?} are Active", actives);
            }
        }
        let active = world.link.actives()[0];
        prop_assert_eq!(world.link.owners(), vec![active]);
        let best = (0..HOSTS).map(|host| world.link.status(host).priority).max();
        let priority = world.link.status(active).priority;
        prop_assert_eq!(best.map(vrrp::Tier::of_priority), Some(vrrp::Tier::of_priority(priority)));
        if preempt && vrrp::Tier::of_priority(priority) == vrrp::Tier::Serving {
            prop_assert_eq!(Some(priority), best, "the preferred one has taken it back");
        }
    }

    /// Starts, stops, links and proxies that change as they like: at no moment do two hosts have the address for longer than
    /// packets take to tell them of each other.
    #[test]
    fn on_a_perfect_wire_two_hosts_have_the_address_only_while_a_packet_travels(
        steps in prop::collection::vec(calm_steps(), 0..40),
        preempt: bool,
        seed: u64,
    ) {
        let mut world = World::new(preempt, seed);
        let mut two_since = None;
        for step in steps {
            let millis = match step {
                Step::Wait(millis) => millis,
                other => {
                    world.apply(other);
                    1
                }
            };
            for _ in 0..millis {
                world.link.run(ms(1));
                let since = *two_since.get_or_insert(world.link.now);
                if world.link.owners().len() < 2 {
                    two_since = None;
                } else {
                    // One way takes 3.2 ms at most; two that begin together hear of each other on both.
                    prop_assert!(world.link.now.since(since) <= ms(7), "{:?} have it", world.link.owners());
                }
            }
        }
    }

    /// Whatever a packet holds: no panic, an intact state, a timer that is set, and nothing but a valid advertisement counts.
    #[test]
    fn packets_of_any_kind_leave_a_router_intact(
        packets in prop::collection::vec((any::<bool>(), changes(), 0..120_usize), 1..200),
    ) {
        let mut link = Link::new([setup(0), setup(1)]);
        link.part(0, 1);
        link.start_all();
        link.run(Duration::from_secs(2));
        prop_assert_eq!(link.actives(), vec![0, 1]);
        link.proxy(1, ProxyHealth::Dead);
        for (mend, changes, length) in packets {
            let packet = mutated(&changes, length, mend);
            for host in 0..2 {
                let before = link.status(host);
                link.inject(host, address(2), packet.clone());
                let after = link.status(host);
                prop_assert!(matches!(after.state, State::Active | State::Backup));
                prop_assert_eq!(after.holds_address, after.state == State::Active);
                prop_assert!(link.hosts[host].router.poll_timeout().is_some());
                if after.counters.received == before.counters.received {
                    prop_assert_eq!(after.state, before.state);
                    prop_assert_eq!(after.active, before.active);
                }
            }
            link.run(ms(7));
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0..40_usize, any::<u8>()), 0..4)
}

/// A valid packet with some bytes changed, cut or padded, its checksum mended or not.
fn mutated(changes: &[(usize, u8)], length: usize, mend: bool) -> Vec<u8> {
    let advertisement = Advertisement {
        version: Version::V3,
        vrid: 51,
        priority: 180,
        interval: INTERVAL,
        addresses: vec![VIP].into(),
        auth: Auth::None,
    };
    let mut packet = ip_packet(address(2), GROUP, &encode(&advertisement, Coverage::Message));
    for (at, byte) in changes {
        if let Some(old) = packet.get_mut(*at) {
            *old = *byte;
        }
    }
    packet.resize(packet.len().max(length.saturating_sub(60)), 0);
    if length < 20 {
        packet.truncate(length);
    }
    if mend && packet.len() >= 32 {
        let sum = checksum(&packet[20..32], Coverage::Message).to_be_bytes();
        packet[26..28].copy_from_slice(&sum);
    }
    packet
}
