//! Which status code a health check gets: 200 or 503.

use super::answer::Parameters;
use super::facts::Facts;

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The primary that may be written to.
    Leader,
    /// A standby that may be read from.
    Replica,
    /// Either.
    ReadOnly,
    /// A standby in the synchronous list.
    Listed,
    /// A standby outside it.
    Unlisted,
    /// The primary, or a standby in the list.
    ReadOnlyListed,
    /// A server that answers, whatever its role.
    Running,
    /// Another path.
    Unknown,
}

/// The check of a path. Parts of a path decide, in this order, as existing configurations expect: `/x-primary` is
/// `/primary`. A cluster that stands by for another one is not supported, so its paths never match.
pub(super) fn check_of(path: &str) -> Check {
    let has = |part: &str| path.contains(part);
    match path {
        "/" => Check::Leader,
        _ if has("standby_leader") || has("standby-leader") => Check::Unknown,
        _ if has("leader") || has("master") || has("primary") || has("read-write") => Check::Leader,
        _ if has("replica") => Check::Replica,
        _ if has("read-only") && !has("sync") && !has("quorum") => Check::ReadOnly,
        _ if has("health") => Check::Running,
        "/sync" | "/synchronous" | "/quorum" => Check::Listed,
        "/async" | "/asynchronous" => Check::Unlisted,
        "/read-only-sync" | "/read-only-synchronous" | "/read-only-quorum" => Check::ReadOnlyListed,
        _ => Check::Unknown,
    }
}

/// Whether a path asks what this member is to clients.
pub(super) fn is_check(path: &str) -> bool {
    check_of(path) != Check::Unknown
}

/// Whether read sessions may be given to this member: what `/replica` says when nothing more is asked for.
pub(crate) fn takes_reads(facts: &Facts<'_>) -> bool {
    facts.is_running_replica() && !facts.tags().contains_key("noloadbalance")
}

/// Whether the check holds.
pub(super) fn passes(check: Check, facts: &Facts<'_>, parameters: &Parameters) -> bool {
    let replica =
        || takes_reads(facts) && within_lag(facts, parameters) && parameters.tags_match(&facts.tags());
    // Who is listed is known only while the store answers.
    let connected = facts.picture.status.store_connected;
    let listed = || connected && replica() && facts.is_listed();
    let primary = || facts.serves_writes() && parameters.tags_match(&facts.tags());
    match check {
        Check::Leader => facts.serves_writes(),
        Check::Replica => replica(),
        Check::ReadOnly => primary() || replica(),
        Check::Listed => listed(),
        Check::Unlisted => connected && replica() && !facts.is_listed(),
        Check::ReadOnlyListed => connected && primary() || listed(),
        Check::Running => facts.state() == "running",
        Check::Unknown => false,
    }
}

/// An unknown position of the leader is no reason to take a standby out, as in Patroni.
fn within_lag(facts: &Facts<'_>, parameters: &Parameters) -> bool {
    match (parameters.lag, facts.lag(false)) {
        (Some(limit), Some(lag)) => lag <= limit,
        _ => true,
    }
}

/// `/liveness`: the agent's loop turns, or maintenance is on.
pub(super) fn is_live(facts: &Facts<'_>) -> bool {
    let ttl = facts.picture.lease_ttl;
    let allowed = if facts.role() == "primary" && facts.state() == "running" { ttl } else { ttl * 2 };
    facts.picture.status.paused.is_some() || facts.now.since(facts.picture.at) < allowed
}

/// `/readiness`: the primary, or a standby that streams and is not far behind. With an unknown position it is not ready.
pub(super) fn is_ready(facts: &Facts<'_>, parameters: &Parameters) -> bool {
    if facts.serves_writes() {
        return true;
    }
    let settings = facts.picture.view.as_ref().and_then(|view| view.config.as_ref());
    let default = settings.map_or(1024 * 1024, |config| config.record.maximum_lag_bytes);
    let limit = parameters.lag.unwrap_or(default);
    facts.is_streaming() && facts.lag(parameters.mode_write).is_some_and(|lag| lag <= limit)
}
