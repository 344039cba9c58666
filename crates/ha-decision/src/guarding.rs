//! Until when this member may lead, and what the guard is told.
//!
//! The deadline is the send time of the newest *evidence* plus TTL minus margins. Evidence is a confirmed renewal of the
//! lease while the leader record names this member; in an established quorum state also fresh echoes of k listed
//! members, who stop echoing once they have promised somebody else. Durability never rests on this: it bounds stale
//! reads, and commits below `synchronous_commit = on`.

use std::time::Duration;

use ha_core::record::{GuardArming, PolicyKind, SyncRecord};
use ha_core::{Epoch, MonoTime};

use crate::action::{Action, GuardCommand};
use crate::decider::Decider;
use crate::event::GuardNews;
use crate::job::StopMode;
use crate::reason::Reason;
use crate::setup::GuardNeed;
use crate::timers::Timer;

/// A deadline is sent to the guard again only when it has moved this far: echoes come twice a second.
const WORTH_SENDING: Duration = Duration::from_millis(250);
/// How long the guard may take to answer before it is asked again.
const GUARD_ANSWERS: Duration = Duration::from_secs(1);
/// A supervisor starts a dead guard again within a second; one that is away for longer is reported as not armed.
const GUARD_IS_AWAY: Duration = Duration::from_secs(5);
/// The guard's own bound for a hold.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// What is known of the deadline and the guard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guarding {
    own: Option<(Epoch, MonoTime)>,
    armed: Option<(Epoch, MonoTime)>,
    asked: Option<(Epoch, MonoTime, MonoTime)>,
    refused: Option<String>,
    unavailable: bool,
    /// Since when it cannot be reached.
    away_since: Option<MonoTime>,
    held: Option<MonoTime>,
}

impl Guarding {
    pub(crate) fn deadline(&self, epoch: Option<Epoch>) -> Option<MonoTime> {
        self.own.filter(|(e, _)| Some(*e) == epoch).map(|(_, d)| d)
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }
}

impl Decider {
    pub(crate) fn guard_news(&mut self, news: GuardNews) {
        self.guarding.unavailable = false;
        if !matches!(news, GuardNews::Unavailable) {
            self.guarding.away_since = None;
        }
        match news {
            GuardNews::Armed { epoch, deadline } => {
                self.guarding.armed = Some((epoch, deadline));
                self.guarding.refused = None;
                self.note_guard_refusal(None);
            }
            GuardNews::Refused { reason, .. } => {
                if self.guarding.refused.as_ref() != Some(&reason) {
                    self.note(Reason::WaitingForGuard { why: reason.clone() });
                }
                self.note_guard_refusal(Some(&reason));
                self.guarding.refused = Some(reason);
                // Whatever it holds now is not what was believed: the next command is a whole one.
                self.guarding.armed = None;
            }
            GuardNews::Fenced { epoch } => {
                self.note(Reason::Fenced { epoch });
                // The guard arms this epoch again only for a leadership that was taken up again since.
                if self.leadership.as_ref().is_some_and(|l| l.epoch <= epoch) {
                    self.leadership = None;
                    self.guarding.own = None;
                }
                self.guarding.armed = None;
                self.guarding.asked = None;
            }
            GuardNews::Reachable => self.guarding.armed = None,
            GuardNews::Unavailable => {
                self.guarding.unavailable = true;
                self.guarding.away_since.get_or_insert(self.now);
                self.guarding.armed = None;
                self.guarding.asked = None;
            }
        }
    }

    /// Whether a leadership of this member will be announced as guarded.
    pub(crate) fn guard_will_arm(&self) -> bool {
        self.setup.guard != GuardNeed::Off && !self.guarding.unavailable
    }

    /// Whether what the leader record says of the guard is no longer so: after a lost lease the others rely on it.
    pub(crate) fn guard_record_is_wrong(&mut self, recorded: GuardArming) -> bool {
        match recorded {
            GuardArming::Unarmed => self.guarding.is_armed(),
            GuardArming::Armed => {
                let Some(since) = self.guarding.away_since else { return false };
                let due = since + GUARD_IS_AWAY;
                if self.now < due {
                    self.timers.set(Timer::Guard, due);
                }
                self.now >= due
            }
        }
    }

    fn evidence(&self, record: &SyncRecord) -> Option<MonoTime> {
        let renewed = self.lease.leads.filter(|(epoch, _)| *epoch == record.epoch).map(|(_, at)| at);
        let echoed = if record.is_established() && record.policy.kind == PolicyKind::Quorum {
            let mut sent: Vec<_> =
                record.policy.members.iter().filter_map(|m| self.gossip.echoes.get(m)).copied().collect();
            sent.sort_unstable();
            let k = record.policy.k as usize;
            sent.len().checked_sub(k).map(|i| sent[i])
        } else {
            None
        };
        renewed.max(echoed)
    }

    /// Moves the own deadline and the guard's forward as far as the evidence goes.
    pub(crate) fn supply_guard(&mut self) {
        self.release_guard();
        let Some((epoch, generation)) = self.leadership.as_ref().map(|l| (l.epoch, l.generation)) else {
            return;
        };
        let Some(record) = self.sync_record().filter(|r| r.epoch == epoch) else { return };
        let Some(evidence) = self.evidence(&record) else { return };
        let t = &self.setup.timings;
        let deadline = evidence + t.lease_ttl.saturating_sub(t.drift + t.net_margin);
        let own = self.guarding.own.filter(|(e, _)| *e == epoch).map_or(deadline, |(_, d)| d.max(deadline));
        self.guarding.own = Some((epoch, own));
        if self.setup.guard == GuardNeed::Off || own <= self.now {
            return;
        }
        self.hold_for_maintenance(epoch);
        let armed = self.guarding.armed.filter(|(e, _)| *e == epoch);
        let asked = self.guarding.asked.filter(|(e, ..)| *e == epoch);
        if let Some((_, wanted, at)) = asked
            && own < wanted + WORTH_SENDING
            && (armed.is_some_and(|(_, d)| d >= wanted) || self.now < at + GUARD_ANSWERS)
        {
            if armed.is_none() {
                self.timers.set(Timer::Guard, at + GUARD_ANSWERS);
            }
            return;
        }
        self.guarding.asked = Some((epoch, own, self.now));
        let command = match armed {
            Some(_) => GuardCommand::Renew { epoch, deadline: own },
            None => GuardCommand::Arm { epoch, generation, deadline: own },
        };
        self.act(Action::Guard(command));
    }

    fn hold_for_maintenance(&mut self, epoch: Epoch) {
        let record = self.store.view.as_ref().and_then(|v| v.maintenance.as_ref());
        match (record.map(|m| m.record.for_seconds), self.guarding.held) {
            (Some(seconds), None) if self.guarding.armed.is_some() => {
                let until = self.now + Duration::from_secs(seconds).min(LONGEST_HOLD);
                self.guarding.held = Some(until);
                self.act(Action::Guard(GuardCommand::Hold { epoch, until }));
            }
            (None, Some(_)) => {
                self.guarding.held = None;
                self.act(Action::Guard(GuardCommand::Hold { epoch, until: self.now }));
            }
            _ => {}
        }
    }

    /// Nothing is left to fence, or only a standby runs: the guard may forget the deadline. It checks by itself.
    fn release_guard(&mut self) {
        let Some((epoch, _)) = self.guarding.armed else { return };
        let harmless = self.is_stopped() || self.instance().is_some_and(|i| i.in_recovery);
        if self.leadership.is_none() && harmless && self.server.job.is_none() {
            self.guarding.armed = None;
            self.guarding.asked = None;
            self.guarding.own = None;
            self.act(Action::Guard(GuardCommand::Release { epoch }));
        }
    }

    /// Whether PostgreSQL may begin to take writes: the deadline lies comfortably ahead and, where wanted, the guard
    /// holds it.
    pub(crate) fn guard_ready(&mut self, epoch: Epoch) -> bool {
        let comfortable = self.now + self.setup.timings.demote_lead;
        let own = self.guarding.deadline(Some(epoch)).is_some_and(|d| d > comfortable);
        let armed = self.guarding.armed.is_some_and(|(e, d)| e == epoch && d > comfortable);
        let ready = match self.setup.guard {
            GuardNeed::Off => own,
            GuardNeed::Required => own && armed,
            GuardNeed::Automatic => own && (armed || self.guarding.unavailable),
        };
        if !ready {
            let why = match &self.guarding.refused {
                Some(reason) => reason.clone(),
                None if !own => "the lease is not confirmed".to_owned(),
                None if self.guarding.unavailable => "the guard cannot be reached".to_owned(),
                None => "it has not answered yet".to_owned(),
            };
            self.because(Reason::WaitingForGuard { why });
        } else if !armed && self.setup.guard == GuardNeed::Automatic {
            self.because(Reason::Unprotected);
        }
        ready
    }

    /// The agent's own step before the guard's: a primary whose evidence runs out is ended in time.
    pub(crate) fn demote_before_deadline(&mut self) -> bool {
        let Some(epoch) = self.leadership.as_ref().map(|l| l.epoch) else { return false };
        let Some(deadline) = self.guarding.deadline(Some(epoch)) else { return false };
        if self.is_paused() || !self.runs_as_primary() {
            return false;
        }
        let at = deadline.minus(self.setup.timings.demote_lead);
        if self.now < at {
            self.timers.set(Timer::Demote, at);
            return false;
        }
        self.because(Reason::LeaseRunsOut { epoch });
        self.stop_now(StopMode::Immediate);
        true
    }

    /// PostgreSQL runs as a primary, but the sync record names somebody else: end it at once.
    pub(crate) fn fence_if_deposed(&mut self) -> bool {
        let Some(record) = self.sync_record() else { return false };
        let leads = self.me_id().is_some_and(|me| record.is_led_by(&me));
        if leads {
            return false;
        }
        if self.leadership.take().is_some() {
            self.list_change = None;
            self.gossip.echoes.clear();
            self.read_leases.forget();
        }
        if !self.runs_as_primary() || self.postgres.as_ref().is_some_and(|p| p.at < self.server.changed_at) {
            return false;
        }
        self.because(Reason::Deposed { leader: record.leader.member.clone(), epoch: record.epoch });
        self.stop_now(StopMode::Immediate);
        true
    }
}
