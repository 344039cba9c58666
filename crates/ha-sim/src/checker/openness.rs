//! When clients are let in, and until when a leader's deadline may reach: C2 and G.

use std::collections::BTreeMap;

use ha_core::MemberId;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_store::LeaseId;

use super::{Checker, Sync, held};
use crate::clock::MS;
use crate::host::Host;
use crate::world::World;

/// What is known of the leases that leader keys hang on.
#[derive(Debug, Default)]
pub(crate) struct LeaseTimes {
    /// End of each lease by what the store granted or renewed last, global time.
    ends: BTreeMap<LeaseId, u64>,
    /// Until when the leader key of a host was sure to stand.
    leads_until: BTreeMap<usize, u64>,
    /// Since when the record is one whose leader has nothing but its lease.
    by_lease_since: Option<u64>,
}

/// Only echoes of listed members say more than the lease.
fn rests_on_lease(record: &SyncRecord) -> bool {
    !record.is_established() || record.policy.kind != PolicyKind::Quorum
}

impl World {
    /// A server that takes commits for the first time since its crash recovery, or since its start.
    pub(crate) fn check_openness(&mut self) {
        for host in 0..self.hosts.len() {
            let runs = self.server_runs(host);
            let Some(server) = &mut self.hosts[host].server else { continue };
            if !server.takes_commits() || !runs {
                continue;
            }
            if let Some(recovered) = server.recovered.take() {
                if self.store.went_back {
                    continue;
                }
                self.checker.lets_clients_in(host, recovered, &self.store.authority, &self.hosts);
            }
        }
    }

    /// The store granted or renewed a lease.
    pub(crate) fn lease_lives(&mut self, lease: LeaseId) {
        let until = self.now() + self.plan.ttl();
        self.checker.leases.ends.insert(lease, until);
        self.leader_key_stands();
    }

    /// Notes until when the present leader key stands at least.
    pub(crate) fn leader_key_stands(&mut self) {
        let Some((host, lease)) = self.leader_key() else { return };
        let times = &mut self.checker.leases;
        let until = times.ends.get(&lease).copied().unwrap_or(0);
        let known = times.leads_until.entry(host).or_insert(0);
        *known = until.max(*known);
    }

    /// The sync record is another one.
    pub(crate) fn note_what_leaders_rest_on(&mut self) {
        let now = self.now();
        let by_lease = self.store.authority.as_ref().is_some_and(|s| rests_on_lease(&s.record));
        let since = &mut self.checker.leases.by_lease_since;
        *since = by_lease.then(|| since.unwrap_or(now));
    }

    /// G: a deadline that rests on a lease lies before the end of that lease.
    pub(crate) fn deadline_is_set(&mut self, host: usize, deadline: ha_core::MonoTime) {
        let (now, ttl) = (self.now(), self.plan.ttl());
        let ends = self.hosts[host].clock.global(deadline);
        let times = &self.checker.leases;
        // A deadline that echoes have moved stays for a while when the record changes.
        let by_lease = times.by_lease_since.is_some_and(|since| now > since + ttl);
        let stands = times.leads_until.get(&host).copied().unwrap_or(0);
        if by_lease && ends > stands && !self.store.went_back {
            let story = format!(
                "pg{} may lead until {} ms, but its leader key is only sure to stand until {} ms",
                host + 1,
                ends / MS,
                stands / MS
            );
            self.fail("G the deadline lies before the lease's end", story);
        }
    }
}

impl Checker {
    /// C2: whatever crash recovery made visible is held by those whose promises a successor needs.
    fn lets_clients_in(&mut self, host: usize, recovered: usize, sync: &Sync, hosts: &[Host]) {
        let Some(sync) = sync else { return };
        let record = &sync.record;
        let Some(directory) = hosts[host].disk.data.present() else { return };
        let Some(last) = directory.wal.ending_at(recovered).map(|r| r.id) else { return };
        let leads = hosts[host].id() == Some(record.leader.id());
        let safe = if !leads {
            held(hosts, &record.leader.id(), recovered, last)
        } else if record.policy.kind == PolicyKind::Quorum {
            // A life of a directory that is over promises nothing any more.
            let counts = |m: &&MemberId| self.is_burned(hosts, m) || held(hosts, m, recovered, last);
            let holders = record.policy.members.iter().filter(counts).count();
            record.is_established() && holders >= record.policy.k as usize
        } else {
            true
        };
        if !safe {
            let story = format!(
                "pg{} lets clients see record {last} at {recovered} after its recovery, under {:?} of epoch {}",
                host + 1,
                record.policy,
                record.epoch
            );
            self.broken("C2 what is visible after recovery is safe", story);
        }
    }
}
