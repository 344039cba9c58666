//! A change of the list for which PostgreSQL comes first, because it narrows who may confirm: bring the server to the
//! tighter list, see it in force, wait until the remaining members hold everything that was ever acknowledged (the
//! history barrier), and only then let the store say so. Any step that cannot be proved leaves the wider record.

use std::time::Duration;

use ha_core::record::{Policy, SyncRecord};
use ha_core::standby_names::StandbyNames;
use ha_core::{Epoch, Lsn, MemberId, MonoTime};

use crate::decider::Decider;
use crate::job::Job;
use crate::rules;

/// A change that takes longer is given up and planned anew from what holds then.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What the change is to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// From "commits wait for nobody" back to a list.
    Guard,
    /// One member fewer.
    Remove {
        /// Who leaves.
        gone: MemberId,
    },
    /// One confirmation more.
    RaiseAcks,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Goal::Guard only: the blocked name, to see that commits wait at all.
    Blocked,
    /// Goal::Guard only: the proof runs.
    Proving,
    /// The tighter list is being loaded or must be seen in force.
    Tighten,
    /// Goal::RaiseAcks only: walsenders that may use the old count are restarted.
    Bounce,
    /// The barrier record is being written.
    Marking,
    /// The remaining members must flush up to here.
    Barrier { lsn: Lsn },
}

/// A change under way.
#[derive(Debug, Clone)]
pub(crate) struct ListChange {
    goal: Goal,
    epoch: Epoch,
    from: Policy,
    to: Policy,
    stage: Stage,
    bounced: bool,
    began: MonoTime,
}

impl ListChange {
    pub(crate) fn new(now: MonoTime, record: &SyncRecord, goal: Goal, to: Policy) -> Self {
        let stage = if goal == Goal::Guard { Stage::Blocked } else { Stage::Tighten };
        Self { goal, epoch: record.epoch, from: record.policy.clone(), to, stage, bounced: false, began: now }
    }

    pub(crate) fn applies_to(&self, record: &SyncRecord) -> bool {
        record.epoch == self.epoch && record.policy == self.from
    }

    /// The policy that it leads to.
    pub(crate) fn target(&self) -> &Policy {
        &self.to
    }

    pub(crate) fn is_stuck(&self, now: MonoTime) -> bool {
        now >= self.began + STUCK_AFTER
    }

    /// Whether it waits for the end of a job, so that no transaction of it can be on its way.
    pub(crate) fn awaits_job(&self) -> bool {
        matches!(self.stage, Stage::Proving | Stage::Bounce | Stage::Marking)
    }

    /// What the server must use while the change is under way.
    pub(crate) fn names(&self) -> StandbyNames {
        match self.stage {
            Stage::Blocked | Stage::Proving => StandbyNames::blocked(),
            _ => StandbyNames::any(self.to.k, &self.to.members, self.epoch),
        }
    }
}

impl Decider {
    /// One step of the change; the caller has made sure that the server is to use [`ListChange::names`].
    pub(crate) fn drive_change(&mut self, record: &SyncRecord) {
        let Some(change) = self.list_change.clone() else { return };
        let loaded =
            self.server.applied.as_ref().filter(|a| a.settings.standby_names == change.names()).map(|a| a.at);
        let Some(loaded) = loaded else { return };
        match change.stage {
            Stage::Blocked => {
                if self.job_free() {
                    self.set_stage(Stage::Proving);
                    self.start_job(Job::ProveBlocked);
                }
            }
            Stage::Tighten => self.see_in_force(&change, loaded),
            Stage::Barrier { lsn } => self.pass_history_barrier(record, &change, lsn),
            Stage::Proving | Stage::Bounce | Stage::Marking => {}
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(change) = &mut self.list_change {
            change.stage = stage;
        }
    }

    fn see_in_force(&mut self, change: &ListChange, loaded: MonoTime) {
        let observed = self.postgres.as_ref().map_or(MonoTime(0), |p| p.at);
        if observed < loaded || !self.job_free() {
            return;
        }
        let Some(instance) = self.instance() else { return };
        // A walsender releases commits by the count that it has read last, and an earlier attempt may have left it a
        // lower one. That cannot be seen from outside, so none may be older than this list.
        let may_be_lower = match change.goal {
            Goal::Guard => change.to.k > 1,
            Goal::RaiseAcks => true,
            Goal::Remove { .. } => false,
        };
        if may_be_lower && !change.bounced {
            let pids = instance
                .senders
                .iter()
                .filter(|s| s.name.as_ref().is_some_and(|n| change.to.members.contains(&n.member)))
                .map(|s| s.pid)
                .collect();
            self.set_stage(Stage::Bounce);
            self.start_job(Job::BounceSenders { pids });
        } else if rules::in_force(
            instance.senders.iter().map(|s| (s.sync_priority, s.name.as_ref())),
            &change.to,
            change.epoch,
        ) {
            self.mark(change);
        }
    }

    fn mark(&mut self, change: &ListChange) {
        if broken!(self, ShrinkWithoutBarrier) {
            self.set_stage(Stage::Barrier { lsn: Lsn(0) });
            return;
        }
        debug_assert_eq!(change.stage, Stage::Tighten);
        self.set_stage(Stage::Marking);
        self.start_job(Job::MarkBarrier);
    }

    pub(crate) fn senders_bounced(&mut self) {
        if let Some(change) = &mut self.list_change {
            change.bounced = true;
            change.stage = Stage::Tighten;
        }
    }

    /// The barrier record of a change was flushed; false when no change waits for one.
    pub(crate) fn change_flushed(&mut self, lsn: Lsn) -> bool {
        let Some(change) = &mut self.list_change else { return false };
        match change.stage {
            // Only the proof that commits wait; a walsender with an older list may still have let some go.
            Stage::Proving => change.stage = Stage::Tighten,
            Stage::Marking => change.stage = Stage::Barrier { lsn },
            _ => return false,
        }
        true
    }

    fn pass_history_barrier(&mut self, record: &SyncRecord, change: &ListChange, lsn: Lsn) {
        if rules::barrier_passed(&change.to, self.confirmed(record, change.to.members.iter(), lsn)) {
            self.change_policy(record, change.to.clone(), "the remaining members hold everything");
        }
    }
}
