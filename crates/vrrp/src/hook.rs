//! When the program runs that follows the holder of a floating address, such as one that moves it by a cloud's interface.
//!
//! The program is told what should be, not what has changed: it may be run again at any time, it is repeated until it
//! succeeds, and what is no longer wanted is broken off. So it ends right whatever was lost or late on the way.

use std::time::Duration;

use ha_core::MonoTime;

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// This host should have the address.
    pub holds: bool,
    /// Number of the holding that this is about: whoever acts elsewhere for a lower one is late.
    pub epoch: u64,
    /// Why, in words.
    pub reason: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAction {
    /// Run the program; its end is told by [`Hook::ended`].
    Run(Wanted),
    /// Run the one that looks whether all is as it should be; its end is told by [`Hook::ended`].
    Check(Wanted),
    /// End what runs: it is not wanted any more. Its end is not waited for, but nothing else runs before it.
    BreakOff,
}

/// First pause after a failure; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The hook of one floating address.
#[derive(Debug)]
pub struct Hook {
    /// How often it is looked whether all is as it should be; `None` = never.
    check_interval: Option<Duration>,
    wanted: Option<Wanted>,
    /// It has been done.
    done: bool,
    /// What runs: whether it is the check, and whether it was broken off.
    running: Option<Running>,
    failures: u32,
    /// When something is due.
    at: Option<MonoTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    check: bool,
    broken_off: bool,
}

impl Hook {
    /// Nothing is wanted yet.
    pub fn new(check_interval: Option<Duration>) -> Self {
        Self { check_interval, wanted: None, done: false, running: None, failures: 0, at: None }
    }

    /// What should be from now on. The same once more changes nothing; a lower epoch is late and changes nothing either.
    pub fn want(&mut self, now: MonoTime, wanted: Wanted) -> Option<HookAction> {
        if let Some(old) = &self.wanted
            && (wanted.epoch < old.epoch || (wanted.epoch, wanted.holds) == (old.epoch, old.holds))
        {
            return None;
        }
        (self.wanted, self.done, self.failures, self.at) = (Some(wanted), false, 0, Some(now));
        self.next(now)
    }

    /// What was run has ended.
    pub fn ended(&mut self, now: MonoTime, success: bool) -> Option<HookAction> {
        let ended = self.running.take()?;
        if ended.broken_off {
            return self.next(now);
        }
        match (ended.check, success) {
            (_, true) => {
                (self.done, self.failures) = (true, 0);
                self.at = self.check_interval.map(|interval| now + interval);
                // What was just done is looked at at once: the interface of a cloud may say yes and mean later.
                if !ended.check {
                    self.at = self.check_interval.map(|_| now);
                }
            }
            (true, false) => (self.done, self.at) = (false, Some(now + self.pause())),
            (false, false) => self.at = Some(now + self.pause()),
        }
        self.next(now)
    }

    /// This host ends: what it should have it should have no longer. To be called until [`Self::is_over`].
    pub fn end(&mut self, now: MonoTime, reason: &str) -> Option<HookAction> {
        match &self.wanted {
            Some(Wanted { holds: true, epoch, .. }) => {
                let wanted = Wanted { holds: false, epoch: *epoch, reason: reason.to_owned() };
                self.want(now, wanted)
            }
            _ => self.next(now),
        }
    }

    /// Whether a host that ends has nothing to wait for: it was not told to have anything, or told once to leave it and that
    /// has ended, well or not. What comes then is the next holder's.
    pub fn is_over(&self) -> bool {
        let leaves = matches!(self.running, Some(Running { check: false, .. }));
        !leaves && self.wanted.as_ref().is_none_or(|wanted| !wanted.holds && (self.done || self.failures > 0))
    }

    /// The time asked for has come; harmless if it has not.
    pub fn handle_timeout(&mut self, now: MonoTime) -> Option<HookAction> {
        self.next(now)
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.at.filter(|_| self.running.is_none())
    }

    /// How it stands, in words.
    pub fn state(&self) -> String {
        let Some(wanted) = &self.wanted else { return String::new() };
        let what = if wanted.holds { "hold" } else { "leave" };
        let how = match (self.done, self.failures) {
            (true, _) => "done".to_owned(),
            (false, 0) => "in work".to_owned(),
            (false, failures) => format!("FAILED {failures} times, tried again"),
        };
        format!("{what}, epoch {}: {how}", wanted.epoch)
    }

    /// Whether it has failed and not succeeded since.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    fn pause(&mut self) -> Duration {
        let doublings = self.failures.min(5);
        self.failures = self.failures.saturating_add(1);
        (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
    }

    fn next(&mut self, now: MonoTime) -> Option<HookAction> {
        let wanted = self.wanted.clone()?;
        if let Some(running) = &mut self.running {
            let fresh = self.at == Some(now) && !self.done && self.failures == 0;
            return (fresh && !std::mem::replace(&mut running.broken_off, true))
                .then_some(HookAction::BreakOff);
        }
        self.at.filter(|at| *at <= now)?;
        self.at = None;
        let check = self.done && self.check_interval.is_some();
        self.running = Some(Running { check, broken_off: false });
        Some(if check { HookAction::Check(wanted) } else { HookAction::Run(wanted) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HookAction::{BreakOff, Check, Run};

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn wanted(holds: bool, epoch: u64) -> Wanted {
        Wanted { holds, epoch, reason: "test".to_owned() }
    }

    #[test]
    fn it_is_repeated_until_it_succeeds() {
        let mut hook = Hook::new(None);
        assert_eq!(hook.want(at(0), wanted(true, 7)), Some(Run(wanted(true, 7))));
        assert_eq!((hook.poll_timeout(), hook.want(at(5), wanted(true, 7))), (None, None));
        let mut now = 10;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(hook.ended(at(now), false), None);
            assert!(hook.is_failing() && hook.state().contains("FAILED"), "{}", hook.state());
            now += pause * 1000;
            assert_eq!(hook.poll_timeout(), Some(at(now)));
            assert_eq!(hook.handle_timeout(at(now - 1)), None);
            assert_eq!(hook.handle_timeout(at(now)), Some(Run(wanted(true, 7))));
        }
        assert_eq!(hook.ended(at(now), true), None);
        assert_eq!((hook.poll_timeout(), hook.state().as_str()), (None, "hold, epoch 7: done"));
        assert_eq!(hook.handle_timeout(at(now + 1_000_000)), None);
    }

    #[test]
    fn what_is_newer_breaks_off_what_runs_and_follows_it() {
        let mut hook = Hook::new(None);
        assert!(hook.want(at(0), wanted(true, 7)).is_some());
        assert_eq!(hook.want(at(10), wanted(false, 7)), Some(BreakOff));
        assert_eq!(hook.want(at(20), wanted(true, 8)), None, "it is ending already");
        assert_eq!(
            hook.ended(at(30), true),
            Some(Run(wanted(true, 8))),
            "success of what is not wanted counts nothing"
        );
        assert_eq!(hook.want(at(40), wanted(false, 7)), None, "late");
        assert_eq!(hook.ended(at(50), true), None);
        assert_eq!(hook.state(), "hold, epoch 8: done");
    }

    #[test]
    fn what_waits_for_its_next_attempt_gives_way_at_once() {
        let mut hook = Hook::new(None);
        assert!(hook.want(at(0), wanted(true, 7)).is_some());
        assert_eq!(hook.ended(at(1), false), None);
        assert_eq!(hook.want(at(2), wanted(false, 9)), Some(Run(wanted(false, 9))));
    }

    #[test]
    fn a_host_that_ends_leaves_once_what_it_had_and_nothing_else() {
        // Nothing was ever wanted.
        let mut hook = Hook::new(None);
        assert_eq!((hook.end(at(0), "stopped"), hook.is_over()), (None, true));
        let left = Wanted { reason: "stopped".to_owned(), ..wanted(false, 7) };

        assert!(hook.want(at(0), wanted(true, 7)).is_some());
        assert_eq!(hook.ended(at(1), true), None);
        assert!(!hook.is_over(), "it has the address");
        assert_eq!(hook.end(at(2), "stopped"), Some(Run(left.clone())));
        assert_eq!((hook.end(at(3), "stopped"), hook.is_over()), (None, false));
        assert_eq!(hook.ended(at(4), false), None);
        assert!(hook.is_over(), "tried once");

        // What still runs for the holding is broken off first.
        let mut hook = Hook::new(Some(Duration::from_secs(30)));
        assert!(hook.want(at(0), wanted(true, 7)).is_some());
        assert_eq!(hook.end(at(1), "stopped"), Some(BreakOff));
        assert_eq!((hook.end(at(2), "stopped"), hook.is_over()), (None, false));
        assert_eq!(hook.ended(at(3), false), Some(Run(left.clone())));
        assert!(!hook.is_over());
        // The check that follows is nothing to wait for.
        assert_eq!(hook.ended(at(4), true), Some(Check(left)));
        assert!(hook.is_over());

        // Left already, and that runs still.
        let mut hook = Hook::new(None);
        assert_eq!(hook.want(at(0), wanted(false, 8)), Some(Run(wanted(false, 8))));
        assert_eq!((hook.end(at(1), "stopped"), hook.is_over()), (None, false));
        assert_eq!((hook.ended(at(2), true), hook.is_over()), (None, true));
    }

    #[test]
    fn what_was_done_is_looked_at_and_done_again_when_it_does_not_hold() {
        let mut hook = Hook::new(Some(Duration::from_secs(30)));
        assert!(hook.want(at(0), wanted(true, 7)).is_some());
        assert_eq!(hook.ended(at(100), true), Some(Check(wanted(true, 7))));
        assert_eq!(hook.ended(at(200), true), None);
        assert_eq!(hook.handle_timeout(at(30_199)), None);
        assert_eq!(hook.handle_timeout(at(30_200)), Some(Check(wanted(true, 7))));
        assert_eq!(hook.ended(at(30_300), false), None);
        assert_eq!(hook.handle_timeout(at(31_300)), Some(Run(wanted(true, 7))));
        assert_eq!(hook.ended(at(31_400), true), Some(Check(wanted(true, 7))));
    }
}
