//! Priorities by weights, as the guide's pair has them: 101 and 100, and 2 for a check that succeeds.

use std::time::Duration;

use vrrp::track::{Sample, Tracking, Weight};
use vrrp::{AlarmKind, Cause, Event, OWNER, PriorityModel, ProxyHealth, Setup, State};

use crate::link::{Link, Seen, ms, setup, setup_v2};

fn weights(of: fn(usize) -> Setup, host: usize) -> Setup {
    let base = if host == 0 { 101 } else { 100 };
    Setup { model: PriorityModel::Weights { base }, preempt_delay: Duration::ZERO, ..of(host) }
}

/// The check of a host, which counts with this weight, ends like that.
fn check(link: &mut Link, host: usize, weight: i16, sample: Sample) {
    let weight = Weight { weight, reverse: false };
    let tracking = Tracking::of([("check", weight, sample)]);
    link.event(host, Event::TrackingChanged(tracking));
}

fn pair(of: fn(usize) -> Setup, preempt: bool) -> Link {
    let mut link = Link::settled_with([0, 1].map(|host| Setup { preempt, ..weights(of, host) }));
    for host in [0, 1] {
        check(&mut link, host, 2, Sample::Well);
    }
    link.run(Duration::from_secs(5));
    assert_eq!((link.status(0).priority, link.status(1).priority, link.actives()), (103, 102, vec![0]));
    link
}

#[test]
fn the_guides_pair_holds_the_address_where_the_guide_has_it() {
    for of in [setup as fn(usize) -> Setup, setup_v2] {
        let mut link = pair(of, true);
        for (host, sample, priority, holder) in [
            (0, Sample::Failed, 101, 1),
            (0, Sample::Well, 103, 0),
            (1, Sample::Failed, 100, 0),
            // Both: it stays, although no proxy lives.
            (0, Sample::Failed, 101, 0),
            (1, Sample::Well, 102, 1),
        ] {
            check(&mut link, host, 2, sample);
            link.run(Duration::from_secs(8));
            assert_eq!((link.status(host).priority, link.actives()), (priority, vec![holder]));
        }
    }
}

#[test]
fn without_preemption_a_weight_moves_nothing_but_a_fault_does() {
    let mut link = pair(setup, false);
    check(&mut link, 0, 2, Sample::Failed);
    link.run(Duration::from_secs(60));
    assert_eq!(link.actives(), [0], "keepalived's trap: a weight and no preemption");
    check(&mut link, 0, 0, Sample::Failed);
    assert_eq!((link.state(0), link.owners()), (State::Fault, vec![]));
    link.run(ms(300));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
    assert!(matches!(link.status(0).reason, Cause::TrackFailed { .. }));
    check(&mut link, 0, 0, Sample::Well);
    assert_eq!((link.state(0), link.status(0).reason), (State::Backup, Cause::TracksWell));
}

#[test]
fn in_maintenance_a_weight_moves_nothing_but_a_fault_does() {
    let mut link = pair(setup, true);
    for host in [0, 1] {
        link.event(host, Event::MaintenanceChanged(true));
    }
    check(&mut link, 0, 2, Sample::Failed);
    link.run(Duration::from_secs(60));
    assert_eq!((link.status(0).priority, link.actives()), (101, vec![0]));
    check(&mut link, 0, 0, Sample::Failed);
    link.run(ms(300));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
    check(&mut link, 0, 0, Sample::Well);
    check(&mut link, 0, 2, Sample::Well);
    link.run(Duration::from_secs(60));
    assert_eq!((link.status(0).priority, link.actives()), (103, vec![1]));
    for host in [0, 1] {
        link.event(host, Event::MaintenanceChanged(false));
    }
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn a_fault_lasts_through_a_link_that_comes_and_goes() {
    let mut link = Link::settled();
    check(&mut link, 0, 0, Sample::Failed);
    link.unplug(0);
    link.plug(0);
    assert_eq!(link.state(0), State::Fault);
    link.unplug(0);
    check(&mut link, 0, 0, Sample::Well);
    assert_eq!(link.state(0), State::Fault, "there is no link");
    link.plug(0);
    assert_eq!(link.state(0), State::Backup);
}

#[test]
fn with_faults_everywhere_nobody_holds_it() {
    let mut link = Link::settled();
    for host in [0, 1] {
        check(&mut link, host, 0, Sample::Failed);
    }
    link.run(Duration::from_secs(10));
    assert!(link.actives().is_empty() && link.owners().is_empty());
    check(&mut link, 1, 0, Sample::Well);
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [1]);
}

#[test]
fn an_operator_moves_it_and_a_draining_proxy_leaves_it() {
    for preempt in [true, false] {
        let mut link = pair(setup, preempt);
        link.event(0, Event::StepAside);
        link.run(Duration::from_secs(60));
        assert_eq!(link.actives(), [1], "it stays where it was moved to by hand");
        link.proxy(1, ProxyHealth::Draining);
        link.run(Duration::from_secs(2));
        assert_eq!((link.status(1).priority, link.actives()), (1, vec![0]));
    }
}

#[test]
fn other_settings_come_into_force_without_a_move_unless_they_mean_one() {
    let mut link = Link::settled();
    let tuning = |host: usize, preempt, preference| {
        Event::Tuned(
            Setup { preempt, preference, preempt_delay: Duration::from_secs(2), ..setup(host) }.tuning(),
        )
    };
    link.event(0, tuning(0, false, 39));
    link.event(1, tuning(1, false, 38));
    link.run(Duration::from_secs(20));
    assert!(!link.seen.iter().any(|(_, _, seen)| matches!(seen, Seen::Installed | Seen::Removed)));
    // The other one is preferred now, but nobody preempts.
    link.event(0, tuning(0, false, 5));
    link.run(Duration::from_secs(20));
    assert_eq!((link.actives(), link.status(0).priority), (vec![0], 155));
    link.event(1, tuning(1, true, 38));
    link.run(ms(1900));
    assert_eq!(link.actives(), [0]);
    link.run(ms(500));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]));
}

/// Host 0 owns the address and never takes anything back for being preferred; host 1 has 254.
fn owner_and_other() -> [Setup; 2] {
    [OWNER, 254].map(|base| Setup { model: PriorityModel::Weights { base }, preempt: false, ..setup(0) })
}

#[test]
fn an_owner_holds_the_address_from_the_first_moment_and_after_every_fault() {
    let mut link = Link::new(owner_and_other());
    link.start(1);
    link.proxy(1, ProxyHealth::Serving);
    link.run(Duration::from_secs(5));
    assert_eq!(link.actives(), [1]);
    // Its own proxy is not heard of yet: with weights that counts where it is tracked.
    link.start(0);
    link.run(ms(1));
    assert_eq!((link.actives(), link.owners(), link.status(0).priority), (vec![0], vec![0], OWNER));
    assert_eq!((link.status(0).reason, link.state(1)), (Cause::OwnsAddress, State::Backup));
    // No weight follows it; a fault does.
    check(&mut link, 0, -20, Sample::Failed);
    link.run(Duration::from_secs(5));
    assert_eq!((link.actives(), link.status(0).priority), (vec![0], OWNER));
    check(&mut link, 0, 0, Sample::Failed);
    link.run(ms(300));
    assert_eq!((link.state(0), link.actives(), link.owners()), (State::Fault, vec![1], vec![1]));
    check(&mut link, 0, 0, Sample::Well);
    link.run(ms(1));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
    link.unplug(0);
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [1]);
    link.plug(0);
    link.run(ms(1));
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
    assert_eq!(link.status(0).counters.became_active, 3);
}

#[test]
fn an_owner_leaves_the_address_to_others_while_an_operator_wants_that() {
    let mut link = Link::new(owner_and_other());
    link.event(0, Event::Drained(true));
    link.start_all();
    for host in [0, 1] {
        link.proxy(host, ProxyHealth::Serving);
    }
    link.run(Duration::from_secs(5));
    assert_eq!((link.actives(), link.status(0).priority), (vec![1], 1), "not for a moment");
    assert_eq!(link.status(0).counters.became_active, 0);
    link.event(0, Event::Drained(false));
    link.run(ms(500));
    assert_eq!(link.actives(), [0], "whatever the preemption mode");
    link.event(0, Event::StepAside);
    link.run(Duration::from_secs(60));
    assert_eq!(link.actives(), [1], "it stays where it was moved to by hand");
    link.kill(1);
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn of_two_owners_the_higher_address_holds_it_after_one_packet() {
    let owner = || Setup { model: PriorityModel::Weights { base: OWNER }, ..setup(0) };
    let mut link = Link::new([owner(), owner()]);
    link.start_all();
    link.run(ms(1));
    assert_eq!((link.actives().len(), link.owners().len()), (1, 1));
    let holder = link.actives();
    link.run(Duration::from_secs(10));
    assert_eq!(link.actives(), holder, "no duel");
    let changes: u64 = [0, 1].iter().map(|host| link.status(*host).counters.transitions).sum();
    assert!(changes <= 4, "{changes}");
    let alarms = [0, 1].map(|host| link.status(host).alarms);
    assert!(alarms.iter().flatten().any(|alarm| alarm.kind == AlarmKind::OtherOwner), "{alarms:?}");
}

/// With weights a proxy that is not tracked counts nothing; that the host is kept free does.
#[test]
fn a_host_that_is_kept_free_leaves_the_address_also_when_its_proxy_is_dead() {
    let mut link = pair(setup, true);
    link.proxy(0, ProxyHealth::Dead);
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [0]);
    link.event(0, Event::Drained(true));
    link.run(Duration::from_secs(2));
    assert_eq!((link.actives(), link.status(0).priority), (vec![1], 1));
    link.event(0, Event::Drained(false));
    link.run(Duration::from_secs(2));
    assert_eq!((link.actives(), link.status(0).priority), (vec![0], 103));
}
