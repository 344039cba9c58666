use std::path::Path;

use ha_rpc::proto::{PeerPhase, PeerState, Server};

use super::*;

/// Three members; the names and addresses of the reference file.
pub(crate) fn cluster() -> Cluster {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml");
    ha_config::load(&reference).unwrap()
}

pub(crate) const MIB: u64 = 1 << 20;

fn incarnation(name: &str) -> String {
    format!("0000000{}", &name[2..])
}

fn id(name: &str) -> String {
    format!("{name}@{}", incarnation(name))
}

pub(crate) fn sync(epoch: u64, leader: &str, members: &[&str]) -> SyncState {
    SyncState {
        epoch,
        generation: epoch * 10,
        revision: epoch * 100,
        leader: id(leader),
        policy: PolicyKind::Quorum.into(),
        policy_epoch: epoch,
        members: members.iter().map(|name| id(name)).collect(),
        k: 1,
        system_id: "7512345678901234567".to_owned(),
    }
}

pub(crate) fn reply(name: &str, state: ServerState, flush: u64, sync: SyncState) -> StatusReply {
    StatusReply {
        cluster: "pg-cluster".to_owned(),
        member: name.to_owned(),
        server: Some(Server {
            state: state.into(),
            timeline: Some(3),
            flush: Some(flush),
            replay: Some(flush),
            version: Some(170_006),
            incarnation: Some(incarnation(name)),
            ..Server::default()
        }),
        doing: format!("{name} does something"),
        store_connected: true,
        sync: Some(sync),
        mode: "synchronous".to_owned(),
        version: "0.1.0".to_owned(),
        file_digest: "0123456789abcdef".to_owned(),
        ..StatusReply::default()
    }
}

pub(crate) fn answers(replies: Vec<StatusReply>) -> Answers {
    let mut answers: Answers =
        cluster().databases.iter().map(|host| (host.name.clone(), Err("no answer".to_owned()))).collect();
    for reply in replies {
        answers.insert(reply.member.parse().unwrap(), Ok(reply));
    }
    answers
}

/// pg1 leads, pg2 is level with it, pg3 is 3 MiB behind.
pub(crate) fn healthy() -> Vec<StatusReply> {
    let sync = || sync(4, "pg1", &["pg2", "pg3"]);
    let mut leader = reply("pg1", ServerState::RunningPrimary, 10 * MIB, sync());
    leader.serves_writes = true;
    vec![
        leader,
        reply("pg2", ServerState::Streaming, 10 * MIB, sync()),
        reply("pg3", ServerState::Streaming, 7 * MIB, sync()),
    ]
}

fn roles(overview: &Overview) -> Vec<Role> {
    overview.members.iter().map(|member| member.role).collect()
}

#[test]
fn lag_is_the_distance_to_the_leaders_flushed_position() {
    let overview = Overview::new(&cluster(), answers(healthy()));
    assert_eq!(roles(&overview), [Role::Leader, Role::SyncStandby, Role::SyncStandby]);
    assert_eq!(overview.leader().unwrap().receive_lag_bytes, None);
    assert_eq!(overview.member("pg2").unwrap().receive_lag_bytes, Some(0));
    assert_eq!(overview.member("pg3").unwrap().replay_lag_bytes, Some(3 * MIB));
    assert!(overview.silent().is_empty());
}

#[test]
fn the_newest_record_decides_who_leads_whatever_an_old_leader_says() {
    let mut replies = healthy();
    // pg1 is cut off from etcd and still believes in epoch 4.
    replies[0].store_connected = false;
    for reply in &mut replies[1..] {
        reply.sync = Some(sync(5, "pg2", &["pg3"]));
    }
    replies[1].server.as_mut().unwrap().state = ServerState::RunningPrimary.into();
    let overview = Overview::new(&cluster(), answers(replies));
    assert_eq!(roles(&overview), [Role::Replica, Role::Leader, Role::SyncStandby]);
    assert_eq!(overview.members[0].state, "running as primary");
    assert_eq!(overview.epoch(), 5);
}

#[test]
fn of_a_silent_member_the_last_that_anybody_heard_is_shown() {
    let mut replies = healthy();
    replies.remove(0);
    let said =
        |flush| PeerState { phase: PeerPhase::Primary.into(), timeline: 3, flush, ..PeerState::default() };
    let other = |ago, flush| OtherMember {
        name: "pg1".to_owned(),
        heard_ms_ago: Some(ago),
        state: Some(said(flush)),
        ..OtherMember::default()
    };
    replies[0].others = vec![other(900, 11 * MIB)];
    replies[1].others = vec![other(4000, 9 * MIB)];
    let overview = Overview::new(&cluster(), answers(replies));
    let leader = overview.leader().unwrap();
    assert_eq!((leader.name.as_str(), leader.state), ("pg1", "unreachable"));
    assert_eq!(leader.heard_by, Some(("pg2".to_owned(), 900)));
    assert_eq!(overview.member("pg2").unwrap().receive_lag_bytes, Some(MIB));
    assert_eq!(overview.furthest().unwrap().1, Lsn(11 * MIB));
    assert_eq!(overview.silent(), ["pg1"]);
}

#[test]
fn a_member_listed_in_an_earlier_life_is_not_a_sync_standby() {
    let mut replies = healthy();
    replies[1].server.as_mut().unwrap().incarnation = Some("ffffffff".to_owned());
    let empty = Server { state: ServerState::NoData.into(), ..Server::default() };
    replies[2].server = Some(empty);
    let overview = Overview::new(&cluster(), answers(replies));
    assert_eq!(roles(&overview), [Role::Leader, Role::Replica, Role::Uninitialized]);
}

#[test]
fn without_any_answer_the_reasons_are_named() {
    let overview = Overview::new(&cluster(), answers(Vec::new()));
    let error = overview.require_an_answer().unwrap_err();
    assert_eq!(crate::exit_code::code_of(&error), Code::Unreachable);
    for part in ["pg1: no answer", "pg3: no answer", "8009"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(Overview::new(&cluster(), answers(healthy())).require_an_answer().is_ok());
}
