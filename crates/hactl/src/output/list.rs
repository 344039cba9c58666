//! `hactl list`: one row for each member, what patronictl's users expect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ha_core::Lsn;
use serde::Serialize;

use super::{json, red, right, tsv_line, yaml};
use crate::args::Format;
use crate::overview::{Member, Overview, Role, policy};

const COLUMNS: [&str; 11] = [
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
    "Pending restart",
    "Tags",
];

/// A row for programs; lags are bytes, and what is not known is left out.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "Cluster")]
    cluster: &'a str,
    #[serde(rename = "Member")]
    member: &'a str,
    #[serde(rename = "Host")]
    host: &'a str,
    #[serde(rename = "Role")]
    role: &'static str,
    #[serde(rename = "State")]
    state: &'static str,
    #[serde(rename = "TL", skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    #[serde(rename = "Receive LSN", skip_serializing_if = "Option::is_none")]
    receive_lsn: Option<String>,
    #[serde(rename = "Receive Lag", skip_serializing_if = "Option::is_none")]
    receive_lag: Option<u64>,
    #[serde(rename = "Replay LSN", skip_serializing_if = "Option::is_none")]
    replay_lsn: Option<String>,
    #[serde(rename = "Replay Lag", skip_serializing_if = "Option::is_none")]
    replay_lag: Option<u64>,
    #[serde(rename = "Pending restart", skip_serializing_if = "<[String]>::is_empty")]
    pending_restart: &'a [String],
    #[serde(rename = "Tags", skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<&'a str, TagValue<'a>>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum TagValue<'a> {
    Flag(bool),
    Number(u32),
    Text(&'a str),
}

impl<'a> TagValue<'a> {
    fn read(text: &'a str) -> Self {
        let flag = text.parse().map(Self::Flag).ok();
        flag.or_else(|| text.parse().map(Self::Number).ok()).unwrap_or(Self::Text(text))
    }
}

/// The list in the wanted format; `routes` are the lines about the proxies, for people.
pub(crate) fn render(
    overview: &Overview,
    routes: &[String],
    format: Format,
    colored: bool,
) -> anyhow::Result<String> {
    match format {
        Format::Table => Ok(table(overview, routes, colored)),
        Format::Json => json(&rows(overview)),
        Format::Yaml => yaml(&rows(overview)),
        Format::Tsv => Ok(tsv(overview)),
    }
}

fn rows(overview: &Overview) -> Vec<Row<'_>> {
    let row = |member| row(&overview.cluster, member);
    overview.members.iter().map(row).collect()
}

fn row<'a>(cluster: &'a str, member: &'a Member) -> Row<'a> {
    let reply = member.answer.as_ref().ok();
    let tags = reply
        .filter(|reply| !reply.tags.is_empty())
        .map(|reply| reply.tags.iter().map(|(name, value)| (name.as_str(), TagValue::read(value))).collect());
    Row {
        cluster,
        member: &member.name,
        host: &member.host,
        role: member.role.title(),
        state: member.state,
        timeline: member.timeline,
        receive_lsn: member.flush.map(|lsn| lsn.to_string()),
        receive_lag: member.receive_lag_bytes,
        replay_lsn: member.replay.map(|lsn| lsn.to_string()),
        replay_lag: member.replay_lag_bytes,
        pending_restart: reply.and_then(|r| r.server.as_ref()).map_or(&[], |server| &server.pending_restart),
        tags,
    }
}

/// The cells as people see them; the leader's positions are what the others are compared with, so it has none.
fn cells(member: &Member) -> [String; 11] {
    let row = row("", member);
    let leads = member.role == Role::Leader;
    let position = |lsn: Option<Lsn>| match lsn {
        _ if leads => String::new(),
        Some(lsn) => lsn.to_string(),
        None => "unknown".to_owned(),
    };
    let lag = |bytes: Option<u64>| bytes.map(mebibytes).unwrap_or_default();
    let tags = member.answer.as_ref().ok().map(|reply| &reply.tags);
    let tags: Vec<String> =
        tags.into_iter().flatten().map(|(name, value)| format!("{name}: {value}")).collect();
    [
        member.name.clone(),
        member.host.clone(),
        member.role.title().to_owned(),
        member.state.to_owned(),
        member.timeline.map(|timeline| timeline.to_string()).unwrap_or_default(),
        position(member.flush),
        lag(member.receive_lag_bytes),
        position(member.replay),
        lag(member.replay_lag_bytes),
        if row.pending_restart.is_empty() { String::new() } else { "*".to_owned() },
        tags.join(", "),
    ]
}

/// MiB, rounded: `0` means less than half of one.
pub(super) fn mebibytes(bytes: u64) -> String {
    ((bytes + (1 << 19)) >> 20).to_string()
}

fn tsv(overview: &Overview) -> String {
    let mut text = tsv_line(["Cluster"].into_iter().chain(COLUMNS));
    for member in &overview.members {
        let cells = cells(member);
        let cluster = [overview.cluster.as_str()];
        text += &tsv_line(cluster.into_iter().chain(cells.iter().map(String::as_str)));
    }
    text
}

fn table(overview: &Overview, routes: &[String], colored: bool) -> String {
    let mut table = super::table(&COLUMNS);
    for member in &overview.members {
        table.add_row(cells(member));
    }
    right(&mut table, 4..=8);
    let mut below: Vec<String> = routes.iter().map(|line| format!(" {line}\n")).collect();
    below.push(notes(overview, colored));
    format!("{}\n{table}\n{}", head(overview, colored), below.concat())
}

/// The line above the table.
pub(super) fn head(overview: &Overview, colored: bool) -> String {
    let Some(sync) = &overview.sync else {
        return format!("Cluster: {} (uninitialized)", overview.cluster);
    };
    let (policy, alarming) = policy(sync);
    let policy = if alarming { red(&policy, colored) } else { policy };
    let mode = overview.mode.as_deref().unwrap_or("mode unknown");
    let rests = if policy == mode { policy } else { format!("{mode}: {policy}") };
    format!("Cluster: {} ({})  epoch {}  {rests}", overview.cluster, sync.system_id, sync.epoch)
}

/// The lines below the table: what a human should know beyond the rows.
fn notes(overview: &Overview, colored: bool) -> String {
    let mut text = String::new();
    let mut note = |line: String| writeln!(text, " {line}").unwrap_or_default();
    if let Some(reason) = &overview.paused {
        let reason = if reason.is_empty() { "no reason was given" } else { reason };
        note(red(&format!("Maintenance mode: on ({reason})"), colored));
    }
    if overview.sync.is_some() && overview.leader().is_none() {
        note(red("No leader among the members of this file", colored));
    }
    for (said, by) in said_by(overview, |reply| reply.alarms.clone()) {
        note(red(&format!("! {said} [{by}]"), colored));
    }
    for (said, by) in said_by(overview, |reply| reply.blocked.clone().into_iter().collect()) {
        note(red(&format!("! {by}: {said}"), colored));
    }
    for member in &overview.members {
        for line in about(member, overview) {
            note(line);
        }
    }
    for (said, by) in said_by(overview, |reply| reply.advice.clone()) {
        note(format!("advice: {said} [{by}]"));
    }
    for (what, values) in [
        ("cluster.toml differs between the members", distinct(overview, |reply| &reply.file_digest)),
        ("the agents have different versions", distinct(overview, |reply| &reply.version)),
    ] {
        if let Some(values) = values {
            note(format!("{what}: {values}"));
        }
    }
    text
}

/// Sentences and who says them; most are said by several.
fn said_by(
    overview: &Overview,
    said: impl Fn(&ha_rpc::proto::StatusReply) -> Vec<String>,
) -> BTreeMap<String, String> {
    let mut by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for member in &overview.members {
        for sentence in member.answer.iter().flat_map(&said) {
            by.entry(sentence).or_default().push(&member.name);
        }
    }
    by.into_iter().map(|(sentence, names)| (sentence, names.join(", "))).collect()
}

fn about(member: &Member, overview: &Overview) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &member.name;
    match &member.answer {
        Err(reason) => {
            let heard = member.heard_by.as_ref().map_or_else(String::new, |(by, ms)| {
                format!("; {by} heard it {:.1} s ago", std::time::Duration::from_millis(*ms).as_secs_f64())
            });
            lines.push(format!("? {name}: {reason}{heard}"));
        }
        Ok(reply) => {
            if member.role == Role::Leader && !reply.serves_writes {
                lines.push(format!("! {name} does not take writes: {}", reply.doing));
            }
            if reply.switching_over {
                lines.push(format!("{name}: {}", reply.doing));
            }
            let epoch = reply.sync.as_ref().map_or(0, |sync| sync.epoch);
            if epoch < overview.epoch() {
                lines.push(format!("? {name} knows only epoch {epoch}, its view is old"));
            }
            if let Some(server) = reply.server.as_ref().filter(|server| !server.drifted.is_empty()) {
                lines.push(format!("! {name}: settings were changed by hand: {}", server.drifted.join(", ")));
            }
        }
    }
    lines
}

/// Who has which value, if there are several.
fn distinct(overview: &Overview, value: impl Fn(&ha_rpc::proto::StatusReply) -> &String) -> Option<String> {
    let answered = || overview.members.iter().filter_map(|m| Some((&m.name, value(m.answer.as_ref().ok()?))));
    let values: BTreeSet<&String> = answered().map(|(_, value)| value).collect();
    let listed: Vec<String> = answered().map(|(name, value)| format!("{name} {value}")).collect();
    (values.len() > 1).then(|| listed.join(", "))
}
