//! What happens to the store besides elections: an old backup is put back, or everything is gone, until an operator finds
//! a newer backup; a lease is revoked though it lives; its space runs out; an operator rewrites the policy.

use std::collections::BTreeMap;

use ha_core::Revision;
use ha_core::cluster_view::to_json;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::{Epoch, Generation, ReplicationMode};
use ha_decision::Event;
use ha_store::model::Model;

use crate::clock::{MS, SECOND};
use crate::host::Host;
use crate::store_link::{PREFIX, new_model, view};
use crate::world::World;

/// How new a record is.
fn age(record: &SyncRecord) -> (Epoch, Generation) {
    (record.epoch, record.generation)
}

impl World {
    /// Somebody takes a backup now and then.
    pub(crate) fn back_up_store(&mut self) {
        if self.plan.backs_up()
            && self.store.restored.is_none()
            && self.store.sync.is_some()
            && self.rng.chance(40)
        {
            self.store.backup = Some(self.store.model.clone());
        }
    }

    /// The store shows an old state, or nothing at all.
    pub(crate) fn restore_store(&mut self, empty: bool) {
        // Before everybody has acted on the newest record nothing tells that there was one: a member that missed a change of
        // leader or of the list acts by what it sees, when the restored store is all that it sees.
        let newest = self.store.sync.as_ref().map(|s| age(&s.record));
        let seen = |h: &Host| (h.disk.node_state.seen.epoch, h.disk.node_state.seen.generation);
        let all_know = self.hosts.iter().all(|h| Some(seen(h)) == newest);
        if self.store.restored.is_some() || self.store.sync.is_none() || !all_know {
            return;
        }
        let backup: Model = match self.store.backup.take() {
            _ if empty => new_model(),
            Some(backup) => backup,
            None => return,
        };
        let now = self.store_time();
        let old = self.store.model.peek();
        let same_id = !empty && self.rng.chance(500);
        let cluster_id = old.cluster_id + u64::from(!same_id);
        let newest_lease = self.store.model.grant(now, SECOND_LONG).map(|l| l.id);
        self.store.model.restore(now, &backup, cluster_id);
        // Ids of leases are drawn at random in etcd; they do not come twice.
        while let (Ok(newest), Ok(lease)) = (&newest_lease, self.store.model.grant(now, SECOND_LONG))
            && lease.id < *newest
        {}
        if self.store.leader.is_none() {
            self.store.model.lose_leader(now);
        }
        self.store.model.set_no_space(false);
        self.store.restored = Some(old);
        self.store.forget_calls();
        self.store.known = self.store.model.revision();
        let restored = view(&self.store.model.peek());
        self.store.sync = restored.sync.clone();
        let seen = self.hosts.iter().map(seen).max();
        self.store.went_back = restored.sync.as_ref().map(|s| age(&s.record)) < seen;
        if !self.store.went_back {
            self.store.authority = restored.sync.clone();
        }
        if let Some(config) = &restored.config {
            self.wanted = config.record.clone();
        }
        let words = match &restored.sync {
            Some(s) => {
                format!("*** the store was put back to epoch {} gen {}", s.record.epoch, s.record.generation)
            }
            None => "*** the store has lost everything".to_owned(),
        };
        self.say(|| words);
        for host in 0..self.hosts.len() {
            let reachable = self.store_reachable(host);
            let delay = self.rng.between(MS, 300 * MS);
            let Some(agent) = self.hosts[host].agent.as_mut() else { continue };
            if agent.store.connected && reachable {
                self.news(host, delay, Event::StoreRolledBack);
                self.news(host, delay, Event::Store(Box::new(restored.clone())));
            } else {
                agent.store.stale = true;
            }
        }
        if self.rng.chance(850) {
            let pause = self.rng.between(2 * SECOND, 25 * SECOND);
            self.queue.after(pause, crate::world::Ev::StoreMended);
        } else {
            self.store.never_mended = true;
        }
    }

    /// An operator has found a newer backup, puts the newest records back above every revision that anybody saw, and
    /// starts the agents again.
    pub(crate) fn mend_store(&mut self) {
        if self.store.restored.is_none() || self.store.never_mended {
            return;
        }
        if !self.store.model.has_leader() {
            self.queue.after(SECOND, crate::world::Ev::StoreMended);
            return;
        }
        self.store.model.set_no_space(false);
        self.store.went_back = false;
        let Some(old) = self.store.restored.take() else { return };
        let now = self.store_time();
        let present = self.store.model.peek();
        let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (key, entry) in old.entries.iter().chain(&present.entries) {
            let kept = ["sync", "config", "initialize"].iter().any(|k| key[PREFIX.len()..] == **k)
                || key[PREFIX.len()..].starts_with("history/");
            if kept {
                values.entry(key.clone()).or_insert_with(|| entry.value.clone());
            }
        }
        let newest =
            [&self.store.authority, &self.store.sync].into_iter().flatten().max_by_key(|s| age(&s.record));
        let Some(newest) = newest else { return };
        values.insert(format!("{PREFIX}sync"), to_json(&newest.record.bumped()));
        let bump = ha_store::Txn::new().put("/filler".to_owned(), Vec::new());
        while self.store.model.revision() <= old.revision.max(present.revision) {
            self.store.model.txn(now, &bump);
        }
        let mut txn = ha_store::Txn::new().delete(format!("{PREFIX}leader"));
        for (key, value) in values {
            txn = txn.put(key, value);
        }
        self.store.model.txn(now, &txn);
        self.store.known = Revision(0);
        self.store.sync = view(&self.store.model.peek()).sync;
        self.store.authority = self.store.sync.clone();
        if let Some(config) = view(&self.store.model.peek()).config {
            self.wanted = config.record;
        }
        self.tally.stores_mended += 1;
        self.say(|| "*** an operator has put the newest records back".to_owned());
        self.checker.look_again();
        self.store_changed();
        for host in 0..self.hosts.len() {
            let pause = self.rng.between(200 * MS, 2 * SECOND);
            self.agent_dies(host, Some(pause), true);
        }
    }

    /// etcd ends a lease that lives, as versions with known faults did. A leader without a list rests on its lease alone,
    /// so such versions are not for it.
    pub(crate) fn revoke_lease(&mut self) {
        let quorum = self
            .store
            .sync
            .as_ref()
            .is_some_and(|s| s.record.is_established() && s.record.policy.kind == PolicyKind::Quorum);
        if let Some((_, lease)) =
            self.leader_key().filter(|_| quorum && self.wanted.mode != ReplicationMode::Asynchronous)
        {
            let now = self.store_time();
            // Without leader nothing happens.
            self.store.model.revoke(now, lease).unwrap_or_default();
            self.store_changed();
        }
    }

    /// An operator rewrites the policy of the running cluster.
    pub(crate) fn change_settings(&mut self) {
        let possible =
            self.store.model.has_leader() && self.store.sync.is_some() && self.store.restored.is_none();
        if !possible || self.healed_at.is_some() {
            return;
        }
        let mut next = self.wanted.clone();
        match self.rng.between(0, 5) {
            0 | 1 => {
                let modes =
                    [ReplicationMode::Strict, ReplicationMode::Synchronous, ReplicationMode::Asynchronous];
                next.mode = self.rng.pick(&modes);
            }
            2 | 3 => next.acks = u32::try_from(self.rng.between(1, self.plan.most_acks())).unwrap_or(1),
            4 => next.strict_k = !next.strict_k,
            _ => next.degrade_after_ms = self.rng.between(500, 9000),
        }
        let txn = ha_store::Txn::new().put(format!("{PREFIX}config"), to_json(&next));
        let now = self.store_time();
        if self.store.model.txn(now, &txn).is_won() {
            self.say(|| format!("operator: {:?}, k {}, strict_k {}", next.mode, next.acks, next.strict_k));
            self.wanted = next;
            self.store_changed();
        }
    }
}

const SECOND_LONG: std::time::Duration = std::time::Duration::from_secs(2);
