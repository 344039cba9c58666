//! What a Backup does: listen, and decide when to take over.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::MonoTime;

use super::VirtualRouter;
use super::validation::Valid;
use crate::reason::{Cause, Reason};
use crate::setup::Setup;
use crate::state::{ActiveSeen, State};
use crate::timers::Timer;

/// An Active's interval is adopted within a factor of ours, so that no single packet can put a takeover off for
/// minutes or make it fire at once.
const INTERVAL_FACTOR: u32 = 10;

/// A peer that is heard and not understood: alive, so that taking over would make two Actives.
#[derive(Debug)]
pub(super) struct Conflict {
    /// First packet; the waiting counts from here.
    since: MonoTime,
    /// Until when it counts as alive.
    alive_until: MonoTime,
    /// Whether the waiting has been told.
    told: bool,
}

/// Another cluster that uses our identifier and was there first. Two that fight with advertisements would take the address
/// from each other's clients, so we wait until it is gone, however long that takes.
#[derive(Debug)]
pub(super) struct Foreign {
    source: IpAddr,
    /// Until when it counts as there.
    there_until: MonoTime,
    /// Whether the waiting has been told.
    told: bool,
}

impl VirtualRouter {
    /// Listens for a whole Down interval first, wherever it comes from.
    pub(super) fn become_backup(&mut self, now: MonoTime, because: Cause) {
        self.drop_address();
        for timer in [Timer::Advertise, Timer::Announce, Timer::Preempt, Timer::Aside] {
            self.timers.clear(timer);
        }
        self.change(now, State::Backup, because);
        self.active_interval = self.setup.interval;
        (self.active, self.conflict, self.gives_way, self.settles_at) = (None, None, None, None);
        self.listen_from(now);
    }

    /// The link came back: a switch may not forward yet, so that silence means nothing.
    pub(super) fn settle(&mut self, now: MonoTime) {
        self.settles_at = Some(now + self.setup.link_settle);
        self.listen_from(now);
    }

    /// RFC 9568 section 6.4.2, with tiers.
    pub(super) fn heard_as_backup(&mut self, now: MonoTime, heard: &Valid) {
        let Valid { source, priority, interval, .. } = *heard;
        self.settles_at = None;
        let active = ActiveSeen { source, priority, heard_at: now };
        let before = self.active.replace(active);
        if before.is_some_and(|before| before.source != source) {
            self.moves.moved(now);
        }
        if priority == 0 {
            self.timers.clear(Timer::Preempt);
            self.give_way(now, Cause::ActiveLeft { source });
            return;
        }
        self.timers.clear(Timer::Farewell);
        if !self.is_worse(priority) {
            let shortest = self.setup.interval / INTERVAL_FACTOR;
            self.active_interval = interval.clamp(shortest, self.setup.interval * INTERVAL_FACTOR);
        }
        self.weigh(now, active);
    }

    /// What the Active's priority means beside our own.
    fn weigh(&mut self, now: MonoTime, active: ActiveSeen) {
        let ActiveSeen { source, priority, heard_at } = active;
        if self.is_worse(priority) {
            // As good as leaving: whoever is in better health takes over at once, whatever the preemption mode.
            self.timers.clear(Timer::Preempt);
            self.give_way(now, Cause::ActiveYielded { source, priority });
            return;
        }
        self.gives_way = None;
        self.listen_from(heard_at);
        if !self.may_preempt(priority) {
            self.timers.clear(Timer::Preempt);
        } else if self.timers.get(Timer::Preempt).is_none() {
            let Setup { preempt_delay, preempt_delay_limit, .. } = self.setup;
            let delay = if self.is_owner() {
                self.skew()
            } else {
                self.moves.delay(now, preempt_delay, preempt_delay_limit).max(self.skew())
            };
            self.note(Reason::PreemptionDelayed { source, priority, delay });
            self.timers.set(Timer::Preempt, now + delay);
        }
    }

    /// The own priority has changed.
    pub(super) fn reconsider(&mut self, now: MonoTime) {
        match self.active {
            Some(active) if active.priority != 0 && now.since(active.heard_at) <= self.down_interval() => {
                self.weigh(now, active);
            }
            _ if self.gives_way.is_none() => self.listen_from(self.alive_at),
            _ => {}
        }
    }

    fn listen_from(&mut self, alive_at: MonoTime) {
        self.alive_at = alive_at;
        let down_at = alive_at + self.down_interval();
        self.timers.set(Timer::Down, self.settles_at.map_or(down_at, |settles_at| down_at.max(settles_at)));
    }

    /// Takes over after the skew time; a repetition does not put that off.
    fn give_way(&mut self, now: MonoTime, because: Cause) {
        self.timers.bring_forward(Timer::Down, now + self.skew());
        self.gives_way = Some(because);
    }

    pub(super) fn down_interval_over(&mut self, now: MonoTime) {
        let because = match self.gives_way.clone() {
            // A valid Active is there: taking over from it makes no second one.
            Some(because @ Cause::ActiveYielded { .. }) => because,
            _ if self.waits_for_foreign(now) => return,
            because => match self.conflict_remaining(now) {
                Some(Duration::ZERO) => Cause::ConflictOutwaited,
                Some(remaining) => {
                    self.hold_back(now, remaining);
                    return;
                }
                None => because.unwrap_or(Cause::ActiveSilent { silence: now.since(self.alive_at) }),
            },
        };
        self.become_active(now, because);
    }

    pub(super) fn preempt(&mut self, now: MonoTime) {
        if let Some(ActiveSeen { source, priority, .. }) = self.active {
            self.become_active(now, Cause::Preempted { source, priority });
        }
    }

    /// A packet of a peer that is invalid only by its settings, and does not say that it leaves.
    pub(super) fn heard_unintelligibly(&mut self, now: MonoTime, interval: Option<Duration>) {
        let slow = interval.map_or(Duration::ZERO, |interval| interval * 4);
        let alive_until = now + self.down_interval().max(slow.min(self.setup.conflict_hold));
        let earlier = self.conflict.take().filter(|conflict| now <= conflict.alive_until);
        let (since, told) = earlier.map_or((now, false), |conflict| (conflict.since, conflict.told));
        self.conflict = Some(Conflict { since, alive_until, told });
    }

    /// A valid advertisement of another cluster.
    pub(super) fn heard_foreign(&mut self, now: MonoTime, source: IpAddr, interval: Duration) {
        let slow = (interval * 4).min(self.setup.interval * INTERVAL_FACTOR * 4);
        let there_until = now + self.down_interval().max(slow);
        let told = self.foreign.as_ref().is_some_and(|foreign| foreign.told && now <= foreign.there_until);
        self.foreign = Some(Foreign { source, there_until, told });
    }

    fn waits_for_foreign(&mut self, now: MonoTime) -> bool {
        let again = now + self.down_interval();
        let Some(foreign) = self.foreign.as_mut().filter(|foreign| now <= foreign.there_until) else {
            return false;
        };
        let source = foreign.source;
        let told = std::mem::replace(&mut foreign.told, true);
        self.timers.set(Timer::Down, again);
        if !told {
            self.note(Reason::HeldBackByForeign { source });
        }
        true
    }

    /// For how long a conflict still forbids a takeover; `None` without one.
    fn conflict_remaining(&self, now: MonoTime) -> Option<Duration> {
        let conflict = self.conflict.as_ref().filter(|conflict| now <= conflict.alive_until)?;
        Some((conflict.since + self.setup.conflict_hold).since(now))
    }

    fn hold_back(&mut self, now: MonoTime, remaining: Duration) {
        let again = self.down_interval().min(remaining);
        self.timers.set(Timer::Down, now + again);
        if let Some(conflict) = &mut self.conflict
            && !std::mem::replace(&mut conflict.told, true)
        {
            self.note(Reason::HeldBack { remaining });
        }
    }
}
