//! A picture for tests: pg1 leads, pg2 follows, pg3 is not reached; two clients wait.

use ha_routing::{AdminState, RouteState, SeenRole, Source};

use super::{
    Availability, Decision, FileShown, ProxyShown, Rate, RouteShown, RouteStatistics, ServerStatistics,
    Snapshot, Standing, UpstreamShown,
};
use crate::data_path::{Gauge, Times};
use crate::replaced::ReplacedShown;

/// The picture.
pub(crate) fn snapshot() -> Snapshot {
    let route = |port, member: &str, reason: &str| RouteShown {
        port,
        state: RouteState::Open,
        members: vec![member.to_owned()],
        epoch: 5,
        reason: reason.to_owned(),
        since_ms: 7_384_000,
    };
    Snapshot {
        cluster: "demo".to_owned(),
        proxy: "ha1".to_owned(),
        process: 4711,
        version: "0.1.0",
        file_digest: "0123456789abcdef".to_owned(),
        file: FileShown { read_ms_ago: 3_600_000, reloads_total: 2, ..FileShown::default() },
        uptime_ms: 93_784_000,
        draining: false,
        workers_alive: true,
        generation: 12,
        writes: route(5000, "pg1", "pg1 leads epoch 5"),
        reads: route(5001, "pg2", "pg2 follows"),
        upstreams: vec![
            upstream("pg1", SeenRole::Leader, 41),
            upstream("pg2", SeenRole::Standby, 180),
            UpstreamShown {
                source: Source::None,
                heard_ms_ago: None,
                epoch: 0,
                lag_bytes: None,
                reason: "connect to pg3 at 10.0.1.13:8009: no answer within 1000 ms".to_owned(),
                connect_failures: 3,
                ..upstream("pg3", SeenRole::Unknown, 0)
            },
        ],
        sessions: 223,
        session_limit: 2000,
        waiting: 2,
        sessions_total: 40_112,
        refused_total: 7,
        cancels_total: 1,
        tls_sessions_total: 2,
        tls_failures_total: 1,
        tls_certificate_ends: Some(1_900_000_000),
        headers_refused_total: 1,
        lines_dropped: 0,
        rates: (1..=3)
            .map(|n| Rate { sessions: n, bytes_to_upstreams: 512 * n, bytes_to_clients: 1024 * n })
            .collect(),
        lease_cuts_total: 0,
        statistics: [statistics("writes", 0), statistics("reads", 1)],
        decisions: vec![Decision {
            at: "2026-03-01T12:00:00.250Z".to_owned(),
            reason: "writes go to pg1: it leads epoch 5".to_owned(),
        }],
        replaced: vec![ReplacedShown { process: 4700, sessions: 3 }],
        proxies: ["ha1", "ha2"]
            .map(|name| ProxyShown { name: name.to_owned(), url: format!("http://{name}:7000/") })
            .to_vec(),
    }
}

fn upstream(member: &str, role: SeenRole, sessions: u32) -> UpstreamShown {
    UpstreamShown {
        member: member.to_owned(),
        address: format!("10.0.1.1{}:5432", &member[2..]),
        role,
        source: Source::Push,
        heard_ms_ago: Some(120),
        epoch: 5,
        timeline: Some(3),
        synchronous: role == SeenRole::Standby,
        takes_writes: role == SeenRole::Leader,
        takes_reads: role == SeenRole::Standby,
        lag_bytes: (role == SeenRole::Standby).then_some(16_384),
        admin: AdminState::Ready,
        reason: "streams".to_owned(),
        sessions,
        session_limit: 200,
        sessions_total: 20_000,
        connect_failures: 0,
        sessions_cut: 4,
        bytes_to_upstream: 123_456_789,
        bytes_to_client: 9_876_543_210,
        connect: times([3, 1]),
        first_word: times([0, 4]),
    }
}

/// So many within the first and the second bucket.
fn times(counts: [u64; 2]) -> Times {
    let mut times = Times { sum_us: 1500, ..Times::default() };
    times.buckets[..2].copy_from_slice(&counts);
    times
}

/// Of a port that leads to the member with this index.
fn statistics(route: &'static str, up: usize) -> RouteStatistics {
    let server = |index: usize| ServerStatistics {
        member: format!("pg{}", index + 1),
        address: format!("10.0.1.1{}:5432", index + 1),
        standing: if index == up { Standing::Up } else { Standing::Down },
        reason: "streams".to_owned(),
        weight: 1,
        sessions: if index == up { Gauge { now: 41, most: 50 } } else { Gauge::default() },
        session_limit: 200,
        sessions_total: if index == up { 20_000 } else { 0 },
        rate: if index == up { Gauge { now: 3, most: 40 } } else { Gauge::default() },
        bytes_in: 123_456_789,
        bytes_out: 9_876_543,
        connect_failures: if index == 2 { 3 } else { 0 },
        retries: if index == 2 { 2 } else { 0 },
        redispatches: u64::from(index == 2),
        check_failures: if index == 2 { 8 } else { 0 },
        availability: Availability { up: index == up, since_ms: 7_384_000, downs: 1, downtime_ms: 9_000_000 },
    };
    RouteStatistics {
        route,
        algorithm: "leastconn",
        sessions: Gauge { now: 43, most: 60 },
        session_limit: 2000,
        sessions_total: 20_012,
        rate: Gauge { now: 3, most: 40 },
        queue: Gauge { now: 2, most: 9 },
        availability: Availability { up: true, since_ms: 7_384_000, downs: 0, downtime_ms: 0 },
        servers: (0..3).map(server).collect(),
    }
}
