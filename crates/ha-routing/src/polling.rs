//! Health checks: when claims count no more, whom to ask and when, and what came of it.

use ha_core::{MemberName, MonoTime};

use crate::action::Action;
use crate::event::Check;
use crate::router::Router;

impl Router {
    /// Claims that are too old are evidence no more.
    pub(crate) fn expire_claims(&mut self, now: MonoTime) {
        let silence = self.setup.silence;
        for index in 0..self.upstreams.len() {
            let upstream = &self.upstreams[index];
            if upstream.fresh && upstream.claim.as_ref().is_none_or(|(_, at)| now >= *at + silence) {
                let why = format!("nothing for {} s", silence.as_secs_f32());
                self.lose_claims(now, index, &why);
            }
        }
    }

    /// Asks everybody whose turn has come.
    pub(crate) fn ask_due(&mut self, now: MonoTime) {
        for upstream in &mut self.upstreams {
            if upstream.next_check.is_some_and(|at| at <= now) {
                upstream.next_check = Some(now + self.setup.check_interval);
                self.actions.push_back(Action::Check { member: upstream.member.clone() });
            }
        }
    }

    /// A check ended. While an agent pushes claims, they are newer than any check can be.
    pub(crate) fn take_check(&mut self, now: MonoTime, member: &MemberName, check: Check) {
        let Some(index) = self.index_of(member) else { return };
        let upstream = &mut self.upstreams[index];
        if upstream.fresh {
            return;
        }
        upstream.health.record(now, check, self.setup.check_rise, self.setup.check_fall);
        if upstream.health.denies_lead() {
            // It may come to lead again, but that will be another epoch than the one it claimed.
            upstream.led_epoch = None;
        }
    }

    /// A session could not be connected. That elects nobody; it makes new sessions wait or go elsewhere for a moment
    /// and asks the agent at once.
    pub(crate) fn take_connect_failure(&mut self, now: MonoTime, member: &MemberName, why: String) {
        let Some(index) = self.index_of(member) else { return };
        let upstream = &mut self.upstreams[index];
        if !upstream.connecting.failed(now, why) {
            return;
        }
        if upstream.fresh {
            self.actions.push_back(Action::Check { member: upstream.member.clone() });
        } else {
            upstream.next_check = Some(now);
        }
    }

    /// A session was connected.
    pub(crate) fn take_connect_success(&mut self, member: &MemberName) {
        if let Some(index) = self.index_of(member) {
            self.upstreams[index].connecting.forget();
        }
    }
}
