//! The hardware watchdog behind a deadline: when the device is opened, pinged and stopped.
//!
//! Opening a device starts it, and whoever dies while it runs takes the machine with it. So it is opened for a leader
//! only (a standby must survive the end of its guard), before the deadline is acknowledged, and stopped when there is
//! nothing to fence any more. In between it is pinged only while the reset that a ping allows comes before the lease
//! ends: when renewals stop the pings stop too, the guard kills PostgreSQL, sees that nothing is left, and is in time to
//! stop the device. Where it does not get so far the machine is reset before anybody else may lead.
//!
//! One case is bounded and not excluded: a guard that is killed makes the kernel ping once more (a close without the
//! magic character). The reset then comes one timeout after its death; that is after the lease's end only if renewals had
//! stopped for half the lease before.

mod device;
pub(crate) mod layer;
mod reason;
mod simulated;

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::MonoTime;
use ha_core::guard_link::{LayerMode, WatchdogStatus};

pub use device::{Unfit, WatchdogFacts, WatchdogRules, WatchdogSight, WatchdogTrouble, option};
pub use reason::WatchdogReason;
pub use simulated::{SimulatedKind, SimulatedWatchdog, errno};

/// Pinged at least so often, and four times within its timeout.
const EVERY: Duration = Duration::from_secs(1);
/// The last ping before they stop comes so long before it would be forbidden: a thread is woken late, never early.
const BEFORE_LAST: Duration = Duration::from_millis(50);
/// What could not be opened is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// The same for a device that runs without us: it resets the machine if that takes long.
const TRY_AGAIN_SOON: Duration = Duration::from_millis(250);

/// Calls that take longer than this are not allowed for: pings would stop on a healthy host.
const SLOW_MOST: Duration = Duration::from_secs(1);

/// What is to be done with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogAction {
    /// Look at it without opening it. Completion: [`WatchdogEvent::Seen`].
    Look,
    /// Open it and set its timeout. Completion: [`WatchdogEvent::Opened`].
    Open {
        /// Whole seconds; a device may make another of it.
        timeout: Duration,
    },
    /// Write to it. Completion: [`WatchdogEvent::Pinged`].
    Ping,
    /// Stop it: write the magic character, close it. Completion: [`WatchdogEvent::Closed`].
    Close,
}

/// What became of it. `began` is the time before the first system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchdogEvent {
    /// It was looked at.
    Seen(Result<WatchdogSight, WatchdogTrouble>),
    /// It is open and has a timeout, or is not open.
    Opened {
        /// When.
        began: MonoTime,
        /// What it is.
        result: Result<WatchdogFacts, WatchdogTrouble>,
    },
    /// It was written to.
    Pinged {
        /// When.
        began: MonoTime,
        /// Whether that worked.
        result: Result<(), WatchdogTrouble>,
    },
    /// It is closed.
    Closed,
}

/// What the device is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing could have to be ended.
    Nothing,
    /// A lease that ends then, by the store's own count.
    Lease(MonoTime),
    /// Something ought to have ended and perhaps has not.
    Fence,
}

/// An open device.
#[derive(Debug, Clone)]
struct Held {
    identity: String,
    timeout: Duration,
    /// It can be stopped.
    stoppable: bool,
    /// It stands behind deadlines. One that is unfit and cannot be stopped is only kept from resetting the machine.
    counts: bool,
    pinged: MonoTime,
    failing: Option<WatchdogTrouble>,
    told_withheld: bool,
}

#[derive(Debug, Clone)]
enum Device {
    Closed,
    /// An earlier guard left it running.
    LeftRunning,
    /// Being looked at, and to be opened then.
    Opening,
    Open(Held),
    /// Being stopped.
    Closing,
}

/// The device and what is known of it. Tells what is to be done by [`Watchdog::take`].
#[derive(Debug)]
pub(crate) struct Watchdog {
    rules: WatchdogRules,
    name: String,
    device: Device,
    sight: WatchdogSight,
    unfit: Option<Unfit>,
    retry_at: MonoTime,
    /// How long calls take: a ping counts from its end at the latest.
    slowest: Duration,
    told_caused_boot: bool,
    out: VecDeque<Said>,
}

/// Something for the program or for the log.
#[derive(Debug)]
pub(crate) enum Said {
    Do(WatchdogAction),
    Note(WatchdogReason),
}

impl Watchdog {
    /// No device at all.
    pub(crate) fn off() -> Self {
        let rules = WatchdogRules {
            mode: LayerMode::Off,
            timeout: Duration::ZERO,
            longest: Duration::ZERO,
            after_deadline: Duration::ZERO,
        };
        Self::new(rules, String::new(), false)
    }

    pub(crate) fn new(rules: WatchdogRules, name: String, left_running: bool) -> Self {
        let mut watchdog = Self {
            rules,
            name,
            device: if left_running { Device::LeftRunning } else { Device::Closed },
            sight: WatchdogSight::default(),
            unfit: None,
            retry_at: MonoTime(0),
            slowest: Duration::ZERO,
            told_caused_boot: false,
            out: VecDeque::new(),
        };
        if watchdog.is_wanted() && !left_running {
            watchdog.out.push_back(Said::Do(WatchdogAction::Look));
        }
        watchdog
    }

    pub(crate) fn take(&mut self) -> Option<Said> {
        self.out.pop_front()
    }

    /// The margin between a deadline and the lease's end.
    pub(crate) fn after_deadline(&self) -> Duration {
        self.rules.after_deadline
    }

    fn is_wanted(&self) -> bool {
        self.rules.mode != LayerMode::Off
    }

    /// Whether it stands behind deadlines now.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(&self.device, Device::Open(held) if held.counts && held.failing.is_none())
    }

    /// An agent waits: what could not be opened is tried now.
    pub(crate) fn try_at_once(&mut self) {
        self.retry_at = MonoTime(0);
    }

    pub(crate) fn is_being_opened(&self) -> bool {
        matches!(self.device, Device::Opening)
    }

    /// A device is there and is not what it should be.
    pub(crate) fn is_degraded(&self) -> bool {
        match &self.device {
            Device::Open(held) => !held.counts || held.failing.is_some(),
            _ => self
                .unfit
                .as_ref()
                .is_some_and(|unfit| *unfit != Unfit::Trouble(WatchdogTrouble::Absent) || self.is_required()),
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.rules.mode == LayerMode::Required
    }

    /// Whether a deadline may only be held with it, and it is not there: why.
    pub(crate) fn missing(&self) -> Option<String> {
        (self.is_required() && !self.is_behind()).then(|| {
            let why = self.why_not().unwrap_or_else(|| "it has not been opened yet".to_owned());
            format!("guard.watchdog = \"required\", but {} is not behind the deadline: {why}", self.name)
        })
    }

    fn why_not(&self) -> Option<String> {
        if let Device::Open(Held { failing: Some(trouble), .. }) = &self.device {
            return Some(format!("a ping failed: {trouble}"));
        }
        self.unfit.as_ref().map(ToString::to_string)
    }

    pub(crate) fn status(&self) -> WatchdogStatus {
        let text = match (&self.device, self.why_not()) {
            _ if !self.is_wanted() => "not wanted".to_owned(),
            (Device::Open(held), None) => format!("{} ({})", self.name, held.identity),
            (_, Some(why)) => format!("{}: {why}", self.name),
            (Device::LeftRunning, None) => format!("{}: left running by an earlier guard", self.name),
            (Device::Closed | Device::Opening | Device::Closing, None) => {
                format!("{} ({}): opened when a deadline is held", self.name, self.sight.identity)
            }
        };
        let timeout = match &self.device {
            Device::Open(held) => Some(held.timeout),
            _ => None,
        };
        WatchdogStatus { mode: self.rules.mode, timeout, text }
    }

    /// When [`Self::settle`] has something to do if nothing else happens.
    pub(crate) fn poll_timeout(&self, need: Need) -> Option<MonoTime> {
        match (&self.device, need) {
            (Device::Open(held), _) => self.next_ping(held, need),
            (Device::Closed, Need::Lease(_)) => self.unfit.is_some().then_some(self.retry_at),
            (Device::LeftRunning, Need::Nothing | Need::Lease(_)) => Some(self.retry_at),
            _ => None,
        }
    }

    fn next_ping(&self, held: &Held, need: Need) -> Option<MonoTime> {
        let regular = held.pinged + EVERY.min(held.timeout / 4);
        match need {
            _ if !held.counts => Some(regular),
            Need::Nothing => Some(regular),
            Need::Fence => None,
            Need::Lease(expiry) => {
                let end = expiry.minus(held.timeout + self.slowest);
                let last = end.minus(BEFORE_LAST);
                if held.pinged < last {
                    Some(regular.min(last))
                } else {
                    (!held.told_withheld).then(|| end + Duration::from_millis(1))
                }
            }
        }
    }

    /// Does what is due.
    pub(crate) fn settle(&mut self, now: MonoTime, need: Need) {
        if !self.is_wanted() {
            return;
        }
        let due = self.poll_timeout(need).is_some_and(|at| at <= now);
        match (&mut self.device, need) {
            (Device::Closed, Need::Lease(expiry)) if self.unfit.is_none() || now >= self.retry_at => {
                self.begin_to_open(now, Some(expiry));
            }
            (Device::LeftRunning, Need::Lease(expiry)) if due => self.begin_to_open(now, Some(expiry)),
            (Device::LeftRunning, Need::Nothing) if due => self.begin_to_open(now, None),
            (Device::Open(held), Need::Nothing) if held.stoppable => self.close(),
            (Device::Open(held), _) if due => {
                let may = !held.counts
                    || match need {
                        Need::Nothing => true,
                        Need::Lease(expiry) => now + self.slowest + held.timeout <= expiry,
                        Need::Fence => false,
                    };
                if may {
                    (held.told_withheld, held.pinged) = (false, now);
                    self.do_(WatchdogAction::Ping);
                } else if !std::mem::replace(&mut held.told_withheld, true) {
                    let reset_at = held.pinged + held.timeout;
                    self.note(WatchdogReason::Withheld { reset_at });
                }
            }
            _ => {}
        }
    }

    /// Opens the device unless that itself would keep the machine alive for too long.
    fn begin_to_open(&mut self, now: MonoTime, expiry: Option<MonoTime>) {
        let reset_by = now + self.slowest + self.rules.bound();
        if expiry.is_some_and(|expiry| reset_by > expiry) {
            // With the next renewal there is time.
            self.unfit = Some(Unfit::TooLate);
            self.retry_at = now + TRY_AGAIN_SOON;
            return;
        }
        self.device = Device::Opening;
        self.do_(WatchdogAction::Look);
    }

    pub(crate) fn handle_event(&mut self, now: MonoTime, event: WatchdogEvent) {
        match event {
            WatchdogEvent::Seen(seen) => self.seen(now, seen),
            WatchdogEvent::Opened { began, result } => self.opened(now, began, result),
            WatchdogEvent::Pinged { began, result } => self.pinged(now, began, result),
            WatchdogEvent::Closed => {
                self.device = Device::Closed;
                if self.unfit.is_none() {
                    self.note(WatchdogReason::Stopped);
                }
            }
        }
    }

    fn seen(&mut self, now: MonoTime, seen: Result<WatchdogSight, WatchdogTrouble>) {
        let judged = match seen {
            Ok(sight) => {
                self.sight = sight;
                self.rules.judge_sight(&self.sight)
            }
            Err(trouble) => Err(Unfit::Trouble(trouble)),
        };
        let opening = matches!(self.device, Device::Opening);
        match judged {
            Ok(()) if opening => self.do_(WatchdogAction::Open { timeout: self.rules.timeout }),
            Ok(()) => {
                self.unfit = None;
                if self.sight.active {
                    self.note(WatchdogReason::ActiveAlready { device: self.name.clone() });
                }
            }
            Err(unfit) => self.give_up(now, unfit),
        }
    }

    fn opened(&mut self, now: MonoTime, began: MonoTime, result: Result<WatchdogFacts, WatchdogTrouble>) {
        self.note_pace(now.since(began));
        let facts = match result {
            Ok(facts) => WatchdogFacts { nowayout: facts.nowayout.or(self.sight.nowayout), ..facts },
            Err(trouble) => {
                self.give_up(now, Unfit::Trouble(trouble));
                return;
            }
        };
        if facts.caused_boot && !std::mem::replace(&mut self.told_caused_boot, true) {
            self.note(WatchdogReason::CausedBoot { identity: facts.identity.clone() });
        }
        let judged = self.rules.judge_facts(&facts);
        let held = Held {
            identity: facts.identity,
            timeout: facts.timeout.unwrap_or(self.rules.timeout),
            stoppable: facts.nowayout != Some(true),
            counts: judged.is_ok(),
            pinged: began,
            failing: None,
            told_withheld: false,
        };
        match judged {
            Ok(longer) => {
                self.unfit = None;
                self.note(WatchdogReason::Started {
                    device: self.name.clone(),
                    identity: held.identity.clone(),
                    timeout: held.timeout,
                    wanted: longer.then_some(self.rules.timeout),
                });
                self.device = Device::Open(held);
            }
            Err(unfit) => {
                let stoppable = held.stoppable;
                self.give_up(now, unfit);
                self.device = Device::Open(held);
                if stoppable {
                    self.close();
                }
            }
        }
    }

    /// Not used, for now.
    fn give_up(&mut self, now: MonoTime, unfit: Unfit) {
        if self.unfit.as_ref() != Some(&unfit) {
            self.note(WatchdogReason::NotUsed { device: self.name.clone(), unfit: unfit.clone() });
        }
        self.unfit = Some(unfit);
        self.retry_at = now + TRY_AGAIN;
        if matches!(self.device, Device::Opening) {
            self.device = Device::Closed;
        }
    }

    fn pinged(&mut self, now: MonoTime, began: MonoTime, result: Result<(), WatchdogTrouble>) {
        self.note_pace(now.since(began));
        let Device::Open(held) = &mut self.device else { return };
        // A failed one is tried again as soon as one that worked.
        held.pinged = began;
        let before = std::mem::replace(&mut held.failing, result.err());
        let reason = match (&before, &held.failing) {
            (None, Some(trouble)) => WatchdogReason::PingFailed { trouble: trouble.clone() },
            (Some(_), None) => WatchdogReason::PingsAgain,
            _ => return,
        };
        self.note(reason);
    }

    /// The guard ends: what it leaves behind.
    pub(crate) fn farewell(&mut self) {
        if let Device::Open(held) = &self.device
            && !held.stoppable
        {
            let timeout = held.timeout;
            self.note(WatchdogReason::LeftRunning { timeout });
        }
    }

    fn close(&mut self) {
        self.device = Device::Closing;
        self.do_(WatchdogAction::Close);
    }

    /// What calls took lately; one that was slow long ago must not keep pings back for ever.
    fn note_pace(&mut self, took: Duration) {
        self.slowest = took.max(self.slowest / 2).min(SLOW_MOST);
    }

    fn do_(&mut self, action: WatchdogAction) {
        self.out.push_back(Said::Do(action));
    }

    fn note(&mut self, reason: WatchdogReason) {
        self.out.push_back(Said::Note(reason));
    }
}
