//! Taking over: collect durable revocations from enough listed members, find who holds most, decide in one
//! transaction. What may start it differs; the decision is always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ha_core::cluster_view::{StoreKey, to_json};
use ha_core::peer_message::{
    PeerMessage, PromiseRefusal, PromiseRefused, PromiseRequest, Promised, TakeOver, Trigger,
};
use ha_core::record::{GuardArming, HistoryRecord, Policy, PolicyKind, SyncRecord};
use ha_core::{Epoch, MemberId, MemberName, MonoTime, Position, Revision};

use crate::action::{Action, LeaseChoice, RequestId};
use crate::decider::Decider;
use crate::event::TxnOutcome;
use crate::phases::Won;
use crate::promise::Revocation;
use crate::reason::{Reason, trigger_words};
use crate::request::{Refusal, RequestDone};
use crate::rules::{self, Choice, Claim, Holding, Wanted};
use crate::store::TxnFor;
use crate::timers::Timer;

/// Candidates of one list begin this much after each other, so that usually only one asks.
const RANK_DELAY: Duration = Duration::from_millis(150);
/// A member that had not heard yet that the leader hands over is asked again after this.
const ASK_AGAIN_SOON: Duration = Duration::from_millis(20);
/// After this long without enough promises the state is called blocked, and an operator gets an answer.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A takeover that this member tries.
#[derive(Debug, Clone)]
pub(crate) struct Election {
    epoch: Epoch,
    revision: Revision,
    trigger: Trigger,
    began: MonoTime,
    /// When the members whose promise is missing are asked next.
    ask_at: MonoTime,
    covered_since: Option<MonoTime>,
    deferred_until: Option<MonoTime>,
    promises: BTreeMap<MemberId, Promised>,
    refusals: BTreeMap<MemberName, PromiseRefusal>,
    request: Option<RequestId>,
    accept_loss: bool,
}

impl Decider {
    pub(crate) fn elect(&mut self, record: &SyncRecord) {
        self.drop_stale_election(record);
        if self.election.is_none() {
            self.consider_election(record);
        }
        if self.election.is_some() {
            self.drive_election(record);
        }
    }

    fn drop_stale_election(&mut self, record: &SyncRecord) {
        if let Some((_, handover)) = &self.handover
            && (handover.epoch != record.epoch || handover.revision < self.sync_revision())
        {
            self.handover = None;
        }
        let Some(election) = &self.election else { return };
        let other_revision =
            election.revision != self.sync_revision() && !broken!(self, PromiseOfAnyRevision);
        let moved = election.epoch != record.epoch || other_revision;
        let automatic = matches!(election.trigger, Trigger::LeaseExpired | Trigger::LeaderSilent);
        let leader_is_back = automatic && !self.leader_looks_gone(record);
        if (moved || leader_is_back) && self.store.pending.is_none() {
            let decided = record.epoch > election.epoch;
            let request = self.election.take().and_then(|e| e.request);
            if let Some(id) = request {
                let leader = record.leader.member.clone();
                // Who holds more was given the promises, or was faster: the failover has happened.
                let done = decided.then_some(RequestDone::Leads { member: leader.clone() });
                self.reply(id, done.ok_or(Refusal::LeaderAlive { leader }));
            }
        }
    }

    pub(crate) fn leader_looks_gone(&self, record: &SyncRecord) -> bool {
        self.store.connected
            && (self.lease_is_over() || self.leader_is_silent(record))
            && !self.hears_leader(record)
    }

    /// Nobody holds the leader's key.
    pub(crate) fn lease_is_over(&self) -> bool {
        self.store.view.as_ref().is_some_and(|v| v.leader.is_none())
    }

    fn consider_election(&mut self, record: &SyncRecord) {
        let Some(me) = self.me_id() else { return };
        if !self.store.connected || !self.lease.ready || !self.may_be_promoted() {
            return;
        }
        let asked = self.handover.as_ref().is_some_and(|(from, h)| {
            *from == record.leader.member
                && h.revision == self.sync_revision()
                && h.candidate.as_ref().is_none_or(|c| *c == self.setup.me)
        });
        if asked {
            self.begin_election(record, Trigger::LeaderAsked, None, false);
            return;
        }
        let named_other = self.handover.is_some();
        if named_other || !self.leader_looks_gone(record) || self.is_paused() {
            return;
        }
        let listed = match record.policy.kind {
            PolicyKind::Quorum => self.is_listed(record, &me) || self.covers_policy(record),
            PolicyKind::Asynchronous => true,
            PolicyKind::Pinned => {
                self.blocked_by(Reason::LeaderPinned { leader: record.leader.member.clone() });
                return;
            }
        };
        if !listed {
            return;
        }
        if !self.settings().automatic {
            self.blocked_by(Reason::NotAutomatic);
            return;
        }
        if record.policy.kind == PolicyKind::Asynchronous && !self.may_replace_asynchronous(record) {
            return;
        }
        let rank = u32::try_from(self.voters(record).iter().take_while(|m| **m < me).count()).unwrap_or(0);
        let missing = self.store.leader_missing_since.filter(|_| self.lease_is_over());
        let since = missing.or_else(|| self.silent_since(record)).unwrap_or(self.now);
        // Who has promised somebody else lets that one decide first.
        let promised_at =
            self.revocation.as_ref().filter(|r| r.is_for_another(&self.setup.me)).map(Revocation::since);
        let after_promise = promised_at.map_or(since, |at| at + self.promise_timeout() * 2);
        let due = (since.max(after_promise) + RANK_DELAY * rank).max(self.started_at() + self.detection());
        if self.now < due {
            self.timers.set(Timer::Election, due);
            return;
        }
        let trigger = if self.lease_is_over() { Trigger::LeaseExpired } else { Trigger::LeaderSilent };
        if trigger == Trigger::LeaderSilent && !self.silence_may_decide() {
            return;
        }
        self.begin_election(record, trigger, None, false);
    }

    /// Whether this life of the member's data is listed.
    pub(crate) fn is_listed(&self, record: &SyncRecord, me: &MemberId) -> bool {
        let by_name = || record.policy.members.iter().any(|m| m.name == me.name);
        record.policy.lists(me) || broken!(self, PromiseByName) && by_name()
    }

    /// Nothing proves that an asynchronous leader stopped but its guard; and only a bounded lag is accepted.
    fn may_replace_asynchronous(&mut self, record: &SyncRecord) -> bool {
        let armed = self
            .store
            .last_leader
            .as_ref()
            .is_some_and(|l| l.epoch == record.epoch && l.guard == GuardArming::Armed);
        if !armed && !self.settings().unfenced {
            self.blocked_by(Reason::LeaderUnfenced);
            return false;
        }
        let leader = self.peers.get(&record.leader.member).map(|p| p.state.flush).unwrap_or_default();
        let mine = self.instance().map(|i| i.flush).unwrap_or_default();
        let behind_bytes = leader.bytes_since(mine);
        if behind_bytes > self.settings().maximum_lag_bytes {
            self.blocked_by(Reason::TooFarBehind { behind_bytes });
            return false;
        }
        true
    }

    pub(crate) fn begin_election(
        &mut self,
        record: &SyncRecord,
        trigger: Trigger,
        request: Option<RequestId>,
        accept_loss: bool,
    ) {
        self.because(Reason::Electing { epoch: record.epoch, trigger });
        self.note_attempt(record, trigger);
        self.election = Some(Election {
            epoch: record.epoch,
            revision: self.sync_revision(),
            trigger,
            began: self.now,
            ask_at: self.now,
            covered_since: None,
            deferred_until: None,
            promises: BTreeMap::new(),
            refusals: BTreeMap::new(),
            request,
            accept_loss,
        });
    }

    /// Whose promises count: the listed members; without a list everybody who has data.
    fn voters(&self, record: &SyncRecord) -> BTreeSet<MemberId> {
        if record.policy.kind == PolicyKind::Quorum {
            return record.policy.members.clone();
        }
        let others =
            self.peers.iter().filter(|(name, _)| **name != record.leader.member).filter_map(|(name, p)| {
                p.state.incarnation.map(|incarnation| MemberId::new(name.clone(), incarnation))
            });
        others.chain(self.me_id()).collect()
    }

    fn drive_election(&mut self, record: &SyncRecord) {
        let (Some(me), Some(election)) = (self.me_id(), self.election.clone()) else { return };
        if let Some(until) = election.deferred_until {
            if self.now < until {
                self.timers.set(Timer::Election, until);
                return;
            }
            self.election = None;
            return;
        }
        let request = PromiseRequest {
            epoch: election.epoch,
            revision: election.revision,
            candidate: me.clone(),
            trigger: election.trigger,
            accepts_loss: election.accept_loss,
        };
        self.promise_to_myself(record, &request);
        self.ask_for_promises(record, &request);
        self.try_to_take_over(record, &me);
    }

    fn promise_to_myself(&mut self, record: &SyncRecord, request: &PromiseRequest) {
        let own = self.own_promised().filter(|p| p.epoch == request.epoch && p.revision == request.revision);
        let may = if own.is_some() { self.may_use_own(record, request) } else { self.may_promise(request) };
        match (may, own) {
            (Ok(()), Some(promised)) => self.promise_received(promised),
            (Ok(()), None) => self.give_promise(request, None),
            (Err(refusal), _) => {
                let member = self.setup.me.clone();
                if let Some(election) = &mut self.election {
                    election.refusals.insert(member, refusal);
                }
            }
        }
    }

    fn ask_for_promises(&mut self, record: &SyncRecord, request: &PromiseRequest) {
        let voters = self.voters(record);
        let again = self.promise_timeout();
        let now = self.now;
        let Some(election) = &mut self.election else { return };
        if now < election.ask_at {
            self.timers.set(Timer::Election, election.ask_at);
            return;
        }
        election.ask_at = now + again;
        let missing: Vec<_> = voters
            .into_iter()
            .filter(|m| m.name != request.candidate.name && !election.promises.contains_key(m))
            .map(|m| m.name)
            .collect();
        self.timers.set(Timer::Election, now + again);
        for to in missing {
            self.act(Action::Send { to, message: PeerMessage::PromiseRequest(request.clone()) });
        }
    }

    pub(crate) fn promise_received(&mut self, promised: Promised) {
        let any = broken!(self, PromiseOfAnyRevision);
        if let Some(election) = self
            .election
            .as_mut()
            .filter(|e| e.epoch == promised.epoch && (any || e.revision == promised.revision))
        {
            election.refusals.remove(&promised.member.name);
            election.promises.insert(promised.member.clone(), promised.clone());
            self.note_promise(&promised);
        }
    }

    pub(crate) fn promise_refused(&mut self, refused: PromiseRefused) {
        if let Some(election) =
            self.election.as_mut().filter(|e| e.epoch == refused.epoch && e.revision == refused.revision)
        {
            election.refusals.insert(refused.member.clone(), refused.refusal);
            if election.trigger == Trigger::LeaderAsked && refused.refusal == PromiseRefusal::HearsLeader {
                // The leader has told everybody that it wants to be replaced; there it has only not arrived yet.
                election.ask_at = election.ask_at.min(self.now + ASK_AGAIN_SOON);
            }
            self.note_refusal(&refused);
        }
    }

    /// The best candidate is told so, with the promises that show it.
    pub(crate) fn promises_handed(&mut self, takeover: TakeOver) {
        let Some(record) = self.sync_record() else { return };
        let current = takeover.epoch == record.epoch && takeover.revision == self.sync_revision();
        if !current || !self.may_be_promoted() || record.leader.member == self.setup.me {
            return;
        }
        if self.election.is_none() {
            self.begin_election(&record, takeover.trigger, None, false);
        }
        if let Some(election) = &mut self.election {
            election.deferred_until = None;
        }
        for promised in takeover.promises {
            self.promise_received(promised);
        }
    }

    fn position(&self, promised: &Promised) -> Position {
        let history = self.store.view.as_ref().and_then(|v| v.history.get(&promised.timeline));
        let history = history.filter(|_| !broken!(self, LsnWithoutEpoch));
        Position { epoch: history.map(|h| h.epoch).unwrap_or_default(), flush: promised.flush }
    }

    fn needed(&self, record: &SyncRecord) -> usize {
        if broken!(self, NoCoverageRule) {
            return 1;
        }
        rules::promises_needed(record, self.covers_policy(record))
    }

    /// This member led the epoch of the policy of a leader that is unestablished: [`rules::covers_policy`].
    pub(crate) fn covers_policy(&self, record: &SyncRecord) -> bool {
        self.node.job.is_none() && rules::covers_policy(record, self.node.led)
    }

    fn try_to_take_over(&mut self, record: &SyncRecord, me: &MemberId) {
        let voters = self.voters(record);
        let needed = self.needed(record);
        let Some(election) = self.election.clone() else { return };
        let by_name = broken!(self, PromiseByName);
        let counts = |m: &MemberId| voters.contains(m) || by_name && voters.iter().any(|v| v.name == m.name);
        let given: Vec<_> =
            election.promises.values().filter(|p| counts(&p.member) || p.member == *me).cloned().collect();
        let twice = usize::from(broken!(self, OwnPromiseTwice));
        let have = twice + given.iter().filter(|p| counts(&p.member)).count();
        let Some(mine) = given.iter().find(|p| p.member == *me).cloned() else {
            self.report_missing(record, &election, needed, have);
            return;
        };
        // It says that there was a newer record than the one that this takeover would replace. Either the transaction is
        // lost, or the store shows an older state and this member has not noticed.
        let outdated = election.refusals.values().any(|refusal| *refusal == PromiseRefusal::NewerRecord);
        if outdated && !election.accept_loss {
            self.report_missing(record, &election, needed, have);
            return;
        }
        if have < needed {
            let patience_over = self.now >= election.began + PATIENCE;
            if !(election.accept_loss && patience_over) {
                self.report_missing(record, &election, needed, have);
                return;
            }
        }
        // Enough is enough, but members that answer a moment later make a larger list.
        let covered = election.covered_since.unwrap_or(self.now);
        if let Some(e) = &mut self.election {
            e.covered_since = Some(covered);
        }
        let all = voters.iter().all(|m| election.promises.contains_key(m));
        let due = covered + self.promise_timeout();
        if !all && self.now < due {
            self.timers.set(Timer::Election, due);
            return;
        }
        let end = self.handover.as_ref().and_then(|(_, h)| h.final_lsn);
        if election.trigger == Trigger::LeaderAsked
            && !rules::reaches_the_end(record.policy.kind, end, mine.flush)
        {
            return;
        }
        self.defer_or_decide(record, &mine, &given);
    }

    fn defer_or_decide(&mut self, record: &SyncRecord, mine: &Promised, given: &[Promised]) {
        let holdings: Vec<_> = given
            .iter()
            .map(|p| Holding {
                member: &p.member,
                position: self.position(p),
                candidate: p.candidate,
                priority: p.priority,
            })
            .collect();
        let claim = Claim {
            covers: self.covers_policy(record),
            forced: self.election.as_ref().is_some_and(|e| e.accept_loss),
            preferred: self
                .handover
                .as_ref()
                .is_some_and(|(_, h)| h.candidate.as_ref() == Some(&self.setup.me)),
        };
        let others = || given.iter().map(|p| p.member.clone()).filter(|member| *member != mine.member);
        let choice = match rules::choose(record.policy.kind, &mine.member, &holdings, claim) {
            Some(Choice::Lead(_)) if broken!(self, ListWithoutEqualPosition) => {
                Some(Choice::Lead(others().collect()))
            }
            Some(Choice::Better(_) | Choice::HolderMayNotLead(_)) if broken!(self, NotTheBest) => {
                let equal = |p: &&Promised| self.position(p) == self.position(mine);
                let equals = given.iter().filter(equal).map(|p| p.member.clone());
                Some(Choice::Lead(equals.filter(|member| *member != mine.member).collect()))
            }
            chosen => chosen,
        };
        match choice {
            None => {}
            Some(Choice::HolderMayNotLead(holder)) => {
                self.blocked_by(Reason::HolderMayNotLead { holder: holder.name });
            }
            Some(Choice::Better(best)) => {
                let (best, until) = (best.name, self.now + self.abort_after());
                self.because(Reason::BetterCandidate { best: best.clone() });
                let Some(election) = &mut self.election else { return };
                election.deferred_until = Some(until);
                let message = PeerMessage::TakeOver(TakeOver {
                    epoch: election.epoch,
                    revision: election.revision,
                    trigger: election.trigger,
                    promises: given.to_vec(),
                });
                self.timers.set(Timer::Election, until);
                self.act(Action::Send { to: best, message });
            }
            Some(Choice::Lead(equals)) => self.take_over(record, mine, equals),
        }
    }

    fn policy_after(&self, record: &SyncRecord, epoch: Epoch, equals: BTreeSet<MemberId>) -> Policy {
        let settings = self.settings();
        let wanted = Wanted { mode: settings.mode, acks: settings.acks, strict_k: settings.strict_k };
        let forced = self.election.as_ref().is_some_and(|e| e.accept_loss);
        let equals = equals.into_iter().filter(|m| self.may_be_listed(m)).collect();
        rules::policy_after(record, epoch, equals, wanted, forced)
    }

    fn may_be_listed(&self, member: &MemberId) -> bool {
        self.member(&member.name).is_some_and(|m| !m.nosync)
    }

    fn take_over(&mut self, record: &SyncRecord, mine: &Promised, equals: BTreeSet<MemberId>) {
        if !self.lease.ready || !self.can_txn() {
            return;
        }
        let Some(election) = &self.election else { return };
        let trigger = election.trigger;
        let epoch = record.epoch.next();
        let policy = self.policy_after(record, epoch, equals);
        let next = rules::taken_over(record, mine.member.clone(), policy);
        let highest = self.store.view.as_ref().and_then(|v| v.highest_timeline()).unwrap_or(mine.timeline);
        let timeline = highest.max(mine.timeline).next();
        let timeline = if broken!(self, TimelineNotReserved) { mine.timeline.next() } else { timeline };
        let history = HistoryRecord {
            epoch,
            parent: mine.timeline,
            switch_lsn: mine.flush,
            member: self.setup.me.clone(),
            reason: self.accepted_loss(record).unwrap_or_else(|| trigger_words(trigger).to_owned()),
            extra: Default::default(),
        };
        let leader_revision = self.store.view.as_ref().map_or(Revision(0), |v| v.leader_revision());
        let mut txn = self.replace_sync("take over", &next);
        if !broken!(self, LeaderKeyNotCompared) {
            txn.compares.push((StoreKey::Leader, leader_revision));
        }
        if !broken!(self, TimelineNotReserved) {
            txn.compares.push((StoreKey::History(timeline), Revision(0)));
        }
        txn.puts.push(self.put_leader(&next));
        txn.puts.push((StoreKey::History(timeline), to_json(&history), LeaseChoice::None));
        txn.deletes.push(StoreKey::Switchover);
        self.submit(TxnFor::TakeOver, txn);
        if broken!(self, PromoteBeforeDecision) && self.job_free() {
            self.start_job(crate::job::Job::Promote { epoch, timeline, taken: Vec::new() });
        }
    }

    /// For the history: that a human went on without proof that nothing is lost, and who was not heard.
    fn accepted_loss(&self, record: &SyncRecord) -> Option<String> {
        let election = self.election.as_ref().filter(|election| election.accept_loss)?;
        let voters = self.voters(record);
        let (heard, missing): (Vec<_>, Vec<_>) =
            voters.iter().partition(|voter| election.promises.contains_key(voter));
        if heard.len() >= self.needed(record) {
            return None;
        }
        let missing = missing.iter().map(|member| member.name.to_string()).collect::<Vec<_>>().join(", ");
        Some(format!("an operator accepted that acknowledged commits may be lost; not heard: {missing}"))
    }

    pub(crate) fn took_over(&mut self) {
        let request = self.election.as_ref().and_then(|e| e.request);
        self.leadership_won("it took over");
        self.note_won(Won::Election);
        if let Some(id) = request {
            let member = self.setup.me.clone();
            self.reply(id, Ok(RequestDone::Leads { member }));
        }
    }

    pub(crate) fn takeover_not_won(&mut self, outcome: &TxnOutcome) {
        if let Some(id) = self.election.take().and_then(|e| e.request) {
            let message = match outcome {
                TxnOutcome::Unknown => {
                    "etcd did not say whether the deciding transaction was applied, and it still may be; \
                                        hactl list shows who leads"
                        .to_owned()
                }
                other => format!("the deciding transaction did not succeed: {other:?}"),
            };
            self.reply(id, Err(Refusal::Failed { message }));
        }
    }

    fn report_missing(&mut self, record: &SyncRecord, election: &Election, needed: usize, have: usize) {
        let due = election.began + PATIENCE;
        if self.now < due {
            self.timers.set(Timer::Election, due);
            return;
        }
        let newer = election.refusals.iter().filter(|(_, refusal)| **refusal == PromiseRefusal::NewerRecord);
        let newer: Vec<_> = newer.map(|(name, _)| name.to_string()).collect();
        let missing: Vec<_> = self
            .voters(record)
            .into_iter()
            .filter(|m| !election.promises.contains_key(m))
            .map(|m| match election.refusals.get(&m.name) {
                Some(refusal) => format!("{} ({refusal})", m.name),
                None => format!("{} (does not answer)", m.name),
            })
            .collect();
        let missing = missing.join(", ");
        self.blocked_by(if newer.is_empty() {
            Reason::PromisesMissing { epoch: record.epoch, needed, have, missing: missing.clone() }
        } else {
            Reason::OthersSawMore { epoch: record.epoch, members: newer.join(", ") }
        });
        if let Some(id) = election.request {
            self.election = None;
            self.reply(id, Err(Refusal::PromisesMissing { missing, needed, have }));
        }
    }

    /// `hactl failover`: the same decision, started by an operator.
    pub(crate) fn failover_asked(&mut self, id: RequestId, accept_loss: bool) {
        if let Err(refusal) = self.may_fail_over(accept_loss) {
            self.reply(id, Err(refusal));
            return;
        }
        if let Some(record) = self.sync_record() {
            self.begin_election(&record, Trigger::Operator, Some(id), accept_loss);
        }
    }

    fn may_fail_over(&self, accept_loss: bool) -> Result<(), Refusal> {
        let Some(sync) = self.sync().filter(|_| self.store.connected) else {
            return Err(Refusal::StoreUnreachable);
        };
        let record = &sync.record;
        let leader = record.leader.member.clone();
        let me = self.setup.me.clone();
        if leader == me {
            return Err(Refusal::LeadsAlready { member: me });
        }
        if self.hears_leader(record) {
            return Err(Refusal::LeaderAlive { leader });
        }
        if self.store.view.as_ref().is_some_and(|v| v.leader.is_some()) {
            return Err(Refusal::LeaseNotOver { leader });
        }
        if !self.may_be_promoted() || self.facts().is_none() {
            return Err(Refusal::NoFailover { member: me });
        }
        if record.policy.kind == PolicyKind::Pinned && !accept_loss {
            return Err(Refusal::Pinned { leader });
        }
        let listed = self.me_id().is_some_and(|id| record.policy.lists(&id));
        if record.policy.kind == PolicyKind::Quorum && !listed && !accept_loss {
            let listed = record.policy.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Refusal::NotListed { member: me, listed });
        }
        if self.election.as_ref().is_some_and(|e| e.request.is_some()) {
            return Err(Refusal::Busy { what: "another failover was asked for".to_owned() });
        }
        Ok(())
    }
}
