//! The statistics as a table: what HAProxy's page shows of a proxy, in fewer columns.

use maud::{Markup, html};

use super::words::{bytes, count, span};
use crate::data_path::Gauge;
use crate::snapshot::{Availability, RouteStatistics, ServerStatistics, Standing, Word as _};

const COLUMNS: [&str; 8] = [
    "Route",
    "Sessions",
    "New per second",
    "Waiting",
    "Bytes in, out",
    "Failed",
    "Checks failed",
    "Last change",
];

/// One line for each port, and one for each member that had to do with it.
pub(super) fn table(routes: &[RouteStatistics]) -> Markup {
    let cell = |index: usize, text: String| html! { td data-label=(COLUMNS[index]) { (text) } };
    html! {
        table.statistics {
            thead { tr { @for name in COLUMNS { th scope="col" { (name) } } } }
            @for route in routes {
                tbody {
                    tr {
                        th scope="row" { strong { (route.route) } }
                        (cell(1, with_limit(route.sessions, route.session_limit)))
                        (cell(2, with_most(route.rate)))
                        (cell(3, with_most(route.queue)))
                        (cell(4, both(route.sum(|s| s.bytes_in), route.sum(|s| s.bytes_out))))
                        (cell(5, failed(
                            route.sum(|s| s.connect_failures),
                            route.sum(|s| s.retries),
                            route.sum(|s| s.redispatches),
                        )))
                        (cell(6, String::new()))
                        (cell(7, change(if route.availability.up { "open" } else { "closed" }, "closed", route.availability)))
                    }
                }
                @for server in route.servers.iter().filter(|server| is_concerned(server)) {
                    tbody {
                        tr {
                            th scope="row" { (route.route) " at " (server.member) }
                            (cell(1, with_limit(server.sessions, server.session_limit)))
                            (cell(2, with_most(server.rate)))
                            (cell(3, String::new()))
                            (cell(4, both(server.bytes_in, server.bytes_out)))
                            (cell(5, failed(server.connect_failures, server.retries, server.redispatches)))
                            (cell(6, count(server.check_failures)))
                            (cell(7, change(server.standing.word(), "went down", server.availability)))
                        }
                    }
                }
            }
        }
    }
}

/// Whether it has, or ever had, to do with the route.
fn is_concerned(server: &ServerStatistics) -> bool {
    server.standing != Standing::Down
        || server.sessions_total + server.connect_failures + server.availability.downs > 0
}

/// `3, most 41`.
fn with_most(gauge: Gauge) -> String {
    format!("{}, most {}", count(gauge.now.into()), count(gauge.most.into()))
}

fn with_limit(gauge: Gauge, limit: u32) -> String {
    format!("{} of {}", with_most(gauge), count(limit.into()))
}

fn both(bytes_in: u64, bytes_out: u64) -> String {
    format!("{}, {}", bytes(bytes_in), bytes(bytes_out))
}

fn failed(failures: u64, retries: u64, redispatches: u64) -> String {
    match failures {
        0 => "0".to_owned(),
        _ => format!("{}: {} again, {} elsewhere", count(failures), count(retries), count(redispatches)),
    }
}

/// `UP for 3 min, went down once`.
fn change(now: &str, ended: &str, availability: Availability) -> String {
    let downs = match availability.downs {
        0 => String::new(),
        1 => format!(", {ended} once"),
        downs => format!(", {ended} {} times", count(downs)),
    };
    format!("{now} for {}{downs}", span(availability.since_ms))
}

#[cfg(test)]
mod tests {
    use crate::snapshot::fixture::snapshot;

    #[test]
    fn each_route_and_each_member_has_its_numbers() {
        let mut shown = snapshot().statistics;
        shown[1].servers[1].availability.downs = 3;
        shown[1].servers[0].availability.downs = 0;
        shown[1].servers[0].sessions_total = 0;
        let text = super::table(&shown).into_string();
        assert!(text.contains(">reads at pg2<") && !text.contains(">reads at pg1<"), "{text}");
        for part in [
            "41, most 50 of 200",
            "43, most 60 of 2\u{202f}000",
            "2, most 9",
            "3: 2 again, 1 elsewhere",
            "DOWN for 2 h 3 min, went down once",
            "UP for 2 h 3 min, went down 3 times",
            "open for 2 h 3 min<",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
