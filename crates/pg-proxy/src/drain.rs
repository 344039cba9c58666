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
    Announced { at: MonoTime },
    Waiting { deadline: MonoTime },
    Cutting { deadline: MonoTime },
    Gone,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take no new sessions.
    StopListening,
    /// End every session.
    CutAll,
    /// End the process.
    Exit,
}

/// The leave-taking of one process.
#[derive(Debug)]
pub struct Drain {
    announce: Duration,
    limit: Duration,
    stage: Stage,
}

impl Drain {
    /// Nobody leaves yet. New sessions are taken for `announce` more once it begins, and open ones may go on for
    /// `limit` after it began.
    pub fn new(announce: Duration, limit: Duration) -> Self {
        Self { announce, limit, stage: Stage::Staying }
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
            Stage::Announced { .. } | Stage::Waiting { .. } => Some(self.cut(now)),
            Stage::Cutting { .. } | Stage::Gone => None,
        }
    }

    /// What is next, with so many sessions open. Asked again after each step until there is none.
    pub fn next(&mut self, now: MonoTime, sessions: u32) -> Option<Step> {
        match self.stage {
            Stage::Announced { at } if now.since(at) >= self.announce => {
                self.stage = Stage::Waiting { deadline: at + self.limit };
                Some(Step::StopListening)
            }
            Stage::Waiting { .. } | Stage::Cutting { .. } if sessions == 0 => Some(self.exit()),
            Stage::Waiting { deadline } if now >= deadline => Some(self.cut(now)),
            Stage::Cutting { deadline } if now >= deadline => Some(self.exit()),
            _ => None,
        }
    }

    fn cut(&mut self, now: MonoTime) -> Step {
        self.stage = Stage::Cutting { deadline: now + LAST_WORDS };
        Step::CutAll
    }

    fn exit(&mut self) -> Step {
        self.stage = Stage::Gone;
        Step::Exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn drain() -> Drain {
        Drain::new(ANNOUNCE, Duration::from_secs(30))
    }

    #[test]
    fn it_announces_then_closes_then_waits_for_the_last_session() {
        let mut drain = drain();
        assert_eq!(drain.next(at(0), 0), None, "nobody asked");
        assert_eq!((drain.ask(at(10)), drain.has_begun(), drain.listens()), (None, true, true));
        assert_eq!(drain.next(at(309), 5), None);
        assert_eq!(drain.next(at(310), 5), Some(Step::StopListening));
        assert!(!drain.listens());
        assert_eq!(drain.next(at(311), 5), None);
        assert_eq!(drain.next(at(900), 0), Some(Step::Exit));
        assert_eq!(drain.next(at(901), 0), None, "told once");
    }

    #[test]
    fn at_the_deadline_and_when_asked_again_sessions_are_cut() {
        let mut patient = drain();
        patient.ask(at(0));
        patient.next(at(300), 1);
        assert_eq!(patient.next(at(29_999), 1), None);
        assert_eq!(patient.next(at(30_000), 1), Some(Step::CutAll));
        assert_eq!(patient.next(at(30_999), 1), None);
        assert_eq!(patient.next(at(31_000), 1), Some(Step::Exit));

        let mut hurried = drain();
        hurried.ask(at(0));
        assert_eq!(hurried.ask(at(1)), Some(Step::CutAll));
        assert_eq!((hurried.ask(at(2)), hurried.next(at(3), 0)), (None, Some(Step::Exit)));
    }
}
