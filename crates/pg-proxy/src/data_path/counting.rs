//! Counters of one worker. Only the worker's own thread writes them, so that no cache line is fought over while
//! bytes pass; they are summed when somebody asks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Counters, Gauge, Port, TIME_BUCKETS_US, Times, UpstreamCounters};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds; only the thread that owns the counter may call this. A plain store, since nobody else writes.
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are, and how many there were at most; written by all workers.
#[derive(Debug, Default)]
pub(super) struct OpenCount {
    now: AtomicU32,
    most: AtomicU32,
}

impl OpenCount {
    pub(super) fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        if self.most.load(Ordering::Relaxed) < now {
            self.most.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Gauge {
        Gauge { now: self.now.load(Ordering::Relaxed), most: self.most.load(Ordering::Relaxed) }
    }
}

/// Times by buckets, with one writer.
#[derive(Debug, Default)]
pub(super) struct TimeCount {
    buckets: [Count; TIME_BUCKETS_US.len() + 1],
    sum_us: Count,
}

impl TimeCount {
    /// As [`Count::add`].
    pub(super) fn add(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = TIME_BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(TIME_BUCKETS_US.len());
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }

    fn add_to(&self, sum: &mut Times) {
        for (count, sum) in self.buckets.iter().zip(&mut sum.buckets) {
            *sum += count.get();
        }
        sum.sum_us += self.sum_us.get();
    }
}

/// What one worker counted. Its own cache lines, so that two workers do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerCounters {
    pub(super) sessions_total: Count,
    pub(super) refused: Count,
    pub(super) cancels: Count,
    pub(super) tls_sessions: Count,
    pub(super) tls_failures: Count,
    pub(super) headers_refused: Count,
    pub(super) lease_cuts: Count,
    /// By port.
    pub(super) routes: [RouteCount; 2],
}

/// What one worker counted about the clients of one port.
#[derive(Debug, Default)]
pub(super) struct RouteCount {
    pub(super) sessions_total: Count,
    pub(super) upstreams: Vec<UpstreamCount>,
}

/// What one worker counted about one upstream and the clients of one port.
#[derive(Debug, Default)]
pub(super) struct UpstreamCount {
    pub(super) sessions: Count,
    pub(super) connect_failures: Count,
    pub(super) retries: Count,
    pub(super) redispatches: Count,
    pub(super) cut: Count,
    pub(super) to_upstream: Count,
    pub(super) to_client: Count,
    pub(super) connect: TimeCount,
    pub(super) first_word: TimeCount,
}

impl WorkerCounters {
    pub(super) fn new(upstreams: usize) -> Self {
        let route = || RouteCount {
            upstreams: (0..upstreams).map(|_| UpstreamCount::default()).collect(),
            ..RouteCount::default()
        };
        Self { routes: [route(), route()], ..Self::default() }
    }

    /// The counters of this port.
    pub(super) fn of(&self, port: Port) -> &RouteCount {
        &self.routes[port.index()]
    }

    /// Adds this worker's numbers to `sum`, whose `upstreams` have an entry for each.
    pub(super) fn add_to(&self, sum: &mut Counters) {
        sum.sessions_total += self.sessions_total.get();
        sum.refused_total += self.refused.get();
        sum.cancels_total += self.cancels.get();
        sum.tls_sessions_total += self.tls_sessions.get();
        sum.tls_failures_total += self.tls_failures.get();
        sum.headers_refused_total += self.headers_refused.get();
        sum.lease_cuts_total += self.lease_cuts.get();
        for (route, of_route) in self.routes.iter().zip(&mut sum.routes) {
            of_route.sessions_total += route.sessions_total.get();
            for (count, sum) in route.upstreams.iter().zip(&mut of_route.upstreams) {
                count.add_to(sum);
            }
        }
    }
}

impl UpstreamCount {
    fn add_to(&self, sum: &mut UpstreamCounters) {
        sum.sessions_total += self.sessions.get();
        sum.connect_failures += self.connect_failures.get();
        sum.retries += self.retries.get();
        sum.redispatches += self.redispatches.get();
        sum.sessions_cut += self.cut.get();
        sum.bytes_to_upstream += self.to_upstream.get();
        sum.bytes_to_client += self.to_client.get();
        self.connect.add_to(&mut sum.connect);
        self.first_word.add_to(&mut sum.first_word);
    }
}
