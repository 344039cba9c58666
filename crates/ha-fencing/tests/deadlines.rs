//! What a deadline does, and what may change it.

mod desk;

use desk::{Desk, boot, ms};
use ha_core::guard_link::{Degraded, ExitOutcome, NoPrimary, RefusalCode, Reply, Request};
use ha_core::{BootId, Epoch, Generation, MonoTime};
use ha_fencing::{Action, Event, KillCause, Leadership, PeerId};

#[test]
fn the_kill_comes_kill_lead_before_the_deadline_and_not_earlier() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    desk.pass(ms(6_999));
    assert!(desk.kills().is_empty());
    desk.pass(ms(1));
    assert_eq!(desk.kills(), [KillCause::Deadline(Epoch(5))]);
    assert!(!desk.populated);
    let Some(Reply::Fenced(fence)) = desk.notices().pop() else { panic!("no notice: {:?}", desk.actions) };
    assert!(fence.empty && fence.epoch == Epoch(5) && fence.at == desk.now);
    assert_eq!(desk.recorded, Some(Leadership { epoch: Epoch(5), generation: Generation(1) }));
}

#[test]
fn the_kill_is_the_first_action() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    desk.actions.clear();
    desk.pass(ms(7_000));
    assert!(matches!(desk.actions.first(), Some(Action::Kill(_))), "{:?}", desk.actions);
}

#[test]
fn renewals_move_it_and_the_end_of_a_connection_does_not() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    for _ in 0..20 {
        desk.pass(ms(2_000));
        desk.renew(5, ms(8_000)).unwrap();
    }
    let deadline = desk.deadline();
    desk.event(Event::PeerGone(PeerId(1)));
    assert_eq!(desk.deadline(), deadline);
    desk.pass(ms(6_999));
    assert!(desk.kills().is_empty(), "the agent's end alone must not kill");
    desk.pass(ms(2));
    assert_eq!(desk.kills().len(), 1);
}

#[test]
fn a_message_that_was_delayed_cannot_extend_the_deadline() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    let late = Request::Renew { seq: 1000, epoch: Epoch(5), deadline: desk.now + ms(9_000) };
    desk.pass(ms(20_000));
    assert!(!desk.populated);
    assert!(matches!(desk.ask(late), Some(Reply::Refused { code: RefusalCode::EpochFenced, .. })));
    assert_eq!(desk.deadline(), None);
}

#[test]
fn wrong_requests_change_nothing() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    assert_eq!(desk.renew(5, ms(8_000)), Err(RefusalCode::NotArmed));
    assert_eq!(desk.hold(5, ms(8_000)), Err(RefusalCode::NotArmed));
    desk.arm(5, 1, ms(8_000)).unwrap();
    let held = desk.deadline();
    assert_eq!(desk.renew(4, ms(9_000)), Err(RefusalCode::OtherEpoch));
    assert_eq!(desk.renew(6, ms(9_000)), Err(RefusalCode::OtherEpoch));
    assert_eq!(desk.renew(5, ms(8_000)), Err(RefusalCode::DeadlineNotLater));
    assert_eq!(desk.renew(5, ms(7_000)), Err(RefusalCode::DeadlineNotLater));
    assert_eq!(desk.renew(5, ms(11_001)), Err(RefusalCode::DeadlineTooFar));
    assert_eq!(desk.arm(4, 9, ms(9_000)), Err(RefusalCode::EpochTooLow));
    assert_eq!(desk.arm(6, 9, ms(1_000)), Err(RefusalCode::DeadlinePast));
    assert_eq!(desk.arm(6, 9, ms(11_001)), Err(RefusalCode::DeadlineTooFar));
    assert_eq!(desk.hold(4, ms(10)), Err(RefusalCode::OtherEpoch));
    assert_eq!(desk.hold(5, ms(3_600_001)), Err(RefusalCode::HoldTooLong));
    assert_eq!(desk.release(4, NoPrimary::Empty), Err(RefusalCode::OtherEpoch));
    let deadline = desk.now + ms(9_000);
    let other_boot = Request::Arm {
        seq: 1000,
        epoch: Epoch(6),
        generation: Generation(1),
        deadline,
        boot_id: BootId("yesterday".into()),
    };
    assert!(matches!(desk.ask(other_boot), Some(Reply::Refused { code: RefusalCode::WrongBoot, .. })));
    let replayed = Request::Renew { seq: 1000, epoch: Epoch(5), deadline };
    assert!(matches!(desk.ask(replayed), Some(Reply::Refused { code: RefusalCode::StaleSequence, .. })));
    assert_eq!(desk.deadline(), held);
    assert!(desk.kills().is_empty());
}

#[test]
fn arming_the_same_epoch_again_never_shortens() {
    let mut desk = Desk::new();
    desk.arm(5, 1, ms(8_000)).unwrap();
    let held = desk.deadline();
    desk.arm(5, 2, ms(5_000)).unwrap();
    assert_eq!(desk.deadline(), held);
    desk.arm(6, 3, ms(5_000)).unwrap();
    assert_eq!(desk.deadline(), Some(desk.now + ms(5_000)), "a new leadership has its own deadline");
}

#[test]
fn a_fenced_epoch_comes_back_only_when_re_acquired() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 3, ms(8_000)).unwrap();
    desk.pass(ms(8_000));
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: false });
    for restart in [false, true] {
        if restart {
            desk.restart(true, None);
        }
        assert_eq!(desk.arm(5, 3, ms(8_000)), Err(RefusalCode::EpochFenced));
        assert_eq!(desk.arm(4, 9, ms(8_000)), Err(RefusalCode::EpochFenced));
        assert_eq!(desk.renew(5, ms(8_000)), Err(RefusalCode::EpochFenced));
    }
    desk.restart(false, None); // as after a reboot: only the durable record is left
    assert_eq!(desk.arm(5, 3, ms(8_000)), Err(RefusalCode::EpochFenced));
    desk.arm(5, 4, ms(8_000)).unwrap();
    desk.arm(6, 1, ms(8_000)).unwrap();
}

#[test]
fn nothing_starts_after_a_fence_until_it_is_acknowledged() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 3, ms(8_000)).unwrap();
    desk.pass(ms(8_000));
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: false });
    assert_eq!(desk.start(), Err(RefusalCode::FenceNotAcknowledged));
    desk.restart(true, None);
    assert_eq!(desk.start(), Err(RefusalCode::FenceNotAcknowledged));
    assert_eq!(desk.acknowledge(4), Err(RefusalCode::OtherEpoch));
    desk.acknowledge(5).unwrap();
    desk.start().unwrap();
}

#[test]
fn what_appears_after_a_fence_is_killed() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 3, ms(8_000)).unwrap();
    desk.pass(ms(8_000));
    desk.actions.clear();
    desk.populated = true;
    desk.event(Event::GroupChanged { populated: true });
    assert_eq!(desk.kills(), [KillCause::AfterFence]);
}

#[test]
fn a_process_that_hangs_is_killed_again_and_reported() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 3, ms(8_000)).unwrap();
    desk.undead = true;
    desk.pass(ms(7_600));
    assert!(desk.kills().len() >= 50, "repeated every 10 ms, not {} times", desk.kills().len());
    assert!(desk.notices().iter().any(|notice| matches!(notice, Reply::Fenced(fence) if !fence.empty)));
    assert!(desk.watch.status(desk.now).degraded.contains(Degraded::NOT_EMPTY_AFTER_FENCE));
    assert_eq!(desk.acknowledge(5), Err(RefusalCode::Populated));
    desk.undead = false;
    desk.pass(ms(100));
    assert!(desk.notices().iter().any(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty)));
    assert_eq!(desk.watch.status(desk.now).degraded, Degraded::default());
}

#[test]
fn release_needs_an_empty_group_or_the_standby_of_this_start() {
    let mut desk = Desk::new();
    let start = desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    assert_eq!(desk.release(5, NoPrimary::Empty), Err(RefusalCode::PrimaryMayRun));
    assert_eq!(desk.release(5, NoPrimary::Standby { start: start - 1 }), Err(RefusalCode::PrimaryMayRun));
    assert!(desk.deadline().is_some());
    desk.release(5, NoPrimary::Standby { start }).unwrap();
    assert_eq!(desk.deadline(), None);
    desk.pass(ms(100_000));
    assert!(desk.kills().is_empty() && desk.populated, "a standby is never killed");

    desk.arm(5, 2, ms(8_000)).unwrap();
    desk.populated = false;
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Code(0), populated: false });
    desk.release(5, NoPrimary::Empty).unwrap();
    assert_eq!(desk.deadline(), None);
}

#[test]
fn a_hold_ends_by_itself_and_the_deadline_counts_again() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    desk.hold(5, ms(3_600_000)).unwrap();
    desk.pass(ms(100_000));
    assert!(desk.kills().is_empty());
    desk.hold(5, ms(10_000)).unwrap();
    desk.restart(true, Some(4711));
    desk.pass(ms(9_999));
    assert!(desk.kills().is_empty());
    desk.pass(ms(1));
    assert_eq!(desk.kills(), [KillCause::Deadline(Epoch(5))], "renewals had stopped");

    let mut renewed = Desk::new();
    renewed.start().unwrap();
    renewed.arm(5, 1, ms(8_000)).unwrap();
    renewed.hold(5, ms(3_000)).unwrap();
    renewed.renew(5, ms(10_000)).unwrap();
    renewed.actions.clear();
    renewed.pass(ms(3_000));
    assert_eq!(renewed.notices(), [Reply::HoldEnded { epoch: Epoch(5) }]);
    assert!(renewed.kills().is_empty());
    renewed.hold(5, ms(100_000)).unwrap();
    renewed.hold(5, ms(0)).unwrap();
    assert_eq!(renewed.watch.status(renewed.now).hold_until, None, "a time that is past ends a hold");
}

#[test]
fn the_successor_keeps_the_deadline() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    let held = desk.deadline();
    desk.pass(ms(3_000));
    desk.restart(true, Some(4711));
    assert_eq!(desk.deadline(), held);
    desk.pass(ms(4_000));
    assert_eq!(desk.kills(), [KillCause::Deadline(Epoch(5))]);

    let mut late = Desk::new();
    late.start().unwrap();
    late.arm(5, 1, ms(8_000)).unwrap();
    late.now = late.now + ms(60_000); // no guard for a minute
    late.restart(true, Some(4711));
    late.pass(ms(0));
    assert_eq!(late.kills(), [KillCause::Deadline(Epoch(5))], "overdue: at once");
}

#[test]
fn a_primary_found_without_state_ends_soon_unless_armed_and_a_standby_lives() {
    let found = || Desk::begin(MonoTime(9_000_000_000_000), None, None, true, Some(4711));
    let mut nobody = found();
    assert!(nobody.watch.status(nobody.now).degraded.contains(Degraded::UNPROTECTED));
    assert!(nobody.actions.contains(&Action::Inspect));
    assert_eq!(nobody.saved, None, "a successor must not trust a guess");
    nobody.event(Event::Inspected { standby: None });
    nobody.pass(ms(999));
    assert!(nobody.kills().is_empty());
    nobody.pass(ms(1));
    assert_eq!(nobody.kills().len(), 1);
    nobody.event(Event::PostmasterExited { outcome: ExitOutcome::Unknown, populated: false });
    nobody.acknowledge(0).unwrap();
    nobody.arm(1, 1, ms(8_000)).unwrap();

    let mut armed = found();
    armed.event(Event::Inspected { standby: Some(false) });
    armed.arm(5, 1, ms(8_000)).unwrap();
    armed.pass(ms(6_999));
    assert!(armed.kills().is_empty() && armed.saved.is_some());

    let mut standby = found();
    standby.event(Event::Inspected { standby: Some(true) });
    standby.pass(ms(100_000));
    assert!(standby.kills().is_empty() && standby.saved.is_some());
}

#[test]
fn what_outlives_a_killed_postmaster_is_killed_at_once() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: true });
    desk.pass(ms(0));
    assert_eq!(desk.kills(), [KillCause::PostmasterGone]);
    assert!(desk.notices().iter().any(|notice| matches!(notice, Reply::Emptied { .. })));

    let mut clean = Desk::new();
    clean.start().unwrap();
    clean.event(Event::PostmasterExited { outcome: ExitOutcome::Code(0), populated: true });
    clean.pass(ms(500));
    assert!(clean.kills().is_empty(), "the log collector writes its last lines");
    clean.populated = false;
    clean.event(Event::GroupChanged { populated: false });
    clean.pass(ms(5_000));
    assert!(clean.kills().is_empty());
}

#[test]
fn starts_are_refused_while_anything_runs_or_with_the_directory_set() {
    let mut desk = Desk::new();
    let settings = vec![("data_directory".to_owned(), "/elsewhere".to_owned())];
    let refused = desk.ask(Request::Start { seq: 1, settings });
    assert!(matches!(refused, Some(Reply::Refused { code: RefusalCode::BadSetting, .. })));
    for name in ["", "a b", "-D", "1x", "a=b"] {
        let seq = 2 + desk.seq();
        let refused = desk.ask(Request::Start { seq, settings: vec![(name.to_owned(), String::new())] });
        assert!(matches!(refused, Some(Reply::Refused { code: RefusalCode::BadSetting, .. })), "{name:?}");
    }
    let mut desk = Desk::new();
    let first = desk.start().unwrap();
    assert_eq!(desk.start(), Err(RefusalCode::Populated));
    desk.populated = false;
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Code(0), populated: false });
    assert!(desk.start().unwrap() > first);
}

#[test]
fn stopping_asks_first_then_kills_and_ends_when_nothing_runs() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(5, 1, ms(8_000)).unwrap();
    desk.actions.clear();
    desk.event(Event::StopRequested { populated: true });
    assert!(desk.actions.contains(&Action::AskToStop) && !desk.actions.contains(&Action::Exit));
    assert_eq!(desk.start(), Err(RefusalCode::Stopping));
    desk.populated = false;
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Code(0), populated: false });
    assert!(desk.actions.contains(&Action::Exit));
    assert_eq!(desk.saved.as_ref().unwrap().lease.armed, None);

    let mut slow = Desk::new();
    slow.start().unwrap();
    slow.event(Event::StopRequested { populated: true });
    slow.pass(ms(60_000));
    assert_eq!(slow.kills(), [KillCause::StopTooSlow]);
    slow.event(Event::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: false });
    assert!(slow.actions.contains(&Action::Exit));

    let mut idle = Desk::new();
    idle.event(Event::StopRequested { populated: false });
    assert!(idle.actions.contains(&Action::Exit));
}

#[test]
fn a_fence_overtakes_a_start_in_flight() {
    let mut desk = Desk::new();
    desk.arm(5, 1, ms(2_000)).unwrap();
    let seq = desk.seq();
    desk.ask(Request::Start { seq, settings: vec![] });
    desk.pass(ms(1_000));
    assert_eq!(desk.kills(), [KillCause::Deadline(Epoch(5))]);
    desk.actions.clear();
    desk.populated = true; // it slipped through
    desk.event(Event::Launched { pid: 4711, system_id: None });
    assert_eq!(desk.kills().first(), Some(&KillCause::AfterFence));
    assert!(!desk.populated);
}

#[test]
fn epochs_of_another_system_mean_nothing() {
    let mut desk = Desk::new();
    desk.start().unwrap();
    desk.arm(9, 1, ms(8_000)).unwrap();
    desk.pass(ms(8_000));
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Signal(9), populated: false });
    desk.acknowledge(9).unwrap();
    let seq = desk.seq();
    desk.ask(Request::Start { seq, settings: vec![] });
    desk.populated = true;
    desk.event(Event::Launched { pid: 4712, system_id: Some(8) });
    desk.arm(1, 1, ms(8_000)).unwrap();
}

#[test]
fn hello_checks_the_boot() {
    let mut desk = Desk::new();
    assert_eq!(desk.ask(Request::Hello { seq: 1, boot_id: boot() }), None);
    assert!(desk.actions.contains(&Action::Report { peer: PeerId(1), seq: 1 }));
    let refused = desk.ask(Request::Hello { seq: 2, boot_id: BootId("other".into()) });
    assert!(matches!(refused, Some(Reply::Refused { code: RefusalCode::WrongBoot, .. })));
}
