//! A cluster that does not exist yet: who may run `initdb`, and who waits because somebody may have data.

mod member;

use ha_core::cluster_view::StoreKey;
use ha_core::peer_message::{PeerMessage, PeerPhase, PeerState};
use ha_core::postgres_view::{DataDirectory, PostgresProcess, PostgresView};
use ha_core::{Epoch, Lsn, Revision, Timeline};
use ha_decision::{Event, LeaseNews};
use member::{Member, SYSTEM};

/// pg2 on an empty directory; the store knows no cluster, and no other member was heard.
fn newcomer() -> Member {
    let mut pg2 = Member::of_leaderless_cluster("pg2", &[]);
    (pg2.view.sync, pg2.view.history) = (None, Default::default());
    pg2.see_store();
    pg2.event(Event::Postgres(PostgresView {
        at: pg2.now,
        data: DataDirectory::Empty,
        process: PostgresProcess::Stopped,
        full: false,
        storage_failed: false,
    }));
    pg2
}

fn state(phase: PeerPhase, has_data: bool) -> PeerMessage {
    PeerMessage::State(PeerState {
        incarnation: None,
        system_id: has_data.then_some(SYSTEM),
        phase,
        epoch: Epoch(0),
        revision: Revision(0),
        timeline: Timeline(1),
        flush: Lsn(100),
        replay: Lsn(100),
        checkpoint_timeline: Timeline(1),
        history: Vec::new(),
        hears_leader: false,
        candidate: false,
        leaving: false,
    })
}

fn claims(member: &Member) -> bool {
    member.txns().iter().any(|(_, txn)| txn.puts.iter().any(|(key, ..)| *key == StoreKey::Initialize))
}

#[test]
fn silent_members_are_waited_for_and_then_one_founds_the_cluster() {
    let mut pg2 = newcomer();
    pg2.pass(4000);
    assert!(!claims(&pg2), "the others had no time to report");
    pg2.pass(2000);
    assert!(claims(&pg2));
}

#[test]
fn who_stood_still_meanwhile_waits_once_more() {
    let mut pg2 = newcomer();
    pg2.wait(20_000);
    pg2.event(Event::Lease(LeaseNews::Ready));
    assert!(!claims(&pg2), "it was asleep and could hear nobody");
    pg2.pass(6000);
    assert!(claims(&pg2));
}

#[test]
fn a_member_with_half_a_copy_does_not_hide_one_with_data() {
    let mut pg2 = newcomer();
    pg2.hear("pg1", state(PeerPhase::Stopped, false));
    pg2.hear("pg3", state(PeerPhase::Stopped, true));
    pg2.pass(8000);
    assert!(!claims(&pg2), "pg3 has data");
    let blocked = pg2.decider.status().blocked.expect("it says why");
    assert!(blocked.contains("pg3"), "{blocked}");
}
