//! What agents push.

use ha_core::{MemberName, MonoTime};

use crate::action::Action;
use crate::event::{Claim, ClaimedRole};
use crate::health::Health;
use crate::reason::Reason;
use crate::router::Router;
use crate::upstream::Upstream;

impl Router {
    /// An agent claimed something.
    pub(crate) fn take_claim(&mut self, now: MonoTime, claim: Claim) {
        let Some(index) = self.index_of(&claim.member) else { return };
        let known = &self.upstreams[index];
        if !claim.is_informed() && (known.claim.is_some() || known.led_epoch.is_some()) {
            // Its agent has just started. What it said before is worth more than this, but is no fresh evidence.
            return self.lose_claims(now, index, "its agent has just started");
        }
        self.learn_epoch(index, &claim);
        let upstream = &mut self.upstreams[index];
        if !upstream.fresh {
            self.actions.push_back(Action::Note(Reason::PushHeard { member: claim.member.clone() }));
        }
        let before = upstream.claim.as_ref().map(|(old, _)| (old.role, old.epoch, old.takes_writes));
        if before != Some((claim.role, claim.epoch, claim.takes_writes)) {
            // Another role or a restart: how connecting went before says nothing about it.
            upstream.connecting.forget();
        }
        upstream.led_epoch = (claim.role == ClaimedRole::Leader).then_some(claim.epoch);
        upstream.claim = Some((claim, now));
        upstream.fresh = true;
        upstream.health = Health::unknown();
        upstream.next_check = None;
        upstream.note_lag(self.setup.maximum_read_lag);
        let mut heard = self.upstreams.iter().filter_map(Upstream::fresh_claim);
        self.maintenance = Some(heard.any(|claim| claim.maintenance));
        self.note_old_claim(index);
    }

    /// The stream of an agent ended.
    pub(crate) fn lose_stream(&mut self, now: MonoTime, member: &MemberName, why: &str) {
        if let Some(index) = self.index_of(member) {
            self.lose_claims(now, index, why);
        }
    }

    /// Nobody is known any more, but that an epoch is over stays known, and nobody's sessions end for it.
    pub(crate) fn forget_what_was_heard(&mut self, now: MonoTime) {
        self.actions.push_back(Action::Note(Reason::StoodStill));
        for upstream in &mut self.upstreams {
            upstream.claim = None;
            upstream.fresh = false;
            upstream.health = Health::unknown();
            upstream.next_check = Some(now);
        }
    }

    /// Claims are evidence no more; checks begin, from what was known.
    pub(crate) fn lose_claims(&mut self, now: MonoTime, index: usize, why: &str) {
        let rise = self.setup.check_rise;
        let upstream = &mut self.upstreams[index];
        if !upstream.fresh {
            return;
        }
        upstream.fresh = false;
        upstream.health = Health::after_claims(upstream.last_standing(), rise);
        upstream.next_check = Some(now);
        let member = upstream.member.clone();
        self.actions.push_back(Action::Note(Reason::PushLost { member, why: why.to_owned() }));
    }

    /// Epochs only grow, and the first who claims to lead one owns it: the consensus store gives each epoch to one
    /// member, so a second one means that something is broken that routing cannot mend.
    fn learn_epoch(&mut self, index: usize, claim: &Claim) {
        if claim.epoch > self.highest {
            self.highest = claim.epoch;
            self.owner = None;
            self.named = None;
        }
        if claim.epoch < self.highest {
            return;
        }
        if claim.role == ClaimedRole::Leader {
            self.owner.get_or_insert(index);
        }
        if let Some(leader) = &claim.leader {
            self.named = self.upstreams.iter().position(|upstream| upstream.member == *leader);
        }
    }

    fn note_old_claim(&mut self, index: usize) {
        let highest = self.highest;
        let upstream = &mut self.upstreams[index];
        let old = upstream.led_epoch.filter(|&epoch| epoch < highest);
        if old != upstream.noted_old {
            upstream.noted_old = old;
            if let Some(epoch) = old {
                let member = upstream.member.clone();
                self.actions.push_back(Action::Note(Reason::OldClaim { member, epoch, highest }));
            }
        }
    }
}
