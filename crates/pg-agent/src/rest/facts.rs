//! Role, state, positions and tags in the words that Patroni's users know.

use ha_config::Tags;
use ha_core::postgres_view::{Instance, PostgresProcess};
use ha_core::{Lsn, MemberName, MonoTime};
use ha_decision::MemberRole;
use serde_json::{Map, Value, json};

use crate::snapshot::AgentSnapshot;

/// What one picture means now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The picture.
    pub(crate) picture: &'a AgentSnapshot,
    /// The present moment.
    pub(crate) now: MonoTime,
}

impl<'a> Facts<'a> {
    /// The picture looked at now.
    pub(crate) fn new(picture: &'a AgentSnapshot, now: MonoTime) -> Self {
        Self { picture, now }
    }

    /// The server, if it answers.
    pub(crate) fn instance(&self) -> Option<&'a Instance> {
        self.picture.instance()
    }

    /// State of the server (`running`, `starting`, `stopped`; `unknown` when it gives no answer).
    pub(crate) fn state(&self) -> &'static str {
        match self.picture.postgres.process {
            PostgresProcess::Running(_) => "running",
            PostgresProcess::Starting => "starting",
            PostgresProcess::Stopped => "stopped",
            PostgresProcess::Silent => "unknown",
        }
    }

    /// `primary` or `replica`: as PostgreSQL runs, or as the cluster sees this member when it does not answer.
    pub(crate) fn role(&self) -> &'static str {
        match (self.instance(), self.picture.status.role) {
            (Some(instance), _) if instance.in_recovery => "replica",
            (Some(_), _) | (None, MemberRole::Leader) => "primary",
            (None, MemberRole::Uninitialized) => "uninitialized",
            (None, _) => "replica",
        }
    }

    /// Whether clients may write here: by the decider, and only while its loop turns and its deadline lies ahead.
    pub(crate) fn serves_writes(&self) -> bool {
        let status = &self.picture.status;
        let loop_turns = self.now.since(self.picture.at) < self.picture.lease_ttl;
        let by_lease = status.serves_writes && loop_turns && status.deadline.is_none_or(|at| self.now < at);
        // In maintenance nobody is replaced, so without the store the running role is what is left to go by.
        let by_maintenance = status.paused.is_some()
            && !status.store_connected
            && self.role() == "primary"
            && self.state() == "running";
        by_lease || by_maintenance
    }

    /// A standby that answers.
    pub(crate) fn is_running_replica(&self) -> bool {
        self.instance().is_some_and(|instance| instance.in_recovery)
    }

    /// Whether every acknowledged commit may rest on this standby.
    pub(crate) fn is_listed(&self) -> bool {
        self.picture.status.role == MemberRole::SyncStandby
    }

    /// Whether the walreceiver streams.
    pub(crate) fn is_streaming(&self) -> bool {
        self.instance().and_then(|i| i.receiver.as_ref()).is_some_and(|receiver| receiver.streaming)
    }

    /// Replayed (`apply`) or received (`write`) position.
    pub(crate) fn position(&self, received: bool) -> Option<Lsn> {
        let instance = self.instance()?;
        let received_at = self.picture.details.received.unwrap_or(instance.flush);
        Some(if received { received_at.max(instance.flush) } else { instance.replay })
    }

    /// The furthest position of the leader that is known here: by its agent, its walsender, or the last event.
    pub(crate) fn leader_position(&self) -> Option<Lsn> {
        let status = &self.picture.status;
        let leader = status.leader.as_ref().map(|leader| &leader.name);
        let own = (leader == Some(&self.picture.me)).then(|| self.instance().map(|i| i.flush)).flatten();
        let heard = leader.and_then(|name| status.peers.get(name)).map(|peer| peer.state.flush);
        let walsender = self.instance().and(self.picture.details.upstream_end);
        let recorded = self.view_status_lsn();
        [own, heard, walsender, recorded].into_iter().flatten().max()
    }

    fn view_status_lsn(&self) -> Option<Lsn> {
        Some(self.picture.view.as_ref()?.status.as_ref()?.record.lsn)
    }

    /// Bytes behind the leader; none when either position is unknown.
    pub(crate) fn lag(&self, received: bool) -> Option<u64> {
        Some(self.leader_position()?.bytes_since(self.position(received)?))
    }

    /// This member's tags.
    pub(crate) fn tags(&self) -> Map<String, Value> {
        self.tags_of(&self.picture.me)
    }

    /// A member's tags.
    pub(crate) fn tags_of(&self, member: &MemberName) -> Map<String, Value> {
        let place = self.picture.members.iter().find(|place| place.name == *member);
        place.map(|place| shown_tags(&place.tags)).unwrap_or_default()
    }

    /// Whether the cluster has no leader, or nobody can tell.
    pub(crate) fn is_unlocked(&self) -> bool {
        self.picture.status.leader.is_none() || !self.picture.status.store_connected
    }
}

/// Only tags that say something: Patroni leaves out those that are off.
fn shown_tags(tags: &Tags) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, on) in [
        ("clonefrom", tags.clonefrom),
        ("nofailover", tags.nofailover),
        ("noloadbalance", tags.noloadbalance),
        ("nosync", tags.nosync),
    ] {
        if on {
            shown.insert(name.to_owned(), json!(true));
        }
    }
    if let Some(upstream) = &tags.replicatefrom {
        shown.insert("replicatefrom".to_owned(), json!(upstream.as_str()));
    }
    if tags.failover_priority != Tags::default().failover_priority {
        shown.insert("failover_priority".to_owned(), json!(tags.failover_priority));
    }
    if tags.weight != Tags::default().weight {
        shown.insert("weight".to_owned(), json!(tags.weight));
    }
    if let Some(zone) = &tags.zone {
        shown.insert("zone".to_owned(), json!(zone));
    }
    shown
}
