//! Who may lead, and when: I0, I4, I5, one leader per epoch, one owner per timeline.

use ha_core::cluster_view::StoreView;
use ha_core::record::{PolicyKind, SyncRecord, Versioned};
use ha_core::{Epoch, MemberId, MemberName, Timeline};
use ha_decision::Job;

use super::{Checker, Sync, held};
use crate::host::Host;
use crate::world::World;

/// A request that was under way, a promise that was given, a suspicion that had just begun may each change the leader once.
const CHANGES_AFTER_HEALING: u32 = 6;

impl World {
    /// The sync record is another one now.
    pub(crate) fn sync_changed(&mut self, before: Sync, view: &StoreView) {
        let after = view.sync.clone();
        let words = || match &after {
            Some(s) => {
                let r = &s.record;
                let members: Vec<_> = r.policy.members.iter().map(ToString::to_string).collect();
                format!(
                    "*** sync @{} epoch {} gen {} leader {} policy {:?} of epoch {} k {} {members:?}",
                    s.revision,
                    r.epoch,
                    r.generation,
                    r.leader.id(),
                    r.policy.kind,
                    r.policy.epoch,
                    r.policy.k
                )
            }
            None => "*** sync is gone".to_owned(),
        };
        self.trace.say(self.queue.now(), words);
        let Some(new) = &after else {
            self.fail("I0", "the sync record was deleted".to_owned());
            return;
        };
        let epoch = new.record.epoch;
        match &before {
            Some(old) if old.record.epoch != new.record.epoch => {
                self.tally.takeovers += 1;
                self.tally.unestablished += u64::from(!new.record.is_established());
            }
            Some(old) if old.record.policy != new.record.policy => {
                self.tally.policy_changes += 1;
                self.tally.pinned += u64::from(new.record.policy.kind == PolicyKind::Pinned);
            }
            Some(_) => self.tally.bumps += 1,
            None => {}
        }
        self.checker.succeeds(before.as_ref(), new, &self.hosts);
        self.note_what_leaders_rest_on();
        self.leadership_settles(before.as_ref().map(|s| s.record.epoch), epoch);
        self.checker.look_again();
    }

    /// L2: whatever made leaders change is over, so leadership settles.
    fn leadership_settles(&mut self, before: Option<Epoch>, epoch: Epoch) {
        if self.healed_at.is_none() || before == Some(epoch) {
            return;
        }
        self.changes_after_healing += 1;
        if self.changes_after_healing > CHANGES_AFTER_HEALING {
            let story = format!("{CHANGES_AFTER_HEALING} changes of leader since everything works again");
            self.fail("L2 leadership settles", story);
        }
    }
}

impl Checker {
    fn succeeds(
        &mut self,
        before: Option<&Versioned<SyncRecord>>,
        new: &Versioned<SyncRecord>,
        hosts: &[Host],
    ) {
        let (record, leader) = (&new.record, new.record.leader.id());
        let known = self.leaders.entry(record.epoch).or_insert_with(|| leader.clone()).clone();
        if known != leader {
            self.broken(
                "I0 one leader per epoch",
                format!("epoch {} has leaders {known} and {leader}", record.epoch),
            );
        }
        let Some(old) = before else { return };
        if record.generation <= old.record.generation && record.epoch == old.record.epoch {
            self.broken(
                "I0 every version differs",
                format!("generation {} follows {}", record.generation, old.record.generation),
            );
        }
        if record.epoch == old.record.epoch {
            if record.is_established() && !old.record.is_established() {
                self.leader_is_established(new, hosts);
            }
            return;
        }
        if record.epoch != old.record.epoch.next() {
            self.broken(
                "I0 epochs grow by one",
                format!("epoch {} follows {}", record.epoch, old.record.epoch),
            );
        }
        self.takes_over(old, new, hosts);
    }

    fn leader_is_established(&mut self, new: &Versioned<SyncRecord>, hosts: &[Host]) {
        if new.record.policy.kind != PolicyKind::Asynchronous {
            self.leader_holds_all(&new.record.leader.id(), new.record.epoch, hosts);
        }
    }

    /// I4, and S1 at the moment at which it is decided.
    fn takes_over(&mut self, old: &Versioned<SyncRecord>, new: &Versioned<SyncRecord>, hosts: &[Host]) {
        let policy = &old.record.policy;
        let leader = new.record.leader.id();
        let policys_leader = self.leaders.get(&policy.epoch) == Some(&leader);
        match policy.kind {
            PolicyKind::Asynchronous => {
                let before = self.unguarded.len();
                self.unguarded.retain(|lsn, id| held(hosts, &leader, *lsn, *id));
                self.lost_asynchronously += (before - self.unguarded.len()) as u64;
                return;
            }
            PolicyKind::Pinned if !policys_leader && !handed_over(&old.record, &leader, hosts) => {
                let story = format!("{leader} takes epoch {} from a pinned leader", new.record.epoch);
                self.broken("I4 nobody replaces a pinned leader", story);
            }
            PolicyKind::Quorum if !policys_leader => {
                let promised = policy.members.iter().filter(|m| {
                    let host = hosts.iter().position(|h| h.name == m.name);
                    host.and_then(|h| self.revocations.get(&h)).is_some_and(|r| {
                        r.revision == old.revision && r.epoch >= old.record.epoch && r.id.as_ref() == Some(m)
                    })
                });
                let (promised, needed) = (promised.count(), policy.needed_promises());
                if promised < needed {
                    let story = format!(
                        "{leader} takes epoch {} at revision {} with {promised} of {needed} promises",
                        new.record.epoch, old.revision
                    );
                    self.broken("I4 a takeover rests on promises for this revision", story);
                }
            }
            _ => {}
        }
        self.leader_holds_all(&leader, new.record.epoch, hosts);
    }

    /// I5, as far as it shows before a job begins.
    pub(crate) fn job_begins(&mut self, host: usize, job: &Job, sync: &Sync, hosts: &[Host]) {
        if let Job::Promote { epoch, .. } = job {
            let won = self.leaders.get(epoch);
            if won.is_none() || won != hosts[host].id().as_ref() {
                let now = sync.as_ref().map(|s| s.record.epoch);
                self.broken(
                    "I5 act after decide",
                    format!("pg{} promotes for epoch {epoch}, which {won:?} leads (now {now:?})", host + 1),
                );
            }
        }
    }

    /// A server was promoted.
    pub(crate) fn promoted(&mut self, host: usize, epoch: Epoch, timeline: Timeline) {
        if let Some((other, at)) = self.promoted.insert(timeline, (host, epoch)) {
            let story = format!(
                "timeline {timeline} was opened by pg{} for epoch {at} and by pg{} for epoch {epoch}",
                other + 1,
                host + 1
            );
            self.broken("TL one owner per timeline", story);
        }
    }

    /// A server came up as a primary without a promotion.
    pub(crate) fn opened(&mut self, host: usize, sync: &Sync, hosts: &[Host]) {
        let Some(server) = &hosts[host].server else { return };
        let leads = |r: &SyncRecord| Some(r.leader.id()) == hosts[host].id();
        if !sync.as_ref().is_some_and(|s| leads(&s.record)) && !server.postmaster.standby_names.is_blocked() {
            let story = format!(
                "pg{} opens as a primary with {:?}, and does not lead",
                host + 1,
                server.postmaster.standby_names.setting()
            );
            self.broken("I5 a primary opens only as the leader, or blocked", story);
        }
    }
}

/// Whether a pinned leader has stopped and its successor holds all that it wrote: a switchover.
fn handed_over(old: &SyncRecord, new: &MemberId, hosts: &[Host]) -> bool {
    let find = |name: &MemberName| hosts.iter().find(|h| h.name == *name);
    let (Some(from), Some(to)) = (find(&old.leader.member), find(&new.name)) else { return false };
    let (Some(had), Some(has)) = (from.disk.data.present(), to.disk.data.present()) else { return false };
    from.server.is_none() && has.wal.common_with(&had.wal) == had.wal.end()
}
