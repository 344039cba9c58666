//! A directory comes back that some primary wrote: whether it may follow, and what must happen to it before.

mod member;

use ha_core::peer_message::{PeerMessage, PeerPhase, PeerState};
use ha_core::postgres_view::{ControlState, DataDirectory, DataFacts, PostgresProcess, PostgresView};
use ha_core::{Epoch, Lsn, Revision, Timeline};
use ha_decision::{Action, Event, Job};
use member::{Member, SYSTEM, id};

/// pg2 leads epoch 2 on timeline 2, which begins at 100 of timeline 1, and has checkpointed.
fn returning(state: ControlState, timeline: u32, checkpoint: u64) -> Member {
    let mut pg1 = Member::of_leaderless_cluster("pg1", &["pg3"]);
    let mut record = pg1.sync();
    record.epoch = Epoch(2);
    record.policy.epoch = Epoch(2);
    record.leader = id("pg2").into();
    pg1.set_sync(record);
    pg1.put_leader("pg2", 2);
    pg1.see_store();
    let leader = PeerState {
        incarnation: Some(id("pg2").incarnation),
        system_id: Some(SYSTEM),
        phase: PeerPhase::Primary,
        epoch: Epoch(2),
        revision: pg1.view.sync_revision(),
        timeline: Timeline(2),
        flush: Lsn(200),
        replay: Lsn(200),
        checkpoint_timeline: Timeline(2),
        history: vec![(Timeline(1), Lsn(100))],
        hears_leader: true,
        candidate: true,
        leaving: false,
    };
    pg1.hear("pg2", PeerMessage::State(leader));
    let data = DataDirectory::Present(DataFacts {
        system_id: SYSTEM,
        incarnation: Some(id("pg1").incarnation),
        state,
        timeline: Timeline(timeline),
        checkpoint: Lsn(checkpoint),
        minimum_recovery: Lsn(0),
        standby_signal: false,
    });
    let at = pg1.now;
    pg1.event(Event::Postgres(PostgresView {
        at,
        data,
        process: PostgresProcess::Stopped,
        full: false,
        storage_failed: false,
    }));
    pg1
}

fn first_job(member: &Member) -> Job {
    member.jobs().into_iter().next().expect("it does something about its directory").1
}

#[test]
fn what_was_stopped_cleanly_before_the_switch_follows_as_it_is() {
    let pg1 = returning(ControlState::ShutDown, 1, 90);
    assert!(matches!(first_job(&pg1), Job::Start { standby: true, .. }));
}

#[test]
fn what_went_on_after_the_switch_or_crashed_is_rewound() {
    for (state, checkpoint) in [(ControlState::ShutDown, 150), (ControlState::InProduction, 90)] {
        let pg1 = returning(state, 1, checkpoint);
        assert!(matches!(first_job(&pg1), Job::Rewind { .. }), "{state:?} at {checkpoint}");
    }
}

#[test]
fn a_second_history_under_the_leaders_timeline_is_cloned_and_never_followed() {
    // Promoted by hand, so that it took the number that was then reserved for the leader.
    for state in [ControlState::ShutDown, ControlState::InProduction, ControlState::Unclean] {
        let pg1 = returning(state, 2, 90);
        assert!(matches!(first_job(&pg1), Job::Clone { .. }), "{state:?}: {:?}", pg1.jobs());
    }
}

#[test]
fn the_store_is_read_when_another_member_knows_a_newer_record() {
    let reads = |member: &Member| {
        let reads = member.actions.iter().filter_map(|action| match action {
            Action::ReadStore { at_least } => Some(*at_least),
            _ => None,
        });
        reads.collect::<Vec<_>>()
    };
    let mut pg3 = Member::of_leaderless_cluster("pg3", &["pg2", "pg3"]);
    pg3.see_store();
    let known = pg3.view.sync_revision();
    pg3.hear_revision("pg2", PeerPhase::Primary, true, known);
    assert_eq!(reads(&pg3), [], "it knows as much itself");
    let newer = Revision(known.0 + 7);
    pg3.hear_revision("pg2", PeerPhase::Primary, true, newer);
    pg3.hear_revision("pg2", PeerPhase::Primary, true, newer);
    assert_eq!(reads(&pg3), [newer], "once is enough: the driver repeats what fails");
    pg3.hear_revision("pg1", PeerPhase::Stopped, false, known);
    assert_eq!(reads(&pg3), [newer], "an older one is nothing to read");
}
