//! What must hold between values of different keys, explained with the numbers.

use std::time::Duration;

use ha_core::ReplicationMode;
use ha_core::guard_link::LayerMode;

use crate::cluster::DatabaseHost;
use crate::failover::Failover;
use crate::guard::{Guard, longest_watchdog_timeout};
use crate::reader::Table;
use crate::replication::Replication;
use crate::routing::{ReadConsistency, Routing};
use crate::units::show_duration as show;

/// The tables between which relations hold.
pub(crate) struct Tables<'t> {
    pub(crate) replication: Table<'t>,
    pub(crate) failover: Table<'t>,
    pub(crate) guard: Table<'t>,
}

pub(crate) fn check(
    tables: &Tables<'_>,
    databases: &[DatabaseHost],
    replication: &Replication,
    failover: &Failover,
    guard: &Guard,
) {
    check_lease(tables, failover, guard);
    check_watchdog(tables, failover, guard);
    check_member_ttl(tables, failover);
    check_degrade_after(tables, replication, failover);
    check_acks(&tables.replication, databases, replication);
}

/// Nothing keeps others from leading in asynchronous mode but the end of a lease in etcd, which nobody here waits for.
pub(crate) fn check_reads(
    table: &Table<'_>,
    modes: &Table<'_>,
    routing: &Routing,
    replication: &Replication,
) {
    let wanted = routing.reads == ReadConsistency::Linearizable;
    if wanted && !replication.mode.waits_for_standbys() && sound(modes, &["mode"]) {
        table.refuse(
            "reads",
            "\"linearizable\" with replication.mode = \"asynchronous\"".to_owned(),
            "\"fresh\", or a replication.mode of \"synchronous\" or \"strict\": linearizable reads rest on standbys",
        );
    }
}

/// Whether all these keys (and so the values compared) are free of problems.
fn sound(table: &Table<'_>, keys: &[&str]) -> bool {
    !keys.iter().any(|key| table.report.refused(&table.key(key)))
}

/// The first of these keys that stands in the file, so that the message points at a line.
fn written<'k>(table: &Table<'_>, keys: &[&'k str]) -> Option<&'k str> {
    keys.iter().copied().find(|key| table.has(key))
}

/// A leader must renew and, when a renewal fails, try once more before it has to ask PostgreSQL to stop.
fn check_lease(tables: &Tables<'_>, failover: &Failover, guard: &Guard) {
    const FAILOVER_KEYS: [&str; 3] = ["lease_ttl", "renew_interval", "call_deadline"];
    const GUARD_KEYS: [&str; 4] = ["net_margin", "kill_lead", "soft_lead", "drift"];
    if !sound(&tables.failover, &FAILOVER_KEYS) || !sound(&tables.guard, &GUARD_KEYS) {
        return;
    }
    let ttl = failover.lease_ttl;
    let needed = failover.renew_interval + 2 * failover.call_deadline;
    let spent = guard.margin(ttl) + guard.soft_lead;
    let left = ttl.saturating_sub(spent);
    if needed <= left {
        return;
    }
    let found = format!(
        "renew_interval {} + 2 x call_deadline {} = {}, but lease_ttl {} - drift {} - net_margin {} - kill_lead {} - soft_lead {} = {}",
        show(failover.renew_interval),
        show(failover.call_deadline),
        show(needed),
        show(ttl),
        show(guard.drift_of(ttl)),
        show(guard.net_margin),
        show(guard.kill_lead),
        show(guard.soft_lead),
        if spent > ttl { "less than nothing".to_owned() } else { show(left) },
    );
    let expected = "renew_interval + 2 x call_deadline <= lease_ttl - drift - net_margin - kill_lead - soft_lead: \
                    otherwise one failed renewal already ends a healthy primary";
    match (written(&tables.failover, &FAILOVER_KEYS), written(&tables.guard, &GUARD_KEYS)) {
        (None, Some(key)) => tables.guard.refuse(key, found, expected),
        (key, _) => tables.failover.refuse(key.unwrap_or("lease_ttl"), found, expected),
    }
}

/// A healthy leader must be able to ping its watchdog at any time. What is only derived, and only used where it works, is
/// judged where it is used.
fn check_watchdog(tables: &Tables<'_>, failover: &Failover, guard: &Guard) {
    const FAILOVER_KEYS: [&str; 3] = ["lease_ttl", "renew_interval", "call_deadline"];
    const GUARD_KEYS: [&str; 2] = ["watchdog_timeout", "watchdog"];
    if !sound(&tables.failover, &FAILOVER_KEYS) || !sound(&tables.guard, &GUARD_KEYS) {
        return;
    }
    let asked = guard.watchdog == LayerMode::Required || guard.watchdog_timeout.is_some();
    let (timeout, longest) = (guard.watchdog_timeout(failover.lease_ttl), longest_watchdog_timeout(failover));
    if guard.watchdog == LayerMode::Off || !asked || timeout <= longest {
        return;
    }
    let found = format!(
        "watchdog_timeout {}, but lease_ttl {} - renew_interval {} - call_deadline {} - 1s leaves {}",
        show(timeout),
        show(failover.lease_ttl),
        show(failover.renew_interval),
        show(failover.call_deadline),
        show(longest),
    );
    let expected = "watchdog_timeout + renew_interval + call_deadline + 1s <= lease_ttl: otherwise the watchdog could \
                    not be pinged between two renewals, and would reset a healthy machine";
    tables.guard.refuse(written(&tables.guard, &GUARD_KEYS).unwrap_or("watchdog"), found, expected);
}

fn check_member_ttl(tables: &Tables<'_>, failover: &Failover) {
    let keys = ["member_ttl", "lease_ttl"];
    if sound(&tables.failover, &keys) && failover.member_ttl <= failover.lease_ttl {
        tables.failover.refuse(
            written(&tables.failover, &keys).unwrap_or("member_ttl"),
            format!("member_ttl {} and lease_ttl {}", show(failover.member_ttl), show(failover.lease_ttl)),
            "member_ttl > lease_ttl: a member must not vanish from the list before its leadership does",
        );
    }
}

/// A takeover that is under way must end or be given up before the leader may pin itself.
fn check_degrade_after(tables: &Tables<'_>, replication: &Replication, failover: &Failover) {
    const KEYS: [&str; 3] = ["detection", "promise_timeout", "abort_after"];
    if !sound(&tables.failover, &KEYS) || !sound(&tables.replication, &["degrade_after"]) {
        return;
    }
    let takeover: Duration = failover.detection + failover.promise_timeout + failover.abort_after;
    let degrade_after = replication.degrade_after;
    if degrade_after > takeover {
        return;
    }
    let found = format!(
        "degrade_after {}, but detection {} + promise_timeout {} + abort_after {} = {}",
        show(degrade_after),
        show(failover.detection),
        show(failover.promise_timeout),
        show(failover.abort_after),
        show(takeover),
    );
    let expected = "replication.degrade_after > detection + promise_timeout + abort_after: \
                    the leader must not pin itself while it is being replaced";
    match written(&tables.failover, &KEYS) {
        Some(key) if !tables.replication.has("degrade_after") => tables.failover.refuse(key, found, expected),
        _ => tables.replication.refuse("degrade_after", found, expected),
    }
}

/// There must be as many standbys as confirmations are wanted.
fn check_acks(table: &Table<'_>, databases: &[DatabaseHost], replication: &Replication) {
    let hosts = databases.len();
    if !replication.mode.waits_for_standbys() || !sound(table, &["mode", "acks", "members"]) || hosts == 0 {
        return;
    }
    if table.report.refused("database") {
        return;
    }
    if hosts == 1 {
        if replication.mode == ReplicationMode::Strict {
            let expected =
                "\"synchronous\" or \"asynchronous\": with a single [[database]] nobody could ever confirm";
            table.refuse("mode", "\"strict\"", expected);
        }
        return;
    }
    let acks = usize::try_from(replication.acks).unwrap_or(usize::MAX);
    let may_confirm = |host: &&DatabaseHost| {
        let listed = replication.members.as_ref().is_none_or(|members| members.contains(&host.name));
        listed && !host.tags.nosync
    };
    let eligible = databases.iter().filter(may_confirm).count();
    if acks > hosts - 1 {
        let expected = format!("at most {}: of {hosts} [[database]] one is the primary", hosts - 1);
        table.refuse("acks", acks.to_string(), expected);
    } else if acks > eligible {
        let expected = format!(
            "at most {eligible}: only so many members may be in the synchronous list (replication.members, tag nosync)"
        );
        table.refuse(if table.has("acks") { "acks" } else { "members" }, acks.to_string(), expected);
    }
    // Without a slot PostgreSQL lets two walreceivers of one member stream at the same time (a stale connection beside
    // its successor), and it counts walsenders, not members: one disk would pass for two.
    if replication.acks >= 2 && !replication.slots && sound(table, &["slots"]) {
        let expected = "true with acks of 2 or more: without slots PostgreSQL may count one member twice";
        table.refuse("slots", "false", expected);
    }
}
