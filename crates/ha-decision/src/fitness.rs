//! Whether this member is fit to lead at all: its storage answers, and its guard does not refuse it.
//!
//! Both look well from outside: PostgreSQL answers, heartbeats come. A leader that is not fit hands leadership over while
//! its PostgreSQL runs, as one whose PostgreSQL has died does: the promises of the listed standbys end what it can
//! confirm, so nothing acknowledged is lost, and whatever hangs here is ended when another leads, or by the guard, whose
//! deadline is not renewed any more. A member that is not fit is no candidate, and is not trusted again at once.

use std::time::Duration;

use ha_core::MonoTime;
use ha_core::record::SyncRecord;

use crate::decider::Decider;
use crate::event::StorageNews;
use crate::reason::Reason;
use crate::timers::Timer;

/// Storage that answers again is trusted after so long without a relapse: what hangs once hangs again soon.
const TRUSTED_AGAIN: Duration = Duration::from_secs(30);
/// A guard that has refused for so long is not just answering an outdated request.
const REFUSED_FOR: Duration = Duration::from_secs(3);
/// After that somebody else is to lead for so long.
const REFUSED_MEANS: Duration = Duration::from_secs(60);

/// What is known of this member's fitness.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fitness {
    /// What storage does, while it does not answer or has not been trusted again.
    storage: Option<String>,
    /// Since when it answers again.
    answers_since: Option<MonoTime>,
    /// Since when, and with which words, the guard refuses.
    refused: Option<(MonoTime, String)>,
    refused_until: MonoTime,
}

impl Decider {
    pub(crate) fn storage_news(&mut self, news: StorageNews) {
        match news {
            StorageNews::Hangs { what } => {
                if self.fitness.storage.is_none() || self.fitness.answers_since.is_some() {
                    self.note(Reason::StorageHangs { what: what.clone() });
                }
                self.fitness.storage = Some(what);
                self.fitness.answers_since = None;
            }
            StorageNews::Answers => {
                if self.fitness.storage.is_some() && self.fitness.answers_since.is_none() {
                    self.fitness.answers_since = Some(self.now);
                    self.note(Reason::StorageAnswers);
                }
            }
        }
    }

    /// The guard has refused, or armed (none).
    pub(crate) fn note_guard_refusal(&mut self, why: Option<&str>) {
        match (why, &self.fitness.refused) {
            (None, _) => {
                self.fitness.refused = None;
                self.fitness.refused_until = MonoTime(0);
            }
            (Some(why), None) => self.fitness.refused = Some((self.now, why.to_owned())),
            (Some(_), Some(_)) => {}
        }
    }

    /// Looks at the clock for what ends or begins by itself.
    pub(crate) fn review_fitness(&mut self) {
        if let Some(since) = self.fitness.answers_since {
            let due = since + TRUSTED_AGAIN;
            if self.now >= due {
                (self.fitness.storage, self.fitness.answers_since) = (None, None);
            } else {
                self.timers.set(Timer::Fitness, due);
            }
        }
        if let Some((since, _)) = &self.fitness.refused {
            let due = *since + REFUSED_FOR;
            if self.leadership.is_none() && self.now >= self.fitness.refused_until {
                self.fitness.refused = None;
            } else if self.now < due {
                self.timers.set(Timer::Fitness, due);
            } else if self.leadership.is_some() {
                self.fitness.refused_until = self.now + REFUSED_MEANS;
            }
        }
    }

    /// Why this member should not lead, if so.
    pub(crate) fn unfit(&self) -> Option<String> {
        if let Some(what) = &self.fitness.storage {
            return Some(match self.fitness.answers_since {
                None => format!("its storage does not answer: {what}"),
                Some(_) => format!("its storage answers again only since a moment ago: {what}"),
            });
        }
        let (_, why) = self.fitness.refused.as_ref()?;
        (self.now < self.fitness.refused_until).then(|| format!("its guard holds no deadline: {why}"))
    }

    /// What people must see: only while it lasts.
    pub(crate) fn fitness_alarm(&self) -> Option<String> {
        let what = self.fitness.storage.as_ref().filter(|_| self.fitness.answers_since.is_none())?;
        Some(format!("storage does not answer: {what}"))
    }

    /// A leader that is not fit asks the others to take over, while its PostgreSQL runs or does not start.
    pub(crate) fn hand_over_unfit(&mut self, record: &SyncRecord) -> bool {
        if self.is_paused() || self.maintenance.restart_asked().is_some() {
            return false;
        }
        let Some(why) = self.unfit() else { return false };
        if !self.may_ask_to_be_replaced(record) {
            return false;
        }
        self.resign(record, &why);
        true
    }
}
