//! The hardware watchdog: when it is started, pinged and stopped. The numbers in brackets are the test cases of the
//! fencing reference.

mod desk;

use std::time::Duration;

use desk::{Desk, ms};
use ha_core::MonoTime;
use ha_core::guard_link::{Degraded, LayerMode, Layers, NoPrimary, RefusalCode};
use ha_fencing::{
    Action, Event, Reason, SimulatedKind, SimulatedWatchdog, WatchdogReason, WatchdogRules, WatchdogTrouble,
    errno, option,
};

/// From a deadline to the end of the lease.
const AFTER: Duration = Duration::from_millis(600);

fn rules(mode: LayerMode) -> WatchdogRules {
    let s = Duration::from_secs;
    WatchdogRules { mode, timeout: s(5), longest: s(6), after_deadline: AFTER }
}

fn desk(mode: LayerMode, kind: SimulatedKind) -> Desk {
    let mut desk = Desk::new();
    desk.give_device(rules(mode), SimulatedWatchdog::new(kind));
    desk
}

fn softdog(mode: LayerMode) -> Desk {
    desk(mode, SimulatedKind::default())
}

fn status(desk: &Desk) -> ha_core::guard_link::GuardStatus {
    desk.watch.status(desk.now)
}

fn notes(desk: &Desk) -> Vec<WatchdogReason> {
    let note = |action: &Action| match action {
        Action::Note(Reason::Watchdog(reason)) => Some(reason.clone()),
        _ => None,
    };
    desk.actions.iter().filter_map(note).collect()
}

#[test]
fn a_ping_with_the_magic_character_lets_the_next_close_stop_it() {
    let t = MonoTime(1_000_000_000);
    for (writes, stops) in [
        (vec!["V"], true),
        (vec!["V1"], true),
        (vec!["1V"], true),
        (vec!["V", "1"], false),
        (vec!["1"], false),
        (vec![], false),
    ] {
        let mut device = SimulatedWatchdog::new(SimulatedKind::default());
        device.open(t).unwrap();
        for bytes in &writes {
            device.write(t, bytes.as_bytes()).unwrap();
        }
        device.close(t + ms(10));
        assert_eq!(device.reset_at().is_none(), stops, "{writes:?}"); // (W02)
    }
}

#[test]
fn a_close_that_may_not_stop_it_pings_once_more() {
    let t = MonoTime(1_000_000_000);
    let mut device = SimulatedWatchdog::new(SimulatedKind { initial: 5, ..SimulatedKind::default() });
    device.open(t).unwrap();
    assert_eq!(device.open(t), Err(errno::BUSY));
    device.close(t + ms(3_000));
    assert_eq!(device.reset_at(), Some(t + ms(8_000))); // (W03)
    device.open(t + ms(4_000)).unwrap();
    assert_eq!(device.reset_at(), Some(t + ms(8_000)), "opening one that runs is no ping");

    let nowayout = SimulatedKind { nowayout: true, initial: 5, ..SimulatedKind::default() };
    let mut device = SimulatedWatchdog::new(nowayout);
    device.open(t).unwrap();
    device.write(t, b"V").unwrap();
    device.close(t + ms(1));
    assert_eq!(device.reset_at(), Some(t + ms(5_001)));

    let options = option::SET_TIMEOUT; // no magic close
    let mut device = SimulatedWatchdog::new(SimulatedKind { options, ..SimulatedKind::default() });
    device.open(t).unwrap();
    device.close(t);
    assert_eq!(device.reset_at(), None, "any close stops such a device");
}

#[test]
fn a_device_rounds_and_has_bounds() {
    let t = MonoTime(1);
    let kind = SimulatedKind { step: 16, shortest: 10, longest: 100, ..SimulatedKind::default() };
    let mut device = SimulatedWatchdog::new(kind);
    assert_eq!(device.set_timeout(t, 25), Ok(32)); // (W06)
    assert_eq!(
        (device.set_timeout(t, 9), device.set_timeout(t, 101)),
        (Err(errno::INVALID), Err(errno::INVALID))
    );
    let kind = SimulatedKind { options: option::MAGIC_CLOSE, ..SimulatedKind::default() };
    assert_eq!(SimulatedWatchdog::new(kind).set_timeout(t, 5), Err(errno::NOT_SUPPORTED));
}

#[test]
fn it_runs_for_a_leader_only_and_before_the_deadline_is_acknowledged() {
    for mode in [LayerMode::Required, LayerMode::Automatic] {
        let mut desk = softdog(mode);
        desk.start().unwrap();
        desk.pass(ms(60_000));
        assert_eq!(desk.device().reset_at(), None, "a standby must survive its guard");
        assert_eq!(status(&desk).watchdog.text, "/dev/watchdog (simulated): opened when a deadline is held");
        desk.arm(5, 1, ms(9_000)).unwrap();
        let at = |wanted: fn(&Action) -> bool| desk.actions.iter().position(wanted).expect("done");
        let opened = at(|action| matches!(action, Action::Watchdog(ha_fencing::WatchdogAction::Open { .. })));
        let replied = at(|action| matches!(action, Action::Reply { .. }));
        assert!(opened < replied, "{:?}", desk.actions);
        assert!(status(&desk).layers.contains(Layers::HARDWARE));
        assert_eq!(status(&desk).watchdog.timeout, Some(ms(5_000)));
        for _ in 0..20 {
            desk.pass(ms(2_000));
            desk.check_reset();
            desk.renew(5, ms(9_000)).unwrap();
        }
        let start = status(&desk).start;
        desk.release(5, NoPrimary::Standby { start }).unwrap();
        assert_eq!((desk.device().reset_at(), desk.device_open), (None, false));
        assert!(!status(&desk).layers.contains(Layers::HARDWARE));
        assert_eq!(status(&desk).degraded, Degraded::default());
    }
}

#[test]
fn off_touches_nothing() {
    let mut desk = softdog(LayerMode::Off);
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.pass(ms(5_000));
    assert_eq!((desk.device().pings(), status(&desk).watchdog.text), (0, "not wanted".to_owned()));
}

#[test]
fn pings_stop_in_time_and_a_fence_that_worked_saves_the_machine() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    let end_of_lease = desk.now + ms(9_000) + AFTER;
    for _ in 0..80 {
        desk.pass(ms(100));
        desk.check_reset();
        if let Some(at) = desk.device().reset_at() {
            assert!(at <= end_of_lease, "reset at {at}, the lease ends at {end_of_lease}");
            let pings_go_on = desk.now + ms(5_000) < end_of_lease;
            assert!(pings_go_on || at > desk.watch.kill_at().unwrap(), "the kill must have its chance");
        }
    }
    assert!(desk.watch.kill_at().is_none() && !desk.populated, "killed");
    assert_eq!(desk.device().reset_at(), None, "and the device stopped");
    desk.pass(ms(20_000));
    desk.check_reset();
}

#[test]
fn a_fence_that_fails_resets_the_machine_before_the_lease_ends() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.undead = true;
    let end_of_lease = desk.now + ms(9_000) + AFTER;
    desk.pass(ms(9_000));
    let at = desk.device().reset_at().expect("it runs");
    assert!(at <= end_of_lease && at >= end_of_lease.minus(ms(200)), "{at} {end_of_lease}");
    assert!(
        notes(&desk)
            .iter()
            .any(|note| matches!(note, WatchdogReason::Withheld { reset_at } if *reset_at == at))
    );
}

#[test]
fn a_slow_device_is_pinged_earlier() {
    let mut desk = softdog(LayerMode::Required);
    desk.device_takes = ms(400);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    let end_of_lease = desk.now + ms(9_000) + AFTER;
    desk.undead = true;
    desk.pass(ms(9_000));
    let at = desk.device().reset_at().expect("it runs");
    assert!(at <= end_of_lease, "{at} {end_of_lease}");
    // One that took long once is forgiven.
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.device_takes = ms(4_000);
    desk.arm(5, 1, ms(10_900)).unwrap();
    desk.device_takes = ms(0);
    for _ in 0..20 {
        desk.renew(5, ms(10_900)).unwrap();
        desk.pass(ms(2_000));
        desk.check_reset();
    }
}

#[test]
fn a_guard_that_is_killed_is_followed_by_one_that_opens_the_device_again() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    let end_of_lease = desk.now + ms(9_000) + AFTER;
    desk.pass(ms(2_000));
    let died = desk.now;
    desk.die();
    let reset_at = desk.device().reset_at().unwrap();
    assert_eq!(reset_at, died + ms(5_000), "the kernel has pinged once more"); // (W03)
    assert!(reset_at <= end_of_lease, "as long as renewals are not older than half a lease");
    desk.now = desk.now + ms(300);
    desk.restart(true, Some(4711));
    assert!(desk.device_open && status(&desk).layers.contains(Layers::HARDWARE));
    desk.renew(5, ms(9_500)).unwrap();
    desk.pass(ms(4_900));
    desk.check_reset();
    desk.pass(ms(10_000));
    assert_eq!(desk.device().reset_at(), None);
}

#[test]
fn one_that_was_left_running_is_stopped_when_there_is_nothing_to_fence() {
    let mut desk = softdog(LayerMode::Automatic);
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.die();
    desk.saved = None;
    desk.restart(false, None);
    assert_eq!((desk.device().reset_at(), desk.device_open), (None, false));
}

#[test]
fn with_a_lost_state_the_device_is_not_pinged_before_an_agent_explains() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.die();
    let pings = desk.device().pings();
    desk.restart(false, Some(4711));
    desk.pass(ms(500));
    assert_eq!(desk.device().pings(), pings);
    desk.arm(5, 1, ms(9_000)).unwrap();
    assert!(desk.device_open && status(&desk).layers.contains(Layers::HARDWARE));
}

#[test]
fn a_hold_keeps_the_machine_alive() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.hold(5, ms(60_000)).unwrap();
    for _ in 0..590 {
        desk.pass(ms(100));
        desk.check_reset();
    }
    assert!(desk.kills().is_empty() && status(&desk).layers.contains(Layers::HARDWARE));
}

#[test]
fn a_device_that_cannot_be_stopped_is_pinged_on() {
    let kind = SimulatedKind { nowayout: true, ..SimulatedKind::default() };
    let mut desk = desk(LayerMode::Automatic, kind);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    let start = status(&desk).start;
    desk.release(5, NoPrimary::Standby { start }).unwrap();
    desk.pass(ms(60_000));
    desk.check_reset();
    desk.restart(true, Some(4711));
    desk.pass(ms(60_000));
    desk.check_reset();
    assert!(desk.device_open);
    desk.populated = false;
    desk.event(Event::PostmasterExited {
        outcome: ha_core::guard_link::ExitOutcome::Code(0),
        populated: false,
    });
    desk.event(Event::StopRequested { populated: false });
    assert!(notes(&desk).contains(&WatchdogReason::LeftRunning { timeout: ms(5_000) }));
    assert_eq!(desk.actions.last(), Some(&Action::Exit));
}

#[test]
fn a_guard_that_ends_stops_the_device() {
    let mut desk = softdog(LayerMode::Required);
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.event(Event::StopRequested { populated: false });
    assert_eq!((desk.device().reset_at(), desk.device_open), (None, false));
    let exits = desk.actions.iter().filter(|action| **action == Action::Exit).count();
    assert!(exits >= 1);
}

#[test]
fn what_would_stop_with_the_guard_or_only_rings_is_not_relied_upon() {
    let no_magic = SimulatedKind { options: option::SET_TIMEOUT, ..SimulatedKind::default() };
    let alarm = option::SET_TIMEOUT | option::MAGIC_CLOSE | option::ALARM_ONLY;
    let alarm = SimulatedKind { options: alarm, ..SimulatedKind::default() };
    for (kind, word) in [(no_magic.clone(), "nowayout"), (alarm, "alarm")] {
        let mut wanted = desk(LayerMode::Required, kind.clone());
        assert_eq!(wanted.arm(5, 1, ms(9_000)), Err(RefusalCode::LayerMissing)); // (W04)
        assert_eq!((wanted.deadline(), wanted.device().reset_at()), (None, None));
        assert!(status(&wanted).watchdog.text.contains(word), "{}", status(&wanted).watchdog.text);
        let mut liked = desk(LayerMode::Automatic, kind);
        liked.arm(5, 1, ms(9_000)).unwrap();
        assert_eq!(liked.device().reset_at(), None);
        assert!(!status(&liked).layers.contains(Layers::HARDWARE));
        assert!(status(&liked).degraded.contains(Degraded::WATCHDOG));
    }
    let mut desk = desk(LayerMode::Required, SimulatedKind { nowayout: true, ..no_magic });
    desk.arm(5, 1, ms(9_000)).unwrap();
    assert!(status(&desk).layers.contains(Layers::HARDWARE));
}

#[test]
fn what_cannot_be_opened_keeps_a_leader_away_where_it_is_required() {
    for (trouble, word) in [
        (WatchdogTrouble::Busy, "RuntimeWatchdogSec"),
        (WatchdogTrouble::Denied, "root"),
        (WatchdogTrouble::Gone, "gone"),
        (WatchdogTrouble::Absent, "softdog"),
        (WatchdogTrouble::Failed("Input/output error".into()), "Input/output error"),
    ] {
        let mut desk = softdog(LayerMode::Required);
        desk.device_trouble = Some(trouble.clone());
        assert_eq!(desk.arm(5, 1, ms(9_000)), Err(RefusalCode::LayerMissing)); // (W05)
        assert!(status(&desk).watchdog.text.contains(word), "{}", status(&desk).watchdog.text);
        assert!(status(&desk).degraded.contains(Degraded::WATCHDOG));
        desk.device_trouble = None;
        desk.arm(5, 1, ms(9_000)).unwrap();

        let mut desk = softdog(LayerMode::Automatic);
        desk.device_trouble = Some(trouble);
        desk.arm(5, 1, ms(9_000)).unwrap();
        assert!(!status(&desk).layers.contains(Layers::HARDWARE));
        desk.device_trouble = None;
        for _ in 0..6 {
            desk.pass(ms(2_000));
            desk.renew(5, ms(9_000)).unwrap();
        }
        assert!(status(&desk).layers.contains(Layers::HARDWARE), "tried again");
    }
}

#[test]
fn a_leader_whose_pings_fail_is_not_renewed_where_it_is_required() {
    let mut desk = softdog(LayerMode::Required);
    desk.start().unwrap();
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.device().broken = true;
    desk.pass(ms(1_500));
    assert_eq!(desk.renew(5, ms(9_000)), Err(RefusalCode::LayerMissing)); // (W05)
    assert_eq!(desk.arm(5, 1, ms(9_000)), Err(RefusalCode::LayerMissing));
    assert!(status(&desk).watchdog.text.contains("a ping failed"), "{}", status(&desk).watchdog.text);
    desk.device().broken = false;
    desk.pass(ms(1_500));
    desk.renew(5, ms(9_000)).unwrap();

    let mut desk = softdog(LayerMode::Automatic);
    desk.arm(5, 1, ms(9_000)).unwrap();
    desk.device().broken = true;
    desk.pass(ms(1_500));
    desk.renew(5, ms(9_000)).unwrap();
    assert!(status(&desk).degraded.contains(Degraded::WATCHDOG));
}

#[test]
fn a_timeout_that_is_too_long_is_refused_or_warned_of() {
    let rounds = SimulatedKind { step: 6, ..SimulatedKind::default() }; // 5 becomes 6
    let mut wanted = desk(LayerMode::Required, rounds.clone());
    assert_eq!(wanted.arm(5, 1, ms(9_000)), Err(RefusalCode::LayerMissing)); // (W06)
    assert_eq!(wanted.device().reset_at(), None, "and not left running");
    assert!(status(&wanted).watchdog.text.contains("waits 6 s, 5 s are allowed"));
    let mut liked = desk(LayerMode::Automatic, rounds);
    liked.arm(5, 1, ms(9_000)).unwrap();
    assert!(status(&liked).layers.contains(Layers::HARDWARE));
    let started = WatchdogReason::Started {
        device: "/dev/watchdog".into(),
        identity: "simulated".into(),
        timeout: ms(6_000),
        wanted: Some(ms(5_000)),
    };
    assert!(notes(&liked).contains(&started));
    for _ in 0..20 {
        liked.pass(ms(2_000));
        liked.check_reset();
        liked.renew(5, ms(9_400)).unwrap();
    }
    // With a minute the machine could not be kept alive between two renewals at all: not even opened.
    for mode in [LayerMode::Required, LayerMode::Automatic] {
        let mut desk = desk(mode, SimulatedKind { shortest: 60, ..SimulatedKind::default() });
        assert_eq!(desk.arm(5, 1, ms(9_000)).is_err(), mode == LayerMode::Required);
        assert_eq!(desk.device().pings(), 0);
        assert!(status(&desk).watchdog.text.contains("waits 60 s"), "{}", status(&desk).watchdog.text);
    }
}

#[test]
fn it_is_not_started_for_a_deadline_that_is_too_near() {
    let mut desk = softdog(LayerMode::Automatic);
    desk.start().unwrap();
    desk.arm(5, 1, ms(3_000)).unwrap();
    assert_eq!(desk.device().reset_at(), None);
    desk.renew(5, ms(9_000)).unwrap();
    desk.pass(ms(300));
    assert!(status(&desk).layers.contains(Layers::HARDWARE));
    let mut desk = softdog(LayerMode::Required);
    assert_eq!(desk.arm(5, 1, ms(3_000)), Err(RefusalCode::LayerMissing));
    assert_eq!(desk.deadline(), None);
}

#[test]
fn refused_requests_start_nothing() {
    let mut desk = softdog(LayerMode::Required);
    assert_eq!(desk.arm(5, 1, ms(500)), Err(RefusalCode::DeadlinePast));
    assert_eq!(desk.arm(5, 1, ms(50_000)), Err(RefusalCode::DeadlineTooFar));
    assert_eq!(desk.device().pings(), 0);
}
