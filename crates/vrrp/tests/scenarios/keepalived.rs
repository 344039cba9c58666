//! A peer that knows no tiers: keepalived with the guide's priorities (version 2, password, 103 while its check is
//! well, 101 or 100 when not), played by a plain router of RFC 3768.

use std::time::Duration;

use ha_core::MonoTime;
use vrrp::ProxyHealth::{Dead, Draining, Serving};
use vrrp::checksum::Coverage;
use vrrp::packet::{self, Advertisement, Auth, GROUP};
use vrrp::{Event, State, Version};

use crate::link::{Link, VIP, address, ip_packet, ms, setup_v2};

const INTERVAL: Duration = Duration::from_secs(1);

/// Just enough of a router to elect: no tiers, preempting, and not ours.
struct Plain {
    priority: u8,
    active: bool,
    due: MonoTime,
}

impl Plain {
    fn down(&self) -> Duration {
        INTERVAL * 3 + Duration::from_micros((256 - u64::from(self.priority)) * 1_000_000 / 256)
    }

    fn hear(&mut self, now: MonoTime, priority: u8) {
        if priority == 0 {
            self.due = if self.active { now } else { (now + self.down()).minus(INTERVAL * 3) };
        } else if priority > self.priority {
            (self.active, self.due) = (false, now + self.down());
        } else if self.active {
            self.due = now;
        }
    }

    fn advertisement(&self) -> Vec<u8> {
        let advertisement = Advertisement {
            version: Version::V2,
            vrid: 51,
            priority: self.priority,
            interval: INTERVAL,
            addresses: vec![VIP].into(),
            auth: Auth::Password(*b"cfgha26\0"),
        };
        ip_packet(address(1), GROUP, &packet::encode(&advertisement, Coverage::Message))
    }
}

/// Our router as host 0 and a plain one as host 1.
struct Pair {
    link: Link,
    plain: Plain,
    told: usize,
}

impl Pair {
    fn new(priority: u8) -> Self {
        let mut link = Link::new([setup_v2(0)]);
        link.start(0);
        let mut plain = Plain { priority, active: false, due: link.now };
        plain.due = link.now + plain.down();
        Self { link, plain, told: 0 }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.link.now + duration;
        while self.link.now < end {
            self.link.run(ms(1));
            while self.told < self.link.seen.len() {
                if let (_, 0, crate::link::Seen::Advertised { priority }) = self.link.seen[self.told] {
                    self.plain.hear(self.link.now, priority);
                }
                self.told += 1;
            }
            if self.plain.due <= self.link.now {
                (self.plain.active, self.plain.due) = (true, self.link.now + INTERVAL);
                let advertisement = self.plain.advertisement();
                self.link.inject(0, address(1), advertisement);
            }
        }
    }

    fn owner(&self) -> &'static str {
        match (self.link.state(0), self.plain.active) {
            (State::Active, false) => "ours",
            (State::Backup, true) => "plain",
            other => panic!("not one owner: {other:?}"),
        }
    }
}

#[test]
fn ours_takes_the_address_while_it_serves() {
    for priority in [103, 102, 101] {
        let mut pair = Pair::new(priority);
        pair.run(Duration::from_secs(10));
        assert_eq!(pair.owner(), "ours");
        assert_eq!(pair.link.status(0).alarms, []);
    }
}

#[test]
fn the_plain_one_above_gets_it_when_our_proxy_is_dead_or_drains() {
    for health in [Dead, Draining] {
        let mut pair = Pair::new(103);
        pair.run(Duration::from_secs(10));
        pair.link.proxy(0, health);
        pair.run(Duration::from_secs(5));
        assert_eq!(pair.owner(), "plain");
        pair.link.proxy(0, Serving);
        pair.run(Duration::from_secs(2));
        assert_eq!(pair.owner(), "ours", "health wins at once");
    }
}

#[test]
fn a_plain_one_above_every_tier_is_left_alone() {
    let mut pair = Pair::new(200);
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.owner(), "plain");
    pair.plain = Plain { priority: 200, active: false, due: MonoTime(u64::MAX) };
    pair.run(Duration::from_secs(4));
    assert_eq!(pair.link.state(0), State::Active);
}

#[test]
fn our_stop_is_understood() {
    let mut pair = Pair::new(102);
    pair.run(Duration::from_secs(10));
    pair.link.event(0, Event::Stop);
    pair.run(ms(700));
    assert!(pair.plain.active && pair.link.hosts[0].router.is_stopped());
}
