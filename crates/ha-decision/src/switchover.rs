//! The leader gives up, planned or because it must: checkpoint, let the proxies hold new sessions, clean stop (or shut
//! clients out of the running server), ask the named standby to take over, follow it; or call it off and lead on.

use std::time::Duration;

use ha_core::cluster_view::{StoreKey, to_json};
use ha_core::peer_message::{HandOverSteps, PeerMessage};
use ha_core::record::{PolicyKind, SwitchoverRecord, SyncRecord};
use ha_core::standby_names::StandbyName;
use ha_core::{Lsn, MemberId, MemberName, MonoTime};

use crate::action::{Action, LeaseChoice, OpId, RequestId, Txn};
use crate::decider::Decider;
use crate::job::{Access, Job, ServerSettings, StopMode};
use crate::reason::Reason;
use crate::request::{Refusal, RequestDone, SwitchoverMethod};
use crate::store::TxnFor;
use crate::timers::Timer;

/// How often the request to take over is repeated.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How long a leader whose PostgreSQL is down waits for somebody to take over: a takeover with consent takes well below
/// a second, and a promise that led to nothing is aborted after two.
const RESIGNATION_LIMIT: Duration = Duration::from_secs(5);

/// How long the candidate may take to give a sign of life: five rounds of gossip, and the checkpoint came before.
const SIGN_OF_LIFE: Duration = Duration::from_millis(2500);

/// After every proxy holds new sessions: sessions that were let through just before are still logging in, and a stop
/// would refuse them. Costs nobody anything, because sessions go on meanwhile.
const LAST_LOGINS: Duration = Duration::from_millis(150);

/// How long the stop waits for proxies to confirm that they hold new sessions. A confirmation takes one round trip and
/// costs nothing, because sessions go on meanwhile; a proxy that hangs or has just lost power must not delay the
/// switchover noticeably, and its clients lose no more than without a hold.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A checkpoint before the outage, so that the one at the stop is small.
    Checkpoint,
    /// The record for proxies and people is being written.
    Announce,
    /// The claims say that new sessions should wait; the proxies are waited for.
    Hold,
    /// Clients are being shut out of the running server.
    ShutOut,
    /// Clean stop.
    Stop,
    /// PostgreSQL is down (or cannot be started), or nobody can write to it; the others are asked.
    Ask,
}

/// The proxies were asked to hold new sessions.
#[derive(Debug, Clone)]
struct Hold {
    id: OpId,
    since: MonoTime,
    /// When it is over, once all of them do.
    confirmed: Option<MonoTime>,
}

/// A leader that gives up.
#[derive(Debug, Clone)]
pub(crate) struct Switchover {
    request: Option<RequestId>,
    pub(crate) to: Option<MemberName>,
    method: SwitchoverMethod,
    pub(crate) final_lsn: Option<Lsn>,
    stage: Stage,
    began: MonoTime,
    checkpointed: Option<MonoTime>,
    stops_since: Option<MonoTime>,
    asked: Option<MonoTime>,
    hold: Option<Hold>,
    /// Clients were shut out of a server that runs on: one that was just logging in may still read, and what proxies were
    /// told about reads must run out before anybody else leads.
    readers_until: MonoTime,
    why: String,
}

impl Switchover {
    /// Whether new sessions should wait for the successor.
    pub(crate) fn is_holding(&self) -> bool {
        self.hold.is_some()
    }

    /// How long the steps up to now took, for the successor's history.
    pub(crate) fn steps(&self, now: MonoTime) -> HandOverSteps {
        let ms = |later: Option<MonoTime>, earlier: Option<MonoTime>| {
            Some(u64::try_from(later?.since(earlier?).as_millis()).unwrap_or(u64::MAX))
        };
        HandOverSteps {
            checkpoint_ms: ms(self.checkpointed, Some(self.began)),
            hold_ms: ms(self.stops_since, self.checkpointed),
            stop_ms: ms(Some(now), self.stops_since),
        }
    }

    pub(crate) fn resignation(now: MonoTime, readers_until: MonoTime, why: &str) -> Self {
        Self {
            request: None,
            to: None,
            method: SwitchoverMethod::CleanStop,
            final_lsn: None,
            stage: Stage::Ask,
            began: now,
            checkpointed: None,
            stops_since: None,
            asked: None,
            hold: None,
            readers_until,
            why: why.to_owned(),
        }
    }
}

impl Decider {
    pub(crate) fn switchover_asked(
        &mut self,
        id: RequestId,
        candidate: Option<&MemberName>,
        method: SwitchoverMethod,
    ) {
        let chosen = self.choose_candidate(candidate).and_then(|to| match method {
            SwitchoverMethod::CleanStop => Ok(to),
            SwitchoverMethod::ShutOut if self.sync().is_some_and(|s| stands_without_leader(&s.record)) => {
                Ok(to)
            }
            SwitchoverMethod::ShutOut => Err(Refusal::NeedsCleanStop),
        });
        match chosen {
            Err(refusal) => self.reply(id, Err(refusal)),
            Ok(to) => {
                self.because(Reason::SwitchingOver { to: to.clone(), stage: "checkpoint" });
                self.switchover = Some(Switchover {
                    request: Some(id),
                    to: Some(to),
                    method,
                    final_lsn: None,
                    stage: Stage::Checkpoint,
                    began: self.now,
                    checkpointed: None,
                    stops_since: None,
                    asked: None,
                    hold: None,
                    readers_until: MonoTime(0),
                    why: "an operator asked for it".to_owned(),
                });
                self.start_side_job(Job::Checkpoint);
            }
        }
    }

    fn choose_candidate(&self, wanted: Option<&MemberName>) -> Result<MemberName, Refusal> {
        let record = match self.sync() {
            Some(sync) if self.store.connected => sync.record.clone(),
            _ => return Err(Refusal::StoreUnreachable),
        };
        if self.leadership.is_none() || !self.runs_as_primary() {
            let leader = Some(record.leader.member).filter(|l| *l != self.setup.me);
            return Err(Refusal::NotLeader { leader });
        }
        if self.switchover.is_some()
            || self.server.side_job.is_some()
            || self.maintenance.restart_asked().is_some()
        {
            return Err(Refusal::Busy { what: "PostgreSQL of the leader is being changed".to_owned() });
        }
        if self.is_paused() && wanted.is_none() {
            let what = "maintenance mode: name the candidate".to_owned();
            return Err(Refusal::Busy { what });
        }
        if let Some(name) = wanted {
            return self.check_candidate(&record, name).map(|_| name.clone());
        }
        let mut refusals = Vec::new();
        let mut best: Option<(u32, Lsn, MemberName)> = None;
        for name in self.others() {
            match self.check_candidate(&record, &name) {
                Ok(flush) => {
                    let priority = self.member(&name).map_or(0, |m| m.priority);
                    best = best.max(Some((priority, flush, name)));
                }
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
        best.map(|(.., name)| name).ok_or_else(|| Refusal::NoCandidate { why: refusals.join("; ") })
    }

    fn check_candidate(&self, record: &SyncRecord, name: &MemberName) -> Result<Lsn, Refusal> {
        let member = || name.clone();
        let Some(setup) = self.member(name) else {
            let known = self.setup.members.iter().map(|m| m.name.to_string()).collect::<Vec<_>>().join(", ");
            return Err(Refusal::UnknownMember { member: member(), known });
        };
        if *name == self.setup.me {
            return Err(Refusal::LeadsAlready { member: member() });
        }
        if setup.nofailover {
            return Err(Refusal::NoFailover { member: member() });
        }
        let Some(peer) = self.peers.get(name).filter(|_| self.is_heard(name)) else {
            return Err(Refusal::AgentSilent { member: member() });
        };
        let id = peer.state.incarnation.map(|i| MemberId::new(member(), i));
        if record.policy.kind == PolicyKind::Quorum && !id.as_ref().is_some_and(|id| record.policy.lists(id))
        {
            let listed =
                record.policy.members.iter().map(|m| m.name.to_string()).collect::<Vec<_>>().join(", ");
            return Err(Refusal::NotListed { member: member(), listed });
        }
        let (Some(id), Some(instance)) = (id, self.instance()) else {
            return Err(Refusal::NotStreaming { member: member() });
        };
        let sender = instance.senders.iter().find(|s| {
            s.streaming && s.name.as_ref().is_some_and(|n| n.member == id && n.epoch == record.epoch)
        });
        let Some(sender) = sender else { return Err(Refusal::NotStreaming { member: member() }) };
        let behind_bytes = instance.flush.bytes_since(sender.flush);
        if behind_bytes > self.settings().maximum_lag_bytes {
            return Err(Refusal::TooFarBehind { member: member(), behind_bytes, at: sender.flush });
        }
        Ok(sender.flush)
    }

    /// One step; called while the sync record still names this member.
    pub(crate) fn switch_over(&mut self, record: &SyncRecord) {
        let Some(switchover) = self.switchover.clone() else { return };
        let limit = switchover.began + self.limit_of(&switchover);
        if self.now >= limit && self.server.job.is_none() {
            self.call_off("nobody took over in time");
            return;
        }
        self.timers.set(Timer::Switchover, limit.max(self.now + ASK_AGAIN));
        match switchover.stage {
            Stage::Checkpoint | Stage::ShutOut => {}
            Stage::Announce => self.announce(record, &switchover),
            Stage::Hold => self.hold_sessions(record),
            Stage::Stop => self.stop_for_switchover(),
            Stage::Ask => self.ask_to_take_over(record, &switchover),
        }
    }

    /// Who was asked for nothing but help goes on alone sooner: clients wait meanwhile.
    fn limit_of(&self, switchover: &Switchover) -> Duration {
        let limit = self.setup.timings.switchover_limit;
        if switchover.request.is_some() { limit } else { limit.min(RESIGNATION_LIMIT) }
    }

    pub(crate) fn switchover_checkpointed(&mut self) {
        let now = self.now;
        if let Some(switchover) = self.switchover.as_mut().filter(|s| s.stage == Stage::Checkpoint) {
            switchover.stage = Stage::Announce;
            switchover.checkpointed = Some(now);
        }
    }

    fn announce(&mut self, record: &SyncRecord, switchover: &Switchover) {
        let Some(to) = switchover.to.clone() else { return };
        if !self.candidate_still_lives(record, &to, switchover.began) {
            return;
        }
        let from = self.setup.me.clone();
        let note = SwitchoverRecord { from, to, epoch: record.epoch, extra: Default::default() };
        // What an attempt that was called off left there says nothing about this one.
        let announced = self.store.view.as_ref().and_then(|v| v.switchover.as_ref());
        if announced.is_some_and(|a| a.record == note) {
            self.begin_hold(record);
            return;
        }
        if !self.can_txn() {
            return;
        }
        self.submit(
            TxnFor::Announce,
            Txn {
                purpose: "announce the switchover",
                compares: vec![(StoreKey::Sync, self.sync_revision())],
                puts: vec![(StoreKey::Switchover, to_json(&note), LeaseChoice::Member)],
                deletes: Vec::new(),
            },
        );
    }

    /// Before anything is stopped: the candidate qualifies still, and was heard *after* the request. One that died a
    /// moment ago would cost the whole limit without a primary.
    fn candidate_still_lives(&mut self, record: &SyncRecord, to: &MemberName, began: MonoTime) -> bool {
        let fresh = self.peers.get(to).is_some_and(|p| p.connected && p.heard_at > began);
        let due = began + SIGN_OF_LIFE;
        let refusal = match self.check_candidate(record, to) {
            Ok(_) if fresh => return true,
            Ok(_) if self.now < due => {
                self.timers.set(Timer::Switchover, due);
                return false;
            }
            Ok(_) => Refusal::AgentSilent { member: to.clone() },
            Err(refusal) => refusal,
        };
        self.refuse_switchover(refusal);
        false
    }

    /// Nothing was stopped yet: this member leads on as if nothing had been asked.
    fn refuse_switchover(&mut self, refusal: Refusal) {
        self.note(Reason::SwitchoverCalledOff { why: refusal.to_string() });
        if let Some(id) = self.switchover.take().and_then(|s| s.request) {
            self.reply(id, Err(refusal));
        }
    }

    /// From here on the claims ask the proxies to let new sessions wait for the successor; running ones go on.
    fn begin_hold(&mut self, record: &SyncRecord) {
        let id = self.next_op();
        let Some(switchover) = &mut self.switchover else { return };
        switchover.stage = Stage::Hold;
        switchover.hold = Some(Hold { id, since: self.now, confirmed: None });
        if let Some(to) = switchover.to.clone() {
            self.because(Reason::SwitchingOver { to, stage: "proxies hold new sessions" });
        }
        self.act(Action::HoldSessions { id });
        self.hold_sessions(record);
    }

    fn hold_sessions(&mut self, record: &SyncRecord) {
        let Some(switchover) = &self.switchover else { return };
        let (Some(hold), Some(to)) = (&switchover.hold, switchover.to.clone()) else { return };
        let due = hold.confirmed.unwrap_or(hold.since + HOLD_LIMIT);
        if self.now < due {
            self.timers.set(Timer::Switchover, due);
            return;
        }
        if self.peers.get(&to).is_none_or(|p| !p.connected) {
            self.refuse_switchover(Refusal::AgentSilent { member: to });
            return;
        }
        if !self.shut_clients_out(record, &to) {
            self.stop_instead();
        }
    }

    /// Begins the way without a stop; false where it was not asked for, or is not open any more.
    fn shut_clients_out(&mut self, record: &SyncRecord, to: &MemberName) -> bool {
        let asked = self.switchover.as_ref().is_some_and(|s| s.method == SwitchoverMethod::ShutOut);
        let provable = stands_without_leader(record);
        // A change of the list is under way: only a stopped server cannot confirm by the wrong one of the two.
        let settled = self.list_change.is_none() && self.store.pending.is_none() && self.server.job.is_none();
        let incarnation = self.peers.get(to).and_then(|peer| peer.state.incarnation);
        let applied = self.server.applied.as_ref().map(|applied| applied.settings.clone());
        let (true, Some(incarnation), Some(applied)) = (asked && provable && settled, incarnation, applied)
        else {
            return false;
        };
        self.because(Reason::SwitchingOver { to: to.clone(), stage: "shutting clients out" });
        let now = self.now;
        if let Some(switchover) = &mut self.switchover {
            switchover.stage = Stage::ShutOut;
            switchover.stops_since.get_or_insert(now);
        }
        let settings = ServerSettings { access: Access::Closed, ..applied };
        let member = MemberId::new(to.clone(), incarnation);
        self.start_job(Job::ShutOut { settings, successor: StandbyName { member, epoch: record.epoch } });
        true
    }

    /// Nobody can write any more, and the successor has all that was written.
    pub(crate) fn clients_shut_out(&mut self, end: Lsn) {
        let readers_until = self.read_leases.told_until();
        if let Some(switchover) = self.switchover.as_mut().filter(|s| s.stage == Stage::ShutOut) {
            switchover.stage = Stage::Ask;
            if !broken!(self, ConsentBeforeLeaseEnds) {
                switchover.readers_until = readers_until;
            }
            switchover.final_lsn = Some(end);
            // From here on this member must win a compare-and-swap before it may let clients in again: the promises that it
            // asks for end what it can confirm.
            self.leadership = None;
        }
    }

    /// The clean stop, also after clients could not be shut out of the running server.
    pub(crate) fn stop_instead(&mut self) {
        let Some(switchover) = &mut self.switchover else { return };
        if matches!(switchover.stage, Stage::Hold | Stage::ShutOut) {
            switchover.stage = Stage::Stop;
            self.stop_for_switchover();
        }
    }

    /// Every connected proxy has put the hold in force.
    pub(crate) fn sessions_held(&mut self, id: OpId, proxies: u32) {
        let over = if proxies > 0 { self.now + LAST_LOGINS } else { self.now };
        let hold = self.switchover.as_mut().and_then(|s| s.hold.as_mut());
        if let Some(hold) = hold.filter(|hold| hold.id == id) {
            hold.confirmed.get_or_insert(over);
        }
    }

    fn stop_for_switchover(&mut self) {
        if self.server.job.is_some() {
            return;
        }
        if let Some(to) = self.switchover.as_ref().and_then(|s| s.to.clone()) {
            self.because(Reason::SwitchingOver { to, stage: "clean stop" });
        }
        self.list_change = None;
        let now = self.now;
        if let Some(switchover) = &mut self.switchover {
            switchover.stops_since.get_or_insert(now);
        }
        // From here on this member must win a compare-and-swap before it may run as the primary again.
        self.leadership = None;
        self.stop_now(StopMode::Fast);
    }

    pub(crate) fn server_stopped(&mut self, final_lsn: Option<Lsn>) {
        if let Some(switchover) = self.switchover.as_mut().filter(|s| s.stage == Stage::Stop) {
            switchover.stage = Stage::Ask;
            switchover.final_lsn = final_lsn;
        }
        self.maintenance.server_stopped();
    }

    fn ask_to_take_over(&mut self, record: &SyncRecord, switchover: &Switchover) {
        let due = switchover.asked.map_or(self.now, |at| at + ASK_AGAIN).max(switchover.readers_until);
        if self.now < due {
            self.timers.set(Timer::Switchover, due);
            return;
        }
        if let Some(to) = switchover.to.clone() {
            self.because(Reason::SwitchingOver { to, stage: "asking it to take over" });
        } else {
            self.because(Reason::AsksToBeReplaced { why: switchover.why.clone() });
        }
        if let Some(s) = &mut self.switchover {
            s.asked = Some(self.now);
        }
        self.timers.set(Timer::Switchover, self.now + ASK_AGAIN);
        let message = PeerMessage::HandOver(self.hand_over_message(record));
        for to in self.others() {
            self.act(Action::Send { to, message: message.clone() });
        }
    }

    fn call_off(&mut self, why: &str) {
        self.note(Reason::SwitchoverCalledOff { why: why.to_owned() });
        self.server.failed_primary_starts = 0;
        self.server.storage_failed = false;
        self.asked_in_vain();
        if let Some(id) = self.switchover.take().and_then(|s| s.request) {
            let seconds = self.setup.timings.switchover_limit.as_secs();
            self.reply(id, Err(Refusal::CalledOff { seconds, why: why.to_owned() }));
        }
    }

    /// Somebody else leads: what was asked for has happened.
    pub(crate) fn finish_switchover(&mut self, record: &SyncRecord) {
        let Some(switchover) = self.switchover.take() else { return };
        self.server.failed_primary_starts = 0;
        self.server.storage_failed = false;
        if let Some(id) = switchover.request {
            let member = record.leader.member.clone();
            self.reply(id, Ok(RequestDone::Leads { member }));
        }
    }
}

/// Whether a successor may do without the leader's clean stop. Without a list only its end proves that nothing is missing,
/// and where commits need more standbys than the successor finds they would wait for the old leader's rewind.
fn stands_without_leader(record: &SyncRecord) -> bool {
    let policy = &record.policy;
    policy.kind == PolicyKind::Quorum && record.is_established() && policy.members.len() > policy.k as usize
}
