//! The store as the agents reach it: one etcd member on each host, requests and answers that are lost or late, a watch
//! per agent that may lag. The store itself is the model of `ha-store`.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::cluster_view::{StoreKey, StoreView, to_json};
use ha_core::record::{LeaderRecord, MemberRecord, SyncRecord, Versioned};
use ha_core::{Epoch, MonoTime, Revision};
use ha_decision::action::Txn;
use ha_decision::{Event, HistoryCompletion, LeaseChoice, LeaseNews, OpId, TxnOutcome};
use ha_store::model::Model;
use ha_store::{KeepAlive, LeaseId, Snapshot, TxnOutcome as StoreOutcome};

use crate::clock::{MS, SECOND};
use crate::history;
use crate::mutant::Mutant;
use crate::world::{Ev, World, member_name};

pub(crate) const PREFIX: &str = "/matriarch/sim/";
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_MEMBER_EVERY: u64 = 8 * SECOND;
const MEMBER_TTL: Duration = Duration::from_secs(30);

/// The store's side.
#[derive(Debug)]
pub(crate) struct StoreSide {
    pub(crate) model: Model,
    /// Host of the etcd leader; none while there is none.
    pub(crate) leader: Option<usize>,
    pub(crate) electing: bool,
    /// All of etcd is stopped before this global time.
    pub(crate) down_until: u64,
    calls: BTreeMap<u64, Call>,
    pub(crate) known: Revision,
    /// The sync record as it is, whatever anybody believes.
    pub(crate) sync: Option<Versioned<SyncRecord>>,
    /// The newest sync record that ever was: another one only while the store shows an older state.
    pub(crate) authority: Option<Versioned<SyncRecord>>,
    pub(crate) backup: Option<Model>,
    /// What the store held before an older state was put back, until an operator has mended that.
    pub(crate) restored: Option<Snapshot>,
    /// The sync record is an older one than the authority.
    pub(crate) went_back: bool,
    /// No operator comes.
    pub(crate) never_mended: bool,
}

#[derive(Debug)]
struct Call {
    host: usize,
    agent: u64,
    what: StoreCall,
    /// Somebody still waits for the answer.
    awaited: bool,
    /// The servers that had it are gone.
    lost: bool,
    /// Newest revision that its agent knew when it was sent.
    floor: Revision,
    tries: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum StoreCall {
    Txn {
        op: OpId,
        txn: Txn,
        lease: Option<LeaseId>,
        member: Option<LeaseId>,
    },
    /// The view that must be delivered before the end of a transaction.
    ReadAfter {
        op: OpId,
        outcome: TxnOutcome,
    },
    Grant,
    GrantMember,
    KeepAlive {
        lease: LeaseId,
        sent_at: MonoTime,
    },
    /// The linearizable read after a renewal.
    ReadRenewed {
        lease: LeaseId,
        sent_at: MonoTime,
    },
    KeepMember {
        lease: LeaseId,
    },
    PutMember {
        record: MemberRecord,
        lease: LeaseId,
    },
    CompleteHistory(Box<HistoryCompletion>),
    Resync,
}

/// What the store answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Txn(StoreOutcome),
    View(Box<StoreView>),
    Lease(LeaseId),
    Kept(KeepAlive),
    Leads(Option<Epoch>),
    Put(bool),
    Failed,
}

impl StoreSide {
    /// Who waits for the answer to a call.
    pub(crate) fn caller(&self, call: u64) -> Option<usize> {
        self.calls.get(&call).map(|c| c.host)
    }

    /// Requests under way are lost with the servers that had them.
    pub(crate) fn forget_calls(&mut self) {
        self.calls.values_mut().for_each(|call| call.lost = true);
    }

    pub(crate) fn new() -> Self {
        Self {
            model: new_model(),
            leader: Some(0),
            electing: false,
            down_until: 0,
            calls: BTreeMap::new(),
            known: Revision(1),
            sync: None,
            authority: None,
            backup: None,
            restored: None,
            went_back: false,
            never_mended: false,
        }
    }
}

/// An empty store.
pub(crate) fn new_model() -> Model {
    Model::new(PREFIX, 0xE7CD, ELECTION_TIMEOUT)
}

/// The epoch that the leader record gives a host, when it hangs on this lease.
fn leads_by(host: usize, lease: LeaseId, snapshot: &Snapshot) -> Option<Epoch> {
    let entry = snapshot.get(&format!("{PREFIX}leader"))?;
    let record: LeaderRecord = serde_json::from_slice(&entry.value).ok()?;
    (record.member == member_name(host) && entry.lease == lease).then_some(record.epoch)
}

/// A snapshot as agents read it.
pub(crate) fn view(snapshot: &Snapshot) -> StoreView {
    let entries = snapshot
        .entries
        .values()
        .filter_map(|e| Some((e.key.strip_prefix(PREFIX)?, e.value.as_slice(), e.mod_revision)));
    StoreView::read(snapshot.cluster_id, snapshot.revision, entries)
}

impl World {
    pub(crate) fn txn(&mut self, host: usize, op: OpId, mut txn: Txn) {
        let Some(agent) = self.hosts[host].agent.as_ref() else { return };
        let (number, lease, member) = (agent.number, agent.store.lease, agent.store.member_lease);
        if self.mutant == Mutant::CompareReread {
            let present = self.store.sync.as_ref().map_or(Revision(0), |s| s.revision);
            let old =
                txn.compares.iter_mut().filter(|(key, revision)| *key == StoreKey::Sync && revision.0 > 0);
            old.for_each(|(_, revision)| *revision = present);
        }
        self.tally.transactions += 1;
        self.tally.aborts += u64::from(txn.purpose.starts_with("abort"));
        let needs = |choice| txn.puts.iter().any(|(_, _, c)| *c == choice);
        if needs(LeaseChoice::Leadership) && lease.is_none() || needs(LeaseChoice::Member) && member.is_none()
        {
            let reason = "no lease is held".to_owned();
            self.txn_ends(host, op, TxnOutcome::Refused { reason });
            return;
        }
        self.call(host, number, StoreCall::Txn { op, txn, lease, member });
    }

    pub(crate) fn call(&mut self, host: usize, agent: u64, what: StoreCall) {
        let id = self.number();
        let reachable = self.store_reachable(host);
        let is_txn = matches!(what, StoreCall::Txn { .. });
        let decides =
            matches!(&what, StoreCall::Txn { txn, .. } if txn.puts.iter().any(|p| p.0 == StoreKey::Sync));
        let floor = self.hosts[host].agent.as_ref().map_or(Revision(0), |a| a.store.delivered);
        self.store.calls.insert(id, Call { host, agent, what, awaited: true, lost: false, floor, tries: 0 });
        let deadline = self.plan.call_deadline;
        self.queue.after(deadline, Ev::StoreTimeout { call: id });
        if reachable {
            let mut delay = self.net.delay(&mut self.rng) + self.rng.between(MS, 8 * MS);
            let late = if decides { self.plan.late_decisions } else { 0 }.max(self.plan.late_requests);
            if self.healed_at.is_none() && self.rng.chance(late) {
                delay += self.rng.between(200 * MS, 12 * SECOND);
                self.tally.late_requests += 1;
                if is_txn && self.rng.chance(self.plan.dying_senders) {
                    let fate = self.rng.between(MS, 2 * SECOND);
                    self.queue.after(fate, Ev::AgentDies { host, agent });
                }
            }
            self.queue.after(delay, Ev::StoreArrives { call: id });
        } else if self.rng.chance(500) {
            self.queue.after(50 * MS, Ev::StoreAnswers { call: id, answer: Answer::Failed });
        }
    }

    pub(crate) fn store_arrives(&mut self, id: u64) {
        if !self.store.model.has_leader() {
            // It waits in some queue of the servers; it may be forgotten there.
            if let Some(call) = self.store.calls.get_mut(&id) {
                call.tries += 1;
                if call.tries < 20 && self.rng.chance(900) {
                    self.queue.after(150 * MS, Ev::StoreArrives { call: id });
                }
            }
            return;
        }
        let Some(call) = self.store.calls.get(&id).filter(|c| !c.lost) else { return };
        let (host, awaited, what) = (call.host, call.awaited, call.what.clone());
        if !awaited && matches!(what, StoreCall::Txn { .. }) {
            let words = || format!("a late request of pg{} arrives: {what:?}", host + 1);
            self.trace.say(self.queue.now(), words);
        }
        let answer = self.carry_out(host, &what);
        self.note_leases(&what, &answer);
        self.store_changed();
        let lost = self.healed_at.is_none() && self.rng.chance(self.plan.lost_answers);
        if lost || !self.store_reachable(host) {
            self.tally.lost_answers += u64::from(lost);
            return;
        }
        let delay = self.net.delay(&mut self.rng);
        self.queue.after(delay, Ev::StoreAnswers { call: id, answer });
    }

    /// The checker wants to know which leases live.
    fn note_leases(&mut self, what: &StoreCall, answer: &Answer) {
        match (what, answer) {
            (StoreCall::Grant, Answer::Lease(lease))
            | (StoreCall::KeepAlive { lease, .. }, Answer::Kept(KeepAlive::Renewed { .. })) => {
                self.lease_lives(*lease);
            }
            (StoreCall::Txn { .. }, Answer::Txn(StoreOutcome::Won { .. })) => self.leader_key_stands(),
            _ => {}
        }
    }

    /// Whose leader key stands, and on which lease it hangs.
    pub(crate) fn leader_key(&self) -> Option<(usize, LeaseId)> {
        let snapshot = self.store.model.peek();
        let entry = snapshot.get(&format!("{PREFIX}leader"))?;
        let record: LeaderRecord = serde_json::from_slice(&entry.value).ok()?;
        Some((self.index_of(&record.member)?, entry.lease))
    }

    fn carry_out(&mut self, host: usize, what: &StoreCall) -> Answer {
        let now = self.store_time();
        let (lease_ttl, mutant) = (self.plan.timings.lease_ttl, self.mutant);
        let model = &mut self.store.model;
        match what {
            StoreCall::Txn { txn, lease, member, .. } => {
                let mut sent = ha_store::Txn::new();
                let ignored = |key: &StoreKey| mutant == Mutant::CompareIgnored && *key == StoreKey::Sync;
                for (key, revision) in txn.compares.iter().filter(|(key, _)| !ignored(key)) {
                    sent = sent.when(format!("{PREFIX}{}", key.relative()), *revision);
                }
                for (key, value, choice) in &txn.puts {
                    let key = format!("{PREFIX}{}", key.relative());
                    let lease = match choice {
                        LeaseChoice::None => None,
                        LeaseChoice::Leadership => *lease,
                        LeaseChoice::Member => *member,
                        LeaseChoice::Fixed(ttl) => model.grant(now, *ttl).ok().map(|l| l.id),
                    };
                    sent = match lease {
                        Some(lease) => sent.put_leased(key, value.clone(), lease),
                        None => sent.put(key, value.clone()),
                    };
                }
                for key in &txn.deletes {
                    sent = sent.delete(format!("{PREFIX}{}", key.relative()));
                }
                Answer::Txn(model.txn(now, &sent))
            }
            StoreCall::ReadRenewed { lease, .. } => match model.snapshot(now) {
                Ok(snapshot) => Answer::Leads(leads_by(host, *lease, &snapshot)),
                Err(_) => Answer::Failed,
            },
            StoreCall::ReadAfter { .. } | StoreCall::Resync => {
                model.snapshot(now).map_or(Answer::Failed, |s| Answer::View(Box::new(view(&s))))
            }
            StoreCall::Grant => model.grant(now, lease_ttl).map_or(Answer::Failed, |l| Answer::Lease(l.id)),
            StoreCall::GrantMember => {
                model.grant(now, MEMBER_TTL).map_or(Answer::Failed, |l| Answer::Lease(l.id))
            }
            StoreCall::KeepAlive { lease, .. } | StoreCall::KeepMember { lease } => {
                model.keep_alive(now, *lease).map_or(Answer::Failed, Answer::Kept)
            }
            StoreCall::PutMember { record, lease } => {
                let name = record.address.clone();
                let key = format!("{PREFIX}members/{name}");
                let txn = ha_store::Txn::new().put_leased(key, to_json(record), *lease);
                Answer::Put(model.txn(now, &txn).is_won())
            }
            StoreCall::CompleteHistory(completion) => {
                let won = history::complete(model, now, completion);
                self.tally.histories_completed += u64::from(won);
                Answer::Put(won)
            }
        }
    }

    pub(crate) fn store_timeout(&mut self, id: u64) {
        let now = self.now();
        if let Some(call) = self.store.calls.get(&id)
            && self.hosts[call.host].frozen_until > now
            && self.hosts[call.host].agent.as_ref().is_some_and(|a| a.number == call.agent)
        {
            // Who stands still notices neither; afterwards an answer that is there counts, however old it is.
            let until = self.hosts[call.host].frozen_until;
            self.queue.at(until + MS, Ev::StoreTimeout { call: id });
            return;
        }
        if let Some(call) = self.store.calls.get_mut(&id).filter(|c| c.awaited) {
            call.awaited = false;
            let (host, agent, what) = (call.host, call.agent, call.what.clone());
            self.call_failed(host, agent, what);
        }
    }

    fn call_failed(&mut self, host: usize, agent: u64, what: StoreCall) {
        let now = self.now();
        let Some(a) = self.hosts[host].agent(agent) else { return };
        match what {
            StoreCall::Txn { op, .. } => self.txn_ends(host, op, TxnOutcome::Unknown),
            StoreCall::ReadAfter { op, outcome } => {
                // Its end is known and must not be told before the view: go on asking, or call it unknown.
                if self.rng.chance(300) {
                    self.txn_ends(host, op, TxnOutcome::Unknown);
                } else {
                    self.call(host, agent, StoreCall::ReadAfter { op, outcome });
                }
            }
            StoreCall::Grant | StoreCall::KeepAlive { .. } | StoreCall::ReadRenewed { .. } => {
                a.store.lease_busy = false;
                a.store.lease_due = now + 300 * MS;
            }
            StoreCall::GrantMember | StoreCall::KeepMember { .. } | StoreCall::PutMember { .. } => {
                a.store.member_busy = false;
                a.store.member_due = now + 500 * MS;
            }
            StoreCall::Resync | StoreCall::CompleteHistory(_) => {}
        }
    }

    pub(crate) fn store_answers(&mut self, id: u64, answer: Answer) {
        let now = self.now();
        let Some(call) = self.store.calls.get(&id).filter(|c| c.awaited) else { return };
        let (host, agent, what, floor) = (call.host, call.agent, call.what.clone(), call.floor);
        if self.hosts[host].frozen_until > now && self.hosts[host].agent(agent).is_some() {
            let until = self.hosts[host].frozen_until;
            self.queue.at(until, Ev::StoreAnswers { call: id, answer });
            return;
        }
        self.store.calls.remove(&id);
        let (every, known, mutant) = (self.plan.renew_every(), self.store.known, self.mutant);
        let time = self.hosts[host].time(now);
        let Some(a) = self.hosts[host].agent(agent) else { return };
        match (what, answer) {
            (StoreCall::Txn { op, .. }, Answer::Txn(outcome)) => {
                self.txn_answered(host, agent, op, outcome);
            }
            (StoreCall::Txn { op, .. }, Answer::Failed) => {
                // The connection was refused: it was never sent.
                self.txn_ends(
                    host,
                    op,
                    TxnOutcome::Refused { reason: "the store was not reached".to_owned() },
                );
            }
            (StoreCall::ReadAfter { op, outcome }, Answer::View(view)) => {
                self.news(host, 0, Event::Store(view));
                self.txn_ends(host, op, outcome);
            }
            (StoreCall::Grant, Answer::Lease(lease)) => {
                a.store.lease = Some(lease);
                a.store.lease_busy = false;
                a.store.lease_due = now + every;
                self.news(host, 0, Event::Lease(LeaseNews::Ready));
            }
            (StoreCall::KeepAlive { lease, sent_at }, Answer::Kept(KeepAlive::Renewed { .. })) => {
                self.call(host, agent, StoreCall::ReadRenewed { lease, sent_at });
            }
            (StoreCall::KeepAlive { .. }, Answer::Kept(KeepAlive::Gone)) => {
                a.store.lease = None;
                a.store.lease_busy = false;
                self.tally.leases_lost += 1;
                a.store.lease_due = now;
                self.news(host, 0, Event::Lease(LeaseNews::Gone));
            }
            (StoreCall::ReadRenewed { mut sent_at, .. }, Answer::Leads(mut leads)) => {
                a.store.lease_busy = false;
                a.store.led = leads.or(a.store.led);
                if mutant == Mutant::KeepaliveAlone {
                    leads = a.store.led;
                }
                if mutant == Mutant::AnswerTime {
                    sent_at = time;
                }
                self.news(host, 0, Event::Lease(LeaseNews::Renewed { sent_at, leads }));
            }
            (StoreCall::GrantMember, Answer::Lease(lease)) => {
                a.store.member_lease = Some(lease);
                a.store.member_busy = false;
                a.store.published = None;
                a.store.member_due = now + KEEP_MEMBER_EVERY;
                self.publish(host);
            }
            (StoreCall::KeepMember { .. }, Answer::Kept(kept)) => {
                a.store.member_busy = false;
                a.store.member_due = now + KEEP_MEMBER_EVERY;
                if kept == KeepAlive::Gone {
                    a.store.member_lease = None;
                    a.store.member_due = now;
                }
            }
            (StoreCall::PutMember { record, .. }, Answer::Put(done)) => {
                a.store.member_busy = false;
                if done {
                    a.store.published = Some(record);
                } else {
                    a.store.member_lease = None;
                    a.store.member_due = now;
                }
                self.publish(host);
            }
            (StoreCall::Resync, Answer::View(view)) => {
                a.store.connected = true;
                // What changed since that was read comes with the next round.
                a.store.stale = view.revision < known;
                let another = a.store.cluster_id != view.cluster_id || view.revision < floor;
                if floor.0 > 0 && another {
                    self.news(host, 0, Event::StoreRolledBack);
                }
                self.news(host, 0, Event::Store(view));
            }
            (what, _) => self.call_failed(host, agent, what),
        }
    }

    fn txn_answered(&mut self, host: usize, agent: u64, op: OpId, outcome: StoreOutcome) {
        match outcome {
            StoreOutcome::Won { revision } => {
                let outcome = TxnOutcome::Won { revision };
                self.call(host, agent, StoreCall::ReadAfter { op, outcome });
            }
            StoreOutcome::Lost { snapshot } => {
                self.news(host, 0, Event::Store(Box::new(view(&snapshot))));
                self.txn_ends(host, op, TxnOutcome::Lost);
            }
            StoreOutcome::Refused { reason } => {
                self.txn_ends(host, op, TxnOutcome::Refused { reason: reason.to_string() });
            }
            StoreOutcome::Unknown { .. } => self.txn_ends(host, op, TxnOutcome::Unknown),
        }
    }

    /// Renews or grants the leases that are due.
    pub(crate) fn lease_rounds(&mut self, host: usize) {
        let (now, every) = (self.now(), self.plan.renew_every());
        let h = &mut self.hosts[host];
        let (frozen, sent_at) = (h.frozen_until > now, h.time(now));
        let Some(a) = h.agent.as_mut() else { return };
        let (number, face) = (a.number, &mut a.store);
        if frozen {
            return;
        }
        let leadership = (!face.lease_busy && face.lease_due <= now).then_some(match face.lease {
            Some(lease) => StoreCall::KeepAlive { lease, sent_at },
            None => StoreCall::Grant,
        });
        let membership = (!face.member_busy && face.member_due <= now).then_some(match face.member_lease {
            Some(lease) => StoreCall::KeepMember { lease },
            None => StoreCall::GrantMember,
        });
        face.lease_busy |= leadership.is_some();
        face.member_busy |= membership.is_some();
        if leadership.is_some() {
            face.lease_due = now + every;
        }
        for what in leadership.into_iter().chain(membership) {
            self.call(host, number, what);
        }
    }

    /// Puts the member record if it differs from what stands there.
    pub(crate) fn publish(&mut self, host: usize) {
        let Some(a) = self.hosts[host].agent.as_mut() else { return };
        let (number, face) = (a.number, &mut a.store);
        if face.member_busy || face.wanted == face.published {
            return;
        }
        if let (Some(record), Some(lease)) = (face.wanted.clone(), face.member_lease) {
            face.member_busy = true;
            self.call(host, number, StoreCall::PutMember { record, lease });
        }
    }
}
