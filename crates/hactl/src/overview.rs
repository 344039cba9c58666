//! One picture of the cluster out of what each agent says. Works without etcd, and with some agents silent: who leads
//! and who is listed is taken from the newest sync record that any agent knows, each member's own state from itself,
//! and of a silent one what the others heard last.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use ha_config::{Cluster, DatabaseHost};
use ha_core::{Lsn, MemberId};
use ha_rpc::proto::{OtherMember, PolicyKind, ServerState, StatusReply, SyncState};

use crate::agents::Answers;
use crate::exit_code::{Code, Stop};

/// The cluster as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Overview {
    pub(crate) cluster: String,
    /// The newest sync record that any agent knows.
    pub(crate) sync: Option<SyncState>,
    /// Wanted durability.
    pub(crate) mode: Option<String>,
    /// Maintenance mode with its reason.
    pub(crate) paused: Option<String>,
    /// All members of the file, in its order.
    pub(crate) members: Vec<Member>,
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) role: Role,
    pub(crate) state: &'static str,
    pub(crate) timeline: Option<u32>,
    /// Flushed (primary) or received (standby) position.
    pub(crate) flush: Option<Lsn>,
    pub(crate) replay: Option<Lsn>,
    /// Bytes behind the leader's flushed position.
    pub(crate) receive_lag_bytes: Option<u64>,
    pub(crate) replay_lag_bytes: Option<u64>,
    /// What its own agent says, or why it did not answer.
    pub(crate) answer: Result<StatusReply, String>,
    /// Who heard it last and how many ms ago, when its agent did not answer here.
    pub(crate) heard_by: Option<(String, u64)>,
}

/// Role by the newest sync record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    SyncStandby,
    Replica,
    Uninitialized,
}

impl Role {
    /// The words users know.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Leader => "Leader",
            Self::SyncStandby => "Sync Standby",
            Self::Replica => "Replica",
            Self::Uninitialized => "Uninitialized",
        }
    }
}

impl Overview {
    /// Merges the answers.
    pub(crate) fn new(cluster: &Cluster, answers: Answers) -> Self {
        let replies: Vec<&StatusReply> = answers.values().filter_map(|answer| answer.as_ref().ok()).collect();
        let sync = replies
            .iter()
            .filter_map(|reply| reply.sync.clone())
            .max_by_key(|sync| (sync.epoch, sync.revision, sync.generation));
        // What hangs on the store is asked of those who still see it.
        let newest = replies
            .iter()
            .max_by_key(|reply| (reply.store_connected, reply.sync.as_ref().map_or(0, |sync| sync.revision)));
        let heard = heard_last(&replies);
        let mode = newest.map(|reply| reply.mode.clone()).filter(|mode| !mode.is_empty());
        let paused = newest.and_then(|reply| reply.paused.clone());
        let mut members: Vec<Member> = cluster
            .databases
            .iter()
            .map(|host| {
                let missing = || Err("it was not asked".to_owned());
                let answer = answers.get(&host.name).cloned().unwrap_or_else(missing);
                member(host, answer, heard.get(host.name.as_str()), sync.as_ref())
            })
            .collect();
        let end = members.iter().find(|member| member.role == Role::Leader).and_then(|leader| leader.flush);
        for member in members.iter_mut().filter(|member| member.role != Role::Leader) {
            let behind = |at: Option<Lsn>| Some(end?.bytes_since(at?));
            member.receive_lag_bytes = behind(member.flush);
            member.replay_lag_bytes = behind(member.replay);
        }
        Self { cluster: cluster.name.to_string(), sync, mode, paused, members }
    }

    /// The member that leads by the newest record.
    pub(crate) fn leader(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.role == Role::Leader)
    }

    /// The member of this name.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Number of the leadership; 0 without one.
    pub(crate) fn epoch(&self) -> u64 {
        self.sync.as_ref().map_or(0, |sync| sync.epoch)
    }

    /// Names of the members whose agents did not answer.
    pub(crate) fn silent(&self) -> Vec<&str> {
        self.members.iter().filter(|m| m.answer.is_err()).map(|m| m.name.as_str()).collect()
    }

    /// The furthest position that anybody has or has heard of, on the newest timeline.
    pub(crate) fn furthest(&self) -> Option<(&Member, Lsn)> {
        let known = self.members.iter().filter_map(|m| Some((m, m.flush?)));
        known.max_by_key(|(member, flush)| (member.timeline, *flush))
    }

    /// # Errors
    /// With [`Code::Unreachable`] when no agent answered.
    pub(crate) fn require_an_answer(&self) -> anyhow::Result<()> {
        if self.members.iter().any(|member| member.answer.is_ok()) {
            return Ok(());
        }
        let reasons: Vec<String> = self
            .members
            .iter()
            .filter_map(|m| Some(format!("  {}: {}", m.name, m.answer.as_ref().err()?)))
            .collect();
        let message = format!(
            "no agent of cluster {} can be reached:\n{}\nCheck that pg-agent runs on these hosts (systemctl status \
             pg-agent) and that port {} is open from here",
            self.cluster,
            reasons.join("\n"),
            ha_config::GRPC_PORT
        );
        Err(Stop::new(Code::Unreachable, message).into())
    }
}

/// Of each member what was heard of it last, by whom.
fn heard_last<'a>(replies: &[&'a StatusReply]) -> BTreeMap<&'a str, (&'a str, &'a OtherMember)> {
    let mut heard: BTreeMap<&str, (&str, &OtherMember)> = BTreeMap::new();
    for reply in replies {
        for other in &reply.others {
            let age = other.heard_ms_ago.unwrap_or(u64::MAX);
            let last = heard.get(other.name.as_str()).and_then(|(_, last)| last.heard_ms_ago);
            if other.heard_ms_ago.is_some() && last.is_none_or(|last| age < last) {
                heard.insert(&other.name, (&reply.member, other));
            }
        }
    }
    heard
}

fn member(
    host: &DatabaseHost,
    answer: Result<StatusReply, String>,
    heard: Option<&(&str, &OtherMember)>,
    sync: Option<&SyncState>,
) -> Member {
    let server = answer.as_ref().ok().and_then(|reply| reply.server.as_ref());
    let incarnation = server.and_then(|server| server.incarnation.as_deref());
    let role = role(host.name.as_str(), server.map(|_| incarnation), sync);
    let state = match (server, &answer) {
        (Some(server), _) => state(server.state(), role),
        (None, Ok(_)) => "unknown",
        (None, Err(_)) => "unreachable",
    };
    let last = heard.filter(|_| answer.is_err()).and_then(|(_, other)| other.state.as_ref());
    let known = |position: u64| (position > 0).then_some(Lsn(position));
    let heard_by = heard
        .filter(|_| answer.is_err())
        .map(|(by, other)| ((*by).to_owned(), other.heard_ms_ago.unwrap_or_default()));
    Member {
        name: host.name.to_string(),
        host: shown_host(host),
        role,
        state,
        timeline: server
            .and_then(|s| s.timeline)
            .or(last.map(|s| s.timeline))
            .filter(|timeline| *timeline > 0),
        flush: server.and_then(|s| s.flush).or(last.map(|s| s.flush)).and_then(known),
        replay: server.and_then(|s| s.replay).or(last.map(|s| s.replay)).and_then(known),
        receive_lag_bytes: None,
        replay_lag_bytes: None,
        heard_by,
        answer,
    }
}

/// The port is shown when it is not the usual one.
fn shown_host(host: &DatabaseHost) -> String {
    match host.postgres.port {
        5432 => host.address.to_string(),
        port => std::net::SocketAddr::new(host.address, port).to_string(),
    }
}

/// `incarnation` is the member's own word: none when its agent is silent (then its name decides), `Some(None)` when it
/// has no data.
fn role(name: &str, incarnation: Option<Option<&str>>, sync: Option<&SyncState>) -> Role {
    let is = |id: &String| match (id.parse::<MemberId>(), incarnation) {
        (Ok(id), Some(own)) => id.name.as_str() == name && own == Some(&id.incarnation.to_string()),
        (Ok(id), None) => id.name.as_str() == name,
        (Err(_), _) => false,
    };
    match sync {
        Some(sync) if is(&sync.leader) => Role::Leader,
        Some(sync) if sync.members.iter().any(is) => Role::SyncStandby,
        _ if incarnation == Some(None) => Role::Uninitialized,
        _ => Role::Replica,
    }
}

fn state(state: ServerState, role: Role) -> &'static str {
    match state {
        ServerState::NoData => "no data",
        ServerState::Stopped => "stopped",
        ServerState::Starting => "starting",
        ServerState::Silent => "not answering",
        ServerState::RunningPrimary if role == Role::Leader => "running",
        // A deposed leader on its way down.
        ServerState::RunningPrimary => "running as primary",
        ServerState::Streaming => "streaming",
        ServerState::RunningStandby if role == Role::Leader => "promoting",
        ServerState::RunningStandby => "running",
        ServerState::Unspecified => "unknown",
    }
}

/// What commits rest on, in words; and whether it is a state that a human must see.
pub(crate) fn policy(sync: &SyncState) -> (String, bool) {
    let established = sync.policy_epoch == sync.epoch;
    let (words, alarming) = match sync.policy() {
        PolicyKind::Quorum => {
            let names: Vec<&str> =
                sync.members.iter().map(|id| id.split('@').next().unwrap_or_default()).collect();
            (format!("quorum {} of {}", sync.k, names.join(", ")), false)
        }
        PolicyKind::Pinned => {
            let leader = sync.leader.split('@').next().unwrap_or_default();
            (format!("PINNED: {leader} alone holds the last commits"), true)
        }
        PolicyKind::Asynchronous => ("asynchronous".to_owned(), false),
        PolicyKind::Unspecified => ("a policy that this hactl does not know".to_owned(), true),
    };
    if established {
        (words, alarming)
    } else {
        (format!("not established (commits wait); before: {words}"), true)
    }
}
