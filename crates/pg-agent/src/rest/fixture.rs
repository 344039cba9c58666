//! Pictures for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ha_config::Tags;
use ha_core::peer_message::{PeerPhase, PeerState};
use ha_core::postgres_view::{
    ControlState, DataDirectory, DataFacts, Instance, PostgresProcess, PostgresView, WalReceiver,
};
use ha_core::record::Policy;
use ha_core::{
    Epoch, Generation, Incarnation, Lsn, MemberId, MemberName, MonoTime, Revision, SystemId, Timeline,
};
use ha_decision::{MemberRole, PeerStatus, Status};

use crate::heartbeat::HeartbeatFigures;
use crate::postgres::ServerDetails;
use crate::snapshot::{AgentSnapshot, MemberPlace};

/// The moment of every picture.
pub(crate) const NOW: MonoTime = MonoTime(1_000_000_000_000);
/// Where the leader is.
pub(crate) const END: Lsn = Lsn(0x0500_0000);

fn id(name: &str) -> MemberId {
    MemberId::new(name.parse().unwrap(), Incarnation(1))
}

/// pg1 as the leader that serves writes; pg2 is listed and follows.
pub(crate) fn leader() -> AgentSnapshot {
    picture("pg1", MemberRole::Leader, instance(false, END), true)
}

/// pg2 as a standby, listed or not, this many bytes behind.
pub(crate) fn standby(role: MemberRole, behind: u64) -> AgentSnapshot {
    picture("pg2", role, instance(true, Lsn(END.0 - behind)), false)
}

fn picture(me: &str, role: MemberRole, instance: Instance, serves_writes: bool) -> AgentSnapshot {
    let process = PostgresProcess::Running(Box::new(instance.clone()));
    let data = DataDirectory::Present(DataFacts {
        system_id: SystemId(7_512_345_678_901_234_567),
        incarnation: Some(Incarnation(1)),
        state: ControlState::InProduction,
        timeline: Timeline(3),
        checkpoint: Lsn(1),
        minimum_recovery: Lsn(0),
        standby_signal: instance.in_recovery,
    });
    let place = |name: &str, port: u16| MemberPlace {
        name: name.parse().unwrap(),
        address: format!("10.0.1.1{}", &name[2..]),
        port,
        tags: Tags::default(),
    };
    let other = if me == "pg1" { "pg2" } else { "pg1" };
    AgentSnapshot {
        cluster: "demo".parse().unwrap(),
        me: me.parse().unwrap(),
        members: Arc::new([place("pg1", 5432), place("pg2", 5433), place("pg3", 5434)]),
        view: None,
        postgres: PostgresView { at: NOW, data, process, full: false, storage_failed: false },
        last_instance: Some(instance.clone()),
        details: ServerDetails {
            started: Some(("2026-11-22 18:40:00.312000+00:00".to_owned(), 1_795_372_800.312)),
            received: Some(instance.flush),
            replication_state: instance.in_recovery.then_some("streaming"),
            ..ServerDetails::default()
        },
        status: status(me, role, other, serves_writes),
        at: MonoTime(NOW.0 - 200_000_000),
        wall: SystemTime::UNIX_EPOCH,
        store_seen: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_164)),
        version: "0.1.0",
        file_digest: String::new(),
        heartbeats: vec![HeartbeatFigures {
            member: "pg2".parse().unwrap(),
            heard_at: Some(NOW.minus(Duration::from_millis(250))),
            received: 1000,
            missed: 3,
            rejected: 0,
            round_trip_ns: 250_000,
        }],
        lease_ttl: Duration::from_secs(10),
        advice: Arc::new([]),
        guard: None,
    }
}

fn status(me: &str, role: MemberRole, other: &str, serves_writes: bool) -> Status {
    let listed = if role == MemberRole::Replica { "pg3" } else { "pg2" };
    let peers: BTreeMap<MemberName, PeerStatus> = [(other.parse().unwrap(), peer(other == "pg1"))].into();
    Status {
        me: me.parse().unwrap(),
        id: Some(id(me)),
        leader: Some(id("pg1")),
        epoch: Epoch(3),
        generation: Generation(9),
        revision: Revision(40),
        policy: Some(Policy::quorum(Epoch(3), [id(listed)].into(), 1)),
        established: true,
        role,
        serves_writes,
        read_lease: None,
        deadline: serves_writes.then_some(MonoTime(NOW.0 + 5_000_000_000)),
        guard_armed: serves_writes,
        doing: "nothing".to_owned(),
        blocked: None,
        alarms: vec![],
        paused: None,
        store_connected: true,
        peers,
        switching_over: false,
        holding: false,
        successor: None,
        undecided: false,
        counts: ha_decision::Counts::default(),
    }
}

fn peer(primary: bool) -> PeerStatus {
    PeerStatus {
        state: PeerState {
            incarnation: Some(Incarnation(1)),
            system_id: None,
            phase: if primary { PeerPhase::Primary } else { PeerPhase::Standby },
            epoch: Epoch(3),
            revision: Revision(40),
            timeline: Timeline(3),
            flush: END,
            replay: END,
            checkpoint_timeline: Timeline(3),
            history: vec![],
            hears_leader: true,
            candidate: true,
            leaving: false,
        },
        heard_at: NOW,
        connected: true,
    }
}

fn instance(in_recovery: bool, at: Lsn) -> Instance {
    let receiver = WalReceiver { pid: 9, streaming: true, epoch: Some(Epoch(3)), last_message_age_ms: 100 };
    Instance {
        life: 1,
        in_recovery,
        timeline: Timeline(3),
        flush: at,
        replay: at,
        receiver: in_recovery.then_some(receiver),
        senders: vec![],
        standby_names: String::new(),
        drifted: vec![],
        pending_restart: vec![],
        checkpoint_timeline: Timeline(3),
        history: vec![],
        version: 150_014,
    }
}
