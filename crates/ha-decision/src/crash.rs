//! The leader's PostgreSQL has died while its agent lives: start it again here, or let a standby take over.
//!
//! A restart costs the replay of everything since the last checkpoint, a hand-over about half a second and a rewind
//! afterwards. What crashed once may crash again, and storage that failed cannot be trusted at all
//! (<https://wiki.postgresql.org/wiki/Fsync_Errors>), so these are handed over whatever a restart would cost.

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::postgres_view::{ControlState, PostgresProcess, PostgresView};
use ha_core::record::{PolicyKind, SyncRecord};
use ha_core::{Lsn, MonoTime};

use crate::decider::Decider;
use crate::job::StopMode;
use crate::reason::Reason;
use crate::timers::Timer;

/// Crashes are remembered for so long.
const WINDOW: Duration = Duration::from_secs(600);
/// So many crashes within [`WINDOW`] are a loop that people must look at.
const LOOP: usize = 3;
/// How fast crash recovery replays WAL on slow storage. Replay that is faster only makes the restart better than estimated.
const REPLAY_BYTES_PER_SECOND: u64 = 100 << 20;
/// A replay that takes longer costs more than a hand-over.
const REPLAY_WORTH_WAITING: Duration = Duration::from_secs(1);
/// A primary that fails to start so often in a row asks to be replaced.
const STARTS_BEFORE_RESIGNING: u32 = 2;
/// First pause before a server that crashes again and again is started; doubles up to [`PAUSE_MOST`].
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// A primary that answers nothing for so long is ended. Three looks in a row find it silent by then; a host that is busy
/// for longer serves nobody either.
const SILENT_LIMIT: Duration = Duration::from_secs(5);
/// Who asked in vain tries by itself for so long before it asks again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is known of this member's crashes as the primary, since its agent started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crashes {
    recent: VecDeque<MonoTime>,
    /// The end of the WAL when the primary was last seen alive; none while it is known to be down.
    alive_at: Option<Lsn>,
    /// The same, kept after the crash: what must be replayed up to.
    replay_to: Lsn,
    /// Since when the primary lives by its process and gives no answer.
    silent_since: Option<MonoTime>,
    /// Nobody took over when this member asked last; it does not ask again before this.
    asked_in_vain_until: Option<MonoTime>,
}

/// What to do about a primary that is down.
enum Verdict {
    Start,
    Wait(MonoTime),
    HandOver(String),
}

impl Decider {
    /// Notices a primary that ended without having been asked to.
    pub(crate) fn note_crash(&mut self, view: &PostgresView) {
        match &view.process {
            PostgresProcess::Running(instance) if !instance.in_recovery && self.leadership.is_some() => {
                self.crashes.silent_since = None;
                self.crashes.alive_at = Some(instance.flush);
            }
            PostgresProcess::Silent if !view.full && self.crashes.alive_at.is_some() => {
                self.crashes.silent_since.get_or_insert(view.at);
            }
            PostgresProcess::Stopped => {
                self.crashes.silent_since = None;
                let Some(flush) = self.crashes.alive_at.take() else { return };
                let clean = self.facts().is_some_and(|facts| facts.state == ControlState::ShutDown);
                if clean || self.server.job.is_some() || self.leadership.is_none() {
                    return;
                }
                self.crashes.replay_to = flush;
                self.crashes.recent.push_back(self.now);
                while self.crashes.recent.front().is_some_and(|at| self.now.since(*at) > WINDOW) {
                    self.crashes.recent.pop_front();
                }
                self.note(Reason::PrimaryCrashed { crashes: self.crashes.recent.len() });
            }
            _ => {}
        }
    }

    /// A primary that has given no answer for too long is ended: it is worth no more than one that is down, and those who
    /// wait for it would wait for ever.
    pub(crate) fn end_silent_primary(&mut self) {
        let Some(since) = self.crashes.silent_since else { return };
        let due = since + SILENT_LIMIT;
        if self.now < due {
            self.timers.set(Timer::RetryJob, due);
        } else if !self.is_paused() && self.server.job.is_none() {
            let seconds = self.now.since(since).as_secs();
            self.because(Reason::PrimarySilent { seconds });
            self.stop_now(StopMode::Immediate);
        }
    }

    /// Nobody took over: this member leads on.
    pub(crate) fn asked_in_vain(&mut self) {
        self.crashes.asked_in_vain_until = Some(self.now + ASK_AGAIN);
    }

    /// Whether the primary that is down may be started here now; otherwise it is being handed over, or waits.
    pub(crate) fn may_start_primary_here(&mut self, record: &SyncRecord) -> bool {
        if self.server.job.is_some() || self.observation_is_old() {
            // It may be up by now.
            return false;
        }
        match self.after_crash(record) {
            Verdict::Start => true,
            Verdict::Wait(until) => {
                self.timers.set(Timer::RetryJob, until);
                self.blocked_by(Reason::CrashLoop { crashes: self.crashes.recent.len() });
                false
            }
            Verdict::HandOver(why) => {
                self.resign(record, &why);
                false
            }
        }
    }

    fn after_crash(&self, record: &SyncRecord) -> Verdict {
        let crashes = self.crashes.recent.len();
        let replay = self.estimated_replay();
        let why = if self.server.storage_failed {
            Some("its storage failed or is full".to_owned())
        } else if self.server.failed_primary_starts >= STARTS_BEFORE_RESIGNING {
            Some("PostgreSQL cannot be started here".to_owned())
        } else if crashes >= 2 {
            Some(format!("PostgreSQL crashed {crashes} times within ten minutes"))
        } else if replay > REPLAY_WORTH_WAITING {
            Some(format!("crash recovery would take about {} s", replay.as_secs()))
        } else {
            None
        };
        if let Some(why) = why
            && self.may_ask_to_be_replaced(record)
        {
            return Verdict::HandOver(why);
        }
        let last = self.crashes.recent.back().copied().unwrap_or_default();
        let doublings = u32::try_from(crashes.saturating_sub(LOOP)).unwrap_or(u32::MAX).min(8);
        let due = last + (PAUSE_FIRST * 2_u32.pow(doublings)).min(PAUSE_MOST);
        if crashes >= LOOP && self.now < due { Verdict::Wait(due) } else { Verdict::Start }
    }

    /// How long crash recovery may take: the WAL since the last checkpoint.
    fn estimated_replay(&self) -> Duration {
        let Some(facts) = self.facts() else { return Duration::ZERO };
        let bytes = self.crashes.replay_to.bytes_since(facts.checkpoint);
        Duration::from_millis(bytes.saturating_mul(1000) / REPLAY_BYTES_PER_SECOND)
    }

    /// Somebody may take over, and was not asked in vain just now: one who asks and is not heard only loses time.
    pub(crate) fn may_ask_to_be_replaced(&self, record: &SyncRecord) -> bool {
        let asked_lately = self.crashes.asked_in_vain_until.is_some_and(|until| self.now < until);
        !asked_lately && self.somebody_may_take_over(record)
    }

    /// A listed standby is heard; whether it holds enough, its promise will show.
    fn somebody_may_take_over(&self, record: &SyncRecord) -> bool {
        record.policy.kind == PolicyKind::Quorum
            && record.policy.members.iter().any(|member| {
                let heard = self.peers.get(&member.name).filter(|_| self.is_heard(&member.name));
                heard.is_some_and(|peer| {
                    peer.state.incarnation == Some(member.incarnation) && peer.state.candidate
                })
            })
    }
}
