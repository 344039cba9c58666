//! The page itself. Every text goes through maud, which escapes it: reasons carry what agents and servers said.

use ha_routing::{RouteState, SeenRole, Source};
use maud::{DOCTYPE, Markup, html};

use super::graph::graph;
use super::statistics;
use super::words::{bytes, count, list, span};
use crate::snapshot::{RouteShown, Snapshot, UpstreamShown, Word as _};

/// The whole page. Its script replaces `#page` each second; without scripts the browser loads it again.
pub(super) fn page(shown: &Snapshot) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title(shown)) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
                noscript { meta http-equiv="refresh" content="2"; }
            }
            body { div id="page" { (header(shown)) (content(shown)) (footer(shown)) } }
        }
    }
}

/// What a tab shows: where writes go comes first.
fn title(shown: &Snapshot) -> String {
    let writes = match shown.writes.state {
        RouteState::Open => list(&shown.writes.members),
        state => format!("writes {}", state.word()),
    };
    format!("{writes} · {} · {}", shown.cluster, shown.proxy)
}

fn header(shown: &Snapshot) -> Markup {
    html! {
        header {
            div.brand {
                span.product { "Matriarch" }
                h1 { (shown.cluster) }
            }
            nav aria-label="Proxies of this cluster" {
                @for proxy in &shown.proxies {
                    @if proxy.name == shown.proxy {
                        a.here href="/" aria-current="page" { (proxy.name) }
                    } @else {
                        a href=(proxy.url) { (proxy.name) }
                    }
                }
            }
            p id="freshness" role="status" {}
        }
    }
}

fn content(shown: &Snapshot) -> Markup {
    html! {
        main {
            @if shown.draining {
                p.alarm.draining { strong { "Draining." } " No new sessions; the open ones may end by themselves." }
            }
            @if !shown.workers_alive {
                p.alarm { strong { "Not healthy." } " A thread that serves sessions does not answer." }
            }
            @if let Some(why) = &shown.file.refused {
                p.alarm { strong { "File refused." } " The values from before stay in force. " (why) }
            }
            @for process in &shown.replaced {
                p.fine { "Process " (process.process) " was replaced and still has " (process.sessions) " sessions." }
            }
            @if !shown.file.needs_restart.is_empty() {
                p.alarm.draining {
                    strong { "Restart needed." } " The file says otherwise: " (shown.file.needs_restart.join("; "))
                }
            }
            section.routes aria-label="Where sessions go" {
                (route("Writes", &shown.writes))
                (route("Reads", &shown.reads))
            }
            section aria-labelledby="totals" {
                h2 #totals { "This proxy" }
                (totals(shown))
                (graph(&shown.rates))
            }
            section aria-labelledby="servers" {
                h2 #servers { "PostgreSQL" }
                (upstreams(shown))
            }
            section aria-labelledby="decisions" {
                h2 #decisions { "Recent decisions" }
                (decisions(shown))
            }
            section aria-labelledby="statistics" {
                h2 #statistics { "Statistics" }
                (statistics::table(&shown.statistics))
            }
        }
    }
}

fn route(name: &str, shown: &RouteShown) -> Markup {
    let sentence = match shown.state {
        RouteState::Open => "go to",
        RouteState::Holding => "wait",
        RouteState::Refusing => "are refused",
    };
    html! {
        article class={ "route " (shown.state.word()) } {
            h2 { (name) " " span.port { "port " (shown.port) } }
            p.target {
                span.dot aria-hidden="true" {}
                (sentence)
                @if shown.state == RouteState::Open { " " strong { (list(&shown.members)) } }
            }
            p.reason { (shown.reason) }
            p.fine {
                span.word { (shown.state.word()) }
                @if shown.epoch > 0 { " · epoch " (shown.epoch) }
                " · for " (span(shown.since_ms))
            }
        }
    }
}

fn totals(shown: &Snapshot) -> Markup {
    let tile = |name: &str, value: String, more: String, alarming: bool| {
        html! {
            div.tile.alarming[alarming] { dt { (name) } dd { (value) @if !more.is_empty() { small { (more) } } } }
        }
    };
    let full = shown.sessions >= shown.session_limit;
    let of = |limit: u32| format!(" of {}", count(limit.into()));
    html! {
        dl.tiles {
            (tile("Sessions", count(shown.sessions.into()), of(shown.session_limit), full))
            (tile("Waiting", count(shown.waiting.into()), String::new(), shown.waiting > 0))
            (tile("Since the start", count(shown.sessions_total), String::new(), false))
            (tile("Refused", count(shown.refused_total), String::new(), false))
            (tile("Cancel requests", count(shown.cancels_total), String::new(), false))
            (tile("Running for", span(shown.uptime_ms), String::new(), false))
        }
    }
}

const COLUMNS: [&str; 11] = [
    "Member", "Role", "Known by", "Epoch", "Timeline", "Lag", "Sessions", "Total", "Failed", "Cut", "Traffic",
];

fn upstreams(shown: &Snapshot) -> Markup {
    html! {
        table {
            thead { tr { @for name in COLUMNS { th scope="col" { (name) } } } }
            @for upstream in &shown.upstreams { (upstream_rows(upstream, shown)) }
        }
    }
}

/// Two rows, so that a long reason does not squeeze the numbers.
fn upstream_rows(upstream: &UpstreamShown, shown: &Snapshot) -> Markup {
    let gets = |route: &RouteShown| route.members.contains(&upstream.member);
    let cell = |index: usize, text: String| html! { td data-label=(COLUMNS[index]) { (text) } };
    html! {
        tbody class=(upstream.role.word()) {
            tr {
                th scope="row" { strong { (upstream.member) } span.fine { (upstream.address) } }
                td data-label=(COLUMNS[1]) {
                    span.badge { (role(upstream.role)) }
                    @if upstream.synchronous { span.confirms title="commits are confirmed by it" { "confirms" } }
                    @if gets(&shown.writes) { span.gets { "writes" } }
                    @if gets(&shown.reads) { span.gets { "reads" } }
                }
                (cell(2, known_by(upstream)))
                (cell(3, number(upstream.epoch)))
                (cell(4, number(upstream.timeline.unwrap_or(0).into())))
                (cell(5, upstream.lag_bytes.map_or("–".to_owned(), bytes)))
                td data-label=(COLUMNS[6]) {
                    span { (upstream.sessions) " of " (upstream.session_limit) }
                    meter min="0" max=(upstream.session_limit) high=(upstream.session_limit.saturating_sub(1))
                        value=(upstream.sessions) {}
                }
                (cell(7, count(upstream.sessions_total)))
                (cell(8, count(upstream.connect_failures)))
                (cell(9, count(upstream.sessions_cut)))
                td data-label=(COLUMNS[10]) {
                    span title="from clients" { "↑ " (bytes(upstream.bytes_to_upstream)) }
                    " " span title="to clients" { "↓ " (bytes(upstream.bytes_to_client)) }
                }
            }
            tr.why { td colspan=(COLUMNS.len()) { (upstream.reason) } }
        }
    }
}

/// 0 is none.
fn number(number: u64) -> String {
    if number == 0 { "–".to_owned() } else { number.to_string() }
}

fn role(role: SeenRole) -> &'static str {
    match role {
        SeenRole::Leader => "Leader",
        SeenRole::Standby => "Standby",
        SeenRole::None => "Of no use",
        SeenRole::Unknown => "Unknown",
    }
}

fn known_by(upstream: &UpstreamShown) -> String {
    let source = match upstream.source {
        Source::Push => "its agent",
        Source::Poll => "health checks",
        Source::None => "nothing",
    };
    match upstream.heard_ms_ago {
        // Finer would only flicker.
        Some(0..1000) => format!("{source}, just now"),
        Some(ago) => format!("{source}, {} ago", span(ago)),
        None => "nothing yet".to_owned(),
    }
}

fn decisions(shown: &Snapshot) -> Markup {
    html! {
        @if shown.decisions.is_empty() {
            p.reason { "None since the start." }
        } @else {
            ol.decisions {
                @for decision in &shown.decisions {
                    li { time datetime=(decision.at) { (decision.at) } span { (decision.reason) } }
                }
            }
        }
    }
}

fn footer(shown: &Snapshot) -> Markup {
    html! {
        footer {
            span { "pg-proxy " (shown.version) }
            span { "cluster.toml " code { (shown.file_digest) } }
            span { "routing generation " (shown.generation) }
            a href="/status.json" { "JSON" }
            a href="/metrics" { "Metrics" }
            a href="/;csv" { "CSV" }
            a href="/health" { "Health" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Decision;
    use crate::snapshot::fixture::snapshot;

    #[test]
    fn the_page_says_where_sessions_go_and_why() {
        let text = page(&snapshot()).into_string();
        for part in [
            "<title>pg1 · demo · ha1</title>",
            "go to <strong>pg1</strong>",
            "pg1 leads epoch 5",
            "its agent, just now",
            "nothing yet",
            "16.0 KiB",
            "41 of 200",
            "confirms",
            "3.00 KiB/s to clients",
            "↓ 9.19 GiB",
            "no answer within 1000 ms",
            "2026-03-01T12:00:00.250Z",
            "40\u{202f}112",
            "href=\"http://ha2:7000/\"",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_route_without_a_target_names_none() {
        let mut shown = snapshot();
        shown.writes.state = RouteState::Holding;
        shown.writes.members.clear();
        shown.draining = true;
        let text = page(&shown).into_string();
        assert!(text.contains("<title>writes holding"), "{text}");
        assert!(text.contains("class=\"route holding\"") && text.contains("Draining."), "{text}");
    }

    #[test]
    fn hostile_text_is_text() {
        let hostile = "\"'><script>alert(1)</script>".to_owned();
        let mut shown = snapshot();
        shown.writes.reason.clone_from(&hostile);
        shown.upstreams[0].reason.clone_from(&hostile);
        shown.upstreams[1].member.clone_from(&hostile);
        shown.proxies[1].url.clone_from(&hostile);
        shown.decisions.push(Decision { at: hostile.clone(), reason: hostile });
        let text = page(&shown).into_string();
        assert!(!text.contains("<script>"), "{text}");
        assert!(text.contains("&quot;'&gt;&lt;script&gt;alert(1)"), "{text}");
    }
}
