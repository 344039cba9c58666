//! Whatever happened before: after a Down interval of perfect delivery there is exactly one Active.

use std::time::Duration;

use proptest::prelude::*;
use vrrp::{Event, ProxyHealth, Setup, State};

use crate::link::{INTERVAL, Link, ms, setup};

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
        1 => host().prop_map(Step::Stop),
    ]
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
            if self.link.hosts[host].router.is_stopped() {
                self.link.event(host, Event::Started);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

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
}
