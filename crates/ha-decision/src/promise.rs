//! Promises: "I shall confirm nothing more to the leader of this epoch". Durable before they are said, scoped to one
//! revision of the sync record, void only when the record has moved on.

use std::time::Duration;

use ha_core::node_state::Promise;
use ha_core::peer_message::{PeerMessage, PromiseRefusal, PromiseRefused, PromiseRequest, Promised, Trigger};
use ha_core::record::SyncRecord;
use ha_core::{Epoch, Lsn, MemberName, MonoTime, Timeline};

use crate::decider::Decider;
use crate::job::Job;
use crate::reason::Reason;
use crate::rules;
use crate::store::TxnFor;
use crate::timers::Timer;

/// The promise made true on the server: the walreceiver is gone and the position exact.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    promise: Promise,
    since: MonoTime,
    position: Option<(Timeline, Lsn)>,
    /// Who waits for the answer.
    askers: Vec<MemberName>,
}

impl Revocation {
    pub(crate) fn holds_for(&self, promise: &Promise) -> bool {
        self.promise == *promise
    }

    /// Whether another candidate asked for it.
    pub(crate) fn is_for_another(&self, me: &MemberName) -> bool {
        self.promise.candidate != *me
    }

    /// When it was begun.
    pub(crate) fn since(&self) -> MonoTime {
        self.since
    }
}

impl Decider {
    /// A promise is void once the record names a higher epoch, or has moved past the promise's revision.
    pub(crate) fn drop_void_promise(&mut self) {
        let Some(promise) = &self.node.promise else { return };
        let Some(sync) = self.sync() else { return };
        let void = rules::promise_is_void(promise, sync);
        let void = void || broken!(self, PromiseEndsByTime) && self.promise_is_old();
        if void && !self.store.rolled_back && self.server.job.is_none() {
            let mut node = self.node.clone();
            node.promise = None;
            self.revocation = None;
            self.persist(node);
        }
    }

    /// How long a promise lasts does not matter; only a broken decider asks.
    fn promise_is_old(&self) -> bool {
        let after = self.setup.timings.abort_after;
        self.revocation.as_ref().is_some_and(|r| self.now >= r.since + after)
    }

    pub(crate) fn promise_asked(&mut self, from: MemberName, request: PromiseRequest) {
        if let Err(refusal) = self.may_promise(&request) {
            let refused = PromiseRefused {
                epoch: request.epoch,
                revision: request.revision,
                member: self.setup.me.clone(),
                refusal,
            };
            self.act(refusal_to(from, refused));
            return;
        }
        self.give_promise(&request, Some(from));
    }

    /// Whether this member may revoke now; the same rules for the candidate itself.
    pub(crate) fn may_promise(&self, request: &PromiseRequest) -> Result<(), PromiseRefusal> {
        let Some(sync) = self.sync() else { return Err(PromiseRefusal::OlderRecord) };
        rules::promise_scope(sync, request.epoch, request.revision)?;
        if self.store.rolled_back {
            // Others may not have seen that there was a newer record. Their list need not be the one that commits rest on.
            return Err(PromiseRefusal::NewerRecord);
        }
        let Some(me) = self.me_id() else { return Err(PromiseRefusal::DataNotReady) };
        if self.facts().is_none() || self.node.job.is_some() {
            return Err(PromiseRefusal::DataNotReady);
        }
        let counts = rules::promise_counts(&sync.record, &me, self.covers_policy(&sync.record))
            || self.is_listed(&sync.record, &me);
        if !counts {
            return Err(PromiseRefusal::NotListed);
        }
        if self.runs_as_primary()
            || self.leadership.is_some()
            || self.facts().is_some_and(|f| f.is_primary_shaped())
        {
            return Err(PromiseRefusal::RunsAsPrimary);
        }
        let revoking = self.server.job.as_ref().is_some_and(|j| matches!(j.job, Job::Revoke { .. }));
        if self.server.job.is_some() && !revoking {
            return Err(PromiseRefusal::Busy);
        }
        self.leader_is_gone(&sync.record, request)
    }

    /// The leader itself, or a human, waits for nothing that this member said.
    fn is_waived(&self, record: &SyncRecord, request: &PromiseRequest) -> bool {
        let consented = self.handover.as_ref().is_some_and(|(from, h)| {
            *from == record.leader.member && h.epoch == record.epoch && h.revision == self.sync_revision()
        });
        consented || request.accepts_loss
    }

    /// Whether a promise that stands already may count for this member's own takeover: it may have been given to somebody
    /// whom a human let accept loss, which frees nobody else from what was said to the leader.
    pub(crate) fn may_use_own(
        &self,
        record: &SyncRecord,
        request: &PromiseRequest,
    ) -> Result<(), PromiseRefusal> {
        if self.is_waived(record, request) { Ok(()) } else { self.may_stop_refusing(record.epoch) }
    }

    fn leader_is_gone(&self, record: &SyncRecord, request: &PromiseRequest) -> Result<(), PromiseRefusal> {
        if self.is_waived(record, request) {
            return Ok(());
        }
        self.may_stop_refusing(record.epoch)?;
        if request.trigger == Trigger::Operator {
            return Ok(());
        }
        let just_started = self.now.since(self.started_at()) < self.detection();
        if just_started && !broken!(self, RefusalForgottenOnRestart) {
            return Err(PromiseRefusal::JustStarted);
        }
        let vouched_for = !self.lease_is_over() && !self.leader_is_silent(record);
        if vouched_for || self.hears_leader(record) {
            return Err(PromiseRefusal::HearsLeader);
        }
        Ok(())
    }

    pub(crate) fn give_promise(&mut self, request: &PromiseRequest, asker: Option<MemberName>) {
        let promise = Promise {
            epoch: request.epoch,
            revision: request.revision,
            candidate: request.candidate.name.clone(),
        };
        // Promises are no votes: one that stands already serves every candidate.
        let standing =
            self.node.promise.clone().filter(|p| p.epoch == promise.epoch && p.revision == promise.revision);
        let promise = standing.unwrap_or(promise);
        if self.node.promise.as_ref() != Some(&promise) {
            self.notes.counts.promises += 1;
            self.note(Reason::PromiseGiven { candidate: promise.candidate.clone(), epoch: promise.epoch });
            let mut node = self.node.clone();
            node.promise = Some(promise.clone());
            self.persist(node);
        }
        if self.revocation.as_ref().is_none_or(|r| !r.holds_for(&promise)) {
            self.revoke_upstream(&promise);
        }
        if let (Some(revocation), Some(asker)) = (&mut self.revocation, asker)
            && !revocation.askers.contains(&asker)
        {
            revocation.askers.push(asker);
        }
        self.answer_askers();
    }

    pub(crate) fn revoke_upstream(&mut self, promise: &Promise) {
        if !self.job_free() {
            return;
        }
        self.revocation = Some(Revocation {
            promise: promise.clone(),
            since: self.now,
            position: None,
            askers: Vec::new(),
        });
        let settings = Self::settings_without_upstream();
        self.start_job(Job::Revoke { epoch: promise.epoch, settings });
    }

    pub(crate) fn revoked(&mut self, epoch: Epoch, timeline: Timeline, flush: Lsn) {
        if let Some(revocation) = self.revocation.as_mut().filter(|r| r.promise.epoch == epoch) {
            revocation.position = Some((timeline, flush));
        }
        self.answer_askers();
    }

    /// This member's own promise, once it is true.
    pub(crate) fn own_promised(&self) -> Option<Promised> {
        let revocation = self.revocation.as_ref()?;
        let (timeline, flush) = revocation.position?;
        if self.node.promise.as_ref() != Some(&revocation.promise) {
            return None;
        }
        Some(Promised {
            epoch: revocation.promise.epoch,
            revision: revocation.promise.revision,
            member: self.me_id()?,
            timeline,
            flush,
            candidate: self.may_be_promoted(),
            priority: self.member(&self.setup.me).map_or(0, |m| m.priority),
        })
    }

    fn answer_askers(&mut self) {
        let Some(promised) = self.own_promised() else { return };
        let askers = self.revocation.as_mut().map(|r| std::mem::take(&mut r.askers)).unwrap_or_default();
        for to in askers {
            self.act(crate::Action::Send { to, message: PeerMessage::Promised(promised.clone()) });
        }
    }

    /// Nobody took over and the leader lives: any member may move the revision on. Exactly one of takeover and abort
    /// wins the revision.
    pub(crate) fn abort_stale_promise(&mut self, record: &SyncRecord) {
        let Some(revocation) = &self.revocation else { return };
        if self.sync_revision() > revocation.promise.revision {
            // Void already; it is dropped as soon as its job has ended.
            return;
        }
        let due = revocation.since + self.abort_after();
        if self.now < due {
            self.timers.set(Timer::AbortPromise, due);
            return;
        }
        self.timers.set(Timer::AbortPromise, self.now + Duration::from_millis(500));
        let vouched_for = !self.lease_is_over() && !self.leader_is_silent(record);
        let leader_lives = vouched_for || self.hears_leader(record);
        if !leader_lives || self.handover.is_some() || !self.can_txn() {
            return;
        }
        self.because(Reason::AbortingPromise);
        self.notes.counts.aborts += 1;
        let txn = self.replace_sync("abort a promise that led to nothing", &record.bumped());
        self.submit(TxnFor::Bump, txn);
    }
}

pub(crate) fn refusal_to(to: MemberName, refused: PromiseRefused) -> crate::Action {
    crate::Action::Send { to, message: PeerMessage::PromiseRefused(refused) }
}
