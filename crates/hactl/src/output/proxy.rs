//! `hactl proxy`: where the ports of each proxy lead, and what it knows about each PostgreSQL behind it.

use std::fmt::Write as _;

use ha_rpc::proto::{EvidenceSource, ProxyStatusReply, Route, Upstream, UpstreamAdmin};
use serde::Serialize;

use super::{json, red, right, routes, shown, span, tsv_line, yaml, yes};
use crate::args::Format;
use crate::ask::Asked;

/// For people without the last: reasons are sentences and stand below the table.
const COLUMNS: [&str; 12] = [
    "Upstream", "Address", "Role", "Epoch", "Writes", "Reads", "Lag", "Known by", "Heard", "Sessions", "Cut",
    "Reason",
];

/// The proxies in the wanted format.
pub(crate) fn render(
    proxies: &[&Asked<ProxyStatusReply>],
    format: Format,
    colored: bool,
) -> anyhow::Result<String> {
    let documents = || proxies.iter().map(|asked| Document::new(asked)).collect::<Vec<_>>();
    match format {
        Format::Table => Ok(text(proxies, colored)),
        Format::Json => json(&documents()),
        Format::Yaml => yaml(&documents()),
        Format::Tsv => Ok(tsv(proxies)),
    }
}

fn text(proxies: &[&Asked<ProxyStatusReply>], colored: bool) -> String {
    let one = |asked: &&Asked<ProxyStatusReply>| match &asked.answer {
        Ok(reply) => format!("{} ({})  {}", asked.name, asked.address, about(reply, colored)),
        Err(why) => {
            format!("{} ({})  {}\n", asked.name, asked.address, red(&format!("unreachable: {why}"), colored))
        }
    };
    proxies.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn about(reply: &ProxyStatusReply, colored: bool) -> String {
    let state = if reply.draining { red("draining", colored) } else { "serving".to_owned() };
    let mut text = format!(
        "{state} for {}, {} of {} sessions, {} waiting\n",
        span(reply.uptime_ms),
        reply.sessions,
        reply.session_limit,
        reply.waiting
    );
    text += &file(reply, colored);
    for old in &reply.replaced {
        writeln!(text, "  process {}, which was replaced, still has {} sessions", old.process, old.sessions)
            .unwrap_or_default();
    }
    for (what, route) in [("writes", &reply.writes), ("reads", &reply.reads)] {
        let (words, good) = routes::words(route.as_ref());
        let words = if good { words } else { red(&words, colored) };
        let port = route.as_ref().map_or(0, |route| route.port);
        let since = shown(route.as_ref().map(|route| format!("  (for {})", span(route.since_ms))));
        writeln!(text, "  {port} {what:<6} -> {words}{since}").unwrap_or_default();
    }
    let without_reason = COLUMNS.len() - 1;
    let mut table = super::table(&COLUMNS[..without_reason]);
    for upstream in &reply.upstreams {
        table.add_row(cells(upstream).into_iter().take(without_reason));
    }
    right(&mut table, [3, 6, 8, 9, 10]);
    writeln!(text, "{table}").unwrap_or_default();
    for upstream in reply.upstreams.iter().filter(|upstream| !upstream.reason.is_empty()) {
        writeln!(text, " {}: {}", upstream.member, upstream.reason).unwrap_or_default();
    }
    text
}

/// Which file is in force; in red what of the one that lies there is not.
fn file(reply: &ProxyStatusReply, colored: bool) -> String {
    if reply.file_digest.is_empty() {
        return String::new();
    }
    let mut text = format!("  file {} read {} ago", reply.file_digest, span(reply.file_read_ms_ago));
    if reply.reloads_total > 0 {
        write!(text, ", reloaded {} times", reply.reloads_total).unwrap_or_default();
    }
    text.push('\n');
    if !reply.file_refused.is_empty() {
        let why = reply.file_refused.replace('\n', "\n    ");
        writeln!(text, "  {}", red(&format!("the changed file is refused:\n    {why}"), colored))
            .unwrap_or_default();
    }
    for change in &reply.needs_restart {
        writeln!(text, "  {}", red(&format!("needs a restart: {change}"), colored)).unwrap_or_default();
    }
    text
}

fn cells(upstream: &Upstream) -> [String; 12] {
    let some = |number: u64| (number > 0).then_some(number);
    [
        upstream.member.clone(),
        upstream.address.clone(),
        upstream.role.clone(),
        shown(some(upstream.epoch)),
        yes(upstream.takes_writes).to_owned(),
        yes(upstream.takes_reads).to_owned(),
        shown(upstream.lag_bytes.map(super::list::mebibytes)),
        source(upstream).to_owned(),
        shown(upstream.heard_ms_ago.map(span)),
        format!("{}/{}", upstream.sessions, upstream.session_limit),
        shown(some(upstream.sessions_cut)),
        upstream.reason.clone(),
    ]
}

fn source(upstream: &Upstream) -> &'static str {
    match upstream.source() {
        EvidenceSource::Push => "push",
        EvidenceSource::Poll => "poll",
        EvidenceSource::None => "nothing yet",
        EvidenceSource::Unspecified => "unknown",
    }
}

/// One line for each proxy and upstream; of a silent proxy one without an upstream.
fn tsv(proxies: &[&Asked<ProxyStatusReply>]) -> String {
    const PROXY: [&str; 5] = ["Proxy", "Host", "State", "Writes go to", "Reads go to"];
    let mut text = tsv_line(PROXY.into_iter().chain(COLUMNS));
    for asked in proxies {
        let name = [asked.name.to_string(), asked.address.to_string()];
        let Some(reply) = asked.reply() else {
            let unknown = ["unreachable"].into_iter().chain([""; 13]).chain(asked.silence());
            text += &tsv_line(name.iter().map(String::as_str).chain(unknown));
            continue;
        };
        let members = |route: &Option<Route>| shown(route.as_ref().map(|route| route.members.join(",")));
        let (writes, reads) = (members(&reply.writes), members(&reply.reads));
        let state = if reply.draining { "draining" } else { "serving" };
        for upstream in &reply.upstreams {
            let mut cells = cells(upstream);
            // For programs a number of bytes and of milliseconds.
            cells[6] = shown(upstream.lag_bytes);
            cells[8] = shown(upstream.heard_ms_ago);
            let about = name.iter().map(String::as_str).chain([state, &writes, &reads]);
            text += &tsv_line(about.chain(cells.iter().map(String::as_str)));
        }
    }
    text
}

/// A proxy for programs; what is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    proxy: &'a str,
    host: String,
    /// Why it did not answer.
    unreachable: Option<&'a str>,
    #[serde(flatten)]
    own: Option<Own<'a>>,
}

#[derive(Debug, Serialize)]
struct Own<'a> {
    draining: bool,
    writes: Option<RouteDocument<'a>>,
    reads: Option<RouteDocument<'a>>,
    sessions: u32,
    session_limit: u32,
    waiting: u32,
    sessions_total: u64,
    refused_total: u64,
    cancels_total: u64,
    uptime_ms: u64,
    version: &'a str,
    file_digest: &'a str,
    file_read_ms_ago: u64,
    file_refused: Option<&'a str>,
    needs_restart: &'a [String],
    reloads_total: u64,
    reloads_refused_total: u64,
    replaced: Vec<ReplacedDocument>,
    upstreams: Vec<UpstreamDocument<'a>>,
}

/// A process that was replaced and still has sessions.
#[derive(Debug, Serialize)]
struct ReplacedDocument {
    process: u32,
    sessions: u32,
}

#[derive(Debug, Serialize)]
struct RouteDocument<'a> {
    port: u32,
    state: &'static str,
    members: &'a [String],
    epoch: u64,
    reason: &'a str,
    since_ms: u64,
}

#[derive(Debug, Serialize)]
struct UpstreamDocument<'a> {
    member: &'a str,
    address: &'a str,
    role: &'a str,
    source: &'static str,
    heard_ms_ago: Option<u64>,
    epoch: u64,
    takes_writes: bool,
    takes_reads: bool,
    lag_bytes: Option<u64>,
    admin: &'static str,
    reason: &'a str,
    sessions: u32,
    session_limit: u32,
    sessions_total: u64,
    connect_failures: u64,
    sessions_cut: u64,
    bytes_to_upstream: u64,
    bytes_to_client: u64,
}

impl<'a> Document<'a> {
    pub(super) fn new(asked: &'a Asked<ProxyStatusReply>) -> Self {
        Self {
            proxy: asked.name.as_str(),
            host: asked.address.to_string(),
            unreachable: asked.silence(),
            own: asked.reply().map(own),
        }
    }
}

fn own(reply: &ProxyStatusReply) -> Own<'_> {
    Own {
        draining: reply.draining,
        writes: reply.writes.as_ref().map(route),
        reads: reply.reads.as_ref().map(route),
        sessions: reply.sessions,
        session_limit: reply.session_limit,
        waiting: reply.waiting,
        sessions_total: reply.sessions_total,
        refused_total: reply.refused_total,
        cancels_total: reply.cancels_total,
        uptime_ms: reply.uptime_ms,
        version: &reply.version,
        file_digest: &reply.file_digest,
        file_read_ms_ago: reply.file_read_ms_ago,
        file_refused: (!reply.file_refused.is_empty()).then_some(&reply.file_refused),
        needs_restart: &reply.needs_restart,
        reloads_total: reply.reloads_total,
        reloads_refused_total: reply.reloads_refused_total,
        replaced: reply
            .replaced
            .iter()
            .map(|old| ReplacedDocument { process: old.process, sessions: old.sessions })
            .collect(),
        upstreams: reply.upstreams.iter().map(upstream).collect(),
    }
}

fn route(route: &Route) -> RouteDocument<'_> {
    RouteDocument {
        port: route.port,
        state: routes::state(route),
        members: &route.members,
        epoch: route.epoch,
        reason: &route.reason,
        since_ms: route.since_ms,
    }
}

fn upstream(upstream: &Upstream) -> UpstreamDocument<'_> {
    UpstreamDocument {
        member: &upstream.member,
        address: &upstream.address,
        role: &upstream.role,
        source: match upstream.source() {
            EvidenceSource::None => "none",
            _ => source(upstream),
        },
        heard_ms_ago: upstream.heard_ms_ago,
        epoch: upstream.epoch,
        takes_writes: upstream.takes_writes,
        takes_reads: upstream.takes_reads,
        lag_bytes: upstream.lag_bytes,
        admin: match upstream.admin() {
            UpstreamAdmin::Drain => "drain",
            UpstreamAdmin::Maintenance => "maintenance",
            UpstreamAdmin::Ready | UpstreamAdmin::Unspecified => "ready",
        },
        reason: &upstream.reason,
        sessions: upstream.sessions,
        session_limit: upstream.session_limit,
        sessions_total: upstream.sessions_total,
        connect_failures: upstream.connect_failures,
        sessions_cut: upstream.sessions_cut,
        bytes_to_upstream: upstream.bytes_to_upstream,
        bytes_to_client: upstream.bytes_to_client,
    }
}
