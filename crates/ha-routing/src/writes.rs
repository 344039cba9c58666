//! Who gets new write sessions: at most one member, never one of an epoch that is over, nobody without evidence.

use ha_core::{Epoch, MemberName, MonoTime};

use crate::event::{Claim, ClaimedRole};
use crate::health::Standing;
use crate::reason::Reason;
use crate::router::Router;
use crate::table::AdminState;
use crate::upstream::Upstream;

/// A decision about a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// New sessions go to these.
    Open { upstreams: Vec<usize>, epoch: Epoch, reason: Reason },
    /// New sessions wait, or are refused when it has lasted too long.
    Hold(Reason),
    /// New sessions are refused.
    Refuse(Reason),
}

impl Router {
    /// Decides about writes: claims first, then checks, then the last known leader.
    pub(crate) fn decide_writes(&self, now: MonoTime) -> Decision {
        if self.upstreams.iter().all(|upstream| upstream.heard_at().is_none()) {
            return Decision::Hold(Reason::NotHeard);
        }
        self.two_claims()
            .or_else(|| self.leader_by_claim(now))
            .or_else(|| self.leader_by_checks(now))
            .or_else(|| self.last_known_leader(now))
            .unwrap_or_else(|| Decision::Hold(Reason::NoLeader { why: self.leader_words.clone() }))
    }

    /// Somebody claims to lead an epoch that belongs to another member. It stays so until a higher epoch is seen: who
    /// of the two is right cannot be known here.
    fn two_claims(&self) -> Option<Decision> {
        let owner = self.owner?;
        let leads_too = |index: &usize| self.upstreams[*index].led_epoch == Some(self.highest);
        let second = (0..self.upstreams.len()).filter(|&index| index != owner).find(leads_too)?;
        Some(Decision::Refuse(Reason::TwoClaims {
            epoch: self.highest,
            first: self.name(owner),
            second: self.name(second),
        }))
    }

    fn leader_by_claim(&self, now: MonoTime) -> Option<Decision> {
        let index = self.owner?;
        let claim = self.upstreams[index].fresh_claim()?;
        if claim.role != ClaimedRole::Leader || claim.epoch != self.highest {
            return None;
        }
        let reason = Reason::Leads { member: claim.member.clone(), epoch: claim.epoch };
        Some(closed_by(claim).unwrap_or_else(|| self.open(now, index, claim.epoch, reason)))
    }

    /// Members that answer as primary and push nothing: an agent whose claims do not arrive, or plain Patroni.
    fn leader_by_checks(&self, now: MonoTime) -> Option<Decision> {
        let answers = |upstream: &Upstream| {
            !upstream.fresh
                && upstream.health.standing() == Standing::Primary
                && upstream.heard_within(now, self.setup.stale_limit)
        };
        let may = |index: &usize| answers(&self.upstreams[*index]) && self.may_lead(now, *index);
        let candidates: Vec<usize> = (0..self.upstreams.len()).filter(may).collect();
        let proven = candidates.iter().copied().find(|&index| self.has_highest_epoch(index));
        let index = match (proven, candidates.as_slice()) {
            (_, []) => return None,
            (Some(index), _) | (None, &[index]) => index,
            (None, several) => {
                let members = several.iter().map(|&index| self.name(index)).collect();
                return Some(Decision::Hold(Reason::TwoPrimaries { members }));
            }
        };
        if let Some(planned) = self.planned_change(now, index) {
            return Some(planned);
        }
        let epoch = if proven.is_some() { self.highest } else { Epoch(0) };
        Some(self.open(now, index, epoch, Reason::AnswersAsPrimary { member: self.name(index) }))
    }

    /// Silence of agent and REST interface says nothing about PostgreSQL: who led last goes on doing so for a while.
    fn last_known_leader(&self, now: MonoTime) -> Option<Decision> {
        let index = self.leader?;
        let upstream = &self.upstreams[index];
        if upstream.fresh || upstream.denies_lead() || !self.may_lead(now, index) {
            return None;
        }
        let member = upstream.member.clone();
        if !upstream.heard_within(now, self.setup.stale_limit) {
            let limit = self.setup.stale_limit;
            return Some(Decision::Hold(Reason::SilentTooLong { member, limit }));
        }
        // What it said last stands, unless a check has found it to lead since.
        let said = upstream.claim.as_ref().filter(|_| upstream.health.answered_at().is_none());
        if let Some(closed) = said.and_then(|(claim, _)| closed_by(claim)) {
            return Some(closed);
        }
        let epoch = if self.has_highest_epoch(index) { self.highest } else { Epoch(0) };
        Some(self.open(now, index, epoch, Reason::Kept { member, why: upstream.why_silent() }))
    }

    /// A leader that was about to be stopped when its claims ended is not opened again by a check that still finds it
    /// alive, for as long as new sessions would wait anyway.
    fn planned_change(&self, now: MonoTime, index: usize) -> Option<Decision> {
        let (claim, at) = self.upstreams[index].claim.as_ref()?;
        let planned = claim.role == ClaimedRole::Leader && claim.holding;
        (planned && now < *at + self.setup.hold_timeout).then(|| closed_by(claim)).flatten()
    }

    /// Whether nothing speaks against this member, which pushes nothing, but its own silence.
    fn may_lead(&self, now: MonoTime, index: usize) -> bool {
        if self.has_highest_epoch(index) {
            return true;
        }
        let over = self.upstreams[index].led_epoch.is_some_and(|epoch| epoch < self.highest);
        !over && !self.others_name_another(now, index)
    }

    /// Whether an agent that is heard names another leader of the newest epoch, one that has not denied it.
    fn others_name_another(&self, now: MonoTime, index: usize) -> bool {
        let named_by = |claim: &Claim| {
            let leader = claim.leader.as_ref().filter(|_| claim.epoch == self.highest)?;
            self.upstreams.iter().position(|upstream| upstream.member == *leader)
        };
        self.upstreams.iter().filter_map(Upstream::fresh_claim).filter_map(named_by).any(|leader| {
            let upstream = &self.upstreams[leader];
            leader != index && !upstream.denies_lead() && upstream.heard_within(now, self.setup.stale_limit)
        })
    }

    /// Whether the newest epoch is known to be this member's: by its own claim, unless it has claimed an older one
    /// since, or by the word of others.
    pub(crate) fn has_highest_epoch(&self, index: usize) -> bool {
        let takes_it_back = || self.upstreams[index].led_epoch.is_some_and(|epoch| epoch < self.highest);
        match self.owner {
            _ if self.highest == Epoch(0) => false,
            Some(owner) => owner == index && !takes_it_back(),
            None => self.named == Some(index),
        }
    }

    fn open(&self, now: MonoTime, index: usize, epoch: Epoch, reason: Reason) -> Decision {
        let upstream = &self.upstreams[index];
        if upstream.admin != AdminState::Ready {
            let (member, state) = (upstream.member.clone(), upstream.admin);
            return Decision::Hold(Reason::TakenOut { member, state });
        }
        if upstream.connecting.pauses(now) {
            let (member, why) = (upstream.member.clone(), upstream.connecting.why().to_owned());
            return Decision::Hold(Reason::CannotConnect { member, why });
        }
        Decision::Open { upstreams: vec![index], epoch, reason }
    }

    pub(crate) fn name(&self, index: usize) -> MemberName {
        self.upstreams[index].member.clone()
    }
}

/// Why this leader's claim keeps new sessions waiting, if it does.
fn closed_by(claim: &Claim) -> Option<Decision> {
    let member = claim.member.clone();
    if claim.holding {
        return Some(Decision::Hold(Reason::PlannedChange { member, successor: claim.successor.clone() }));
    }
    let not_open = || Reason::NotOpen { member, epoch: claim.epoch, why: claim.reason.clone() };
    (claim.role == ClaimedRole::Leader && !claim.takes_writes).then(not_open).map(Decision::Hold)
}
