//! Taking leave in order: say so, stop listening, wait for the sessions, cut what is left. Pure; the driver asks it what
//! is next.

use std::time::Duration;

use ha_core::MonoTime;

/// From saying that it leaves until new sessions are refused, where there are floating addresses: these move first, so
/// that nobody meets a closed port. vrrpd needs about one interval of advertisements.
pub const ANNOUNCE: Duration = Duration::from_millis(300);
/// How long sessions that were cut may take to be told why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the leave-taking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Staying,
    Announced {
        at: MonoTime,
    },
    /// Another process takes the new sessions; the old ones are in no hurry.
    HandedOver {
        at: MonoTime,
    },
    Waiting {
        since: MonoTime,
    },
    Cutting {
        deadline: MonoTime,
    },
    Gone,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take no new sessions, and end each that is open when it is idle.
    StopListening,
    /// End each session when it is idle. New ones were not taken before either.
    EndIdle,
    /// End every session.
    CutAll,
    /// End the process.
    Exit,
}

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// New sessions are taken for so long after the end was asked for.
    pub announce: Duration,
    /// Open ones may go on for so long after that.
    pub drain: Duration,
    /// Open ones may go on for so long after another process took over.
    pub upgrade: Duration,
}

/// The leave-taking of one process.
#[derive(Debug)]
pub struct Drain {
    limits: Limits,
    stage: Stage,
}

impl Drain {
    /// Nobody leaves yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, stage: Stage::Staying }
    }

    /// Other limits, which act on what has begun as well.
    pub fn change_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Staying
    }

    /// Whether new sessions are still taken.
    pub fn listens(&self) -> bool {
        matches!(self.stage, Stage::Staying | Stage::Announced { .. })
    }

    /// The end was asked for; a second time means at once.
    pub fn ask(&mut self, now: MonoTime) -> Option<Step> {
        match self.stage {
            Stage::Staying => {
                self.stage = Stage::Announced { at: now };
                None
            }
            Stage::HandedOver { .. } => Some(self.end_idle(now)),
            Stage::Announced { .. } | Stage::Waiting { .. } => Some(self.cut(now)),
            Stage::Cutting { .. } | Stage::Gone => None,
        }
    }

    /// Another process takes new sessions from now on. False when this one had begun to leave before.
    pub fn hand_over(&mut self, now: MonoTime) -> bool {
        let stays = self.stage == Stage::Staying;
        if stays {
            self.stage = Stage::HandedOver { at: now };
        }
        stays
    }

    /// What is next, with sessions open or none. Asked again after each step until there is nothing to do.
    pub fn next(&mut self, now: MonoTime, empty: bool) -> Option<Step> {
        match self.stage {
            Stage::Announced { at } if now.since(at) >= self.limits.announce => {
                self.stage = Stage::Waiting { since: at };
                Some(Step::StopListening)
            }
            Stage::HandedOver { .. } | Stage::Waiting { .. } | Stage::Cutting { .. } if empty => {
                self.stage = Stage::Gone;
                Some(Step::Exit)
            }
            Stage::HandedOver { at } if now.since(at) >= self.limits.upgrade => Some(self.end_idle(now)),
            Stage::Waiting { since } if now.since(since) >= self.limits.drain => Some(self.cut(now)),
            Stage::Cutting { deadline } if now >= deadline => {
                self.stage = Stage::Gone;
                Some(Step::Exit)
            }
            _ => None,
        }
    }

    fn end_idle(&mut self, now: MonoTime) -> Step {
        self.stage = Stage::Waiting { since: now };
        Step::EndIdle
    }

    fn cut(&mut self, now: MonoTime) -> Step {
        self.stage = Stage::Cutting { deadline: now + LAST_WORDS };
        Step::CutAll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: bool = false;
    const EMPTY: bool = true;

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn drain() -> Drain {
        let (drain, upgrade) = (Duration::from_secs(30), Duration::from_secs(3600));
        Drain::new(Limits { announce: ANNOUNCE, drain, upgrade })
    }

    #[test]
    fn it_announces_then_closes_then_waits_for_the_last_session() {
        let mut drain = drain();
        assert_eq!(drain.next(at(0), EMPTY), None, "nobody asked");
        assert_eq!((drain.ask(at(10)), drain.has_begun(), drain.listens()), (None, true, true));
        assert_eq!(drain.next(at(309), OPEN), None);
        assert_eq!(drain.next(at(310), OPEN), Some(Step::StopListening));
        assert!(!drain.listens());
        assert_eq!(drain.next(at(311), OPEN), None);
        assert_eq!(drain.next(at(900), EMPTY), Some(Step::Exit));
        assert_eq!(drain.next(at(901), EMPTY), None, "told once");
    }

    #[test]
    fn at_the_deadline_and_when_asked_again_sessions_are_cut() {
        let mut patient = drain();
        patient.ask(at(0));
        patient.next(at(300), OPEN);
        assert_eq!(patient.next(at(29_999), OPEN), None);
        assert_eq!(patient.next(at(30_000), OPEN), Some(Step::CutAll));
        assert_eq!(patient.next(at(30_999), OPEN), None);
        assert_eq!(patient.next(at(31_000), OPEN), Some(Step::Exit));

        let mut hurried = drain();
        hurried.ask(at(0));
        assert_eq!(hurried.ask(at(1)), Some(Step::CutAll));
        assert_eq!((hurried.ask(at(2)), hurried.next(at(3), EMPTY)), (None, Some(Step::Exit)));
    }
    #[test]
    fn after_a_handing_over_sessions_have_time_until_somebody_asks_or_it_is_used_up() {
        let mut drain = drain();
        assert!(drain.hand_over(at(0)));
        assert!(!drain.listens() && drain.has_begun());
        assert_eq!(drain.next(at(3_599_999), OPEN), None);
        assert_eq!(drain.next(at(3_600_000), OPEN), Some(Step::EndIdle));
        assert_eq!(drain.next(at(3_629_999), OPEN), None);
        assert_eq!(drain.next(at(3_630_000), OPEN), Some(Step::CutAll));

        let mut asked = self::drain();
        asked.hand_over(at(0));
        assert_eq!(asked.ask(at(10)), Some(Step::EndIdle));
        assert_eq!(asked.ask(at(11)), Some(Step::CutAll), "the second time means at once");

        let mut empty = self::drain();
        empty.hand_over(at(0));
        assert_eq!(empty.next(at(1), EMPTY), Some(Step::Exit));

        let mut leaving = self::drain();
        leaving.ask(at(0));
        assert!(!leaving.hand_over(at(1)), "who leaves hands nothing over");
    }

    #[test]
    fn another_limit_acts_on_what_has_begun() {
        let mut drain = drain();
        drain.ask(at(0));
        assert_eq!(drain.next(at(300), OPEN), Some(Step::StopListening));
        drain.change_limits(Limits { drain: Duration::from_secs(1), ..drain.limits });
        assert_eq!(drain.next(at(999), OPEN), None);
        assert_eq!(drain.next(at(1000), OPEN), Some(Step::CutAll));
    }
}
