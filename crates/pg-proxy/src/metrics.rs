//! Metrics for Prometheus, all declared here. Made from the picture at each scrape.

use std::fmt::{Display, Write as _};

use ha_routing::{AdminState, RouteState, SeenRole, Source};

use crate::data_path::{TIME_BUCKETS_US, Times};
use crate::snapshot::{RouteShown, RouteStatistics, ServerStatistics, Snapshot, UpstreamShown, Word};

struct Page {
    text: String,
    /// Labels that every sample carries.
    labels: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, more: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{name}{{{}", self.labels);
        for (label, text) in more {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn sample(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    /// A histogram: each bucket counts all that were not longer.
    fn times(&mut self, name: &str, of: (&str, &str), times: Times) {
        let bounds = TIME_BUCKETS_US.iter().map(|us| format!("{}", *us as f64 / 1e6));
        let mut count = 0;
        for (bound, of_bucket) in bounds.chain(["+Inf".to_owned()]).zip(times.buckets) {
            count += of_bucket;
            self.line(&format!("{name}_bucket"), &[of, ("le", &bound)], count);
        }
        self.line(&format!("{name}_sum"), &[of], times.sum_us as f64 / 1e6);
        self.line(&format!("{name}_count"), &[of], count);
    }

    /// One sample for each state that there is, 1 for the one that holds: the way to show an enumeration.
    fn states<W: Word + PartialEq>(&mut self, name: &str, more: (&str, &str), all: &[W], holds: W) {
        for state in all {
            self.line(name, &[more, ("state", state.word())], u8::from(*state == holds));
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The whole page.
pub(crate) fn text(shown: &Snapshot) -> String {
    let labels = format!("cluster=\"{}\",proxy=\"{}\"", escaped(&shown.cluster), escaped(&shown.proxy));
    let mut page = Page { text: String::new(), labels };
    whole(&mut page, shown);
    replaced(&mut page, shown);
    file(&mut page, shown);
    routes(&mut page, [("writes", &shown.writes), ("reads", &shown.reads)]);
    upstreams(&mut page, &shown.upstreams);
    statistics(&mut page, &shown.statistics);
    page.text
}

fn whole(page: &mut Page, shown: &Snapshot) {
    let info = "matriarch_proxy_build_info";
    page.head(info, "gauge", "Always 1; the version is in the label.");
    page.line(info, &[("version", shown.version)], 1);
    let name = "matriarch_proxy_uptime_seconds";
    page.sample(name, "gauge", "Time since the start.", seconds(shown.uptime_ms));
    let name = "matriarch_proxy_draining";
    page.sample(name, "gauge", "1 while it takes leave.", u8::from(shown.draining));
    let name = "matriarch_proxy_workers_alive";
    page.sample(name, "gauge", "1 if every thread that serves answers.", u8::from(shown.workers_alive));
    let name = "matriarch_proxy_routing_generation";
    page.sample(name, "counter", "Changes of the routing.", shown.generation);
    let name = "matriarch_proxy_sessions";
    page.sample(name, "gauge", "Client sessions open now, waiting ones included.", shown.sessions);
    let name = "matriarch_proxy_session_limit";
    page.sample(name, "gauge", "Largest number of client sessions.", shown.session_limit);
    let name = "matriarch_proxy_waiting_sessions";
    page.sample(name, "gauge", "Clients that wait for a place or for a leader.", shown.waiting);
    let name = "matriarch_proxy_sessions_total";
    page.sample(name, "counter", "Client sessions since the start.", shown.sessions_total);
    let name = "matriarch_proxy_refused_sessions_total";
    page.sample(name, "counter", "Clients that were refused with an error.", shown.refused_total);
    let name = "matriarch_proxy_cancel_requests_total";
    page.sample(name, "counter", "Cancel requests.", shown.cancels_total);
    let name = "matriarch_proxy_tls_sessions_total";
    page.sample(name, "counter", "Connections whose TLS ends at this proxy.", shown.tls_sessions_total);
    let name = "matriarch_proxy_tls_failures_total";
    page.sample(name, "counter", "Attempts at such TLS that failed.", shown.tls_failures_total);
    if let Some(ends) = shown.tls_certificate_ends {
        let name = "matriarch_proxy_tls_certificate_ends_seconds";
        page.sample(name, "gauge", "When the certificate that clients see ends, since 1970.", ends);
    }
    let name = "matriarch_proxy_headers_refused_total";
    let help = "Connections without a good header of the PROXY protocol.";
    page.sample(name, "counter", help, shown.headers_refused_total);
    let name = "matriarch_proxy_read_lease_cuts_total";
    let help = "Sessions that ended because the leader's read lease had run out.";
    page.sample(name, "counter", help, shown.lease_cuts_total);
    let name = "matriarch_proxy_session_lines_dropped_total";
    page.sample(name, "counter", "Ends of sessions that the log was too slow for.", shown.lines_dropped);
}

/// What is left of processes that this one replaced.
fn replaced(page: &mut Page, shown: &Snapshot) {
    let name = "matriarch_proxy_replaced_processes";
    let help = "Processes that were replaced and still have sessions.";
    page.sample(name, "gauge", help, shown.replaced.len());
    let name = "matriarch_proxy_replaced_sessions";
    let sessions: u64 = shown.replaced.iter().map(|process| u64::from(process.sessions)).sum();
    page.sample(name, "gauge", "Sessions of these processes.", sessions);
}

/// Which file is in force, and whether the one that lies there is.
fn file(page: &mut Page, shown: &Snapshot) {
    let name = "matriarch_proxy_config_info";
    page.head(name, "gauge", "Always 1; the digest of the file that is in force is in the label.");
    page.line(name, &[("digest", &shown.file_digest)], 1);
    let name = "matriarch_proxy_config_age_seconds";
    page.sample(name, "gauge", "Time since the file in force was read.", seconds(shown.file.read_ms_ago));
    let name = "matriarch_proxy_config_reloads_total";
    page.sample(name, "counter", "Changed files that were taken over.", shown.file.reloads_total);
    let name = "matriarch_proxy_config_reloads_refused_total";
    page.sample(name, "counter", "Changed files that were refused.", shown.file.refused_total);
    let name = "matriarch_proxy_config_refused";
    let refused = u8::from(shown.file.refused.is_some());
    page.sample(name, "gauge", "1 while the file that lies there is refused.", refused);
    let name = "matriarch_proxy_config_needs_restart";
    let waiting = shown.file.needs_restart.len();
    page.sample(name, "gauge", "Changed keys that act at the next start only.", waiting);
}

fn routes(page: &mut Page, routes: [(&str, &RouteShown); 2]) {
    let name = "matriarch_proxy_route_state";
    page.head(name, "gauge", "1 for the state that the route is in.");
    for (route, shown) in routes {
        let all = [RouteState::Open, RouteState::Holding, RouteState::Refusing];
        page.states(name, ("route", route), &all, shown.state);
    }
    let of_route = |value: fn(&RouteShown) -> f64| routes.map(|(route, shown)| (route, value(shown)));
    for (name, help, values) in [
        (
            "matriarch_proxy_route_upstreams",
            "PostgreSQL servers that new sessions go to.",
            of_route(|shown| u32::try_from(shown.members.len()).map_or(f64::MAX, f64::from)),
        ),
        (
            "matriarch_proxy_route_since_seconds",
            "Time since the route last changed.",
            of_route(|shown| seconds(shown.since_ms)),
        ),
    ] {
        page.head(name, "gauge", help);
        for (route, value) in values {
            page.line(name, &[("route", route)], value);
        }
    }
    let name = "matriarch_proxy_route_epoch";
    page.head(name, "gauge", "Epoch of the leadership that the route rests on.");
    for (route, shown) in routes {
        page.line(name, &[("route", route)], shown.epoch);
    }
}

fn upstreams(page: &mut Page, upstreams: &[UpstreamShown]) {
    let name = "matriarch_proxy_upstream_role";
    page.head(name, "gauge", "1 for the role that it is seen in.");
    for shown in upstreams {
        let all = [SeenRole::Leader, SeenRole::Standby, SeenRole::None, SeenRole::Unknown];
        page.states(name, ("upstream", &shown.member), &all, shown.role);
    }
    let name = "matriarch_proxy_upstream_source";
    page.head(name, "gauge", "1 for how its role is known.");
    for shown in upstreams {
        let all = [Source::Push, Source::Poll, Source::None];
        page.states(name, ("upstream", &shown.member), &all, shown.source);
    }
    let name = "matriarch_proxy_upstream_admin";
    page.head(name, "gauge", "1 for the state that an operator wants it in.");
    for shown in upstreams {
        let all = [AdminState::Ready, AdminState::Drain, AdminState::Maintenance];
        page.states(name, ("upstream", &shown.member), &all, shown.admin);
    }
    let name = "matriarch_proxy_view_age_seconds";
    page.head(name, "gauge", "Time since its role was heard last; absent if never.");
    for shown in upstreams {
        if let Some(age) = shown.heard_ms_ago {
            page.line(name, &[("upstream", &shown.member)], seconds(age));
        }
    }
    let name = "matriarch_proxy_upstream_lag_bytes";
    page.head(name, "gauge", "How far it is behind; absent when not known.");
    for shown in upstreams {
        if let Some(lag) = shown.lag_bytes {
            page.line(name, &[("upstream", &shown.member)], lag);
        }
    }
    for (name, kind, help, value) in OF_UPSTREAM {
        page.head(name, kind, help);
        for shown in upstreams {
            page.line(name, &[("upstream", &shown.member)], value(shown));
        }
    }
    for (name, help, times) in [
        (
            "matriarch_proxy_upstream_connect_seconds",
            "How long connections to it took.",
            (|u| u.connect) as fn(&UpstreamShown) -> Times,
        ),
        (
            "matriarch_proxy_upstream_first_byte_seconds",
            "From a client's arrival to the first byte of it, waiting included.",
            |u| u.first_word,
        ),
    ] {
        page.head(name, "histogram", help);
        for shown in upstreams {
            page.times(name, ("upstream", &shown.member), times(shown));
        }
    }
}

/// Name, kind, help, value.
type OfUpstream = (&'static str, &'static str, &'static str, fn(&UpstreamShown) -> u64);

const OF_UPSTREAM: [OfUpstream; 10] = [
    ("matriarch_proxy_upstream_epoch", "gauge", "Epoch that it named last.", |u| u.epoch),
    ("matriarch_proxy_upstream_takes_writes", "gauge", "1 if it may be given writes.", |u| {
        u.takes_writes.into()
    }),
    ("matriarch_proxy_upstream_takes_reads", "gauge", "1 if it may be given reads.", |u| {
        u.takes_reads.into()
    }),
    ("matriarch_proxy_upstream_sessions", "gauge", "Sessions with it now.", |u| u.sessions.into()),
    ("matriarch_proxy_upstream_session_limit", "gauge", "Largest number of them.", |u| {
        u.session_limit.into()
    }),
    ("matriarch_proxy_upstream_sessions_total", "counter", "Sessions since the start.", |u| u.sessions_total),
    ("matriarch_proxy_upstream_connect_failures_total", "counter", "Attempts to connect that failed.", |u| {
        u.connect_failures
    }),
    ("matriarch_proxy_upstream_sessions_cut_total", "counter", "Sessions cut at a loss of role.", |u| {
        u.sessions_cut
    }),
    ("matriarch_proxy_upstream_sent_bytes_total", "counter", "Bytes from clients to it.", |u| {
        u.bytes_to_upstream
    }),
    ("matriarch_proxy_upstream_received_bytes_total", "counter", "Bytes from it to clients.", |u| {
        u.bytes_to_client
    }),
];

/// Name, kind, help, value.
type OfRoute = (&'static str, &'static str, &'static str, fn(&RouteStatistics) -> u64);

const OF_ROUTE: [OfRoute; 9] = [
    ("matriarch_proxy_route_sessions", "gauge", "Client sessions open now, waiting ones included.", |r| {
        r.sessions.now.into()
    }),
    ("matriarch_proxy_route_sessions_max", "gauge", "Most of them since the start.", |r| {
        r.sessions.most.into()
    }),
    ("matriarch_proxy_route_sessions_total", "counter", "Client sessions since the start.", |r| {
        r.sessions_total
    }),
    ("matriarch_proxy_route_session_rate", "gauge", "New sessions in the last second.", |r| {
        r.rate.now.into()
    }),
    ("matriarch_proxy_route_session_rate_max", "gauge", "Most of them in a second.", |r| r.rate.most.into()),
    ("matriarch_proxy_route_waiting_sessions", "gauge", "Clients that wait.", |r| r.queue.now.into()),
    ("matriarch_proxy_route_waiting_sessions_max", "gauge", "Most of them since the start.", |r| {
        r.queue.most.into()
    }),
    (
        "matriarch_proxy_route_closings_total",
        "counter",
        "Times that sessions had nowhere to go any more.",
        |r| r.availability.downs,
    ),
    ("matriarch_proxy_route_closed_seconds_total", "counter", "Time in which they had nowhere to go.", |r| {
        r.availability.downtime_ms / 1000
    }),
];

/// Name, kind, help, value.
type OfServer = (&'static str, &'static str, &'static str, fn(&ServerStatistics) -> u64);

const OF_SERVER: [OfServer; 9] = [
    ("matriarch_proxy_server_sessions", "gauge", "Sessions of the route with it now.", |s| {
        s.sessions.now.into()
    }),
    ("matriarch_proxy_server_sessions_max", "gauge", "Most of them since the start.", |s| {
        s.sessions.most.into()
    }),
    ("matriarch_proxy_server_session_rate", "gauge", "New ones in the last second.", |s| s.rate.now.into()),
    ("matriarch_proxy_server_session_rate_max", "gauge", "Most of them in a second.", |s| s.rate.most.into()),
    (
        "matriarch_proxy_server_retries_total",
        "counter",
        "Failed attempts after which it was tried again.",
        |s| s.retries,
    ),
    ("matriarch_proxy_server_redispatches_total", "counter", "Those after which another was tried.", |s| {
        s.redispatches
    }),
    (
        "matriarch_proxy_server_down_transitions_total",
        "counter",
        "Times it stopped getting new sessions.",
        |s| s.availability.downs,
    ),
    ("matriarch_proxy_server_down_seconds_total", "counter", "Time in which it got no new sessions.", |s| {
        s.availability.downtime_ms / 1000
    }),
    ("matriarch_proxy_server_last_change_seconds", "gauge", "Time since that last changed.", |s| {
        s.availability.since_ms / 1000
    }),
];

/// By route, and by route and member.
fn statistics(page: &mut Page, routes: &[RouteStatistics; 2]) {
    for (name, kind, help, value) in OF_ROUTE {
        page.head(name, kind, help);
        for route in routes {
            page.line(name, &[("route", route.route)], value(route));
        }
    }
    for (name, kind, help, value) in OF_SERVER {
        page.head(name, kind, help);
        for route in routes {
            for server in &route.servers {
                page.line(name, &[("route", route.route), ("upstream", &server.member)], value(server));
            }
        }
    }
    // The checks are of a member, whatever route it serves.
    let name = "matriarch_proxy_upstream_check_failures_total";
    page.head(name, "counter", "Health checks without an answer; there are none while its agent is heard.");
    for server in &routes[0].servers {
        page.line(name, &[("upstream", &server.member)], server.check_failures);
    }
}

/// Exact for any time that a process can run.
fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::snapshot::fixture::snapshot;

    #[test]
    fn every_sample_can_be_read_and_follows_its_head() {
        let text = super::text(&snapshot());
        let mut heads = BTreeSet::new();
        let (mut last, mut histogram) = (String::new(), false);
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                last = head.split(' ').next().unwrap().to_owned();
                histogram = head.ends_with(" histogram");
                assert!(heads.insert(last.clone()), "{last} is declared twice");
            } else if !line.starts_with('#') {
                let parts: &[&str] = if histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                let own =
                    |part: &&str| line.starts_with(&format!("{last}{part}{{cluster=\"demo\",proxy=\"ha1\""));
                assert!(parts.iter().any(own), "{line}");
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(series.ends_with('}') && value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for line in [
            "matriarch_proxy_route_state{cluster=\"demo\",proxy=\"ha1\",route=\"writes\",state=\"open\"} 1",
            "matriarch_proxy_route_state{cluster=\"demo\",proxy=\"ha1\",route=\"writes\",state=\"holding\"} 0",
            "matriarch_proxy_upstream_role{cluster=\"demo\",proxy=\"ha1\",upstream=\"pg1\",state=\"leader\"} 1",
            "matriarch_proxy_view_age_seconds{cluster=\"demo\",proxy=\"ha1\",upstream=\"pg1\"} 0.12",
            "matriarch_proxy_upstream_connect_seconds_bucket{cluster=\"demo\",proxy=\"ha1\",upstream=\"pg1\",le=\"0.0005\"} 4",
            "matriarch_proxy_upstream_connect_seconds_bucket{cluster=\"demo\",proxy=\"ha1\",upstream=\"pg1\",le=\"+Inf\"} 4",
            "matriarch_proxy_upstream_connect_seconds_sum{cluster=\"demo\",proxy=\"ha1\",upstream=\"pg1\"} 0.0015",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn hostile_text_stays_in_its_label() {
        let mut hostile = snapshot();
        hostile.upstreams[0].member = "a\"} 1\nb\\".to_owned();
        let text = super::text(&hostile);
        assert!(text.contains(r#"upstream="a\"} 1\nb\\","#), "{text}");
        assert!(!text.lines().any(|line| line.starts_with('b')));
    }
}
