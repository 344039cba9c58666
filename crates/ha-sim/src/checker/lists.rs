//! Who may confirm, by the copies that the processes use right now: I1, I2 and I7.

use ha_core::MemberId;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::standby_names::{StandbyName, StandbyNames};

use super::{Checker, Sync, held};
use crate::host::Host;
use crate::world::World;

impl World {
    /// Looks after each event.
    pub(crate) fn check(&mut self) {
        // While the store shows less than there was, its record says nothing about the lists in use.
        if !self.store.went_back {
            self.checker.look(&self.store.authority, &self.hosts);
        }
        self.check_openness();
        if let Some(violation) = self.checker.take_violation() {
            self.fail(violation.rule, violation.story);
        }
    }
}

impl Checker {
    fn look(&mut self, sync: &Sync, hosts: &[Host]) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let record = sync.as_ref().map(|s| &s.record);
        for host in hosts {
            self.list_is_not_empty(host, record);
        }
        if let Some(record) = record {
            self.acknowledgements_are_covered(record, hosts);
            self.history_is_covered(record, hosts);
        }
    }

    /// I7.
    fn list_is_not_empty(&mut self, host: &Host, record: Option<&SyncRecord>) {
        let (Some(directory), Some(server)) = (host.disk.data.present(), &host.server) else { return };
        // A walsender's own empty copy only keeps it from confirming. What lets commits go is the checkpointer's flag,
        // which a crash of a backend makes again from the postmaster's copy. The file of a stopped server is written
        // anew before each start.
        let empty = directory.settings.standby_names.is_unguarded()
            || !server.commits_wait
            || !server.in_recovery && server.postmaster.standby_names.is_unguarded();
        let allowed = record.is_some_and(|r| {
            r.policy.kind == PolicyKind::Asynchronous
                || r.policy.kind == PolicyKind::Pinned && r.leader.member == host.name
        }) || self.is_given_up(host);
        if empty && !allowed {
            self.broken(
                "I7 the list is never empty",
                format!(
                    "{} uses or holds an empty list; the record says {:?}",
                    host.name,
                    record.map(|r| &r.policy)
                ),
            );
        }
    }

    /// I1: every set that could acknowledge contains k listed members.
    fn acknowledgements_are_covered(&mut self, record: &SyncRecord, hosts: &[Host]) {
        let Some(host) = hosts.iter().find(|h| h.id() == Some(record.leader.id())) else { return };
        let Some(server) = host.server.as_ref().filter(|s| !s.in_recovery) else { return };
        let Some(directory) = host.disk.data.present() else { return };
        let policy = &record.policy;
        if record.is_established() && policy.kind != PolicyKind::Quorum {
            return;
        }
        let future = [&server.postmaster.standby_names, &directory.settings.standby_names];
        let senders = || server.senders.values().filter(|s| s.listed);
        let in_use: Vec<&StandbyNames> =
            senders().map(|s| &s.names).chain(future).filter(|n| !n.is_blocked()).collect();
        // The copies of different processes mix: a walsender uses its own k over all that have published a priority.
        let Some(k) = in_use.iter().map(|n| n.k()).min() else { return };
        let countable = senders().map(|s| &s.name).chain(future.into_iter().flat_map(StandbyNames::members));
        let outside = |name: &StandbyName| {
            !record.is_established() || name.epoch != record.epoch || !policy.members.contains(&name.member)
        };
        let mut strangers: Vec<&StandbyName> = countable.filter(|name| outside(name)).collect();
        strangers.sort_unstable();
        strangers.dedup();
        if !record.is_established() {
            if !strangers.is_empty() {
                self.broken(
                    "I1 an unestablished leader acknowledges nothing",
                    format!("{} lets {strangers:?} confirm in epoch {}", host.name, record.epoch),
                );
            }
        } else if (k as usize) < policy.k as usize + strangers.len() {
            let words: Vec<_> = in_use.iter().map(|n| n.setting()).collect();
            let story = format!("{} uses {words:?} under {policy:?} of epoch {}", host.name, record.epoch);
            self.broken("I1 every acknowledgement is covered by the record", story);
        }
    }

    /// I2: whoever may promise enough holds whatever was acknowledged.
    fn history_is_covered(&mut self, record: &SyncRecord, hosts: &[Host]) {
        let policy = &record.policy;
        // The newest acknowledged commit stands for all: logs that hold it hold everything before it.
        let Some((&lsn, &id)) = self.acked.last_key_value() else { return };
        match policy.kind {
            PolicyKind::Asynchronous => {}
            PolicyKind::Pinned => {
                if record.is_established() && !held(hosts, &record.leader.id(), lsn, id) {
                    let story = format!("the pinned leader lacks record {id} at {lsn}");
                    self.broken("I2 the record covers all that was acknowledged", story);
                }
            }
            PolicyKind::Quorum => {
                // Who is listed with a life of its directory that is gone can promise nothing, so it endangers nothing:
                // what counts is that no n - k + 1 of the present ones lack the commit.
                let present = |m: &MemberId| hosts.iter().any(|h| h.id().as_ref() == Some(m));
                let lacking: Vec<_> = policy
                    .members
                    .iter()
                    .filter(|m| present(m) && !held(hosts, m, lsn, id))
                    .map(ToString::to_string)
                    .collect();
                if lacking.len() >= policy.needed_promises() {
                    let story = format!("record {id} at {lsn} is not on {lacking:?} of {policy:?}");
                    self.broken("I2 the record covers all that was acknowledged", story);
                }
            }
        }
    }
}
