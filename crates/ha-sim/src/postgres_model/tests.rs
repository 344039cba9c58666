//! What the model must do as PostgreSQL does, because a lost commit depends on it.

use std::collections::BTreeSet;

use ha_core::record::{Policy, SyncRecord};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Epoch, Generation, Incarnation, MemberId, MonoTime, SystemId, Timeline};

use super::directory::closed_settings;
use super::server::new_sender;
use super::{Directory, Phase, RecordKind, Server, Waiter};

fn id(name: &str) -> MemberId {
    MemberId::new(name.parse().unwrap(), Incarnation(1))
}

fn name(member: &str) -> StandbyName {
    StandbyName { member: id(member), epoch: Epoch(1) }
}

fn list(k: u32, members: &[&str]) -> StandbyNames {
    StandbyNames::any(k, &members.iter().map(|m| id(m)).collect::<BTreeSet<_>>(), Epoch(1))
}

fn empty_list() -> StandbyNames {
    StandbyNames::of_record(&SyncRecord {
        proto: 1,
        min_reader: 1,
        min_writer: 1,
        cluster_uuid: String::new(),
        system_id: SystemId(1),
        epoch: Epoch(1),
        generation: Generation(1),
        leader: id("pg1").into(),
        policy: Policy::pinned(Epoch(1)),
        extra: Default::default(),
    })
}

/// A running primary that uses `names` everywhere, with a streaming walsender for each of `standbys` (process ids 1, 2…).
fn primary(names: &StandbyNames, standbys: &[&str]) -> (Server, Directory) {
    let mut settings = closed_settings();
    settings.standby_names = names.clone();
    let mut directory = Directory::initialized(SystemId(1), Incarnation(1), &[1, 2, 3], settings);
    let mut server = Server::starting(1, false, &mut directory);
    server.phase = Phase::Up;
    for (i, standby) in standbys.iter().enumerate() {
        let pid = u32::try_from(i + 1).unwrap();
        let end = directory.flushed;
        server.senders.insert(pid, new_sender(name(standby), (i + 1, 1, 1), end, names, MonoTime(0)));
        assert_eq!(server.confirmed(pid, end), []);
    }
    (server, directory)
}

fn waiter(record: u64) -> Waiter {
    Waiter { record, client: None }
}

#[test]
fn a_commit_is_flushed_before_anybody_confirms_it_and_answered_after() {
    let (mut server, mut directory) = primary(&list(1, &["pg2"]), &["pg2"]);
    let (end, answered) = server.commit(&mut directory, waiter(10));
    assert!(!answered && directory.flushed == end && directory.wal.holds(end, 10));
    assert_eq!(server.confirmed(1, end), [(end, waiter(10))]);
    assert_eq!(server.confirmed(1, end), [], "nobody is told twice");
}

#[test]
fn k_different_walsenders_must_confirm() {
    let (mut server, mut directory) = primary(&list(2, &["pg2", "pg3", "pg4"]), &["pg2", "pg3", "pg4"]);
    let (end, _) = server.commit(&mut directory, waiter(10));
    assert_eq!(server.confirmed(2, end), []);
    assert_eq!(server.confirmed(2, end), []);
    assert_eq!(server.confirmed(3, end).len(), 1);
}

#[test]
fn a_walsender_with_an_old_copy_still_confirms_after_the_reload_of_others() {
    let (mut server, mut directory) = primary(&list(1, &["pg2", "pg3"]), &["pg2", "pg3"]);
    let narrowed = list(1, &["pg3"]);
    server.sender_reloads(2, &narrowed);
    let (end, _) = server.commit(&mut directory, waiter(10));
    assert_eq!(server.confirmed(1, end).len(), 1, "the walsender of pg2 has not read the new list");
    server.sender_reloads(1, &narrowed);
    let (end, _) = server.commit(&mut directory, waiter(11));
    assert_eq!(server.confirmed(1, end), [], "now it has");
    assert_eq!(server.confirmed(2, end).len(), 1);
}

#[test]
fn a_walsender_uses_its_own_k_over_what_the_others_have_published() {
    let (mut server, mut directory) = primary(&list(1, &["pg2", "pg3"]), &["pg2", "pg3"]);
    server.sender_reloads(1, &list(2, &["pg2", "pg3"]));
    let (end, _) = server.commit(&mut directory, waiter(10));
    assert_eq!(server.confirmed(1, end), [], "the walsender of pg2 wants two");
    let (end, _) = server.commit(&mut directory, waiter(11));
    assert_eq!(server.confirmed(2, end).len(), 2, "that of pg3 is content with one, its own");
}

#[test]
fn an_empty_list_lets_everybody_go_when_the_checkpointer_reads_it() {
    let (mut server, mut directory) = primary(&list(1, &["pg2"]), &[]);
    let (end, _) = server.commit(&mut directory, waiter(10));
    server.postmaster.standby_names = empty_list();
    assert_eq!(server.waiters.len(), 1, "the postmaster's copy alone does nothing");
    assert_eq!(server.checkpointer_reloads(&empty_list()), [(end, waiter(10))]);
    assert!(server.commit(&mut directory, waiter(11)).1, "and from then on nobody waits");
    assert_eq!(server.checkpointer_reloads(&StandbyNames::blocked()), []);
    assert!(!server.commit(&mut directory, waiter(12)).1);
}

#[test]
fn the_blocked_name_is_nobodys() {
    let (mut server, mut directory) = primary(&StandbyNames::blocked(), &["pg2", "pg3"]);
    let (end, _) = server.commit(&mut directory, waiter(10));
    assert_eq!((server.confirmed(1, end), server.confirmed(2, end)), (vec![], vec![]));
}

#[test]
fn a_name_of_another_epoch_confirms_nothing() {
    let (mut server, mut directory) = primary(&list(1, &["pg2"]), &[]);
    let stale = StandbyName { epoch: Epoch(0), ..name("pg2") };
    let names = list(1, &["pg2"]);
    server.senders.insert(9, new_sender(stale, (1, 1, 1), directory.flushed, &names, MonoTime(0)));
    let (end, _) = server.commit(&mut directory, waiter(10));
    assert_eq!(server.confirmed(9, end), []);
}

#[test]
fn after_a_crash_the_waiting_commit_is_there_and_nobody_was_told() {
    let (mut server, mut directory) = primary(&list(1, &["pg2"]), &[]);
    let (end, _) = server.commit(&mut directory, waiter(10));
    drop(server);
    let restarted = Server::starting(2, false, &mut directory);
    assert!(directory.wal.holds(end, 10) && restarted.waiters.is_empty());
}

#[test]
fn a_promotion_takes_the_first_timeline_without_a_history_file() {
    let (_, mut directory) = primary(&StandbyNames::blocked(), &[]);
    directory.history_files.extend([Timeline(2), Timeline(4)]);
    directory.standby_signal = true;
    let mut server = Server::starting(2, true, &mut directory);
    let timeline = directory.next_timeline();
    assert_eq!(timeline, Timeline(3), "4 is beyond the first gap");
    let end = server.promote(&mut directory, 99, timeline);
    assert_eq!(directory.wal.timeline(), Timeline(3));
    assert_eq!(directory.wal.ending_at(end).map(|r| r.kind), Some(RecordKind::Promotion));
    assert_ne!(
        directory.checkpoint_timeline,
        Timeline(3),
        "the control file shows it after a checkpoint only"
    );
}

#[test]
fn a_power_loss_takes_what_was_received_and_not_flushed() {
    let (mut server, mut directory) = primary(&StandbyNames::blocked(), &[]);
    let end = server.write(&mut directory, 5, RecordKind::Mark);
    directory.wal.push(super::Record { id: 6, timeline: Timeline(1), kind: RecordKind::Commit });
    let mut data = super::Data::Present(Box::new(directory));
    data.lose_power();
    assert_eq!(data.present().map(|d| d.wal.end()), Some(end));
}

#[test]
fn a_standby_that_was_started_reports_less_than_it_holds_until_it_streams() {
    let (_, mut directory) = primary(&StandbyNames::blocked(), &[]);
    directory.wal.push(super::Record { id: 6, timeline: Timeline(1), kind: RecordKind::Commit });
    directory.standby_signal = true;
    let mut server = Server::starting(2, true, &mut directory);
    server.phase = Phase::Up;
    let ha_core::postgres_view::PostgresProcess::Running(instance) = server.view(&directory, 0) else {
        panic!("it runs");
    };
    assert!(instance.flush.0 < directory.wal.end() as u64);
}
