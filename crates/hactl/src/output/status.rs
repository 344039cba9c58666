//! `hactl status` for people: each member in depth.

use std::fmt::Write as _;
use std::time::Duration;

use ha_rpc::proto::StatusReply;

use super::document::{Document, postgres_version};
use super::{json, red, tsv_line, yaml};
use crate::args::Format;
use crate::overview::{Member, Overview, policy};

/// The whole state, of `one` member if it is given.
pub(crate) fn render(
    overview: &Overview,
    one: Option<&str>,
    format: Format,
    colored: bool,
) -> anyhow::Result<String> {
    match format {
        Format::Json => json(&Document::new(overview, one)),
        Format::Yaml => yaml(&Document::new(overview, one)),
        Format::Table => Ok(text(overview, one, colored)),
        Format::Tsv => Ok(tsv(overview, one)),
    }
}

fn shown<'a>(overview: &'a Overview, one: Option<&'a str>) -> impl Iterator<Item = &'a Member> {
    overview.members.iter().filter(move |member| one.is_none_or(|one| member.name == one))
}

fn text(overview: &Overview, one: Option<&str>, colored: bool) -> String {
    let mut text = String::new();
    for (name, value) in about_cluster(overview) {
        writeln!(text, "{name:<16} {}", if alarming(name) { red(&value, colored) } else { value })
            .unwrap_or_default();
    }
    for member in shown(overview, one) {
        writeln!(text, "\n{} ({}, {})", member.name, member.role.title(), member.state).unwrap_or_default();
        for (name, value) in about(member) {
            let value = if alarming(name) { red(&value, colored) } else { value };
            writeln!(text, "  {name:<14} {value}").unwrap_or_default();
        }
    }
    text
}

fn alarming(name: &str) -> bool {
    matches!(name, "alarm" | "blocked" | "maintenance" | "unreachable")
}

fn tsv(overview: &Overview, one: Option<&str>) -> String {
    let mut text = tsv_line(["member", "name", "value"]);
    for (name, value) in about_cluster(overview) {
        text += &tsv_line(["", name, &value]);
    }
    for member in shown(overview, one) {
        for (name, value) in about(member) {
            text += &tsv_line([member.name.as_str(), name, &value]);
        }
    }
    text
}

fn about_cluster(overview: &Overview) -> Vec<(&'static str, String)> {
    let mut facts = vec![("cluster", overview.cluster.clone())];
    if let Some(sync) = &overview.sync {
        facts.push(("system id", sync.system_id.clone()));
        facts.push(("leader", sync.leader.clone()));
        let at = format!("(generation {}, revision {})", sync.generation, sync.revision);
        facts.push(("epoch", format!("{} {at}", sync.epoch)));
        let (words, alarming) = policy(sync);
        facts.push((if alarming { "alarm" } else { "policy" }, words));
    }
    facts.extend(overview.mode.clone().map(|mode| ("mode", mode)));
    facts.extend(overview.paused.clone().map(|reason| ("maintenance", format!("on ({reason})"))));
    facts
}

fn about(member: &Member) -> Vec<(&'static str, String)> {
    let mut facts = vec![("host", member.host.clone())];
    let position = |lsn: Option<ha_core::Lsn>, behind: Option<u64>| {
        let behind = behind.map_or_else(String::new, |bytes| format!(" ({bytes} bytes behind)"));
        lsn.map(|lsn| format!("{lsn}{behind}"))
    };
    facts.extend(member.timeline.map(|timeline| ("timeline", timeline.to_string())));
    facts.extend(position(member.flush, member.receive_lag_bytes).map(|text| ("flushed", text)));
    facts.extend(position(member.replay, member.replay_lag_bytes).map(|text| ("replayed", text)));
    match &member.answer {
        Ok(reply) => own(reply, &mut facts),
        Err(reason) => {
            facts.push(("unreachable", reason.clone()));
            let heard = |(by, ms): &(String, u64)| format!("by {by}, {} ago", seconds(*ms));
            facts.extend(member.heard_by.as_ref().map(|last| ("heard last", heard(last))));
        }
    }
    facts
}

fn own(reply: &StatusReply, facts: &mut Vec<(&'static str, String)>) {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    facts.push(("doing", reply.doing.clone()));
    facts.extend(reply.blocked.clone().map(|why| ("blocked", why)));
    facts.extend(reply.alarms.iter().map(|alarm| ("alarm", alarm.clone())));
    facts.extend(reply.advice.iter().map(|advice| ("advice", advice.clone())));
    facts.push(("takes writes", yes(reply.serves_writes)));
    let guard = reply.guard.clone().unwrap_or_default();
    facts.push((
        "guard",
        match (guard.armed, guard.deadline_ms_left) {
            (true, Some(left)) if left >= 0 => format!("armed, deadline in {left} ms unless renewed"),
            (true, Some(left)) => format!("armed, deadline passed {} ms ago", left.unsigned_abs()),
            (true, None) => "armed".to_owned(),
            (false, Some(left)) => format!("not armed; the agent's own deadline in {left} ms"),
            (false, None) => "not armed".to_owned(),
        },
    ));
    if !guard.layers.is_empty() {
        facts.push(("guard layers", guard.layers.join(", ")));
    }
    facts.extend(guard.degraded.iter().map(|words| ("guard", format!("degraded: {words}"))));
    if guard.answers {
        facts.push(("watchdog", guard.watchdog.clone()));
    }
    facts.push(("etcd", if reply.store_connected { "answers" } else { "cannot be reached" }.to_owned()));
    facts.extend(reply.last_event.clone().map(|event| ("last event", event)));
    for other in &reply.others {
        let heard = other.heard_ms_ago.map_or("never".to_owned(), |ms| format!("{} ago", seconds(ms)));
        let record = if other.in_store { "" } else { ", no record in etcd" };
        facts.push(("heard", format!("{} {heard}{record}", other.name)));
    }
    if let Some(server) = &reply.server {
        let joined = |names: &Vec<String>| (!names.is_empty()).then(|| names.join(", "));
        facts.extend(joined(&server.pending_restart).map(|names| ("needs restart", names)));
        facts.extend(joined(&server.drifted).map(|names| ("drifted", names)));
        facts.extend(server.incarnation.clone().map(|incarnation| ("incarnation", incarnation)));
        facts.extend(server.version.map(|version| ("PostgreSQL", postgres_version(version))));
    }
    facts.push(("agent", format!("{}, cluster.toml {}", reply.version, reply.file_digest)));
    if !reply.tags.is_empty() {
        let tags: Vec<String> = reply.tags.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        facts.push(("tags", tags.join(", ")));
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}
