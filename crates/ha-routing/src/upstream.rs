//! One member: what is known about it, and by what.

use std::net::SocketAddr;
use std::time::Duration;

use ha_core::{Epoch, MemberName, MonoTime};

use crate::connecting::Connecting;
use crate::event::{Claim, ClaimedRole};
use crate::health::{Health, Standing};
use crate::reason::Reason;
use crate::table::{AdminState, SeenRole, Source, UpstreamView};

/// A member.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) member: MemberName,
    pub(crate) address: SocketAddr,
    /// Its last claim that counts, and when it came.
    pub(crate) claim: Option<(Claim, MonoTime)>,
    /// Whether the claim is evidence: its stream lives and it is young enough. Kept by `polling`.
    pub(crate) fresh: bool,
    /// What checks say; meaningful only while not fresh.
    pub(crate) health: Health,
    /// When to ask it next; `None` while fresh.
    pub(crate) next_check: Option<MonoTime>,
    pub(crate) connecting: Connecting,
    /// Epoch of its last claim to lead, until it denies that.
    pub(crate) led_epoch: Option<Epoch>,
    /// It was the write upstream, and its write sessions were not cut since.
    pub(crate) may_hold_writes: bool,
    /// Its agent said that PostgreSQL does not run, and its sessions were cut for that.
    pub(crate) down: bool,
    /// Nothing of it answers, and its read sessions were cut for that.
    pub(crate) gone: bool,
    /// What an operator wants of it.
    pub(crate) admin: AdminState,
    /// Its sessions were cut because an operator wants it so.
    pub(crate) maintained: bool,
    /// Further behind than reads may be, and not back yet.
    pub(crate) lagging: bool,
    /// The old claim that was last noted, so that it is noted once.
    pub(crate) noted_old: Option<Epoch>,
}

impl Upstream {
    pub(crate) fn new(member: MemberName, address: SocketAddr, now: MonoTime) -> Self {
        Self {
            member,
            address,
            claim: None,
            fresh: false,
            health: Health::unknown(),
            next_check: Some(now),
            connecting: Connecting::default(),
            led_epoch: None,
            may_hold_writes: false,
            down: false,
            gone: false,
            admin: AdminState::Ready,
            maintained: false,
            lagging: false,
            noted_old: None,
        }
    }

    /// The claim while it is evidence.
    pub(crate) fn fresh_claim(&self) -> Option<&Claim> {
        self.claim.as_ref().filter(|_| self.fresh).map(|(claim, _)| claim)
    }

    /// When its agent or REST interface was heard last.
    pub(crate) fn heard_at(&self) -> Option<MonoTime> {
        self.claim.as_ref().map(|(_, at)| *at).max(self.health.answered_at())
    }

    /// Whether it was heard less than `limit` ago.
    pub(crate) fn heard_within(&self, now: MonoTime, limit: Duration) -> bool {
        self.heard_at().is_some_and(|at| now < at + limit)
    }

    /// Whether the best evidence about it says that it does not lead.
    pub(crate) fn denies_lead(&self) -> bool {
        match self.fresh_claim() {
            Some(claim) => claim.role != ClaimedRole::Leader,
            None => self.health.denies_lead(),
        }
    }

    /// Notes how far behind it is. It is used again only when it has come back to half of the limit: one that swings around it
    /// would come and go with every claim.
    pub(crate) fn note_lag(&mut self, limit: Option<u64>) {
        let lag = self.claim.as_ref().and_then(|(claim, _)| claim.lag_bytes);
        self.lagging = match (limit, lag) {
            (None, _) => false,
            (Some(limit), Some(lag)) => lag > if self.lagging { limit / 2 } else { limit },
            (Some(_), None) => self.lagging,
        };
    }

    /// The words of its last claim.
    pub(crate) fn words(&self) -> &str {
        self.claim.as_ref().map_or("", |(claim, _)| claim.reason.as_str())
    }

    /// Why it is silent, as far as that is known.
    pub(crate) fn why_silent(&self) -> String {
        match self.health.why_silent() {
            "" => "no claims".to_owned(),
            why => format!("no claims, and its REST interface: {why}"),
        }
    }

    /// What it was by its last claim, for checks to go on with.
    pub(crate) fn last_standing(&self) -> Standing {
        match self.claim.as_ref().map(|(claim, _)| (claim.role, claim.takes_reads)) {
            Some((ClaimedRole::Leader, _)) => Standing::Primary,
            Some((ClaimedRole::Standby, true)) => Standing::Standby,
            _ => Standing::Unknown,
        }
    }

    /// How people see it.
    pub(crate) fn view(&self, now: MonoTime, highest: Epoch, stale_limit: Duration) -> UpstreamView {
        let (role, source) = self.seen(now, stale_limit);
        let claim = self.claim.as_ref().map(|(claim, _)| claim);
        let (by_claim, ready) = (source == Source::Push, self.admin == AdminState::Ready);
        UpstreamView {
            member: self.member.clone(),
            address: self.address,
            role,
            source,
            heard_at: self.heard_at(),
            epoch: claim.map_or(Epoch(0), |claim| claim.epoch),
            timeline: claim.and_then(|claim| claim.timeline),
            synchronous: role == SeenRole::Standby && claim.is_some_and(|claim| claim.synchronous),
            takes_writes: ready
                && role == SeenRole::Leader
                && (!by_claim || claim.is_some_and(|c| c.takes_writes)),
            takes_reads: ready
                && !self.lagging
                && role == SeenRole::Standby
                && (!by_claim || claim.is_some_and(|c| c.takes_reads)),
            lag_bytes: claim.and_then(|claim| claim.lag_bytes),
            admin: self.admin,
            reason: self.explain(now, role, source, highest),
        }
    }

    fn seen(&self, now: MonoTime, stale_limit: Duration) -> (SeenRole, Source) {
        let by_claim = match self.claim.as_ref().map(|(claim, _)| claim.role) {
            None => SeenRole::Unknown,
            Some(ClaimedRole::None) => SeenRole::None,
            Some(ClaimedRole::Leader) => SeenRole::Leader,
            Some(ClaimedRole::Standby) => SeenRole::Standby,
        };
        if self.fresh {
            return (by_claim, Source::Push);
        }
        let answered = self.health.answered_at().is_some();
        match self.health.standing() {
            Standing::Primary => (SeenRole::Leader, Source::Poll),
            Standing::Standby if answered => (SeenRole::Standby, Source::Poll),
            Standing::Neither => (SeenRole::None, Source::Poll),
            _ if answered => (SeenRole::Unknown, Source::Poll),
            _ if self.claim.is_none() => (SeenRole::Unknown, Source::None),
            _ if self.heard_within(now, stale_limit) => (by_claim, Source::Push),
            _ => (SeenRole::Unknown, Source::Push),
        }
    }

    fn explain(&self, now: MonoTime, role: SeenRole, source: Source, highest: Epoch) -> String {
        if let Some(epoch) = self.led_epoch.filter(|&epoch| epoch < highest) {
            return Reason::OldClaim { member: self.member.clone(), epoch, highest }.to_string();
        }
        if self.admin != AdminState::Ready {
            return Reason::TakenOut { member: self.member.clone(), state: self.admin }.to_string();
        }
        if self.connecting.pauses(now) {
            return format!("cannot be connected: {}", self.connecting.why());
        }
        if self.lagging && role == SeenRole::Standby {
            return "follows, but is too far behind for reads".to_owned();
        }
        let silent = self.health.why_silent();
        match (source, role) {
            (Source::None, _) if silent.is_empty() => "not heard yet".to_owned(),
            (Source::None, _) => format!("not heard yet: {silent}"),
            (Source::Push, _) if !self.fresh => format!("its agent is silent: {}", self.why_silent()),
            (Source::Push, SeenRole::Leader) if self.words().is_empty() => "leads".to_owned(),
            (Source::Push, SeenRole::Standby) if self.words().is_empty() => "follows".to_owned(),
            (Source::Push, _) => self.words().to_owned(),
            (Source::Poll, _) if !silent.is_empty() => format!("health check: {silent}"),
            (Source::Poll, SeenRole::Leader) => "answers health checks as primary".to_owned(),
            (Source::Poll, SeenRole::Standby) => "answers health checks as standby".to_owned(),
            (Source::Poll, SeenRole::None) => "answers health checks, but takes no sessions".to_owned(),
            (Source::Poll, SeenRole::Unknown) => "has not answered enough health checks yet".to_owned(),
        }
    }
}
