//! `hactl status` for programs: everything, in one document. Lags and positions are bytes and PostgreSQL's text; what is
//! not known is null.

use std::collections::BTreeMap;

use ha_rpc::proto::PolicyKind;
use serde::Serialize;

use crate::overview::{Member, Overview};

#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    cluster: &'a str,
    system_id: Option<&'a str>,
    mode: Option<&'a str>,
    epoch: Option<u64>,
    generation: Option<u64>,
    revision: Option<u64>,
    leader: Option<&'a str>,
    /// Whether the leader may acknowledge commits.
    established: Option<bool>,
    policy: Option<Policy<'a>>,
    maintenance: Option<&'a str>,
    members: Vec<MemberDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct Policy<'a> {
    kind: &'static str,
    epoch: u64,
    /// Listed members as name@incarnation.
    members: &'a [String],
    k: u32,
}

#[derive(Debug, Serialize)]
struct MemberDocument<'a> {
    member: &'a str,
    host: &'a str,
    role: &'static str,
    state: &'static str,
    /// Why its agent did not answer.
    unreachable: Option<&'a str>,
    timeline: Option<u32>,
    receive_lsn: Option<String>,
    receive_lag_bytes: Option<u64>,
    replay_lsn: Option<String>,
    replay_lag_bytes: Option<u64>,
    #[serde(flatten)]
    own: Option<Own<'a>>,
}

/// What only its own agent can say.
#[derive(Debug, Serialize)]
struct Own<'a> {
    incarnation: Option<&'a str>,
    serves_writes: bool,
    doing: &'a str,
    blocked: Option<&'a str>,
    alarms: &'a [String],
    advice: &'a [String],
    guard_armed: bool,
    guard_deadline_ms_left: Option<i64>,
    etcd_connected: bool,
    switching_over: bool,
    knows_epoch: Option<u64>,
    last_event: Option<&'a str>,
    pending_restart: &'a [String],
    drifted: &'a [String],
    tags: &'a BTreeMap<String, String>,
    /// ms since each other member was heard last.
    heard_ms_ago: BTreeMap<&'a str, Option<u64>>,
    version: &'a str,
    postgres_version: Option<String>,
    file_digest: &'a str,
}

impl<'a> Document<'a> {
    /// Everything; of the members only `one`, if it is given.
    pub(crate) fn new(overview: &'a Overview, one: Option<&str>) -> Self {
        let sync = overview.sync.as_ref();
        Self {
            cluster: &overview.cluster,
            system_id: sync.map(|sync| sync.system_id.as_str()),
            mode: overview.mode.as_deref(),
            epoch: sync.map(|sync| sync.epoch),
            generation: sync.map(|sync| sync.generation),
            revision: sync.map(|sync| sync.revision),
            leader: sync.and_then(|sync| sync.leader.split('@').next()),
            established: sync.map(|sync| sync.policy_epoch == sync.epoch),
            policy: sync.map(|sync| Policy {
                kind: match sync.policy() {
                    PolicyKind::Quorum => "quorum",
                    PolicyKind::Pinned => "pinned",
                    PolicyKind::Asynchronous => "asynchronous",
                    PolicyKind::Unspecified => "unknown",
                },
                epoch: sync.policy_epoch,
                members: &sync.members,
                k: sync.k,
            }),
            maintenance: overview.paused.as_deref(),
            members: overview
                .members
                .iter()
                .filter(|member| one.is_none_or(|one| member.name == one))
                .map(member)
                .collect(),
        }
    }
}

fn member(member: &Member) -> MemberDocument<'_> {
    MemberDocument {
        member: &member.name,
        host: &member.host,
        role: member.role.title(),
        state: member.state,
        unreachable: member.answer.as_ref().err().map(String::as_str),
        timeline: member.timeline,
        receive_lsn: member.flush.map(|lsn| lsn.to_string()),
        receive_lag_bytes: member.receive_lag_bytes,
        replay_lsn: member.replay.map(|lsn| lsn.to_string()),
        replay_lag_bytes: member.replay_lag_bytes,
        own: member.answer.as_ref().ok().map(own),
    }
}

fn own(reply: &ha_rpc::proto::StatusReply) -> Own<'_> {
    let server = reply.server.as_ref();
    let guard = reply.guard.clone().unwrap_or_default();
    Own {
        incarnation: server.and_then(|server| server.incarnation.as_deref()),
        serves_writes: reply.serves_writes,
        doing: &reply.doing,
        blocked: reply.blocked.as_deref(),
        alarms: &reply.alarms,
        advice: &reply.advice,
        guard_armed: guard.armed,
        guard_deadline_ms_left: guard.deadline_ms_left,
        etcd_connected: reply.store_connected,
        switching_over: reply.switching_over,
        knows_epoch: reply.sync.as_ref().map(|sync| sync.epoch),
        last_event: reply.last_event.as_deref(),
        pending_restart: server.map_or(&[], |server| &server.pending_restart),
        drifted: server.map_or(&[], |server| &server.drifted),
        tags: &reply.tags,
        heard_ms_ago: reply.others.iter().map(|other| (other.name.as_str(), other.heard_ms_ago)).collect(),
        version: &reply.version,
        postgres_version: server.and_then(|server| server.version).map(postgres_version),
        file_digest: &reply.file_digest,
    }
}

/// `server_version_num` as people write it: 170006 is 17.6.
pub(crate) fn postgres_version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}
