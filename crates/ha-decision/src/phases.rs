//! How a change of leader goes: the times of its phases, as the member sees them that comes to lead. Told once when all
//! of them are over, and kept in the history. Nothing is decided by it.
//!
//! ```text
//!  last sign of the old leader ─ detect ─► asks for promises ─ decide ─► transaction won ─ promote ─► primary
//!                                                                                                   ├ reattach ─►
//!                                                                                                   └ reroute ──►
//! ```
//!
//! A leader that gives up says itself what it did before (`switchover.rs`); detecting is then the time from its first
//! request on.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::peer_message::{HandOver, HandOverSteps, PromiseRefused, Promised, Trigger};
use ha_core::phases::Phases;
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::{Epoch, Lsn, MemberName, MonoTime, Revision, Timeline};

use crate::action::{Action, OpId};
use crate::counts::Counts;
use crate::decider::Decider;
use crate::history::HistoryCompletion;
use crate::reason::Reason;
use crate::timers::Timer;

/// The story is told so long after the promotion at the latest, with what is known then: standbys and proxies that can be
/// reached are back within a second or two, and one that is lost would keep the story back for ever.
const TOLD_AT_THE_LATEST: Duration = Duration::from_secs(5);

/// How long a written record may take to be seen before it is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// What is noted about changes of leader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) counts: Counts,
    /// Newest sign of life of the leader of this epoch by its WAL.
    wal: Option<(Epoch, MonoTime)>,
    request: Option<HandOverHeard>,
    attempt: Option<Attempt>,
    story: Option<Story>,
    unwritten: Option<Unwritten>,
}

impl Notes {
    /// Whether something is still being timed.
    pub(crate) fn is_timing(&self) -> bool {
        self.story.is_some()
    }
}

/// The first request of a leader that gives up.
#[derive(Debug, Clone)]
struct HandOverHeard {
    epoch: Epoch,
    revision: Revision,
    at: MonoTime,
    steps: HandOverSteps,
}

/// This member tries to take over. Attempts that follow each other without a sign of the leader in between are one.
#[derive(Debug, Clone)]
struct Attempt {
    /// Epoch that is to end.
    epoch: Epoch,
    revision: Revision,
    trigger: Trigger,
    /// Where detecting began; none when nothing was heard in this life of the agent, or a human decided.
    start: Option<MonoTime>,
    began: MonoTime,
    agent_silent: Option<Duration>,
    wal_silent: Option<Duration>,
    steps: HandOverSteps,
    promises: BTreeMap<MemberName, MonoTime>,
    refusals: BTreeMap<MemberName, String>,
}

/// A leadership that was won and is not told yet.
#[derive(Debug, Clone)]
struct Story {
    epoch: Epoch,
    timeline: Timeline,
    word: &'static str,
    attempt: Option<Attempt>,
    decided: MonoTime,
    /// PostgreSQL has to be promoted first; it runs as a primary already when the cluster is new.
    promotes: bool,
    promoted: Option<MonoTime>,
    reattached: Option<MonoTime>,
    routing: Option<Routing>,
}

#[derive(Debug, Clone, Copy)]
enum Routing {
    Asked(OpId),
    Done { at: MonoTime, proxies: u32 },
}

/// A story that the store does not show yet.
#[derive(Debug, Clone)]
struct Unwritten {
    epoch: Epoch,
    timeline: Timeline,
    decided: MonoTime,
    phases: Phases,
    asked: Option<MonoTime>,
}

/// How a leadership came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Won {
    /// By the transaction of an election.
    Election,
    /// Taken up again; a new one only if an election's transaction had an unknown outcome and was applied.
    Again,
    /// By founding the cluster.
    Founding,
    /// The leader needed a new timeline.
    NewTimeline,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Attempt {
    fn of_revision(&mut self, epoch: Epoch, revision: Revision) -> Option<&mut Self> {
        (self.epoch == epoch && self.revision == revision).then_some(self)
    }
}

impl Story {
    fn is_over(&self) -> bool {
        self.reattached.is_some() && matches!(self.routing, Some(Routing::Done { .. }))
    }

    fn phases(&self) -> Phases {
        let attempt = self.attempt.as_ref();
        let since = |later: Option<MonoTime>, earlier: Option<MonoTime>| Some(ms(later?.since(earlier?)));
        let began = attempt.map(|a| a.began);
        let start = attempt.and_then(|a| a.start);
        let first = start.or(began).unwrap_or(self.decided);
        let (rerouted, proxies) = match self.routing {
            Some(Routing::Done { at, proxies }) => (Some(at).filter(|_| proxies > 0), Some(proxies)),
            _ => (None, None),
        };
        let steps = attempt.map(|a| a.steps).unwrap_or_default();
        let end = self.reattached.max(rerouted).filter(|_| self.is_over());
        let total = end.map(|end| ms(end.since(first)) + steps.stop_ms.unwrap_or(0));
        Phases {
            trigger: self.word.to_owned(),
            detect_ms: since(began, start),
            decide_ms: since(Some(self.decided), began),
            promote_ms: since(self.promoted.filter(|_| self.promotes), Some(self.decided)),
            reattach_ms: since(self.reattached, self.promoted),
            reroute_ms: since(rerouted, self.promoted),
            total_ms: total,
            agent_silent_ms: attempt.and_then(|a| a.agent_silent).map(ms),
            wal_silent_ms: attempt.and_then(|a| a.wal_silent).map(ms),
            steps,
            promises: attempt
                .map(|a| a.promises.iter().map(|(who, at)| (who.clone(), ms(at.since(a.began)))).collect())
                .unwrap_or_default(),
            refusals: attempt.map(|a| a.refusals.clone()).unwrap_or_default(),
            proxies,
            extra: Default::default(),
        }
    }
}

impl Decider {
    /// Another member leads: keeps the newest sign of life that its WAL gave.
    pub(crate) fn note_signs(&mut self, record: &SyncRecord) {
        let Some(sign) = self.last_wal_of(record.epoch) else { return };
        let known = self.notes.wal.filter(|(epoch, _)| *epoch == record.epoch).map(|(_, at)| at);
        self.notes.wal = Some((record.epoch, known.map_or(sign, |at| at.max(sign))));
    }

    fn last_wal_of(&self, epoch: Epoch) -> Option<MonoTime> {
        let view = self.postgres.as_ref()?;
        let receiver = self.instance()?.receiver.as_ref()?;
        let streams = receiver.streaming && receiver.epoch == Some(epoch);
        streams.then(|| view.at.minus(Duration::from_millis(receiver.last_message_age_ms)))
    }

    /// A leader asks to be replaced; it asks again and again, and the first time counts.
    pub(crate) fn note_request(&mut self, handover: &HandOver) {
        let known = self.notes.request.as_ref();
        if known.is_some_and(|k| k.epoch == handover.epoch && k.revision == handover.revision) {
            return;
        }
        self.notes.request = Some(HandOverHeard {
            epoch: handover.epoch,
            revision: handover.revision,
            at: self.now,
            steps: handover.steps,
        });
    }

    pub(crate) fn note_attempt(&mut self, record: &SyncRecord, trigger: Trigger) {
        self.notes.counts.election(trigger);
        let revision = self.sync_revision();
        let agent = self.peers.get(&record.leader.member).map(|peer| peer.heard_at);
        let wal = self.notes.wal.filter(|(epoch, _)| *epoch == record.epoch).map(|(_, at)| at);
        let request = self.notes.request.as_ref().filter(|_| trigger == Trigger::LeaderAsked);
        let request = request.filter(|r| r.epoch == record.epoch && r.revision == revision);
        let start = match trigger {
            Trigger::LeaderAsked => request.map(|r| r.at),
            Trigger::Operator => None,
            Trigger::LeaseExpired | Trigger::LeaderSilent => agent.max(wal),
        };
        let steps = request.map(|r| r.steps).unwrap_or_default();
        if let Some(attempt) = &mut self.notes.attempt
            && attempt.epoch == record.epoch
            && attempt.start == start
            && start.is_some()
        {
            attempt.trigger = trigger;
            if attempt.revision != revision {
                attempt.revision = revision;
                attempt.promises.clear();
            }
            return;
        }
        let silent = |at: Option<MonoTime>| {
            at.filter(|_| trigger != Trigger::LeaderAsked).map(|at| self.now.since(at))
        };
        self.notes.attempt = Some(Attempt {
            epoch: record.epoch,
            revision,
            trigger,
            start,
            began: self.now,
            agent_silent: silent(agent),
            wal_silent: silent(wal),
            steps,
            promises: BTreeMap::new(),
            refusals: BTreeMap::new(),
        });
    }

    pub(crate) fn note_promise(&mut self, promised: &Promised) {
        let now = self.now;
        let attempt = self.notes.attempt.as_mut();
        if let Some(attempt) = attempt.and_then(|a| a.of_revision(promised.epoch, promised.revision)) {
            attempt.promises.entry(promised.member.name.clone()).or_insert(now);
        }
    }

    pub(crate) fn note_refusal(&mut self, refused: &PromiseRefused) {
        let attempt = self.notes.attempt.as_mut();
        if let Some(attempt) = attempt.and_then(|a| a.of_revision(refused.epoch, refused.revision)) {
            attempt.refusals.insert(refused.member.clone(), refused.refusal.to_string());
        }
    }

    /// This member has come to lead.
    pub(crate) fn note_won(&mut self, won: Won) {
        let Some(record) = self.sync_record() else { return };
        if self.leadership.as_ref().is_none_or(|l| l.epoch != record.epoch) {
            return;
        }
        let attempt = self.notes.attempt.take_if(|a| a.epoch.next() == record.epoch);
        let word = match (won, &attempt) {
            (Won::Founding, _) => "initdb",
            (Won::NewTimeline, _) => "new_timeline",
            (Won::Election | Won::Again, Some(attempt)) => attempt.trigger.word(),
            (Won::Election | Won::Again, None) => return,
        };
        let Some(timeline) = self.reserved_timeline(&record) else { return };
        self.notes.counts.leadership(word);
        self.notes.unwritten = None;
        self.notes.story = Some(Story {
            epoch: record.epoch,
            timeline,
            word,
            attempt,
            decided: self.now,
            promotes: won != Won::Founding,
            promoted: None,
            reattached: None,
            routing: None,
        });
    }

    /// PostgreSQL is a primary on the timeline of this epoch.
    pub(crate) fn note_promoted(&mut self, epoch: Epoch) {
        let now = self.now;
        let Some(story) = self.notes.story.as_mut().filter(|s| s.epoch == epoch) else { return };
        if story.promoted.is_none() {
            story.promoted = Some(now);
            let id = self.next_op();
            if let Some(story) = &mut self.notes.story {
                story.routing = Some(Routing::Asked(id));
            }
            self.act(Action::AwaitRouting { id });
        }
    }

    pub(crate) fn rerouted(&mut self, id: OpId, proxies: u32) {
        let at = self.now;
        if let Some(story) = &mut self.notes.story
            && matches!(story.routing, Some(Routing::Asked(asked)) if asked == id)
        {
            story.routing = Some(Routing::Done { at, proxies });
        }
    }

    /// Called at every decision: follows the story, tells it when it is over, and sees to it that it is written.
    pub(crate) fn keep_story(&mut self) {
        let record = self.sync_record();
        let led = record.filter(|r| self.leadership.as_ref().is_some_and(|l| l.epoch == r.epoch));
        let Some(record) = led else {
            self.notes.story = None;
            self.notes.unwritten = None;
            return;
        };
        self.notes.story.take_if(|s| s.epoch != record.epoch);
        self.notes.unwritten.take_if(|u| u.epoch != record.epoch);
        self.follow_story(&record);
        self.write_story();
    }

    fn follow_story(&mut self, record: &SyncRecord) {
        let Some((epoch, timeline, promoted)) =
            self.notes.story.as_ref().map(|s| (s.epoch, s.timeline, s.promoted))
        else {
            return;
        };
        let on_it = self.instance().is_some_and(|i| !i.in_recovery && i.timeline == timeline);
        if promoted.is_none() && on_it && !self.observation_is_old() {
            self.note_promoted(epoch);
        }
        let Some(promoted) = self.notes.story.as_ref().and_then(|s| s.promoted) else { return };
        // Standbys may have streamed from the server while it was one itself; the promotion ends those streams.
        let seen_since = self.runs_as_primary() && self.postgres.as_ref().is_some_and(|p| p.at >= promoted);
        let attached = seen_since && self.followers_confirm(record);
        let now = self.now;
        let Some(story) = self.notes.story.as_mut() else { return };
        if attached {
            story.reattached.get_or_insert(now);
        }
        let due = promoted + TOLD_AT_THE_LATEST;
        if now < due && !story.is_over() {
            self.timers.set(Timer::Story, due);
            return;
        }
        self.tell_story();
    }

    /// Enough standbys stream for the commits of this leadership.
    fn followers_confirm(&self, record: &SyncRecord) -> bool {
        match record.policy.kind {
            PolicyKind::Quorum => {
                record.is_established()
                    && self.confirmed(record, record.policy.members.iter(), Lsn(0))
                        >= record.policy.k as usize
            }
            PolicyKind::Pinned | PolicyKind::Asynchronous => self.instance().is_some_and(|instance| {
                let follows = |name: &ha_core::standby_names::StandbyName| name.epoch == record.epoch;
                instance.senders.iter().any(|s| s.streaming && s.name.as_ref().is_some_and(follows))
            }),
        }
    }

    fn tell_story(&mut self) {
        let Some(story) = self.notes.story.take() else { return };
        let phases = story.phases();
        self.notes.counts.told(&phases);
        self.note(Reason::LeadershipTold {
            epoch: story.epoch,
            timeline: story.timeline,
            phases: Box::new(phases.clone()),
        });
        self.notes.unwritten = Some(Unwritten {
            epoch: story.epoch,
            timeline: story.timeline,
            decided: story.decided,
            phases,
            asked: None,
        });
    }

    /// Level-triggered: whatever became of an earlier attempt, the record is written until it is seen complete.
    fn write_story(&mut self) {
        let Some(view) = &self.store.view else { return };
        let connected = self.store.connected && !self.store.rolled_back && view.may_write();
        let Some(unwritten) = &mut self.notes.unwritten else { return };
        if view.history.get(&unwritten.timeline).is_none_or(|record| record.has_phases()) {
            self.notes.unwritten = None;
            return;
        }
        let due = unwritten.asked.map_or(self.now, |at| at + WRITE_AGAIN);
        if self.now < due {
            self.timers.set(Timer::Story, due);
            return;
        }
        if connected {
            unwritten.asked = Some(self.now);
            let phases = unwritten.phases.clone();
            let completion = HistoryCompletion::new(view, unwritten.timeline, unwritten.decided, phases);
            self.timers.set(Timer::Story, self.now + WRITE_AGAIN);
            self.act(Action::CompleteHistory(Box::new(completion)));
        }
    }
}
