//! The proxy dies, drains and comes back.

use std::time::Duration;

use vrrp::ProxyHealth::{Dead, Draining, Serving};
use vrrp::{Cause, Event, Setup, State};

use crate::link::{INTERVAL, Link, Seen, address, ms, setup};

fn skew() -> Duration {
    INTERVAL * (256 - 188) / 256
}

#[test]
fn the_address_leaves_a_dead_proxy_within_the_skew_time() {
    for phase in (0..200).step_by(11) {
        let mut link = Link::settled();
        link.run(ms(phase));
        link.proxy(0, Dead);
        let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&1));
        assert!(after <= skew() + link.delay, "{after:?}");
        link.run(link.delay);
        assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
        assert!(link.times(0, &Seen::Advertised { priority: 0 }).is_empty(), "never without need");
        assert_eq!(link.status(1).reason, Cause::ActiveYielded { source: address(0), priority: 49 });
        assert_eq!(link.status(0).reason, Cause::HigherPriority { source: address(1), priority: 188 });
    }
}

#[test]
fn neither_preemption_mode_nor_delay_keeps_the_address_at_a_dead_proxy() {
    let stays = |host| Setup { preempt: false, ..setup(host) };
    let mut link = Link::settled_with([stays(0), stays(1)]);
    link.proxy(0, Dead);
    link.run(skew() + link.delay * 2);
    assert_eq!(link.actives(), [1]);
}

#[test]
fn a_draining_proxy_gives_the_address_away_and_a_dead_peer_does_not_take_it() {
    let mut link = Link::settled();
    link.proxy(0, Draining);
    link.run(skew() + link.delay * 2);
    assert_eq!(link.actives(), [1]);
    link.proxy(1, Dead);
    link.run(ms(200));
    assert_eq!(link.actives(), [0], "better draining than dead");
    link.proxy(0, Dead);
    link.run(Duration::from_secs(60));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn when_both_proxies_are_dead_nothing_moves() {
    for (first, second) in [(0, 1), (1, 0)] {
        for gap in [0, 1, 10, 30, 500] {
            let mut link = Link::settled();
            link.proxy(first, Dead);
            link.run(ms(gap));
            link.proxy(second, Dead);
            link.run(ms(100));
            let holder = link.actives();
            assert_eq!(holder.len(), 1, "{first} {gap}");
            link.seen.clear();
            link.run(Duration::from_secs(600));
            assert_eq!(link.actives(), holder);
            assert!(!link.seen.iter().any(|(_, _, seen)| matches!(seen, Seen::Installed | Seen::Removed)));
        }
    }
}

#[test]
fn the_peer_that_died_in_time_did_not_take_over() {
    let mut link = Link::settled();
    link.proxy(0, Dead);
    link.run(skew() / 2);
    link.proxy(1, Dead);
    link.run(Duration::from_secs(60));
    assert_eq!(link.actives(), [0]);
    assert_eq!(link.status(1).counters.became_active, 0);
}

#[test]
fn the_first_proxy_that_is_back_gets_the_address() {
    for back in [0, 1] {
        let mut link = Link::settled();
        link.proxy(0, Dead);
        link.proxy(1, Dead);
        link.run(Duration::from_secs(10));
        assert_eq!(link.actives(), [0]);
        link.proxy(back, Serving);
        link.run(skew() + link.delay * 2);
        assert_eq!((link.actives(), link.owners()), (vec![back], vec![back]));
    }
}

#[test]
fn a_proxy_that_is_back_gets_the_address_back_after_the_delay() {
    let mut link = Link::settled();
    link.proxy(0, Dead);
    link.run(Duration::from_secs(5));
    link.proxy(0, Serving);
    link.run(ms(29_900));
    assert_eq!(link.actives(), [1]);
    link.run(ms(400));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

#[test]
fn a_lost_advertisement_of_the_lower_priority_costs_one_interval() {
    let mut link = Link::settled();
    link.cut.insert((0, 1));
    link.proxy(0, Dead);
    link.cut.clear();
    let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&1));
    assert!(after <= INTERVAL + skew() + link.delay, "{after:?}");
}

#[test]
fn a_dead_proxy_alone_keeps_the_address() {
    let mut link = Link::settled();
    link.kill(1);
    link.proxy(0, Dead);
    link.run(Duration::from_secs(600));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

#[test]
fn an_address_that_somebody_removes_is_put_back_five_times_a_minute() {
    let mut link = Link::settled();
    for _ in 0..5 {
        link.run(Duration::from_secs(2));
        link.seen.clear();
        link.event(0, Event::AddressLost);
        assert!(link.first(0, &Seen::Announced).is_some());
        assert_eq!(link.state(0), State::Active);
    }
    link.event(0, Event::AddressLost);
    assert_eq!((link.state(0), link.status(0).reason), (State::Backup, Cause::AddressTaken));
    assert!(!link.status(0).alarms.is_empty());
    link.run_until(skew() + link.delay * 2, |link| link.actives() == [1]);
    link.event(0, Event::AddressLost);
    assert_eq!(link.state(0), State::Backup, "a Backup has no address to lose");
}

#[test]
fn after_a_minute_the_address_is_put_back_again() {
    let mut link = Link::settled();
    for _ in 0..20 {
        link.run(Duration::from_secs(13));
        link.event(0, Event::AddressLost);
        assert_eq!(link.state(0), State::Active);
    }
    assert_eq!(link.status(0).counters.address_restored, 20);
}

#[test]
fn an_operator_moves_the_address_and_it_stays_where_it_is() {
    for phase in (0..200).step_by(17) {
        let mut link = Link::settled();
        link.run(ms(phase));
        link.event(0, Event::StepAside);
        let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&1));
        assert!(after <= skew() + link.delay, "{after:?}");
        link.run(Duration::from_secs(30));
        assert_eq!(
            (link.actives(), link.owners()),
            (vec![1], vec![1]),
            "preferred or not, it was moved by hand"
        );
        // The other way round too, and a host that dies is replaced whoever was moved away.
        link.event(1, Event::StepAside);
        link.run(Duration::from_secs(2));
        assert_eq!(link.actives(), [0]);
        link.proxy(0, Dead);
        link.run(Duration::from_secs(2));
        assert_eq!(link.actives(), [1]);
        link.proxy(0, Serving);
        link.run(Duration::from_secs(60));
        assert_eq!(link.actives(), [0], "once it has been Active again the preference counts as before");
    }
}

/// Both hosts hear of maintenance mode.
fn maintenance(link: &mut Link, on: bool) {
    for host in [0, 1] {
        link.event(host, Event::MaintenanceChanged(on));
    }
}

#[test]
fn in_maintenance_the_address_stays_until_its_holder_fails_or_somebody_asks() {
    let mut link = Link::settled();
    link.proxy(0, Dead);
    link.run(ms(500));
    assert_eq!(link.actives(), [1]);
    // A preferred host that comes back: begun before, or in the mode.
    link.proxy(0, Serving);
    link.run(ms(500));
    maintenance(&mut link, true);
    link.run(Duration::from_secs(3600));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
    assert_eq!(link.status(0).priority, 189, "what it would advertise is as ever");
    assert!(link.noted(0, |reason| matches!(reason, vrrp::Reason::Frozen)));
    maintenance(&mut link, true);
    // Its holder fails: as ever.
    link.proxy(1, Dead);
    let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&0));
    assert!(after <= skew() + link.delay, "{after:?}");
    link.proxy(1, Serving);
    link.run(Duration::from_secs(1));
    // An operator moves it: as ever.
    link.event(0, Event::StepAside);
    link.run(Duration::from_secs(60));
    assert_eq!(link.actives(), [1]);
    link.kill(1);
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0]);
    link.replace(1, setup(1));
    link.event(1, Event::MaintenanceChanged(true));
    link.proxy(1, Serving);
    link.run(Duration::from_secs(60));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

#[test]
fn after_maintenance_a_preferred_host_waits_its_delay_and_takes_the_address_back() {
    let mut link = Link::settled();
    maintenance(&mut link, true);
    link.proxy(0, Dead);
    link.run(ms(500));
    link.proxy(0, Serving);
    link.run(Duration::from_secs(600));
    assert_eq!(link.actives(), [1]);
    maintenance(&mut link, false);
    link.run(setup(0).preempt_delay - ms(100));
    assert_eq!(link.actives(), [1]);
    link.run(ms(100) + skew() + link.delay * 2);
    assert_eq!(link.actives(), [0]);
}

#[test]
fn an_address_that_nobody_takes_stays() {
    let mut link = Link::settled();
    link.proxy(1, Dead);
    link.run(ms(500));
    link.event(0, Event::StepAside);
    link.run(Duration::from_secs(30));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
    assert!(link.noted(0, |reason| matches!(reason, vrrp::Reason::NobodyTookOver)));
    assert_eq!(link.status(0).priority, 189, "as before");
    link.event(1, Event::StepAside);
    link.run(ms(500));
    assert_eq!(link.actives(), [0], "a Backup has nothing to give");
}
