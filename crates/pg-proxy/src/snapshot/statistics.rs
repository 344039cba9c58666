//! Statistics with the meaning that HAProxy's have (its management guide, "Statistics and monitoring"): a port is a frontend
//! and a backend, a member that gets its new sessions is a server that is up.

use std::time::Duration;

use ha_core::MonoTime;
use ha_routing::{AdminState, Route, RouteState, Table};
use serde::Serialize;

use super::{Word, as_word, millis};
use crate::data_path::{Counters, Gauge, RouteCounters, UpstreamCounters};

/// What passed through one port.
#[derive(Debug, Clone, Serialize)]
pub struct RouteStatistics {
    /// `writes` or `reads`.
    pub route: &'static str,
    /// How sessions are spread, in HAProxy's word.
    pub algorithm: &'static str,
    /// Client sessions, waiting ones included.
    pub sessions: Gauge,
    /// Largest number of them, of both ports together.
    pub session_limit: u32,
    /// Since the start, refused ones included.
    pub sessions_total: u64,
    /// New ones in each second.
    pub rate: Gauge,
    /// Clients that wait for a place or for a member with the role.
    pub queue: Gauge,
    /// Whether new sessions have somewhere to go.
    pub availability: Availability,
    /// Every member, in the order of the file.
    pub servers: Vec<ServerStatistics>,
}

/// What passed between one port and one member.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatistics {
    /// Which.
    pub member: String,
    /// Where its PostgreSQL listens.
    pub address: String,
    /// What it is to new sessions.
    #[serde(serialize_with = "as_word")]
    pub standing: Standing,
    /// Why, in words.
    pub reason: String,
    /// Share of the sessions.
    pub weight: u32,
    /// Sessions that hold a place.
    pub sessions: Gauge,
    /// Largest number of them, of both ports together.
    pub session_limit: u32,
    /// Since the start.
    pub sessions_total: u64,
    /// New ones in each second.
    pub rate: Gauge,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Of these, those after which it was tried again.
    pub retries: u64,
    /// Of these, those after which another one was tried.
    pub redispatches: u64,
    /// Health checks without an answer, of both ports together. There are none while its agent is heard.
    pub check_failures: u64,
    /// Since when it gets new sessions or none.
    pub availability: Availability,
}

impl RouteStatistics {
    /// A sum over the members.
    pub fn sum(&self, of: fn(&ServerStatistics) -> u64) -> u64 {
        self.servers.iter().map(of).sum()
    }

    /// Members that get new sessions.
    pub fn up(&self) -> impl Iterator<Item = &ServerStatistics> {
        self.servers.iter().filter(|server| server.standing == Standing::Up)
    }
}

/// What a member is to new sessions of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gets them.
    Up,
    /// It does not have the role, or cannot be used.
    Down,
    /// An operator keeps them away.
    Drain,
    /// An operator has taken it out.
    Maintenance,
}

impl Word for Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Drain => "DRAIN",
            Self::Maintenance => "MAINT",
        }
    }
}

/// Ups and downs until now.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Availability {
    /// Now.
    pub up: bool,
    /// For how long, ms.
    pub since_ms: u64,
    /// How often it went down.
    pub downs: u64,
    /// How long it was down in all, ms.
    pub downtime_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct UpDown {
    up: bool,
    since: MonoTime,
    downs: u64,
    /// Until `since`.
    downtime: Duration,
}

impl UpDown {
    fn down_since(now: MonoTime) -> Self {
        Self { up: false, since: now, downs: 0, downtime: Duration::ZERO }
    }

    fn see(&mut self, now: MonoTime, up: bool) {
        if self.up == up {
            return;
        }
        if up {
            self.downtime += now.since(self.since);
        } else {
            self.downs += 1;
        }
        (self.up, self.since) = (up, now);
    }

    fn shown(&self, now: MonoTime) -> Availability {
        let since_ms = millis(now, self.since);
        let before = u64::try_from(self.downtime.as_millis()).unwrap_or(u64::MAX);
        let downtime_ms = if self.up { before } else { before.saturating_add(since_ms) };
        Availability { up: self.up, since_ms, downs: self.downs, downtime_ms }
    }
}

/// A count as so many in each second.
#[derive(Debug, Clone, Copy, Default)]
struct PerSecond {
    counted: u64,
    rate: Gauge,
}

impl PerSecond {
    fn take(&mut self, count: u64, passed_ms: u64) {
        let more = count.saturating_sub(std::mem::replace(&mut self.counted, count));
        // Rounded up: a look that comes a little late must not count one session in its second as none.
        let rate = more.saturating_mul(1000).div_ceil(passed_ms.max(1));
        self.rate.set(u32::try_from(rate).unwrap_or(u32::MAX));
    }
}

/// What has to be watched to know it later.
#[derive(Debug)]
pub(super) struct Watched {
    weights: Vec<u32>,
    routes: [WatchedRoute; 2],
    check_failures: Vec<u64>,
    counted_at: MonoTime,
}

#[derive(Debug)]
struct WatchedRoute {
    open: UpDown,
    rate: PerSecond,
    servers: Vec<(UpDown, PerSecond)>,
}

impl Watched {
    /// Nothing has been seen of members with these weights.
    pub(super) fn new(now: MonoTime, weights: Vec<u32>) -> Self {
        let route = || WatchedRoute {
            open: UpDown::down_since(now),
            rate: PerSecond::default(),
            servers: vec![(UpDown::down_since(now), PerSecond::default()); weights.len()],
        };
        let check_failures = vec![0; weights.len()];
        Self { routes: [route(), route()], check_failures, counted_at: now, weights }
    }

    /// New sessions are led by this table.
    pub(super) fn see(&mut self, now: MonoTime, table: &Table) {
        for (watched, route) in self.routes.iter_mut().zip([&table.writes, &table.reads]) {
            watched.open.see(now, route.state == RouteState::Open);
            for (index, (server, _)) in watched.servers.iter_mut().enumerate() {
                server.see(now, route.upstreams.contains(&index));
            }
        }
    }

    /// A health check of this member was not answered.
    pub(super) fn check_failed(&mut self, index: usize) {
        if let Some(count) = self.check_failures.get_mut(index) {
            *count += 1;
        }
    }

    /// What was counted by now; to be called each second.
    pub(super) fn count(&mut self, now: MonoTime, counters: &Counters) {
        let passed_ms = millis(now, std::mem::replace(&mut self.counted_at, now));
        for (watched, counted) in self.routes.iter_mut().zip(&counters.routes) {
            watched.rate.take(counted.sessions_total, passed_ms);
            for ((_, rate), counted) in watched.servers.iter_mut().zip(&counted.upstreams) {
                rate.take(counted.sessions_total, passed_ms);
            }
        }
    }

    /// All of it.
    pub(super) fn statistics(
        &self,
        now: MonoTime,
        table: &Table,
        counters: &Counters,
        limits: Limits,
    ) -> [RouteStatistics; 2] {
        let [writes, reads] = &counters.routes;
        [
            self.route(now, 0, table, (&table.writes, writes), limits),
            self.route(now, 1, table, (&table.reads, reads), limits),
        ]
    }

    fn route(
        &self,
        now: MonoTime,
        port: usize,
        table: &Table,
        (route, counted): (&Route, &RouteCounters),
        limits: Limits,
    ) -> RouteStatistics {
        let watched = &self.routes[port];
        let servers = table.upstreams.iter().zip(&watched.servers).enumerate();
        let servers = servers.map(|(index, (view, (ups, rate)))| {
            let of = counted.upstreams.get(index).copied().unwrap_or_else(UpstreamCounters::default);
            let standing = match view.admin {
                AdminState::Drain => Standing::Drain,
                AdminState::Maintenance => Standing::Maintenance,
                AdminState::Ready if route.upstreams.contains(&index) => Standing::Up,
                AdminState::Ready => Standing::Down,
            };
            ServerStatistics {
                member: view.member.to_string(),
                address: view.address.to_string(),
                standing,
                reason: view.reason.clone(),
                weight: self.weights[index],
                sessions: of.sessions,
                session_limit: limits.upstream_connections,
                sessions_total: of.sessions_total,
                rate: rate.rate,
                bytes_in: of.bytes_to_upstream,
                bytes_out: of.bytes_to_client,
                connect_failures: of.connect_failures,
                retries: of.retries,
                redispatches: of.redispatches,
                check_failures: self.check_failures[index],
                availability: ups.shown(now),
            }
        });
        RouteStatistics {
            route: if port == 0 { "writes" } else { "reads" },
            algorithm: limits.algorithm,
            sessions: counted.sessions,
            session_limit: limits.max_connections,
            sessions_total: counted.sessions_total,
            rate: watched.rate.rate,
            queue: counted.waiting,
            availability: watched.open.shown(now),
            servers: servers.collect(),
        }
    }
}

/// What bounds sessions now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_connections: u32,
    pub(super) upstream_connections: u32,
    pub(super) algorithm: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000_000)
    }

    #[test]
    fn going_down_is_counted_and_the_time_below_is_summed() {
        let mut server = UpDown::down_since(at(10));
        server.see(at(12), false);
        let shown = server.shown(at(15));
        assert_eq!((shown.up, shown.since_ms, shown.downs, shown.downtime_ms), (false, 5000, 0, 5000));
        server.see(at(20), true);
        server.see(at(21), true);
        let shown = server.shown(at(30));
        assert_eq!((shown.up, shown.since_ms, shown.downs, shown.downtime_ms), (true, 10_000, 0, 10_000));
        server.see(at(40), false);
        let shown = server.shown(at(43));
        assert_eq!((shown.up, shown.since_ms, shown.downs, shown.downtime_ms), (false, 3000, 1, 13_000));
    }

    #[test]
    fn a_rate_is_of_the_last_look_and_the_highest_one_stays() {
        let mut rate = PerSecond::default();
        rate.take(30, 1000);
        rate.take(40, 2000);
        assert_eq!(rate.rate, Gauge { now: 5, most: 30 });
        rate.take(40, 1000);
        assert_eq!(rate.rate, Gauge { now: 0, most: 30 });
        rate.take(41, 1100);
        assert_eq!(rate.rate, Gauge { now: 1, most: 30 });
    }
}
