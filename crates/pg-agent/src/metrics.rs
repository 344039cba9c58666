//! Metrics for Prometheus: our own (`matriarch_*`), and Patroni's names so that existing dashboards and alerts keep
//! working. Made from the picture at each scrape; what is counted is counted by the decider.

mod failover;

use std::fmt::Write as _;

use ha_core::record::PolicyKind;

use crate::heartbeat::HeartbeatFigures;
use crate::rest::facts::Facts;
use crate::rest::store_last_seen;

/// Index of a server state in Patroni's list.
const STATES: &[&str] = &[
    "initdb",
    "initdb_failed",
    "custom_bootstrap",
    "custom_bootstrap_failed",
    "creating_replica",
    "running",
    "starting",
    "bootstrap_starting",
    "start_failed",
    "restarting",
    "restart_failed",
    "stopping",
    "stopped",
    "stop_failed",
    "crashed",
];

/// Writes samples that all carry the cluster's and the member's name.
struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn sample(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn flag(&mut self, name: &str, help: &str, on: bool) {
        self.sample(name, "gauge", help, u8::from(on));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, more_labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name}{{{}{more_labels}}} {value}", self.labels);
    }
}

/// The whole page.
pub(crate) fn text(facts: &Facts<'_>) -> String {
    let picture = facts.picture;
    // Names are made of letters, digits, - and _: nothing to escape.
    let labels = format!("scope=\"{}\",name=\"{}\"", picture.cluster, picture.me);
    let mut page = Page { text: String::new(), labels };
    own(&mut page, facts);
    heartbeats(&mut page, facts);
    failover::failover(&mut page, &picture.status.counts);
    patroni(&mut page, facts);
    page.text
}

fn own(page: &mut Page, facts: &Facts<'_>) {
    let status = &facts.picture.status;
    page.flag("matriarch_serves_writes", "Whether clients may write here.", facts.serves_writes());
    let leads = status.leader.as_ref().is_some_and(|leader| leader.name == status.me);
    page.flag("matriarch_leads", "Whether the sync record names this member.", leads);
    page.flag("matriarch_has_leader", "Whether the sync record names anybody.", status.leader.is_some());
    page.sample("matriarch_epoch", "gauge", "Number of the leadership.", status.epoch);
    page.sample("matriarch_sync_generation", "gauge", "Rewrites of the sync record.", status.generation);
    page.flag("matriarch_established", "Whether the leader may acknowledge commits.", status.established);
    let pinned = status.policy.as_ref().is_some_and(|policy| policy.kind == PolicyKind::Pinned);
    page.flag("matriarch_pinned", "Whether the leader alone holds every acknowledged commit.", pinned);
    let listed = status.policy.as_ref().map_or(0, |policy| policy.members.len());
    page.sample("matriarch_sync_members", "gauge", "Members that acknowledged commits rest on.", listed);
    let acks = status.policy.as_ref().map_or(0, |policy| policy.k);
    page.sample("matriarch_sync_acks", "gauge", "Confirmations that each commit waits for.", acks);
    page.flag("matriarch_store_connected", "Whether the consensus store answers.", status.store_connected);
    page.flag("matriarch_guard_armed", "Whether a guard holds a deadline.", status.guard_armed);
    guard(page, facts);
    if let Some(deadline) = status.deadline {
        let left = deadline.since(facts.now).as_secs_f64();
        page.sample("matriarch_deadline_seconds", "gauge", "Time left until the deadline.", left);
    }
    page.flag("matriarch_blocked", "Whether it cannot go on without help.", status.blocked.is_some());
    page.sample("matriarch_alarms", "gauge", "States that a human must see.", status.alarms.len());
    let advice = facts.picture.advice.len();
    page.sample("matriarch_advice", "gauge", "Things that a human should mend in time.", advice);
    page.flag("matriarch_maintenance", "Whether maintenance mode is on.", status.paused.is_some());
    page.flag("matriarch_switching_over", "Whether a planned change of leader runs.", status.switching_over);
    page.sample("matriarch_peers_heard", "gauge", "Other agents that are heard.", status.peers.len());
    let age = facts.now.since(facts.picture.at).as_secs_f64();
    page.sample("matriarch_loop_age_seconds", "gauge", "Time since the agent's loop turned.", age);
    if let Some(instance) = facts.instance() {
        page.sample(
            "matriarch_drifted_settings",
            "gauge",
            "Settings changed by others.",
            instance.drifted.len(),
        );
        let name = "matriarch_standby_flush_lag_bytes";
        if instance.senders.iter().any(|sender| sender.name.is_some()) {
            page.head(name, "gauge", "How far the flushed position of a standby is behind.");
        }
        for sender in &instance.senders {
            if let Some(standby) = &sender.name {
                let behind = instance.flush.bytes_since(sender.flush);
                page.line(name, &format!(",standby=\"{}\"", standby.member.name), behind);
            }
        }
    }
    if let Some(lag) = facts.lag(false).filter(|_| facts.is_running_replica()) {
        page.sample("matriarch_replay_lag_bytes", "gauge", "How far replay is behind the leader.", lag);
    }
}

/// What the guard says of itself.
fn guard(page: &mut Page, facts: &Facts<'_>) {
    let own = facts.picture.guard.as_deref();
    page.flag("matriarch_guard_answers", "Whether the guard has answered lately.", own.is_some());
    let Some(own) = own else { return };
    let name = "matriarch_guard_layer";
    page.head(name, "gauge", "Layers that stand behind a deadline here.");
    for layer in own.layers.names() {
        page.line(name, &format!(",layer=\"{}\"", layer.replace(' ', "_")), 1);
    }
    let degraded = own.degraded.words().count();
    page.sample("matriarch_guard_degraded", "gauge", "What is worse than it should be there.", degraded);
    if let Some(timeout) = own.watchdog.timeout {
        let name = "matriarch_watchdog_timeout_seconds";
        page.sample(name, "gauge", "From the watchdog's last ping to the reset.", timeout.as_secs_f64());
    }
}

fn heartbeats(page: &mut Page, facts: &Facts<'_>) {
    let all = &facts.picture.heartbeats;
    let mut family =
        |name: &str, kind: &str, help: &str, value: &dyn Fn(&HeartbeatFigures) -> Option<f64>| {
            page.head(name, kind, help);
            for of in all {
                if let Some(value) = value(of) {
                    page.line(name, &format!(",member=\"{}\"", of.member), value);
                }
            }
        };
    let count = |number: u64| Some(number as f64);
    family("matriarch_heartbeat_age_seconds", "gauge", "Time since the last heartbeat of a member.", &|of| {
        Some(facts.now.since(of.heard_at?).as_secs_f64())
    });
    family("matriarch_heartbeats_received_total", "counter", "Heartbeats heard.", &|of| count(of.received));
    family("matriarch_heartbeats_missed_total", "counter", "Heartbeats sent and never heard.", &|of| {
        count(of.missed)
    });
    family("matriarch_heartbeats_rejected_total", "counter", "Datagrams that were no heartbeats.", &|of| {
        count(of.rejected)
    });
    let name = "matriarch_heartbeat_round_trip_seconds";
    family(name, "gauge", "The last measured time to a member and back.", &|of| {
        (of.round_trip_ns > 0).then_some(of.round_trip_ns as f64 / 1e9)
    });
}

fn patroni(page: &mut Page, facts: &Facts<'_>) {
    let picture = facts.picture;
    let instance = facts.instance();
    let details = instance.map(|_| &picture.details);
    let primary = facts.role() == "primary";
    let replica = facts.role() == "replica";
    let of = |yes: bool, lsn: Option<ha_core::Lsn>| lsn.filter(|_| yes).unwrap_or_default().0;
    page.sample("patroni_version", "gauge", "Version without periods.", version_number(picture.version));
    page.flag("patroni_postgres_running", "1 if PostgreSQL runs.", facts.state() == "running");
    let started = details.and_then(|d| d.started.as_ref()).map_or(0.0, |(_, seconds)| *seconds);
    page.sample(
        "patroni_postmaster_start_time",
        "gauge",
        "Start of PostgreSQL, seconds since 1970.",
        started,
    );
    page.flag("patroni_primary", "1 if this is the primary.", primary);
    let location = of(primary, instance.map(|i| i.flush));
    page.sample("patroni_xlog_location", "counter", "Primary: position in the log.", location);
    page.flag("patroni_standby_leader", "1 if this leads a standby cluster.", false);
    page.flag("patroni_replica", "1 if this is a standby.", replica);
    page.flag("patroni_sync_standby", "1 if this is a synchronous standby.", replica && facts.is_listed());
    page.flag("patroni_quorum_standby", "1 if this is a quorum standby.", false);
    let received = of(replica, facts.position(true));
    page.sample("patroni_xlog_received_location", "counter", "Standby: received position.", received);
    let replayed = of(replica, facts.position(false));
    page.sample("patroni_xlog_replayed_location", "counter", "Standby: replayed position.", replayed);
    let replay_time = details.and_then(|d| d.replay_time.as_ref()).map_or(0.0, |(_, seconds)| *seconds);
    page.sample("patroni_xlog_replayed_timestamp", "gauge", "Time of the last replayed commit.", replay_time);
    let paused = details.is_some_and(|d| d.replay_paused);
    page.flag("patroni_xlog_paused", "1 if replay is paused.", paused);
    let replication = details.and_then(|d| d.replication_state);
    page.flag("patroni_postgres_streaming", "1 if it streams.", replication == Some("streaming"));
    let archive = replication == Some("in archive recovery");
    page.flag("patroni_postgres_in_archive_recovery", "1 if it recovers from an archive.", archive);
    let version = instance.map_or(0, |i| i.version);
    page.sample("patroni_postgres_server_version", "gauge", "Version of PostgreSQL.", version);
    page.flag(
        "patroni_cluster_unlocked",
        "1 if there is no leader, or nobody can tell.",
        facts.is_unlocked(),
    );
    page.flag("patroni_failsafe_mode_is_active", "Always 0: there is no such mode.", false);
    let timeline = instance.map_or(0, |i| i.timeline.0);
    page.sample("patroni_postgres_timeline", "gauge", "Timeline of PostgreSQL.", timeline);
    page.sample("patroni_dcs_last_seen", "gauge", "When the store answered last.", store_last_seen(facts));
    let pending = instance.is_some_and(|i| !i.pending_restart.is_empty());
    page.flag("patroni_pending_restart", "1 if a parameter waits for a restart.", pending);
    page.flag("patroni_is_paused", "1 if maintenance mode is on.", picture.status.paused.is_some());
    let name = "patroni_postgres_state";
    let values = STATES.iter().enumerate().map(|(i, state)| format!("{i}={state}"));
    let values = values.collect::<Vec<_>>().join(", ");
    let _ =
        writeln!(page.text, "# HELP {name} State of PostgreSQL.\n# Values: {values}\n# TYPE {name} gauge");
    let index = STATES.iter().position(|state| *state == facts.state());
    page.line(name, "", index.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1));
}

/// Each part of the version with two digits: 0.1.0 becomes 000100.
fn version_number(version: &str) -> String {
    version.split(['.', '-', '+']).take(3).map(|part| format!("{part:0>2}")).collect()
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_become_numbers_that_sort() {
        assert_eq!(version_number("4.1.5"), "040105");
        assert_eq!(version_number("0.12.0-dev"), "001200");
    }
}
