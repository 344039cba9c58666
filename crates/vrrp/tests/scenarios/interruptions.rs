//! Links that flap, programs that stand still, wires that lose.

use std::time::Duration;

use vrrp::{AlarmKind, Cause, Event, State};

use crate::link::{INTERVAL, Link, Seen, address, ms, setup};

#[test]
fn a_link_that_goes_down_takes_the_address_with_it() {
    let mut link = Link::settled();
    link.unplug(0);
    assert_eq!((link.state(0), link.owners()), (State::Fault, vec![]));
    let after = link.run_until(Duration::from_secs(1), |link| link.actives() == [1]);
    assert!(after <= INTERVAL * 4, "{after:?}");
    link.plug(0);
    assert_eq!(link.state(0), State::Backup);
    link.run(Duration::from_secs(20));
    assert_eq!(link.actives(), [1]);
    link.run(Duration::from_secs(20));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn an_address_that_goes_while_the_link_works_is_told_to_the_others() {
    let mut link = Link::settled();
    link.event(0, Event::LinkDown { why: "no source address".into() });
    link.run_until(ms(60), |link| link.actives() == [1]);
    assert_eq!(link.status(0).reason, Cause::LinkDown { why: "no source address".into() });
}

#[test]
fn a_flapping_link_leaves_one_active() {
    let mut link = Link::settled();
    for round in 0..40_u64 {
        link.unplug(0);
        link.run(ms(10 + round * 37 % 900));
        link.plug(0);
        link.run(ms(10 + round * 53 % 700));
        assert!(link.actives().len() <= 1, "round {round}");
    }
    link.run(Duration::from_secs(40));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

/// A minute of a link that is there and gone for 50 ms to 5 s each, on either host, in many orders.
#[test]
fn a_minute_of_random_flaps_never_makes_two_actives() {
    for seed in 0..20_u64 {
        let mut link = Link::settled();
        let mut random = seed;
        let begin = link.now;
        while link.now.since(begin) < Duration::from_secs(60) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let host = usize::try_from(random >> 63).unwrap();
            let (down, up) = (50 + (random >> 20) % 4950, 50 + (random >> 40) % 4950);
            link.unplug(host);
            link.run(ms(down));
            link.plug(host);
            link.run(ms(up));
            assert!(link.actives().len() <= 1, "seed {seed}: {:?}", link.actives());
        }
        let moves: u64 = (0..2).map(|host| link.status(host).counters.became_active).sum();
        assert!(moves <= 2 + 60, "seed {seed}: moved {moves} times in a minute");
        link.run(Duration::from_secs(60));
        assert_eq!(link.actives().len(), 1, "seed {seed}");
        assert_eq!(link.actives(), link.owners(), "seed {seed}");
    }
}

#[test]
fn after_a_lost_link_silence_is_not_believed_at_once() {
    let mut link = Link::settled();
    link.unplug(1);
    link.kill(0);
    link.plug(1);
    let after = link.run_until(Duration::from_secs(10), |link| link.actives() == [1]);
    assert_eq!(after, Duration::from_secs(5));
    link.unplug(1);
    link.plug(1);
    link.run(ms(100));
    link.replace(0, setup(0));
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [0], "who has not lost its link does not wait");
    link.kill(0);
    link.run(ms(800));
    assert_eq!(link.actives(), [1], "an advertisement was heard: the link works");
}

#[test]
fn no_start_without_a_link() {
    let mut link = Link::new([setup(0)]);
    link.event(0, Event::Started);
    assert_eq!(link.state(0), State::Fault);
    link.run(Duration::from_secs(10));
    link.event(0, Event::LinkUp { source: address(0) });
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0], "a first link is no link that came back");
}

#[test]
fn a_program_that_stood_still_listens_first() {
    let mut link = Link::settled();
    link.freeze(0);
    link.run(Duration::from_secs(10));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]), "the lease ran out meanwhile");
    link.seen.clear();
    link.thaw(0);
    link.run(ms(100));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
    assert!(link.times(0, &Seen::Announced).is_empty());
    let woke = |reason: &vrrp::Reason| reason.to_string().contains("nothing ran here for");
    assert!(link.noted(0, woke));
}

#[test]
fn a_short_standstill_changes_nothing() {
    let mut link = Link::settled();
    for host in [0, 1] {
        link.freeze(host);
        link.run(INTERVAL * 2 - ms(1));
        link.thaw(host);
        link.run(Duration::from_secs(5));
        assert_eq!(link.status(host).counters.transitions, if host == 0 { 2 } else { 1 });
    }
    assert_eq!(link.actives(), [0]);
}

#[test]
fn a_backup_that_stood_still_does_not_take_over_from_a_living_active() {
    for millis in [400, 700, 1000, 5000] {
        let mut link = Link::settled();
        link.freeze(1);
        link.run(ms(millis));
        // As if the queue had been lost: nothing but the clock tells it.
        link.cut.insert((0, 1));
        link.thaw(1);
        link.cut.clear();
        link.run(Duration::from_secs(5));
        assert_eq!(link.status(1).counters.became_active, 0, "{millis}");
    }
}

#[test]
fn a_backup_whose_timer_is_late_by_a_little_takes_over() {
    let mut link = Link::settled();
    link.kill(0);
    let due = link.hosts[1].router.poll_timeout().unwrap();
    link.hosts[1].router.handle_timeout(due + ms(20));
    assert_eq!(link.hosts[1].router.status(due).state, State::Active);
}

#[test]
fn one_lost_direction_makes_two_actives_only_while_it_lasts() {
    let mut link = Link::settled();
    link.cut.insert((0, 1));
    link.run(Duration::from_secs(30));
    assert_eq!(link.actives(), [0, 1]);
    let announced = link.times(0, &Seen::Announced).len();
    assert!(announced < 30 * 5, "{announced} announcements in answer");
    link.cut.clear();
    link.run(INTERVAL + ms(1));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

#[test]
fn a_wire_that_loses_a_third_does_not_make_a_storm() {
    let mut link = Link::settled();
    (link.loss, link.jitter) = (300, ms(5));
    link.run(Duration::from_secs(600));
    // 0.3^3 for each of 3000 advertisements, each twice a transition.
    let transitions = link.status(1).counters.transitions;
    assert!(transitions < 300, "{transitions}");
    link.loss = 0;
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn a_dead_active_on_a_losing_wire_is_replaced() {
    for seed in 0..50 {
        let mut link = Link::settled();
        (link.loss, link.jitter, link.random) = (200, ms(20), seed);
        link.run(ms(seed * 13));
        link.proxy(0, vrrp::ProxyHealth::Dead);
        link.run(Duration::from_secs(3));
        link.loss = 0;
        link.run(Duration::from_secs(1));
        assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]), "seed {seed}");
    }
}

#[test]
fn an_active_that_runs_late_says_so() {
    let mut link = Link::settled();
    assert_eq!(link.status(0).counters.late_ticks, 0);
    let spoken = |link: &Link| link.first(0, &Seen::Advertised { priority: 189 }).is_some();
    link.run_until(INTERVAL, spoken);
    link.freeze(0);
    link.run(ms(260));
    link.thaw(0);
    let status = link.status(0);
    assert_eq!((status.state, status.counters.late_ticks), (State::Active, 1));
    assert!(status.latest_tick >= ms(50), "{:?}", status.latest_tick);
    assert!(status.alarms.is_empty(), "late, but not so late that others could take it for dead");
    link.freeze(0);
    link.run(ms(450));
    link.thaw(0);
    let alarms = link.status(0).alarms;
    assert!(alarms.iter().any(|alarm| matches!(alarm.kind, AlarmKind::LateTick { .. })), "{alarms:?}");
    link.run(Duration::from_secs(70));
    assert_eq!((link.actives(), link.status(0).alarms), (vec![0], vec![]));
}
