//! Two families of one cluster that move together.

use std::time::Duration;

use proptest::prelude::*;
use vrrp::{Cause, Event, ProxyHealth, Setup, SetupError, State, VirtualRouter};

use crate::link::{INTERVAL, Link, address_v6, ms, setup, setup_v6};

fn both(host: usize) -> Vec<Setup> {
    vec![setup(host), setup_v6(host)]
}

fn settled() -> Link {
    let mut link = Link::of_groups([both(0), both(1)]);
    link.start_all();
    link.run(Duration::from_secs(10));
    assert_eq!(link.actives(), [0]);
    link.seen.clear();
    link
}

#[test]
fn both_advertise_and_count_for_themselves() {
    let link = settled();
    let counters = |host: usize, member| link.hosts[host].router.status_of(link.now, member).counters;
    for member in [0, 1] {
        assert!(counters(0, member).sent > 40, "{:?}", counters(0, member));
        assert_eq!((counters(1, member).sent, counters(1, member).discarded), (0, 0));
        assert!(counters(1, member).received > 40 && counters(0, member).became_active == 1);
    }
}

#[test]
fn one_family_that_is_heard_is_enough_for_both() {
    for mute in [0, 1] {
        let mut link = settled();
        link.mute.insert(mute);
        link.run(Duration::from_secs(60));
        assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]), "member {mute} is mute");
        link.kill(0);
        let after = link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
        assert!(after <= INTERVAL * 4, "{after:?}");
    }
}

#[test]
fn a_link_lost_for_one_family_gives_both_away_and_the_other_family_says_so() {
    for member in [0, 1] {
        let mut link = settled();
        link.event_of(0, member, Event::LinkDown { why: "no link-local address".into() });
        assert_eq!((link.state(0), link.owners()), (State::Fault, vec![]), "nothing is kept of the group");
        let after = link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
        assert!(after < INTERVAL, "priority 0 was heard over the other family: {after:?}");
        // Back again, it listens first; the group is whole only when both are there.
        link.event_of(0, 1 - member, Event::LinkDown { why: "no carrier".into() });
        link.link_up(0, member);
        assert_eq!(link.status(0).reason, Cause::LinkDown { why: "no carrier".into() });
        link.link_up(0, 1 - member);
        assert_eq!(link.state(0), State::Backup);
        link.run(Duration::from_secs(1));
        assert_eq!(link.actives(), [1]);
    }
}

#[test]
fn a_fault_on_both_hosts_ends_with_one_active() {
    let mut link = settled();
    for (host, member) in [(0, 0), (1, 1)] {
        link.event_of(host, member, Event::LinkDown { why: "no carrier".into() });
    }
    link.run(Duration::from_secs(20));
    assert_eq!((link.state(0), link.state(1)), (State::Fault, State::Fault));
    link.link_up(1, 1);
    link.run(Duration::from_secs(10));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
}

/// The addresses of the families are ordered differently: were each compared, both would give way, for ever.
#[test]
fn at_equal_priority_the_first_member_decides() {
    let swapped = |host: usize| {
        let same = |setup: Setup| Setup { preference: 7, peers: Vec::new(), ..setup };
        vec![same(setup(host)), same(setup_v6(host))]
    };
    let mut link = Link::of_groups([swapped(0), swapped(1)]);
    link.part(0, 1);
    link.start_all();
    // Over IPv6 host 0 has the higher address.
    for (host, other) in [(0, 1), (1, 0)] {
        link.set_source(host, 1, address_v6(other));
    }
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [0, 1]);
    link.cut.clear();
    link.run(INTERVAL * 2);
    assert_eq!(link.actives(), [1]);
    link.run(Duration::from_secs(60));
    assert_eq!((link.actives(), link.status(1).counters.became_active), (vec![1], 1));
}

#[test]
fn members_that_would_decide_differently_are_refused() {
    let now = Link::new([]).now;
    let different = Setup { preempt: false, ..setup_v6(0) };
    let error = VirtualRouter::group(vec![setup(0), different], now).unwrap_err();
    assert_eq!(error, SetupError::Disagree { one: setup(0).address, other: setup_v6(0).address });
    assert_eq!(VirtualRouter::group(Vec::new(), now).unwrap_err(), SetupError::NoMember);
    let mut router = VirtualRouter::group(both(0), now).unwrap();
    router.handle_event_of(now, 2, Event::LinkUp { source: address_v6(0) });
    assert_eq!(router.poll_action(), None, "there is no third member");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Mute(usize),
    Unmute,
    Link(usize, usize, bool),
    Proxy(usize, ProxyHealth),
    Lose(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let two = || 0..2_usize;
    let health =
        prop_oneof![Just(ProxyHealth::Dead), Just(ProxyHealth::Draining), Just(ProxyHealth::Serving)];
    prop_oneof![
        4 => (1..2000_u64).prop_map(Step::Wait),
        2 => two().prop_map(Step::Mute),
        2 => Just(Step::Unmute),
        3 => (two(), two(), any::<bool>()).prop_map(|(host, member, up)| Step::Link(host, member, up)),
        2 => (two(), health).prop_map(|(host, health)| Step::Proxy(host, health)),
        1 => (0..900_u64).prop_map(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happened: with all links back and one family heard, exactly one host holds the group, all of it.
    #[test]
    fn a_group_is_held_by_exactly_one_host(
        steps in prop::collection::vec(steps(), 0..40),
        mute in 0..3_usize,
        seed: u64,
    ) {
        let group = |host| {
            let quick = |setup: Setup| Setup { link_settle: ms(500), preempt_delay: ms(300), ..setup };
            both(host).into_iter().map(quick).collect::<Vec<_>>()
        };
        let mut link = Link::of_groups([group(0), group(1)]);
        link.random = seed;
        link.start_all();
        for step in steps {
            match step {
                Step::Wait(millis) => link.run(ms(millis)),
                Step::Mute(member) => drop(link.mute.insert(member)),
                Step::Unmute => link.mute.clear(),
                Step::Link(host, member, true) => link.link_up(host, member),
                Step::Link(host, member, false) => {
                    link.event_of(host, member, Event::LinkDown { why: "no carrier".into() });
                }
                Step::Proxy(host, health) => link.proxy(host, health),
                Step::Lose(of_thousand) => link.loss = of_thousand,
            }
            for host in 0..2 {
                let status = link.status(host);
                prop_assert_eq!(status.holds_address, status.state == State::Active);
            }
        }
        (link.loss, link.mute) = (0, (0..2).filter(|member| *member == mute).collect());
        for (host, member) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            link.link_up(host, member);
        }
        link.run(INTERVAL * 8);
        prop_assert_eq!((link.actives().len(), link.owners()), (1, link.actives()));
    }
}
