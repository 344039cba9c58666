//! Leases as etcd's lessor keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ha_core::MonoTime;

use crate::store::{KeepAlive, Lease, LeaseId};

/// How often etcd looks for ended leases; a key vanishes up to this much after its lease ended.
const EXPIRY_SCAN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
struct Granted {
    ttl: Duration,
    ends: MonoTime,
    keys: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Leases {
    election_timeout: Duration,
    granted: BTreeMap<LeaseId, Granted>,
    of_key: BTreeMap<String, LeaseId>,
    next_id: i64,
}

impl Leases {
    pub(super) fn new(election_timeout: Duration) -> Self {
        // Ids begin away from small numbers, so that nobody takes one for a revision or a duration in a trace.
        Self { election_timeout, granted: BTreeMap::new(), of_key: BTreeMap::new(), next_id: 0x1000 }
    }

    pub(super) fn grant(&mut self, now: MonoTime, ttl: Duration) -> Lease {
        let ttl = whole_seconds(ttl).max(whole_seconds(self.election_timeout * 3 / 2));
        let id = LeaseId(self.next_id);
        self.next_id += 1;
        self.granted.insert(id, Granted { ttl, ends: now + ttl, keys: BTreeSet::new() });
        Lease { id, ttl }
    }

    pub(super) fn exists(&self, lease: LeaseId) -> bool {
        self.granted.contains_key(&lease)
    }

    pub(super) fn keep_alive(&mut self, now: MonoTime, lease: LeaseId) -> KeepAlive {
        match self.granted.get_mut(&lease) {
            Some(granted) if granted.ends > now => {
                granted.ends = now + granted.ttl;
                KeepAlive::Renewed { ttl: granted.ttl }
            }
            _ => KeepAlive::Gone,
        }
    }

    /// Attaches `key` to `lease`, away from whatever lease it had.
    pub(super) fn attach(&mut self, key: &str, lease: LeaseId) {
        if let Some(old) = self.of_key.remove(key).and_then(|old| self.granted.get_mut(&old)) {
            old.keys.remove(key);
        }
        if let Some(granted) = self.granted.get_mut(&lease) {
            granted.keys.insert(key.to_owned());
            self.of_key.insert(key.to_owned(), lease);
        }
    }

    /// Ends a lease; returns the keys that go with it.
    pub(super) fn end(&mut self, lease: LeaseId) -> Vec<String> {
        self.granted.remove(&lease).map(|granted| granted.keys.into_iter().collect()).unwrap_or_default()
    }

    /// Ends all leases that a scan until `now` found ended; returns the keys of each, the first to end first.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Vec<Vec<String>> {
        let mut due: Vec<(MonoTime, LeaseId)> = self
            .granted
            .iter()
            .filter(|(_, granted)| scan_after(granted.ends) <= now)
            .map(|(id, granted)| (granted.ends, *id))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| self.end(id)).collect()
    }

    pub(super) fn next_due(&self) -> Option<MonoTime> {
        self.granted.values().map(|granted| scan_after(granted.ends)).min()
    }

    pub(super) fn refresh_all(&mut self, now: MonoTime) {
        for granted in self.granted.values_mut() {
            granted.ends = now + granted.ttl + self.election_timeout;
        }
    }
}

/// The first scan at or after a moment.
fn scan_after(moment: MonoTime) -> MonoTime {
    let scan = u64::try_from(EXPIRY_SCAN.as_nanos()).unwrap_or(u64::MAX);
    MonoTime(moment.0.div_ceil(scan).saturating_mul(scan))
}

/// Rounded up: etcd counts leases in seconds.
pub(crate) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
