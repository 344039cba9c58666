//! Starts, deaths and stops.

use std::time::Duration;

use vrrp::{Cause, ChecksumMode, Event, State};

use crate::link::{INTERVAL, Link, Seen, VIP, address, ms, setup, setup_v2};

/// Skew of host 1 while it serves: priority 188.
fn skew() -> Duration {
    INTERVAL * (256 - 188) / 256
}

#[test]
fn cold_start_of_both_gives_the_address_to_the_preferred_one() {
    let mut link = Link::new([setup(0), setup(1)]);
    link.start_all();
    let after = link.run_until(Duration::from_secs(2), |link| !link.actives().is_empty());
    assert_eq!(link.actives(), [0]);
    assert_eq!(after.as_micros(), (INTERVAL * 3 + INTERVAL * (256 - 189) / 256).as_micros());
    assert_eq!(link.owners(), [0]);
    let order: Vec<&Seen> = link.seen.iter().map(|(_, _, seen)| seen).collect();
    let at = |what: &Seen| order.iter().position(|seen| *seen == what).unwrap();
    assert!(
        at(&Seen::Advertised { priority: 189 }) < at(&Seen::Installed),
        "the former Active removes it first"
    );
    assert!(at(&Seen::Installed) < at(&Seen::Announced), "the address answers before it is announced");
    link.run(Duration::from_secs(60));
    assert_eq!((link.state(0), link.state(1)), (State::Active, State::Backup));
    assert_eq!(link.status(0).counters.transitions, 2);
}

#[test]
fn leftovers_are_removed_before_anything_else() {
    let mut link = Link::new([setup(0)]);
    link.hosts[0].router.handle_event(link.now, Event::LinkUp { source: address(0) });
    link.hosts[0].router.handle_event(link.now, Event::Started);
    assert_eq!(link.hosts[0].router.poll_action(), Some(vrrp::Action::DropAddress));
}

#[test]
fn hard_death_at_any_phase_is_taken_over_within_the_bounds() {
    for phase in (0..200).step_by(7) {
        let mut link = Link::settled();
        link.run(ms(phase));
        link.kill(0);
        let after = link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
        let (shortest, longest) = (INTERVAL * 2 + skew(), INTERVAL * 3 + skew() + link.delay);
        assert!(after > shortest && after <= longest, "{after:?} at phase {phase}");
        link.run(ms(700));
        assert_eq!(link.owners(), [1], "the dead host's lease has run out");
        assert!(matches!(link.status(1).reason, Cause::ActiveSilent { .. }));
    }
}

/// The later in its interval an Active dies, the sooner it is replaced: 200 random phases give delays that are spread
/// evenly over one interval and lie nowhere else.
#[test]
fn death_at_200_random_phases_is_taken_over_evenly_within_one_interval() {
    const BINS: usize = 5;
    let mut histogram = [0_u32; BINS];
    let mut random = 20_251_130_u64;
    for _ in 0..200 {
        // Knuth's multiplier; the high bits are the good ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut link = Link::settled();
        link.run(Duration::from_nanos((random >> 11) % 200_000_000));
        link.kill(0);
        let after = link.run_until(Duration::from_secs(2), |link| link.actives() == [1]);
        let earliest = INTERVAL * 2 + skew();
        assert!(after > earliest && after <= earliest + INTERVAL + link.delay, "{after:?}");
        let bin = (after - earliest).as_nanos() * BINS as u128 / (INTERVAL + link.delay).as_nanos();
        histogram[usize::try_from(bin).unwrap().min(BINS - 1)] += 1;
    }
    // 40 each; of 200 evenly spread ones a bin leaves these bounds once in some hundred thousand.
    assert!(histogram.iter().all(|count| (15..=66).contains(count)), "{histogram:?}");
}

#[test]
fn graceful_stop_says_so_three_times_and_leaves_nothing_behind() {
    let mut link = Link::settled();
    let begin = link.now;
    link.event(0, Event::Stop);
    let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&1));
    assert!(after <= skew() + link.delay + ms(1), "{after:?}");
    assert!(link.hosts[0].router.is_stopped());
    let zeros = link.times(0, &Seen::Advertised { priority: 0 });
    let offsets: Vec<Duration> = zeros.iter().map(|at| at.since(begin)).collect();
    assert_eq!(offsets, [0, 20, 40].map(ms));
    assert!(link.first(0, &Seen::Removed) < link.first(1, &Seen::Announced), "never two owners");
    assert_eq!(link.status(1).reason, Cause::ActiveLeft { source: address(0) });
    assert_eq!(link.hosts[0].router.poll_timeout(), None);
}

#[test]
fn a_graceful_stop_whose_first_words_are_lost_is_heard_all_the_same() {
    let mut link = Link::settled();
    link.cut.insert((0, 1));
    link.event(0, Event::Stop);
    link.run(ms(30));
    link.cut.clear();
    let after = link.run_until(Duration::from_secs(1), |link| link.actives().contains(&1));
    assert!(after <= ms(10) + skew() + link.delay + ms(1), "{after:?}");
}

#[test]
fn a_stopped_backup_says_nothing() {
    let mut link = Link::settled();
    link.event(1, Event::Stop);
    assert!(link.hosts[1].router.is_stopped());
    link.run(Duration::from_secs(5));
    assert!(link.seen.iter().all(|(_, host, seen)| *host == 0 || matches!(seen, Seen::Noted(_))));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn a_router_that_never_started_can_be_stopped() {
    let mut link = Link::new([setup(0)]);
    link.event(0, Event::Stop);
    assert!(link.hosts[0].router.is_stopped());
}

#[test]
fn a_stopped_router_can_start_again() {
    let mut link = Link::settled_with([setup(0)]);
    link.event(0, Event::Stop);
    link.run(ms(100));
    link.event(0, Event::Started);
    link.run(Duration::from_secs(1));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn the_preferred_host_that_returns_waits_for_the_delay() {
    let mut link = Link::settled();
    link.kill(0);
    link.run(Duration::from_secs(5));
    link.replace(0, setup(0));
    let after = link.run_until(Duration::from_secs(40), |link| link.actives().contains(&0));
    assert!(after > Duration::from_secs(30) && after < ms(30_250), "{after:?}");
    assert_eq!(link.status(0).reason, Cause::Preempted { source: address(1), priority: 188 });
    link.run(link.delay * 3);
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
}

#[test]
fn without_preemption_the_address_stays_where_it_is() {
    let stays = |host| vrrp::Setup { preempt: false, ..setup(host) };
    let mut link = Link::settled_with([stays(0), stays(1)]);
    link.kill(0);
    link.run(Duration::from_secs(5));
    link.replace(0, stays(0));
    link.run(Duration::from_secs(3600));
    assert_eq!(link.actives(), [1]);
}

#[test]
fn without_a_delay_the_preferred_host_returns_at_once() {
    let eager = |host| vrrp::Setup { preempt_delay: Duration::ZERO, ..setup(host) };
    let mut link = Link::settled_with([eager(0), eager(1)]);
    link.kill(0);
    link.run(Duration::from_secs(5));
    link.replace(0, eager(0));
    link.run_until(Duration::from_secs(1), |link| link.actives() == [0]);
}

#[test]
fn the_delay_begins_anew_when_the_preferred_host_is_interrupted() {
    let mut link = Link::settled();
    link.kill(0);
    link.run(Duration::from_secs(5));
    link.replace(0, setup(0));
    link.run(Duration::from_secs(20));
    link.proxy(0, vrrp::ProxyHealth::Dead);
    link.run(Duration::from_secs(1));
    link.proxy(0, vrrp::ProxyHealth::Serving);
    link.run(Duration::from_secs(29));
    assert_eq!(link.actives(), [1]);
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [0]);
}

#[test]
fn equal_priorities_are_decided_by_the_address_compared_as_a_number() {
    let equal = |host| vrrp::Setup { preference: 5, ..setup(host) };
    for (low, high) in [([10, 0, 1, 9], [10, 0, 1, 10]), ([127, 0, 0, 1], [128, 0, 0, 1])] {
        let mut link = Link::new([equal(0), equal(1)]);
        link.part(0, 1);
        link.start_all();
        for (host, own) in [(0, low), (1, high)] {
            link.event(host, Event::LinkUp { source: own.into() });
        }
        link.run(Duration::from_secs(2));
        assert_eq!(link.actives(), [0, 1]);
        // Each sends one advertisement, with its own address as source.
        let heard = |own: [u8; 4]| {
            let advertisement = vrrp::packet::Advertisement {
                version: vrrp::Version::V3,
                vrid: 51,
                priority: 155,
                interval: INTERVAL,
                addresses: vec![VIP].into(),
                auth: vrrp::packet::Auth::None,
            };
            let message = vrrp::packet::encode(&advertisement, vrrp::checksum::Coverage::Message);
            crate::link::ip_packet(own.into(), vrrp::packet::GROUP, &message)
        };
        link.inject(1, low.into(), heard(low));
        link.inject(0, high.into(), heard(high));
        assert_eq!(link.actives(), [1]);
        assert_eq!(link.status(0).reason, Cause::HigherAddress { source: high.into() });
    }
}

#[test]
fn two_actives_after_a_partition_become_one_with_the_first_packet() {
    let mut link = Link::settled();
    link.part(0, 1);
    link.run(Duration::from_secs(10));
    assert_eq!(link.actives(), [0, 1]);
    link.seen.clear();
    link.cut.clear();
    link.run(INTERVAL + link.delay * 2);
    assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]));
    // The winner announces itself after the loser has removed the address and said its last word.
    let removed = link.first(1, &Seen::Removed).unwrap();
    assert!(link.times(0, &Seen::Announced).iter().any(|at| *at >= removed));
    let last_word = link.times(1, &Seen::Advertised { priority: 188 });
    assert!(last_word.contains(&removed));
}

#[test]
fn announcements_are_spread_out_and_then_refreshed() {
    let mut link = Link::new([setup(0)]);
    link.start_all();
    link.run(Duration::from_secs(70));
    let times = link.times(0, &Seen::Announced);
    let offsets: Vec<u128> = times.iter().map(|at| at.since(times[0]).as_millis()).collect();
    assert_eq!(offsets, [0, 50, 150, 400, 1000, 2500, 5000, 35_000, 65_000]);
}

#[test]
fn unicast_reaches_every_peer_and_nobody_else_is_listened_to() {
    let unicast = |host| vrrp::Setup { unicast: true, ..setup(host) };
    let mut link = Link::settled_with([unicast(0), unicast(1)]);
    assert_eq!(link.status(1).active.map(|active| active.source), Some(address(0)));
    // Three hosts are configured, so each advertisement goes out twice.
    assert_eq!(link.status(0).counters.sent % 2, 0);
    link.kill(0);
    link.run_until(Duration::from_secs(1), |link| link.actives() == [1]);
}

#[test]
fn with_unicast_a_stranger_is_not_listened_to() {
    let knows = |host, peers| vrrp::Setup { unicast: true, peers, ..setup(host) };
    let stranger = vrrp::Setup { preference: 39, ..knows(2, vec![address(0), address(1)]) };
    let ours = vrrp::Setup { preference: 30, ..knows(0, vec![address(1)]) };
    let mut link = Link::new([ours, vrrp::Setup { preference: 20, ..knows(1, vec![address(0)]) }, stranger]);
    link.start_all();
    link.run(Duration::from_secs(5));
    assert_eq!((link.state(0), link.state(1)), (State::Active, State::Backup));
    assert_eq!(link.status(0).alarms.len(), 1);
    assert_eq!(link.status(1).active.map(|active| active.source), Some(address(0)));
}

#[test]
fn version_2_has_its_own_arithmetic() {
    let mut link = Link::settled_with([setup_v2(0), setup_v2(1)]);
    link.kill(0);
    let after = link.run_until(Duration::from_secs(5), |link| link.actives() == [1]);
    let skew = Duration::from_micros(68 * 1_000_000 / 256);
    assert!(after > ms(2000) + skew && after <= ms(3001) + skew, "{after:?}");
}

#[test]
fn both_forms_of_the_checksum_are_understood_and_the_peers_form_is_learned() {
    let with = |host, checksum| vrrp::Setup { checksum, ..setup(host) };
    for other in [ChecksumMode::Auto, ChecksumMode::Rfc9568, ChecksumMode::Pseudo] {
        for ours_first in [true, false] {
            let mut link = Link::new([with(0, ChecksumMode::Auto), with(1, other)]);
            let order = if ours_first { [0, 1] } else { [1, 0] };
            for host in order {
                link.start(host);
                link.run(Duration::from_secs(2));
            }
            link.run(Duration::from_secs(60));
            assert_eq!(link.actives(), [0], "{other:?} {ours_first}");
            link.kill(0);
            link.run(Duration::from_secs(1));
            assert_eq!(link.actives(), [1]);
        }
    }
}

#[test]
fn a_program_in_place_of_one_that_died_just_now_goes_on_as_active() {
    for down in [1, 150, 350] {
        let mut link = Link::settled();
        let epoch = link.status(0).epoch;
        link.kill(0);
        link.run(ms(down));
        link.hosts[0].revive(setup(0), link.now);
        link.event(0, Event::LinkUp { source: address(0) });
        link.proxy(0, vrrp::ProxyHealth::Serving);
        link.event(0, Event::Resumed { epoch });
        assert_eq!(
            (link.state(0), link.status(0).reason, link.status(0).epoch),
            (State::Active, Cause::Resumed, epoch)
        );
        link.run(Duration::from_secs(30));
        assert_eq!((link.actives(), link.owners()), (vec![0], vec![0]), "{down} ms");
        assert_eq!(link.status(1).counters.became_active, 0);
        assert!(link.times(0, &Seen::Removed).is_empty());
    }
}

#[test]
fn one_that_resumes_beside_a_new_active_is_settled_as_any_two_are() {
    let mut link = Link::settled();
    let epoch = link.status(0).epoch;
    link.kill(0);
    link.run(Duration::from_secs(2));
    assert_eq!(link.actives(), [1]);
    link.hosts[0].revive(setup(0), link.now);
    link.event(0, Event::LinkUp { source: address(0) });
    link.event(0, Event::Resumed { epoch });
    link.run(Duration::from_secs(1));
    assert_eq!((link.actives(), link.owners()), (vec![1], vec![1]), "its proxy is not known to live");
}

#[test]
fn nothing_is_resumed_without_a_link() {
    let mut link = Link::new([setup(0)]);
    link.event(0, Event::Resumed { epoch: 7 });
    assert_eq!((link.state(0), link.owners()), (State::Fault, vec![]));
}
