//! The JSON pages. Field names and words are Patroni's; what is our own stands below `matriarch`.

use std::time::UNIX_EPOCH;

use ha_core::peer_message::PeerPhase;
use ha_core::record::PolicyKind;
use ha_core::{Lsn, MemberName, ReplicationMode, Timeline};
use ha_decision::{MemberRole, PeerStatus};
use serde_json::{Map, Value, json};

use super::facts::Facts;
use crate::snapshot::MemberPlace;

/// A member that was not heard for so long, and has no record in the store, is not shown.
const HEARD_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The status before anything is known.
pub(super) fn unknown_status() -> Value {
    json!({ "state": "unknown", "role": "uninitialized", "cluster_unlocked": true })
}

/// `GET /patroni`, and the body of every health check.
pub(super) fn status(facts: &Facts<'_>) -> Value {
    let picture = facts.picture;
    let status = &picture.status;
    let mut page = Map::new();
    let mut set = |name: &str, value: Value| page.insert(name.to_owned(), value);
    set("state", json!(facts.state()));
    set("role", json!(facts.role()));
    if let Some(instance) = facts.instance() {
        let details = &picture.details;
        if let Some((text, _)) = &details.started {
            set("postmaster_start_time", json!(text));
        }
        set("server_version", json!(instance.version));
        set("timeline", json!(instance.timeline.0));
        if instance.in_recovery {
            set(
                "xlog",
                json!({
                    "received_location": facts.position(true).unwrap_or_default().0,
                    "replayed_location": instance.replay.0,
                    "replayed_timestamp": details.replay_time.as_ref().map(|(text, _)| text),
                    "paused": details.replay_paused,
                }),
            );
            if facts.is_listed() {
                set("sync_standby", json!(true));
            }
            if let Some(state) = details.replication_state {
                set("replication_state", json!(state));
            }
        } else {
            set("xlog", json!({ "location": instance.flush.0 }));
        }
        if !details.senders.is_empty() {
            let senders = details.senders.iter().map(|sender| {
                json!({
                    "usename": sender.user, "application_name": sender.name, "client_addr": sender.address,
                    "state": sender.state, "sync_state": sender.sync_state, "sync_priority": sender.sync_priority,
                })
            });
            set("replication", senders.collect());
        }
        if !instance.pending_restart.is_empty() {
            set("pending_restart", json!(true));
            set("pending_restart_reason", json!(instance.pending_restart));
        }
    }
    if status.paused.is_some() {
        set("pause", json!(true));
    }
    if facts.is_unlocked() {
        set("cluster_unlocked", json!(true));
    }
    set("dcs_last_seen", json!(store_last_seen(facts)));
    let tags = facts.tags();
    if !tags.is_empty() {
        set("tags", Value::Object(tags));
    }
    if let ha_core::postgres_view::DataDirectory::Present(data) = &picture.postgres.data {
        set("database_system_identifier", json!(data.system_id.to_string()));
    }
    set(
        "patroni",
        json!({ "version": picture.version, "scope": picture.cluster.as_str(), "name": picture.me.as_str() }),
    );
    let guard = picture.guard.as_deref();
    set(
        "matriarch",
        json!({
            "role": status.role.title(),
            "leader": status.leader.as_ref().map(|leader| leader.name.as_str()),
            "epoch": status.epoch.0,
            "generation": status.generation.0,
            "established": status.established,
            "serves_writes": facts.serves_writes(),
            "guard_armed": status.guard_armed,
            "guard_layers": guard.map(|guard| guard.layers.names().collect::<Vec<_>>()),
            "guard_degraded": guard.map(|guard| guard.degraded.words().collect::<Vec<_>>()),
            "watchdog": guard.map(|guard| guard.watchdog.text.as_str()),
            "doing": status.doing,
            "blocked": status.blocked,
            "alarms": status.alarms,
            "advice": picture.advice.as_ref(),
            "maintenance": status.paused,
        }),
    );
    Value::Object(page)
}

/// When the store answered last, seconds since 1970.
pub(crate) fn store_last_seen(facts: &Facts<'_>) -> u64 {
    let seen = facts.picture.store_seen.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    seen.map_or(0, |since| since.as_secs())
}

/// `GET /cluster`: from what the agents tell each other, so it works without the store.
pub(super) fn cluster(facts: &Facts<'_>) -> Value {
    let picture = facts.picture;
    let mut places: Vec<&MemberPlace> = picture.members.iter().collect();
    places.sort_by(|a, b| a.name.cmp(&b.name));
    let members: Vec<Value> = places.into_iter().filter_map(|place| member(facts, place)).collect();
    let mut page = Map::new();
    page.insert("members".to_owned(), json!(members));
    page.insert("scope".to_owned(), json!(picture.cluster.as_str()));
    if picture.status.paused.is_some() {
        page.insert("pause".to_owned(), json!(true));
    }
    Value::Object(page)
}

/// What is known of a member: state, timeline, received and replayed position.
struct Known {
    state: &'static str,
    timeline: Timeline,
    received: Lsn,
    replayed: Lsn,
}

fn member(facts: &Facts<'_>, place: &MemberPlace) -> Option<Value> {
    let picture = facts.picture;
    let status = &picture.status;
    let known = if place.name == picture.me { Some(own(facts)) } else { heard(facts, &place.name) };
    let recorded = picture.view.as_ref().is_some_and(|view| view.members.contains_key(&place.name));
    if known.is_none() && !recorded {
        return None;
    }
    let is_leader = status.leader.as_ref().is_some_and(|leader| leader.name == place.name);
    let mut page = Map::new();
    let mut set = |name: &str, value: Value| page.insert(name.to_owned(), value);
    set("name", json!(place.name.as_str()));
    set("role", json!(role_of(facts, &place.name, is_leader)));
    set("state", json!(known.as_ref().map_or("unknown", |known| known.state)));
    set("api_url", json!(api_url(&place.address)));
    set("host", json!(place.address));
    set("port", json!(place.port));
    if let Some(known) = &known
        && known.timeline != Timeline(0)
    {
        set("timeline", json!(known.timeline.0));
    }
    if place.name == picture.me
        && let Some(instance) = facts.instance()
        && !instance.pending_restart.is_empty()
    {
        set("pending_restart", json!(true));
        set("pending_restart_reason", json!(instance.pending_restart));
    }
    let tags = facts.tags_of(&place.name);
    if !tags.is_empty() {
        set("tags", Value::Object(tags));
    }
    if !is_leader {
        let end = facts.leader_position();
        for (name, lag_name, lsn) in [
            ("receive_lsn", "receive_lag", known.as_ref().map(|known| known.received)),
            ("replay_lsn", "replay_lag", known.as_ref().map(|known| known.replayed)),
            ("lsn", "lag", known.as_ref().map(|known| known.received.max(known.replayed))),
        ] {
            let lsn = lsn.filter(|lsn| *lsn != Lsn(0));
            set(name, lsn.map_or(json!("unknown"), |lsn| json!(lsn.to_string())));
            let lag = end.zip(lsn).map(|(end, lsn)| end.bytes_since(lsn));
            set(lag_name, lag.map_or(json!("unknown"), |lag| json!(lag)));
        }
    }
    Some(Value::Object(page))
}

fn own(facts: &Facts<'_>) -> Known {
    let instance = facts.instance();
    let streams = instance.is_some_and(|i| i.in_recovery) && facts.is_streaming();
    Known {
        state: if streams { "streaming" } else { facts.state() },
        timeline: instance.map(|i| i.timeline).unwrap_or_default(),
        received: facts.position(true).unwrap_or_default(),
        replayed: facts.position(false).unwrap_or_default(),
    }
}

fn heard(facts: &Facts<'_>, name: &MemberName) -> Option<Known> {
    let peer = facts.picture.status.peers.get(name)?;
    if facts.now.since(peer.heard_at) > HEARD_WITHIN {
        return None;
    }
    let state = &peer.state;
    Some(Known {
        state: match state.phase {
            PeerPhase::Standby if streams(facts, peer) => "streaming",
            PeerPhase::Standby | PeerPhase::PrimaryClosed | PeerPhase::Primary => "running",
            PeerPhase::Stopped | PeerPhase::Empty => "stopped",
        },
        timeline: state.timeline,
        received: state.flush,
        replayed: state.replay,
    })
}

/// The leader sees its walsenders; others go by the timeline.
fn streams(facts: &Facts<'_>, peer: &PeerStatus) -> bool {
    let own = facts.instance();
    let leader = facts.picture.status.leader.as_ref();
    match own {
        Some(instance) if !instance.in_recovery => instance.senders.iter().any(|sender| {
            sender.streaming
                && sender
                    .name
                    .as_ref()
                    .is_some_and(|name| Some(name.member.incarnation) == peer.state.incarnation)
        }),
        Some(instance) => peer.state.timeline == instance.timeline,
        None => leader
            .and_then(|leader| facts.picture.status.peers.get(&leader.name))
            .is_some_and(|leader| leader.state.timeline == peer.state.timeline),
    }
}

fn role_of(facts: &Facts<'_>, name: &MemberName, is_leader: bool) -> &'static str {
    let status = &facts.picture.status;
    if is_leader {
        return "leader";
    }
    let own = *name == facts.picture.me && status.role == MemberRole::SyncStandby;
    let listed = status.policy.as_ref().is_some_and(|policy| {
        policy.kind == PolicyKind::Quorum && policy.members.iter().any(|member| member.name == *name)
    });
    if own || listed { "sync_standby" } else { "replica" }
}

fn api_url(address: &str) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{}/patroni", ha_config::REST_PORT)
}

/// `GET /history`: `[timeline that ended, position, reason, time, new leader]`, oldest first. The time is empty until the
/// change of leader is told.
pub(super) fn history(facts: &Facts<'_>) -> Value {
    let Some(view) = &facts.picture.view else { return json!([]) };
    view.history
        .values()
        .filter(|record| record.parent != Timeline(0))
        .map(|record| {
            let time = record.at().unwrap_or_default();
            json!([record.parent.0, record.switch_lsn.0, record.reason, time, record.member.as_str()])
        })
        .collect()
}

/// `GET /config`: the policy of the running cluster in Patroni's words; none when there is no cluster yet.
pub(super) fn config(facts: &Facts<'_>) -> Option<Value> {
    let picture = facts.picture;
    let config = &picture.view.as_ref()?.config.as_ref()?.record;
    let mut page = json!({
        "ttl": picture.lease_ttl.as_secs(),
        "maximum_lag_on_failover": config.maximum_lag_bytes,
        "synchronous_mode": config.mode != ReplicationMode::Asynchronous,
        "synchronous_mode_strict": config.mode == ReplicationMode::Strict,
        "synchronous_node_count": config.acks,
        "postgresql": { "parameters": config.parameters, "pg_hba": config.hba },
        "matriarch": config,
    });
    if picture.status.paused.is_some() {
        page["pause"] = json!(true);
    }
    Some(page)
}
