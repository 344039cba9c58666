//! The statistics in the format of HAProxy's page (management guide, "CSV format"), which collectors of metrics know how to
//! read: the columns have its names and its order, and are empty where pg-proxy has nothing of that meaning. Each port is one
//! of its proxies, with a frontend, a server for each member, and a backend.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::data_path::Gauge;
use crate::snapshot::{Availability, RouteStatistics, ServerStatistics, Snapshot, Word as _};

/// Every column of the guide, in its order.
const COLUMNS: [&str; 94] = [
    "pxname",
    "svname",
    "qcur",
    "qmax",
    "scur",
    "smax",
    "slim",
    "stot",
    "bin",
    "bout",
    "dreq",
    "dresp",
    "ereq",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "status",
    "weight",
    "act",
    "bck",
    "chkfail",
    "chkdown",
    "lastchg",
    "downtime",
    "qlimit",
    "pid",
    "iid",
    "sid",
    "throttle",
    "lbtot",
    "tracked",
    "type",
    "rate",
    "rate_lim",
    "rate_max",
    "check_status",
    "check_code",
    "check_duration",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "hanafail",
    "req_rate",
    "req_rate_max",
    "req_tot",
    "cli_abrt",
    "srv_abrt",
    "comp_in",
    "comp_out",
    "comp_byp",
    "comp_rsp",
    "lastsess",
    "last_chk",
    "last_agt",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
    "agent_status",
    "agent_code",
    "agent_duration",
    "check_desc",
    "agent_desc",
    "check_rise",
    "check_fall",
    "check_health",
    "agent_rise",
    "agent_fall",
    "agent_health",
    "addr",
    "cookie",
    "mode",
    "algo",
    "conn_rate",
    "conn_rate_max",
    "conn_tot",
    "intercepted",
    "dcon",
    "dses",
    "wrew",
    "connect",
    "reuse",
    "cache_lookups",
    "cache_hits",
    "srv_icur",
    "src_ilim",
    "qtime_max",
    "ctime_max",
    "rtime_max",
    "ttime_max",
];

/// The whole table. Every line ends with a comma, as there.
pub(super) fn csv(shown: &Snapshot) -> String {
    let mut text = format!("# {},\n", COLUMNS.join(","));
    for (number, route) in (1..).zip(&shown.statistics) {
        let mut line = |row: Row| row.write(&mut text);
        line(frontend(shown, number, route));
        for (index, server) in (1..).zip(&route.servers) {
            line(self::server(number, index, route, server));
        }
        line(backend(number, route));
    }
    text
}

/// What is known of one line.
struct Row(BTreeMap<&'static str, String>);

impl Row {
    fn new(number: u32, route: &RouteStatistics, name: &str, kind: u8) -> Self {
        let mut row = Self(BTreeMap::new());
        row.set("pxname", route.route);
        row.set("svname", name);
        row.set("iid", number);
        row.set("pid", 1);
        row.set("type", kind);
        row.set("mode", "tcp");
        row
    }

    fn set(&mut self, column: &'static str, value: impl Display) {
        self.0.insert(column, quoted(&value.to_string()));
    }

    /// The gauge in two columns.
    fn gauge(&mut self, now: &'static str, most: &'static str, gauge: Gauge) {
        self.set(now, gauge.now);
        self.set(most, gauge.most);
    }

    fn availability(&mut self, availability: Availability) {
        self.set("chkdown", availability.downs);
        self.set("lastchg", availability.since_ms / 1000);
        self.set("downtime", availability.downtime_ms / 1000);
    }

    fn write(&self, text: &mut String) {
        for column in COLUMNS {
            text.push_str(self.0.get(column).map_or("", String::as_str));
            text.push(',');
        }
        text.push('\n');
    }
}

/// As RFC 4180 wants it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"").replace(['\n', '\r'], " "))
    } else {
        text.to_owned()
    }
}

fn frontend(shown: &Snapshot, number: u32, route: &RouteStatistics) -> Row {
    let mut row = Row::new(number, route, "FRONTEND", 0);
    row.gauge("scur", "smax", route.sessions);
    row.set("slim", route.session_limit);
    row.set("stot", route.sessions_total);
    row.set("bin", route.sum(|server| server.bytes_in));
    row.set("bout", route.sum(|server| server.bytes_out));
    row.set("status", if shown.draining { "STOP" } else { "OPEN" });
    row.set("sid", 0);
    row.gauge("rate", "rate_max", route.rate);
    row.gauge("conn_rate", "conn_rate_max", route.rate);
    row.set("rate_lim", 0);
    row.set("conn_tot", route.sessions_total);
    row
}

fn server(number: u32, index: u32, route: &RouteStatistics, server: &ServerStatistics) -> Row {
    let mut row = Row::new(number, route, &server.member, 2);
    row.gauge("scur", "smax", server.sessions);
    row.set("slim", server.session_limit);
    row.set("stot", server.sessions_total);
    row.set("bin", server.bytes_in);
    row.set("bout", server.bytes_out);
    row.set("econ", server.connect_failures);
    row.set("wretr", server.retries);
    row.set("wredis", server.redispatches);
    row.set("status", server.standing.word());
    row.set("weight", server.weight);
    row.set("act", u8::from(server.weight > 0));
    row.set("bck", 0);
    row.set("chkfail", server.check_failures);
    row.availability(server.availability);
    row.set("sid", index);
    row.set("lbtot", server.sessions_total);
    row.gauge("rate", "rate_max", server.rate);
    row.set("last_chk", &server.reason);
    row.set("addr", &server.address);
    row
}

fn backend(number: u32, route: &RouteStatistics) -> Row {
    let mut row = Row::new(number, route, "BACKEND", 1);
    row.gauge("qcur", "qmax", route.queue);
    row.gauge("scur", "smax", route.sessions);
    row.set("slim", route.up().map(|server| u64::from(server.session_limit)).sum::<u64>());
    row.set("stot", route.sessions_total);
    row.set("bin", route.sum(|server| server.bytes_in));
    row.set("bout", route.sum(|server| server.bytes_out));
    row.set("econ", route.sum(|server| server.connect_failures));
    row.set("wretr", route.sum(|server| server.retries));
    row.set("wredis", route.sum(|server| server.redispatches));
    row.set("status", if route.availability.up { "UP" } else { "DOWN" });
    row.set("weight", route.up().map(|server| u64::from(server.weight)).sum::<u64>());
    row.set("act", route.up().count());
    row.set("bck", 0);
    row.availability(route.availability);
    row.set("sid", 0);
    row.set("lbtot", route.sum(|server| server.sessions_total));
    row.gauge("rate", "rate_max", route.rate);
    row.set("algo", route.algorithm);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture::snapshot;

    /// The names in the guide with their numbers there, where a column that moved would show.
    const DOCUMENTED: [(usize, &str); 22] = [
        (0, "pxname"),
        (1, "svname"),
        (2, "qcur"),
        (4, "scur"),
        (6, "slim"),
        (7, "stot"),
        (8, "bin"),
        (13, "econ"),
        (15, "wretr"),
        (16, "wredis"),
        (17, "status"),
        (21, "chkfail"),
        (24, "downtime"),
        (32, "type"),
        (33, "rate"),
        (36, "check_status"),
        (45, "hanafail"),
        (55, "lastsess"),
        (61, "ttime"),
        (73, "addr"),
        (77, "conn_rate"),
        (93, "ttime_max"),
    ];

    /// Fields of a line by column, quotes undone.
    fn fields(line: &str) -> Vec<String> {
        let (mut fields, mut quoted) = (vec![String::new()], false);
        let mut rest = line.chars().peekable();
        while let Some(letter) = rest.next() {
            let field = fields.last_mut().unwrap();
            match letter {
                '"' if quoted && rest.peek() == Some(&'"') => field.push(rest.next().unwrap()),
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                letter => field.push(letter),
            }
        }
        fields
    }

    fn of(text: &str, proxy: &str, name: &str, columns: &[&str]) -> Vec<String> {
        let line = text.lines().map(fields).find(|line| line[..2] == [proxy, name]).unwrap();
        let index = |column| COLUMNS.iter().position(|own| *own == column).unwrap();
        columns.iter().map(|column| line[index(*column)].clone()).collect()
    }

    #[test]
    fn the_columns_are_those_of_the_guide() {
        let text = csv(&snapshot());
        let head = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        let names = fields(head);
        for (number, name) in DOCUMENTED {
            assert_eq!(names[number], name);
        }
        for line in text.lines() {
            assert_eq!(fields(line).len(), COLUMNS.len() + 1, "{line}");
            assert!(line.ends_with(','));
        }
        let rows: Vec<_> = text.lines().skip(1).map(|line| fields(line)[..2].join("/")).collect();
        assert_eq!(
            rows,
            [
                "writes/FRONTEND",
                "writes/pg1",
                "writes/pg2",
                "writes/pg3",
                "writes/BACKEND",
                "reads/FRONTEND",
                "reads/pg1",
                "reads/pg2",
                "reads/pg3",
                "reads/BACKEND",
            ]
        );
    }

    #[test]
    fn the_values_are_where_collectors_look_for_them() {
        let text = csv(&snapshot());
        let columns = ["status", "scur", "smax", "slim", "stot", "qcur", "qmax", "rate", "rate_max", "type"];
        let frontend = of(&text, "writes", "FRONTEND", &columns);
        assert_eq!(frontend, ["OPEN", "43", "60", "2000", "20012", "", "", "3", "40", "0"]);
        assert_eq!(
            of(&text, "writes", "BACKEND", &columns),
            ["UP", "43", "60", "200", "20012", "2", "9", "3", "40", "1"]
        );
        assert_eq!(
            of(&text, "writes", "pg1", &columns),
            ["UP", "41", "50", "200", "20000", "", "", "3", "40", "2"]
        );
        let more = ["status", "econ", "wretr", "wredis", "chkfail", "chkdown", "lastchg", "downtime", "addr"];
        assert_eq!(
            of(&text, "writes", "pg3", &more),
            ["DOWN", "3", "2", "1", "8", "1", "7384", "9000", "10.0.1.13:5432"]
        );
        assert_eq!(of(&text, "writes", "BACKEND", &["econ", "act", "algo"]), ["3", "1", "leastconn"]);
        assert_eq!(of(&text, "reads", "FRONTEND", &["iid", "bin", "bout"]), ["2", "370370367", "29629629"]);
        let mut draining = snapshot();
        draining.draining = true;
        assert_eq!(of(&csv(&draining), "reads", "FRONTEND", &["status"]), ["STOP"]);
    }

    #[test]
    fn words_of_others_stay_in_their_field() {
        let mut hostile = snapshot();
        hostile.statistics[0].servers[0].reason = "a,\"b\"\nwrites,pg9,".to_owned();
        let text = csv(&hostile);
        assert_eq!(of(&text, "writes", "pg1", &["last_chk"]), ["a,\"b\" writes,pg9,"]);
        assert_eq!(text.lines().count(), 11);
    }
}
