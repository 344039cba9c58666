//! The sync record names this member: take leadership up, bring PostgreSQL up as the primary, open it, keep it going.

use ha_core::cluster_view::{StoreKey, to_json};
use ha_core::node_state::JobKind;
use ha_core::peer_message::HandOver;
use ha_core::postgres_view::PostgresProcess;
use ha_core::record::{HistoryRecord, PolicyKind, SyncRecord};
use ha_core::standby_names::StandbyNames;
use ha_core::{Epoch, Generation, Lsn, MonoTime, Timeline};

use crate::action::{LeaseChoice, Txn};
use crate::decider::Decider;
use crate::job::{Access, Job, ServerSettings};
use crate::reason::Reason;
use crate::store::TxnFor;

/// Proof that this agent, in this life, decided its leadership by a compare-and-swap.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    pub(crate) epoch: Epoch,
    /// Generation of the sync record by which it was won or taken up again.
    pub(crate) generation: Generation,
    /// The life of PostgreSQL that has passed the post-recovery barrier.
    pub(crate) opened: Option<u64>,
    /// End of recovery of a life, once marked.
    barrier: Option<(u64, Lsn)>,
    checkpointed: bool,
    marked: bool,
    /// Since when no listed member is healthy.
    pub(crate) alone_since: Option<MonoTime>,
}

impl Decider {
    pub(crate) fn leadership_won(&mut self, how: &'static str) {
        let Some(record) = self.sync_record() else { return };
        let Some(me) = self.me_id() else { return };
        if !record.is_led_by(&me) {
            return;
        }
        if let Some(sent_at) = self.lease.renewed {
            // The leader record hangs on the lease whose last renewal was sent then.
            self.lease.leads = Some((record.epoch, sent_at));
        }
        self.election = None;
        self.handover = None;
        let mut node = self.node.clone();
        node.led = Some(record.epoch);
        self.persist(node);
        if let Some(leadership) = self.leadership.as_mut().filter(|l| l.epoch == record.epoch) {
            leadership.generation = record.generation;
            return;
        }
        self.gossip.echoes.clear();
        self.read_leases_begin();
        self.list_change = None;
        self.note(Reason::BecameLeader { epoch: record.epoch, how });
        self.leadership = Some(Leadership {
            epoch: record.epoch,
            generation: record.generation,
            opened: None,
            barrier: None,
            checkpointed: false,
            marked: false,
            alone_since: None,
        });
    }

    pub(crate) fn primary(&mut self, record: &SyncRecord) {
        let leads = self.me_id().is_some_and(|me| record.is_led_by(&me));
        // Storage that does not answer shows no data directory either, and is all the more to be handed over.
        if leads && self.switchover.is_none() && self.hand_over_unfit(record) {
            return;
        }
        if !leads || self.facts().is_none() && self.switchover.is_none() {
            let found =
                "the sync record names an earlier life of this member's data, which is gone".to_owned();
            self.blocked_by(Reason::UnusableData { found });
            return;
        }
        if self.node.job.as_ref().is_some_and(|j| j.kind == JobKind::Initdb) {
            // The founding transaction comes after the end of initdb, so the directory is whole.
            let mut node = self.node.clone();
            node.job = None;
            self.persist(node);
        }
        if self.switchover.is_some() {
            self.switch_over(record);
            return;
        }
        if self.leadership.as_ref().is_none_or(|l| l.epoch != record.epoch) {
            self.leadership = None;
            self.take_up_again(record);
            return;
        }
        if !self.leader_key_is_right(record) && !self.resigned_in_isolation() {
            self.take_up_again(record);
        }
        self.run_primary(record);
    }

    /// The leader record names this leadership and says the truth about its guard.
    fn leader_key_is_right(&mut self, record: &SyncRecord) -> bool {
        let Some(leader) = self.store.view.as_ref().and_then(|v| v.leader.as_ref()) else { return false };
        let guard = leader.record.guard;
        let mine =
            leader.record.epoch == record.epoch && leader.record.incarnation == record.leader.incarnation;
        mine && !self.guard_record_is_wrong(guard)
    }

    /// Re-acquisition: only by a compare-and-swap, never by a read. It outdates every request of an earlier life of
    /// this agent that may still be on its way, and lets the guard arm an epoch again that it had ended.
    fn take_up_again(&mut self, record: &SyncRecord) {
        if broken!(self, ReacquireByRead) {
            self.leadership_won("by a read (mutant)");
            return;
        }
        if !self.lease.ready || !self.can_txn() {
            return;
        }
        if self.is_paused() && !self.runs_as_primary() {
            return;
        }
        let next = record.bumped();
        self.because(Reason::Reacquiring { epoch: next.epoch });
        let mut txn = self.replace_sync("take leadership up again", &next);
        txn.puts.push(self.put_leader(&next));
        self.submit(TxnFor::Reacquire, txn);
    }

    fn run_primary(&mut self, record: &SyncRecord) {
        let Some(view) = &self.postgres else { return };
        match &view.process {
            PostgresProcess::Stopped => self.start_primary(record),
            PostgresProcess::Starting => {}
            PostgresProcess::Silent => self.end_silent_primary(),
            PostgresProcess::Running(instance) if instance.in_recovery => {
                let timeline = instance.timeline;
                self.promote(record, timeline);
            }
            PostgresProcess::Running(instance) => {
                let life = instance.life;
                self.operate(record, life);
            }
        }
    }

    fn start_primary(&mut self, record: &SyncRecord) {
        if self.is_paused() && self.maintenance.restart_asked().is_none() {
            self.because(Reason::Maintenance { why: "PostgreSQL is stopped and stays so".to_owned() });
            return;
        }
        if !self.may_start_primary_here(record) {
            return;
        }
        if !self.job_free() || !self.guard_ready(record.epoch) {
            return;
        }
        let standby = self.facts().is_some_and(|f| !f.is_primary_shaped());
        self.because(Reason::StartingPrimary { epoch: record.epoch });
        let settings =
            ServerSettings { standby_names: StandbyNames::blocked(), upstream: None, access: Access::Closed };
        self.start_job(Job::Start { standby, settings });
    }

    /// The timeline that was reserved for the present leadership: the newest of an epoch not above it.
    pub(crate) fn reserved_timeline(&self, record: &SyncRecord) -> Option<Timeline> {
        let view = self.store.view.as_ref()?;
        view.history
            .iter()
            .filter(|(_, h)| h.epoch <= record.epoch)
            .max_by_key(|(_, h)| h.epoch)
            .map(|(t, _)| *t)
    }

    fn promote(&mut self, record: &SyncRecord, present: Timeline) {
        let Some(timeline) = self.reserved_timeline(record) else { return };
        if timeline <= present {
            // Not while the promotion itself runs: its server shows the new timeline before it shows that it is a primary.
            if self.job_free() {
                self.reserve_timeline(record, present);
            }
            return;
        }
        let access = if record.is_established() { Access::Open } else { Access::Closed };
        let wanted =
            ServerSettings { standby_names: StandbyNames::of_record(record), upstream: None, access };
        // Guard and list are in place before the first write is possible.
        if !self.guard_ready(record.epoch) || !self.settle(&wanted) || !self.job_free() {
            return;
        }
        let Some(view) = &self.store.view else { return };
        let taken = view.history.keys().copied().filter(|t| *t > present && *t < timeline).collect();
        self.because(Reason::Promoting { timeline, epoch: record.epoch });
        self.start_job(Job::Promote { epoch: record.epoch, timeline, taken });
    }

    /// The leader came up as a standby on a timeline that is used already: it needs a new one before it may write.
    fn reserve_timeline(&mut self, record: &SyncRecord, present: Timeline) {
        if !self.can_txn() {
            return;
        }
        let highest = self.store.view.as_ref().and_then(|v| v.highest_timeline()).unwrap_or(present);
        let timeline = highest.max(present).next();
        let mut next = record.bumped();
        next.epoch = record.epoch.next();
        if record.is_established() {
            next.policy.epoch = next.epoch;
        }
        let history = HistoryRecord {
            epoch: next.epoch,
            parent: present,
            switch_lsn: self.instance().map(|i| i.flush).unwrap_or_default(),
            member: self.setup.me.clone(),
            reason: "the leader came up as a standby".to_owned(),
            extra: Default::default(),
        };
        let mut txn: Txn = self.replace_sync("reserve a timeline", &next);
        txn.compares.push((StoreKey::History(timeline), ha_core::Revision(0)));
        txn.puts.push(self.put_leader(&next));
        txn.puts.push((StoreKey::History(timeline), to_json(&history), LeaseChoice::None));
        self.submit(TxnFor::RenewEpoch, txn);
    }

    pub(crate) fn promoted(&mut self, epoch: Epoch) {
        self.note_promoted(epoch);
        let life = self.instance().map(|i| i.life);
        let established = self.sync().is_some_and(|s| s.record.is_established());
        if let Some(leadership) = self.leadership.as_mut().filter(|l| l.epoch == epoch)
            && established
        {
            // Everything in its WAL is held by the members that the deciding transaction listed.
            leadership.opened = life;
        }
    }

    /// A running primary: first the barrier, then the list, then whatever changes.
    fn operate(&mut self, record: &SyncRecord, life: u64) {
        let Some(opened) = self.leadership.as_ref().map(|l| l.opened == Some(life)) else { return };
        if self.maintenance_of_leader(record) {
            return;
        }
        if !record.is_established() {
            self.establish(record, life);
            return;
        }
        if !opened {
            if self.list_in_doubt() {
                self.because(Reason::WaitingForOutcome);
                return;
            }
            if !self.pass_barrier(record, life) {
                return;
            }
        }
        let names = self.wanted_names(record);
        let wanted = ServerSettings { standby_names: names, upstream: None, access: Access::Open };
        if !self.guard_ready(record.epoch) || !self.settle(&wanted) {
            return;
        }
        self.keep_list(record);
        self.first_checkpoint(record);
        let well = match record.policy.kind {
            PolicyKind::Pinned => Reason::LeadingPinned,
            PolicyKind::Quorum | PolicyKind::Asynchronous => Reason::Leading,
        };
        let reason = self.trouble.take().unwrap_or(well);
        self.because(reason);
    }

    /// Marks the end of recovery of this life of PostgreSQL; none while that is under way.
    pub(crate) fn end_of_recovery(&mut self, life: u64) -> Option<Lsn> {
        let leadership = self.leadership.as_ref()?;
        match leadership.barrier {
            Some((of, lsn)) if of == life => Some(lsn),
            _ => {
                if self.job_free() {
                    self.start_job(Job::MarkBarrier);
                }
                None
            }
        }
    }

    pub(crate) fn flushed(&mut self, lsn: Lsn) {
        if self.change_flushed(lsn) {
            return;
        }
        let life = self.instance().map(|i| i.life);
        if let (Some(leadership), Some(life)) = (self.leadership.as_mut(), life) {
            leadership.barrier = Some((life, lsn));
        }
    }

    /// Crash recovery makes commits visible that nobody confirmed. Clients stay out until the listed members hold them.
    fn pass_barrier(&mut self, record: &SyncRecord, life: u64) -> bool {
        if record.policy.kind == PolicyKind::Quorum && !broken!(self, OpenBeforeBarrier) {
            let access = self.server.applied.as_ref().map_or(Access::Keep, |a| a.settings.access);
            let names = self.wanted_names(record);
            let wanted = ServerSettings { standby_names: names, upstream: None, access };
            if !self.settle(&wanted) {
                return false;
            }
            let Some(lsn) = self.end_of_recovery(life) else { return false };
            if self.confirmed(record, record.policy.members.iter(), lsn) < record.policy.k as usize {
                self.because(Reason::WaitingForBarrier { k: record.policy.k });
                self.keep_list(record);
                self.trouble = None;
                return false;
            }
        }
        if let Some(leadership) = &mut self.leadership {
            leadership.opened = Some(life);
        }
        true
    }

    /// The first checkpoint of a promoted server, off the critical path: rewinds onto it wait for it.
    pub(crate) fn first_checkpoint(&mut self, record: &SyncRecord) {
        let Some(instance) = self.instance() else { return };
        let needs_checkpoint = instance.checkpoint_timeline != instance.timeline;
        let quorum_works = record.is_established()
            && self.confirmed(record, record.policy.members.iter(), Lsn(0)) >= record.policy.k as usize;
        let (Some(leadership), None) = (&mut self.leadership, &self.server.side_job) else { return };
        if !leadership.checkpointed && needs_checkpoint {
            leadership.checkpointed = true;
            self.start_side_job(Job::Checkpoint);
        } else if !leadership.marked && quorum_works {
            leadership.marked = true;
            self.start_side_job(Job::MarkEpoch { epoch: record.epoch });
        }
    }

    pub(crate) fn checkpointed(&mut self, ok: bool) {
        if let Some(leadership) = &mut self.leadership {
            leadership.checkpointed = ok;
        }
        self.switchover_checkpointed();
    }

    pub(crate) fn epoch_marked(&mut self, ok: bool) {
        if let Some(leadership) = &mut self.leadership {
            leadership.marked = ok;
        }
    }

    /// What a leader that gives up says to the others.
    pub(crate) fn hand_over_message(&self, record: &SyncRecord) -> HandOver {
        let switchover = self.switchover.as_ref();
        HandOver {
            epoch: record.epoch,
            revision: self.sync_revision(),
            candidate: switchover.and_then(|s| s.to.clone()),
            final_lsn: switchover.and_then(|s| s.final_lsn),
            steps: switchover.map(|s| s.steps(self.now)).unwrap_or_default(),
        }
    }
}
