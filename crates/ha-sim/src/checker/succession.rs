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
        if self.store.went_back {
            let known = self.store.authority.as_ref().map_or(Epoch(0), |s| s.record.epoch);
            if before.as_ref().is_some_and(|s| s.record.epoch == new.record.epoch) {
                // Who has not seen more may go on by what it sees, as long as it decides no leadership.
                return;
            }
            if new.record.epoch <= known {
                let story = format!(
                    "epoch {} is decided on a store that went back; {known} was there",
                    new.record.epoch
                );
                self.fail("B13 no leadership is decided on a store that went back", story);
                return;
            }
        }
        self.store.authority = after.clone();
        self.store.went_back = false;
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
        let forced = self.is_forced(before.as_ref(), new);
        self.checker.succeeds(before.as_ref(), new, &self.hosts, forced);
        self.note_what_leaders_rest_on();
        self.leadership_settles(before.as_ref().map(|s| s.record.epoch), epoch);
        self.checker.look_again();
    }

    /// Whether a takeover is one for which an operator accepted loss. Any other change voids what such requests were about.
    fn is_forced(&mut self, before: Option<&Versioned<SyncRecord>>, new: &Versioned<SyncRecord>) -> bool {
        let changes_epoch = before.is_some_and(|s| s.record.epoch != new.record.epoch);
        let leader = self.index_of(&new.record.leader.member);
        // Who was asked may hand its promises to a better candidate; a pinned leader needs no more than one.
        let pinned = before.is_some_and(|s| s.record.policy.kind == PolicyKind::Pinned);
        let forced = changes_epoch && self.forced.iter().any(|f| pinned || Some(f.host) == leader);
        self.tally.forced_takeovers += u64::from(forced);
        let hosts = &self.hosts;
        self.forced.retain(|f| hosts[f.host].agent.as_ref().is_some_and(|a| a.number == f.agent));
        forced
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
        forced: bool,
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
        let winner = hosts.iter().position(|h| h.name == leader.name);
        if forced || winner.is_some_and(|host| self.unbound.contains(&(host, old.revision))) {
            self.reads_given_up.insert(old.record.epoch);
        }
        if forced {
            self.loss_is_accepted(new, hosts);
        } else {
            self.takes_over(old, new, hosts);
        }
    }

    /// A human gave up what the new leader does not hold, and whatever older leaders may still acknowledge.
    fn loss_is_accepted(&mut self, new: &Versioned<SyncRecord>, hosts: &[Host]) {
        let leader = new.record.leader.id();
        let before = self.acked.len();
        self.acked.retain(|lsn, id| held(hosts, &leader, *lsn, *id));
        self.given_up_by_operators += (before - self.acked.len()) as u64;
        self.unguarded.retain(|lsn, id| held(hosts, &leader, *lsn, *id));
        self.forced_at = Some(new.record.epoch);
    }

    /// Whether a human has given up what this host acknowledges: it led last before a takeover with accepted loss, or from
    /// an asynchronous leader.
    pub(super) fn is_given_up(&self, host: &Host) -> bool {
        let led = self.leaders.iter().rev().find(|(_, leader)| host.id().as_ref() == Some(*leader));
        self.forced_at.is_some_and(|forced| led.is_some_and(|(epoch, _)| *epoch < forced))
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
                // Whoever chose asynchronous mode chose it for what was acknowledged before, too, and for what the old
                // leader goes on acknowledging where no guard ends it.
                self.forced_at = Some(new.record.epoch);
                let before = self.acked.len();
                self.acked.retain(|lsn, id| held(hosts, &leader, *lsn, *id));
                self.lost_asynchronously += (before - self.acked.len()) as u64;
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
