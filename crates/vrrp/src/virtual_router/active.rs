//! What an Active does: advertise, announce, refresh the address, give it up.

use std::time::Duration;

use ha_core::MonoTime;

use super::VirtualRouter;
use super::validation::Valid;
use crate::action::Action;
use crate::alarm::AlarmKind;
use crate::packet::{self, Advertisement, Auth, group_of};
use crate::reason::{Cause, Reason};
use crate::state::State;
use crate::timers::{self, Timer};
use crate::version::Version;

/// Priority 0 is sent three times: if the only one were lost, the next router would wait for the whole Down interval.
pub(super) const FAREWELLS: u8 = 3;
const FAREWELL_GAP: Duration = Duration::from_millis(20);

/// How long an Active that steps aside waits for another: a Backup takes over after its skew time, which is less than an
/// interval.
const ASIDE_LIMIT: Duration = Duration::from_secs(1);

/// Answers to others' advertisements come no closer than this, so that a flood is not answered by a flood.
const ANSWER_GAP: Duration = Duration::from_millis(10);

/// How often the address is put back within [`RESTORE_WINDOW`] before the router gives way: somebody means it.
pub(super) const RESTORE_LIMIT: usize = 5;
const RESTORE_WINDOW: Duration = Duration::from_secs(60);

impl VirtualRouter {
    /// Advertises first, then installs the address, then announces: the former Active removes it on the first.
    pub(super) fn become_active(&mut self, now: MonoTime, because: Cause) {
        let utc = u64::try_from(self.utc(now).as_millis()).unwrap_or(0);
        self.begin_holding(now, because, utc.max(self.epoch + 1));
    }

    fn begin_holding(&mut self, now: MonoTime, because: Cause, epoch: u64) {
        self.timers.clear_all();
        (self.active, self.conflict, self.gives_way, self.settles_at) = (None, None, None, None);
        self.aside = false;
        (self.epoch, self.held_epoch) = (epoch, epoch);
        self.change(now, State::Active, because);
        self.holds_address = true;
        self.advertise(now);
        self.announcing.begin(now);
        self.announce(now);
    }

    /// In place of a program that was Active until just now, so that nobody has taken over yet.
    pub(super) fn resume(&mut self, now: MonoTime, epoch: u64) {
        if self.started || self.missing().is_some() || self.tracking.fault.is_some() {
            self.start(now);
            return;
        }
        (self.started, self.stopping) = (true, false);
        self.begin_holding(now, Cause::Resumed, epoch);
    }

    /// One advertisement, and with it one more lifetime for the address.
    pub(super) fn advertise(&mut self, now: MonoTime) {
        self.send(now, self.priority());
        self.hold_address();
        self.timers.set(Timer::Advertise, now + self.setup.interval);
    }

    pub(super) fn announce(&mut self, now: MonoTime) {
        self.push(Action::Announce);
        let next = self.announcing.announced(now);
        self.timers.set(Timer::Announce, next);
    }

    /// RFC 9568 section 6.4.3.
    pub(super) fn heard_as_active(&mut self, now: MonoTime, heard: &Valid) {
        if self.stopping {
            if heard.priority != 0 {
                // Somebody has taken over: nothing to wait for.
                self.leave(now);
            }
            return;
        }
        let own = self.priority();
        let higher_address = heard.member == 0 && self.members[0].own().is_some_and(|own| heard.source > own);
        if heard.priority > own || heard.priority == own && higher_address {
            let because = if heard.priority > own {
                Cause::HigherPriority { source: heard.source, priority: heard.priority }
            } else {
                Cause::HigherAddress { source: heard.source }
            };
            // One last advertisement makes the winner announce again: our announcements may have been the last.
            self.send(now, own);
            self.become_backup(now, because);
            self.heard_as_backup(now, heard);
            return;
        }
        if now.since(self.sent_at) >= ANSWER_GAP {
            self.advertise(now);
        }
        if heard.priority != 0 && !self.announcing.is_young(now) {
            // The other one announced itself as well: caches may point to it.
            self.announcing.begin(now);
            self.announce(now);
        }
    }

    /// Gives the address to whoever takes it.
    pub(super) fn step_aside(&mut self, now: MonoTime) {
        if self.state != State::Active || self.stopping || self.aside {
            return;
        }
        self.aside = true;
        self.note(Reason::StepsAside);
        self.advertise(now);
        self.ask_the_best_peer();
        self.timers.set(Timer::Aside, now + ASIDE_LIMIT);
    }

    pub(super) fn nobody_took_over(&mut self, now: MonoTime) {
        self.aside = false;
        self.note(Reason::NobodyTookOver);
        self.advertise(now);
    }

    pub(super) fn address_lost(&mut self, now: MonoTime) {
        if self.state != State::Active || self.stopping {
            return;
        }
        self.notice(now, AlarmKind::AddressRemoved, None);
        self.restored.retain(|at| now.since(*at) < RESTORE_WINDOW);
        if self.restored.len() >= RESTORE_LIMIT {
            self.begin_farewell(now);
            self.become_backup(now, Cause::AddressTaken);
            return;
        }
        self.restored.push_back(now);
        for member in &mut self.members {
            member.counters.address_restored += 1;
        }
        self.note(Reason::AddressRestored);
        self.hold_address();
        self.announcing.begin(now);
        self.announce(now);
    }

    pub(super) fn begin_farewell(&mut self, now: MonoTime) {
        self.farewells = FAREWELLS;
        self.repeat_farewell(now);
    }

    /// The next priority 0. At the end of a stop the last one is followed by the removal of the address.
    pub(super) fn repeat_farewell(&mut self, now: MonoTime) {
        self.send(now, 0);
        self.farewells = self.farewells.saturating_sub(1);
        if self.farewells > 0 {
            self.timers.set(Timer::Farewell, now + FAREWELL_GAP);
        } else if self.stopping {
            self.leave(now);
        }
    }

    /// Advertises for every member that has a link.
    pub(super) fn send(&mut self, now: MonoTime, priority: u8) {
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let (setup, Some(source)) = (&member.setup, member.own()) else { continue };
            let auth = match setup.auth {
                Some(password) if setup.version == Version::V2 => Auth::Password(password),
                _ => Auth::None,
            };
            let advertisement = Advertisement {
                version: setup.version,
                vrid: setup.vrid,
                priority,
                interval: setup.interval,
                addresses: setup.addresses().collect(),
                auth,
            };
            let group = group_of(setup.address);
            let all = if setup.unicast { setup.peers.len() } else { 1 };
            for number in 0..all {
                let setup = &self.members[index].setup;
                let destination = if setup.unicast { setup.peers[number] } else { group };
                let coverage = self.members[index].coverage(now, source, destination);
                let mut packet = packet::encode(&advertisement, coverage);
                let utc = self.utc(now);
                if let Some(signature) = self.members[index].sign(source, &packet, utc) {
                    packet.extend_from_slice(signature.bytes());
                }
                self.push(Action::Send { member: index, destination, packet });
                let counters = &mut self.members[index].counters;
                counters.sent += 1;
                counters.sent_priority_zero += u64::from(priority == 0);
            }
        }
        self.sent_at = now;
    }

    fn hold_address(&mut self) {
        self.push(Action::HoldAddress { lifetime_secs: timers::lifetime_secs(self.setup.interval) });
    }

    pub(super) fn drop_address(&mut self) {
        if std::mem::take(&mut self.holds_address) {
            self.push(Action::DropAddress);
        }
    }
}
