//! The picture as a message.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_config::Tags;
use ha_core::MonoTime;
use ha_core::postgres_view::{DataDirectory, PostgresProcess};
use ha_core::record::{PolicyKind, SyncRecord, Versioned};
use ha_rpc::{peer_envelope, proto};

use crate::snapshot::AgentSnapshot;

/// A member that said nothing for longer counts as silent; it speaks twice a second.
const HEARD: Duration = Duration::from_secs(2);

pub(super) fn make(snapshot: &AgentSnapshot, now: MonoTime) -> proto::StatusReply {
    let status = &snapshot.status;
    let own = snapshot.members.iter().find(|member| member.name == snapshot.me);
    let view = snapshot.view.as_ref();
    proto::StatusReply {
        cluster: snapshot.cluster.to_string(),
        member: snapshot.me.to_string(),
        host: own.map(|own| host(&own.address, own.port)).unwrap_or_default(),
        role: status.role.title().to_owned(),
        server: Some(server(snapshot)),
        tags: own.map(|own| tags(&own.tags)).unwrap_or_default(),
        doing: status.doing.clone(),
        blocked: status.blocked.clone(),
        alarms: status.alarms.clone(),
        paused: status.paused.clone(),
        guard: Some(guard(snapshot, now)),
        store_connected: status.store_connected,
        sync: view.and_then(|view| view.sync.as_ref()).map(sync),
        serves_writes: status.serves_writes,
        switching_over: status.switching_over,
        others: others(snapshot, now),
        file_digest: snapshot.file_digest.clone(),
        version: snapshot.version.to_owned(),
        mode: view
            .and_then(|view| view.config.as_ref())
            .map(|config| config.record.mode.to_string())
            .unwrap_or_default(),
        last_event: view.and_then(|view| view.status.as_ref()).map(|event| event.record.event.clone()),
        advice: snapshot.advice.to_vec(),
    }
}

/// Address and port; an IPv6 address in brackets.
fn host(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn guard(snapshot: &AgentSnapshot, now: MonoTime) -> proto::GuardState {
    let status = &snapshot.status;
    let own = snapshot.guard.as_deref();
    let words = |names: Vec<&'static str>| names.into_iter().map(str::to_owned).collect();
    proto::GuardState {
        armed: status.guard_armed,
        deadline_ms_left: status.deadline.map(|deadline| ms_left(deadline, now)),
        answers: own.is_some(),
        layers: words(own.map_or_else(Vec::new, |own| own.layers.names().collect())),
        degraded: words(own.map_or_else(Vec::new, |own| own.degraded.words().collect())),
        watchdog: own.map(|own| own.watchdog.text.clone()).unwrap_or_default(),
        watchdog_timeout_ms: own
            .and_then(|own| own.watchdog.timeout)
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn ms_left(deadline: MonoTime, now: MonoTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    if deadline >= now { ms(deadline.since(now)) } else { -ms(now.since(deadline)) }
}

fn server(snapshot: &AgentSnapshot) -> proto::Server {
    let instance = snapshot.instance().or(snapshot.last_instance.as_ref());
    let facts = match &snapshot.postgres.data {
        DataDirectory::Present(facts) => Some(facts),
        DataDirectory::Empty | DataDirectory::Unusable { .. } => None,
    };
    proto::Server {
        state: state(snapshot).into(),
        timeline: instance.map(|i| i.timeline).or(facts.map(|f| f.timeline)).map(|timeline| timeline.0),
        flush: instance.map(|i| i.flush.0),
        replay: instance.map(|i| i.replay.0),
        pending_restart: instance.map(|i| i.pending_restart.clone()).unwrap_or_default(),
        drifted: instance.map(|i| i.drifted.clone()).unwrap_or_default(),
        version: instance.map(|i| i.version),
        incarnation: facts.and_then(|f| f.incarnation).map(|incarnation| incarnation.to_string()),
    }
}

fn state(snapshot: &AgentSnapshot) -> proto::ServerState {
    match (&snapshot.postgres.process, &snapshot.postgres.data) {
        (PostgresProcess::Running(instance), _) if !instance.in_recovery => {
            proto::ServerState::RunningPrimary
        }
        (PostgresProcess::Running(instance), _) => {
            if instance.receiver.as_ref().is_some_and(|receiver| receiver.streaming) {
                proto::ServerState::Streaming
            } else {
                proto::ServerState::RunningStandby
            }
        }
        (PostgresProcess::Starting, _) => proto::ServerState::Starting,
        (PostgresProcess::Silent, _) => proto::ServerState::Silent,
        (PostgresProcess::Stopped, DataDirectory::Present(_)) => proto::ServerState::Stopped,
        (PostgresProcess::Stopped, DataDirectory::Empty | DataDirectory::Unusable { .. }) => {
            proto::ServerState::NoData
        }
    }
}

fn sync(sync: &Versioned<SyncRecord>) -> proto::SyncState {
    let record = &sync.record;
    proto::SyncState {
        epoch: record.epoch.0,
        generation: record.generation.0,
        revision: sync.revision.0,
        leader: record.leader.id().to_string(),
        policy: match record.policy.kind {
            PolicyKind::Quorum => proto::PolicyKind::Quorum,
            PolicyKind::Pinned => proto::PolicyKind::Pinned,
            PolicyKind::Asynchronous => proto::PolicyKind::Asynchronous,
        }
        .into(),
        policy_epoch: record.policy.epoch.0,
        members: record.policy.members.iter().map(ToString::to_string).collect(),
        k: record.policy.k,
        system_id: record.system_id.to_string(),
    }
}

fn others(snapshot: &AgentSnapshot, now: MonoTime) -> Vec<proto::OtherMember> {
    let known = |member| snapshot.view.as_ref().and_then(|view| view.members.get(member));
    let others = snapshot.members.iter().filter(|member| member.name != snapshot.me);
    others
        .map(|member| {
            let peer = snapshot.status.peers.get(&member.name);
            let age = peer.map(|peer| now.since(peer.heard_at));
            let record = known(&member.name);
            proto::OtherMember {
                name: member.name.to_string(),
                heard: age.is_some_and(|age| age < HEARD),
                heard_ms_ago: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                state: peer.map(|peer| peer_envelope::write_state(&peer.state)),
                in_store: record.is_some(),
                version: record.map(|record| record.version.clone()).unwrap_or_default(),
                file_digest: record.map(|record| record.file_digest.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

/// What differs from the defaults.
fn tags(tags: &Tags) -> BTreeMap<String, String> {
    let default = Tags::default();
    let flags = [
        ("nofailover", tags.nofailover),
        ("noloadbalance", tags.noloadbalance),
        ("nosync", tags.nosync),
        ("clonefrom", tags.clonefrom),
    ];
    let mut shown: BTreeMap<String, String> = flags
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| (name.to_owned(), "true".to_owned()))
        .collect();
    if let Some(from) = &tags.replicatefrom {
        shown.insert("replicatefrom".to_owned(), from.to_string());
    }
    if tags.failover_priority != default.failover_priority {
        shown.insert("failover_priority".to_owned(), tags.failover_priority.to_string());
    }
    if tags.weight != default.weight {
        shown.insert("weight".to_owned(), tags.weight.to_string());
    }
    if let Some(zone) = &tags.zone {
        shown.insert("zone".to_owned(), zone.clone());
    }
    shown
}
