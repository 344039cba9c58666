//! Signed advertisements: from none to enforced without a move, and what strangers can do then.

use std::time::Duration;

use vrrp::packet::GROUP;
use vrrp::signature::{Key, Signature, Stamp};
use vrrp::{AlarmKind, Replay, Setup, Signing, SigningMode, State};

use crate::link::{INTERVAL, Link, address, ip_packet, setup, setup_v6};

fn key(id: u8) -> Key {
    Key { id, secret: vec![id; 32] }
}

fn signing(mode: SigningMode) -> Signing {
    Signing { mode, key: key(1), next_key: None, replay: Replay::Monotonic }
}

fn signed(host: usize, signing: Signing) -> Setup {
    Setup { signing: Some(signing), ..setup(host) }
}

fn kinds(link: &Link, host: usize) -> Vec<AlarmKind> {
    link.status(host).alarms.into_iter().map(|alarm| alarm.kind).collect()
}

/// Host 0 is Active with the first setup, host 1 Backup with the second, for a while.
fn together(active: Setup, backup: Setup) -> Link {
    let mut link = Link::new([active, backup]);
    link.set_utc(Duration::from_secs(1_700_000_000));
    link.start(0);
    link.run(Duration::from_secs(3));
    link.start(1);
    link.run(Duration::from_secs(5));
    link
}

#[test]
fn hosts_come_from_none_to_enforced_one_by_one_and_the_address_stays() {
    use SigningMode::{Enforce, Permissive, ReceiveOnly};
    let of = |mode: Option<SigningMode>, host| Setup { signing: mode.map(signing), ..setup(host) };
    let steps = [None, Some(ReceiveOnly), Some(Permissive), Some(Enforce)];
    for (earlier, later) in steps.iter().zip(&steps[1..]) {
        for (active, backup) in [(earlier, later), (later, earlier)] {
            let link = together(of(*active, 0), of(*backup, 1));
            assert_eq!(
                (link.state(0), link.state(1)),
                (State::Active, State::Backup),
                "{active:?} {backup:?}"
            );
            let told = kinds(&link, 1);
            let expected: &[AlarmKind] = if (*active, *backup) == (Some(ReceiveOnly), Some(Permissive)) {
                &[AlarmKind::Unsigned]
            } else {
                &[]
            };
            assert_eq!(told, expected, "{active:?} {backup:?}");
        }
    }
}

#[test]
fn over_ipv6_and_in_version_2_signatures_are_right_as_well() {
    let enforced = Some(signing(SigningMode::Enforce));
    let six = |host| Setup { signing: enforced.clone(), ..setup_v6(host) };
    assert_eq!(together(six(0), six(1)).actives(), [0]);
    let two = |host| Setup { signing: enforced.clone(), auth: None, ..crate::link::setup_v2(host) };
    let mut link = together(two(0), two(1));
    link.run(Duration::from_secs(20));
    assert_eq!((link.actives(), link.status(1).counters.discarded), (vec![0], 0));
}

#[test]
fn when_enforced_strangers_neither_take_the_address_nor_keep_it_from_moving() {
    let enforced = |host| signed(host, signing(SigningMode::Enforce));
    let other_key = |host| {
        let key = Key { id: 1, secret: vec![9; 32] };
        signed(host, Signing { key, ..signing(SigningMode::Enforce) })
    };
    let unknown = |host| signed(host, Signing { key: key(2), ..signing(SigningMode::Enforce) });
    for (active, expected) in [
        (setup(0), AlarmKind::Unsigned),
        (other_key(0), AlarmKind::WrongSignature { key: 1 }),
        (unknown(0), AlarmKind::UnknownKey { key: 2 }),
    ] {
        let link = together(active, enforced(1));
        assert_eq!(kinds(&link, 1)[0], expected);
        assert_eq!(link.state(1), State::Active, "not waited for");
        assert!(link.status(1).counters.discarded_signature > 3);
        assert_eq!(link.status(1).counters.received, 0);
    }
    // Until then it is told and used.
    let link = together(other_key(0), signed(1, signing(SigningMode::Permissive)));
    assert_eq!((kinds(&link, 1), link.state(1)), (vec![AlarmKind::WrongSignature { key: 1 }], State::Backup));
}

#[test]
fn keys_are_changed_without_a_move() {
    let with = |host, own, next: Option<u8>| {
        let signing = Signing { key: key(own), next_key: next.map(key), ..signing(SigningMode::Enforce) };
        signed(host, signing)
    };
    // All learn the new one, then all sign with it, then all forget the old one.
    let steps = [(1, None), (1, Some(2)), (2, Some(1)), (2, None)];
    for pair in steps.windows(2) {
        for (active, backup) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let link = together(with(0, active.0, active.1), with(1, backup.0, backup.1));
            assert_eq!(link.actives(), [0], "{active:?} {backup:?}");
            let expected =
                if active.0 == backup.0 { vec![] } else { vec![AlarmKind::OtherKey { key: active.0 }] };
            assert_eq!(kinds(&link, 1), expected);
        }
    }
}

/// What the Active sends now, as it would arrive.
fn recorded(link: &mut Link, host: usize) -> Vec<u8> {
    link.last_packet = None;
    link.run_until(INTERVAL * 2, |link| link.last_packet.is_some());
    let message = link.last_packet.clone().expect("an advertisement");
    ip_packet(address(host), GROUP, &message)
}

#[test]
fn what_was_recorded_does_not_keep_a_dead_host_alive() {
    for replay in [Replay::Monotonic, Replay::Time(Duration::from_secs(5))] {
        let enforced = |host| signed(host, Signing { replay, ..signing(SigningMode::Enforce) });
        let mut link = together(enforced(0), enforced(1));
        let packet = recorded(&mut link, 0);
        link.kill(0);
        link.run(INTERVAL);
        for _ in 0..20 {
            link.inject(1, address(0), packet.clone());
            link.run(INTERVAL / 2);
        }
        assert_eq!(link.state(1), State::Active);
        assert!(kinds(&link, 1).contains(&AlarmKind::Replayed));
    }
}

#[test]
fn with_time_an_old_packet_is_no_beginning_but_a_clock_that_is_set_only_alarms() {
    let timed = |host| {
        let replay = Replay::Time(Duration::from_secs(5));
        signed(host, Signing { replay, ..signing(SigningMode::Enforce) })
    };
    // Recorded six seconds ago, and the first that this host hears.
    let mut link = together(timed(0), timed(1));
    let packet = recorded(&mut link, 0);
    link.kill(0);
    link.run(Duration::from_secs(6));
    link.replace(1, timed(1));
    link.set_utc(Duration::from_secs(1_700_000_020));
    link.inject(1, address(0), packet);
    assert_eq!((link.status(1).active, kinds(&link, 1)), (None, vec![AlarmKind::Replayed]));

    // Either clock is set by an hour, forth or back: the stream goes on.
    for (host, utc) in [(0, 1_700_003_600), (0, 1_699_996_400), (1, 1_700_003_600), (1, 1_699_996_400)] {
        let mut link = together(timed(0), timed(1));
        link.set_utc_of(host, Duration::from_secs(utc));
        link.run(Duration::from_secs(30));
        assert_eq!(link.actives(), [0], "clock of host {host} set to {utc}");
        let back_of_sender = (host, utc) == (0, 1_699_996_400);
        let apart = kinds(&link, 1).iter().any(|kind| matches!(kind, AlarmKind::ClockApart { .. }));
        // A sender whose clock goes back stays at its last stamp, which soon is half a window old.
        assert!(apart || back_of_sender, "{:?}", kinds(&link, 1));
        assert!(!kinds(&link, 1).contains(&AlarmKind::Replayed));
    }
}

#[test]
fn a_signature_by_somebody_with_the_key_for_another_address_is_nothing() {
    let enforced = |host| signed(host, signing(SigningMode::Enforce));
    let mut link = together(enforced(0), enforced(1));
    let packet = recorded(&mut link, 0);
    let (message, received) = (packet[20..32].to_vec(), link.status(1).counters.received);
    let own = Signature::sign(&key(1), address(0), &message, Stamp(u64::MAX));
    let moved = ip_packet(address(2), GROUP, &[&message[..], own.bytes()].concat());
    link.inject(1, address(2), moved);
    assert_eq!(link.status(1).counters.received, received);
    assert_eq!(kinds(&link, 1), [AlarmKind::WrongSignature { key: 1 }]);
}
