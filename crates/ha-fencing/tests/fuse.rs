//! When the kernel's fuse is told what, and what waits for it.

mod desk;

use desk::{Desk, boot, ms};
use ha_core::guard_link::{Degraded, ExitOutcome, Layers, NoPrimary, RefusalCode, Reply, Request};
use ha_core::{Epoch, Generation, MonoTime};
use ha_fencing::{Action, Event};

/// Asks to arm; the answer, if there is one at once.
fn ask_to_arm(desk: &mut Desk, epoch: u64) -> Option<Reply> {
    let (seq, deadline) = (desk.seq(), desk.now + ms(8_000));
    desk.ask(Request::Arm { seq, epoch: Epoch(epoch), generation: Generation(1), deadline, boot_id: boot() })
}

/// When the kernel's timer is to expire: a quarter of a second before the deadline.
fn fuse_for(desk: &Desk) -> Option<MonoTime> {
    desk.deadline().map(|deadline| deadline.minus(ms(250)))
}

fn says(desk: &mut Desk, deadline: Option<MonoTime>, tied: bool) -> Option<Reply> {
    desk.actions.clear();
    desk.event(Event::FuseSaid { deadline, tied });
    answer(desk)
}

fn answer(desk: &Desk) -> Option<Reply> {
    desk.actions.iter().find_map(|action| match action {
        Action::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    })
}

fn layers(reply: Option<Reply>) -> Layers {
    match reply {
        Some(Reply::Ack { layers, .. }) => layers,
        other => panic!("not acknowledged: {other:?}"),
    }
}

fn refusal(reply: Option<Reply>) -> RefusalCode {
    match reply {
        Some(Reply::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_arming_is_acknowledged_when_the_fuse_has_confirmed_it() {
    let mut desk = Desk::fused(Layers::KERNEL_FUSE);
    desk.start().unwrap();
    assert_eq!(says(&mut desk, None, false), None);
    assert_eq!(ask_to_arm(&mut desk, 5), None, "the fuse has not confirmed");
    let deadline = desk.fuse.expect("told");
    assert_eq!(Some(deadline), fuse_for(&desk));
    assert_eq!(says(&mut desk, None, false), None, "an old word");
    assert_eq!(says(&mut desk, Some(deadline), false), None, "PostgreSQL does not depend on it yet");
    assert!(layers(says(&mut desk, Some(deadline), true)).contains(Layers::KERNEL_FUSE));
    desk.pass(ms(2_000));
    desk.renew(5, ms(8_000)).unwrap();
    assert_eq!(desk.fuse, fuse_for(&desk));
    assert!(desk.fuse > Some(deadline), "each renewal moves the kernel's timer");
    assert!(desk.watch.status(desk.now).layers.contains(Layers::KERNEL_FUSE), "and nobody waits for it");
}

#[test]
fn without_the_fuse_nobody_begins_to_lead_where_it_is_required() {
    let mut desk = Desk::fused(Layers::KERNEL_FUSE);
    desk.start().unwrap();
    assert_eq!(ask_to_arm(&mut desk, 5), None);
    desk.actions.clear();
    desk.pass(ms(600));
    assert_eq!(refusal(answer(&desk)), RefusalCode::LayerMissing);
    assert_eq!((desk.deadline(), desk.fuse), (None, None), "and the standby is left without a deadline");
    desk.pass(ms(20_000));
    assert!(desk.kills().is_empty());

    desk.event(Event::FuseLost);
    assert_eq!(refusal(ask_to_arm(&mut desk, 5)), RefusalCode::LayerMissing);
    assert!(desk.watch.status(desk.now).degraded.contains(Degraded::NO_KERNEL_FUSE));

    let mut desk = Desk::fused(Layers::KERNEL_FUSE);
    desk.event(Event::FuseProbed { failure: Some("not permitted".into()) });
    assert_eq!(refusal(ask_to_arm(&mut desk, 5)), RefusalCode::LayerMissing);
    desk.start().expect("a standby may run without it");
    assert_eq!(refusal(ask_to_arm(&mut desk, 5)), RefusalCode::LayerMissing);
}

#[test]
fn where_it_is_not_required_its_absence_is_shown_and_nothing_more() {
    let mut desk = Desk::fused(Layers::default());
    desk.event(Event::FuseProbed { failure: Some("not permitted".into()) });
    desk.start().unwrap();
    assert!(!layers(ask_to_arm(&mut desk, 5)).contains(Layers::KERNEL_FUSE));
    assert!(desk.watch.status(desk.now).degraded.contains(Degraded::NO_KERNEL_FUSE));
    assert_eq!(desk.fuse, None);

    let mut desk = Desk::fused(Layers::default());
    desk.start().unwrap();
    assert_eq!(ask_to_arm(&mut desk, 5), None);
    desk.actions.clear();
    desk.pass(ms(600));
    assert!(!layers(answer(&desk)).contains(Layers::KERNEL_FUSE), "it did not answer");
}

#[test]
fn an_armed_leader_starts_again_behind_an_armed_fuse() {
    let mut desk = Desk::fused(Layers::KERNEL_FUSE);
    assert!(
        layers(ask_to_arm(&mut desk, 5)).contains(Layers::KERNEL_FUSE),
        "the start to come will have one"
    );
    let seq = desk.seq();
    desk.ask(Request::Start { seq, settings: vec![] });
    let order: Vec<&Action> = desk
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Launch { .. } | Action::SetFuse(_)))
        .collect();
    assert!(matches!(order[..], [Action::Launch { fused: true, .. }, Action::SetFuse(Some(_))]), "{order:?}");
    assert_eq!(desk.fuse, fuse_for(&desk));
}

#[test]
fn a_release_unsets_it_and_a_hold_moves_it() {
    let mut desk = Desk::fused(Layers::default());
    let start = desk.start().unwrap();
    ask_to_arm(&mut desk, 5);
    let deadline = desk.fuse;
    says(&mut desk, deadline, true);
    desk.hold(5, ms(60_000)).unwrap();
    assert_eq!(desk.fuse, Some(desk.now + ms(60_750)), "as after any kill of the guard");
    desk.hold(5, ms(0)).unwrap();
    assert_eq!(desk.fuse, deadline);
    desk.release(5, NoPrimary::Standby { start }).unwrap();
    assert_eq!(desk.fuse, None);
    assert!(!desk.watch.status(desk.now).layers.contains(Layers::KERNEL_FUSE));
}

#[test]
fn it_stays_set_while_the_guard_kills() {
    let mut desk = Desk::fused(Layers::default());
    desk.start().unwrap();
    ask_to_arm(&mut desk, 5);
    let deadline = desk.fuse;
    says(&mut desk, deadline, true);
    desk.undead = true;
    desk.pass(ms(7_500));
    assert!(!desk.kills().is_empty());
    assert_eq!(desk.fuse, deadline, "what the kill does not end has to end by the fuse");
}

#[test]
fn a_successor_tells_the_fuse_what_it_knows_and_notices_one_that_is_gone() {
    let mut desk = Desk::fused(Layers::default());
    desk.start().unwrap();
    ask_to_arm(&mut desk, 5);
    let deadline = fuse_for(&desk);
    desk.fuse = None;
    desk.restart_fused(true);
    assert!(desk.actions.contains(&Action::SetFuse(deadline)), "{:?}", desk.actions);
    assert!(!desk.watch.status(desk.now).layers.contains(Layers::KERNEL_FUSE), "not before its word");
    says(&mut desk, deadline, true);
    assert!(desk.watch.status(desk.now).layers.contains(Layers::KERNEL_FUSE));

    desk.restart_fused(false);
    let status = desk.watch.status(desk.now);
    assert!(status.degraded.contains(Degraded::NO_KERNEL_FUSE));
    assert!(!status.layers.contains(Layers::KERNEL_FUSE));
}

#[test]
fn an_ended_postgresql_leaves_no_fuse_behind() {
    let mut desk = Desk::fused(Layers::default());
    desk.start().unwrap();
    desk.populated = false;
    desk.event(Event::PostmasterExited { outcome: ExitOutcome::Code(0), populated: false });
    desk.event(Event::FuseLost);
    let status = desk.watch.status(desk.now);
    assert!(!status.degraded.contains(Degraded::NO_KERNEL_FUSE), "the next start will have one");
    desk.start().unwrap();
}
