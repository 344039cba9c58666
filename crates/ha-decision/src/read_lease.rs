//! Until when nobody else can lead: what linearizable reads rest on, and nothing else does.
//!
//! Each beat of a leader says when it was sent. A listed member that answers one binds itself to promise nothing against that
//! epoch for the detection time from its receipt, and says for how long; so by the leader's own clock it is bound until the
//! send time plus that. While so many listed members are bound that every set of promises that could replace the leader needs
//! one of theirs, nobody has replaced it. Such an end is never taken back: a change of the list waits until the list that
//! follows justifies what the present one let the proxies believe.
//!
//! Two things end the binding earlier. The leader's own consent, which it gives when its PostgreSQL is down or when the last
//! lease has run out; and a human who accepts loss, whom no lease binds.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::peer_message::{Beat, Echo, PromiseRefusal};
use ha_core::record::{Policy, PolicyKind, SyncRecord};
use ha_core::{Epoch, MemberId, MonoTime};

use crate::decider::Decider;
use crate::timers::Timer;

/// Beats within one detection time: one that is lost, or an answer that is late, does not end a lease.
const BEATS_PER_DETECTION: u32 = 8;
/// Never more often than this, however short the detection time.
const BEATS_AT_MOST_EVERY: Duration = Duration::from_millis(25);
/// At least as often, however long it is.
const BEATS_AT_LEAST_EVERY: Duration = Duration::from_millis(250);

/// A lease that is told to the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLease {
    /// The leadership that it belongs to.
    pub epoch: Epoch,
    /// Until then nobody else can lead, by the clock of this host.
    pub until: MonoTime,
}

/// When a member's refusal ends at the earliest, by the leader's clock, if it received a beat of this send time and bound
/// itself for so long from then on. A twentieth is taken off, because two clocks do not run at the same speed.
pub fn refusal_end(sent_at: MonoTime, refuses: Duration) -> MonoTime {
    sent_at + refuses / 20 * 19
}

/// Until when every set of promises that could replace a leader of this policy needs one of a member that refuses;
/// `refusals` says until when each does. None when too few do.
///
/// With n listed members a takeover needs n - k + 1 promises, so of k members at least one must be among them.
pub fn end_by_list(policy: &Policy, refusals: &BTreeMap<MemberId, MonoTime>) -> Option<MonoTime> {
    let needed = (policy.members.len() + 1).saturating_sub(policy.needed_promises()).max(1);
    let mut ends: Vec<_> = policy.members.iter().filter_map(|member| refusals.get(member)).copied().collect();
    ends.sort_unstable();
    ends.len().checked_sub(needed).map(|at| ends[at])
}

/// What this member has bound itself to, and what it knows of others as a leader.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadLeases {
    /// It promises nothing against this epoch (or an older one) until then.
    bound: Option<(Epoch, MonoTime)>,
    /// Leader: until when each member refuses.
    refusals: BTreeMap<MemberId, MonoTime>,
    /// Leader: what is told now.
    pub(crate) current: Option<ReadLease>,
    /// Leader: the latest end that this leadership ever told, in this life of the agent or in one before.
    told_until: MonoTime,
    /// Leader: the policy that it would write, if what was told allowed it.
    wanted: Option<Policy>,
    /// Leader: the policy that it wrote last; it may be in force while that is not known.
    submitted: Option<Policy>,
    /// Leader: when it last sent beats of its own for this.
    beat_at: MonoTime,
}

impl ReadLeases {
    pub(crate) fn begin_decision(&mut self) {
        self.wanted = None;
    }

    /// A leadership ends or begins.
    pub(crate) fn forget(&mut self) {
        *self = Self { bound: self.bound, ..Self::default() };
    }

    pub(crate) fn policy_submitted(&mut self, policy: &Policy) {
        self.submitted = Some(policy.clone());
    }

    /// Until when proxies may believe that nobody else leads.
    pub(crate) fn told_until(&self) -> MonoTime {
        self.told_until
    }
}

impl Decider {
    /// Until when nobody else can lead; none while that cannot be said, or is not wanted.
    pub fn read_lease(&self) -> Option<ReadLease> {
        self.read_leases.current
    }

    /// Answering this beat binds this member; for how long from now on. None when it binds itself to nothing.
    pub(crate) fn bind_to_refuse(&mut self, beat: &Beat) -> Option<u64> {
        if !beat.asks_to_refuse || self.read_leases.bound.is_some_and(|(epoch, _)| epoch > beat.epoch) {
            return None;
        }
        let refuses = self.detection();
        let until = self.now + refuses;
        let before = self.read_leases.bound.filter(|(epoch, _)| *epoch == beat.epoch).map(|(_, until)| until);
        self.read_leases.bound = Some((beat.epoch, before.map_or(until, |before| before.max(until))));
        let refuses_ms = u64::try_from(refuses.as_millis()).unwrap_or(u64::MAX);
        // After a change of the times, and once nothing that was said before it binds for longer.
        let shorter = before.is_none_or(|before| before <= until)
            && self.now.since(self.started_at()) >= Duration::from_millis(self.node.refused_for_ms);
        if self.node.refused_for_ms < refuses_ms || shorter {
            self.remember_refusal(refuses_ms);
        }
        Some(refuses_ms)
    }

    /// Durable before it is said: a restarted member does not know whom it answered.
    fn remember_refusal(&mut self, refuses_ms: u64) {
        let mut node = self.node.clone();
        node.refused_for_ms = refuses_ms;
        self.persist(node);
    }

    /// Whether nothing that this member said to the leader of this epoch forbids a promise.
    pub(crate) fn may_stop_refusing(&self, epoch: Epoch) -> Result<(), PromiseRefusal> {
        let before = Duration::from_millis(self.node.refused_for_ms);
        if self.now.since(self.started_at()) < before && !broken!(self, RefusalForgottenOnRestart) {
            return Err(PromiseRefusal::JustStarted);
        }
        let bound = self.read_leases.bound.is_some_and(|(to, until)| to >= epoch && self.now < until);
        if bound && !broken!(self, RefusalNotKept) {
            return Err(PromiseRefusal::HearsLeader);
        }
        Ok(())
    }

    /// An answer to a beat of this leadership.
    pub(crate) fn refusal_heard(&mut self, echo: &Echo) {
        let Some(refuses_ms) = echo.refuses_ms.filter(|_| self.setup.read_leases) else { return };
        if self.node.refused_for_ms < refuses_ms {
            // After a restart this member takes what it may have told for that long.
            self.remember_refusal(refuses_ms);
        }
        let from = if broken!(self, LeaseFromAnswer) { self.now } else { echo.sent_at };
        let end = refusal_end(from, Duration::from_millis(refuses_ms));
        let known = self.read_leases.refusals.entry(echo.member.clone()).or_insert(end);
        *known = (*known).max(end);
    }

    /// A leadership begins in this life of the agent. In one before it may have told something that still holds.
    pub(crate) fn read_leases_begin(&mut self) {
        self.read_leases.forget();
        if self.setup.read_leases {
            let longest = self.detection().max(Duration::from_millis(self.node.refused_for_ms));
            self.read_leases.told_until = self.now + longest;
        }
    }

    /// Sends beats, and says until when nobody else can lead.
    pub(crate) fn keep_read_lease(&mut self) {
        if !self.setup.read_leases {
            return;
        }
        if !self.list_in_doubt() {
            self.read_leases.submitted = None;
        }
        self.beat_for_reads();
        let lease = self.find_read_lease();
        self.read_leases.current = lease;
        if let Some(lease) = lease {
            self.read_leases.told_until = self.read_leases.told_until.max(lease.until);
        }
    }

    fn beat_for_reads(&mut self) {
        let generation = self.leadership.as_ref().map(|leadership| leadership.generation);
        let Some((epoch, generation)) = self.beats_for().zip(generation) else { return };
        let every = self.detection() / BEATS_PER_DETECTION;
        let every = every.clamp(BEATS_AT_MOST_EVERY, BEATS_AT_LEAST_EVERY);
        let due = self.read_leases.beat_at + every;
        if self.now < due {
            self.timers.set(Timer::ReadLease, due);
            return;
        }
        self.read_leases.beat_at = self.now;
        self.timers.set(Timer::ReadLease, self.now + every);
        for to in self.others() {
            self.send_beat(to, epoch, generation);
        }
    }

    fn find_read_lease(&self) -> Option<ReadLease> {
        let leadership = self.leadership.as_ref()?;
        let (record, me) = (&self.sync()?.record, self.me_id()?);
        let leads = record.is_led_by(&me) && record.epoch == leadership.epoch && record.is_established();
        let opened = self.instance().is_some_and(|i| !i.in_recovery && leadership.opened == Some(i.life));
        if !leads || !opened || self.store.rolled_back {
            return None;
        }
        let until = self.policies_that_may_hold(record).map(|policy| self.end_by(policy)).min()??;
        Some(ReadLease { epoch: record.epoch, until })
    }

    /// The record's policy, and every other one that may take its place before the next decision.
    fn policies_that_may_hold<'a>(&'a self, record: &'a SyncRecord) -> impl Iterator<Item = &'a Policy> {
        let leases = &self.read_leases;
        let change = self.list_change.as_ref().map(|change| change.target());
        let others = [change, leases.wanted.as_ref(), leases.submitted.as_ref()];
        let strict = !broken!(self, LeaseByOldList);
        std::iter::once(&record.policy).chain(others.into_iter().flatten().filter(move |_| strict))
    }

    /// Until when a policy keeps others from leading.
    fn end_by(&self, policy: &Policy) -> Option<MonoTime> {
        match policy.kind {
            PolicyKind::Quorum => end_by_list(policy, &self.read_leases.refusals),
            // Nobody but this leader may lead until it has written another policy, which waits for this.
            PolicyKind::Pinned => Some(refusal_end(self.now, self.detection())),
            // Nothing but the end of its key in the store keeps others from leading.
            PolicyKind::Asynchronous => None,
        }
    }

    /// Whether what was told must run out before the list may be this one. From here on nothing is told that it does not
    /// justify.
    pub(crate) fn read_lease_forbids(&mut self, record: &SyncRecord, policy: &Policy) -> bool {
        if !self.setup.read_leases || !record.is_established() || broken!(self, LeaseByOldList) {
            return false;
        }
        self.read_leases.wanted = Some(policy.clone());
        let told = self.read_leases.told_until;
        if self.now >= told || self.end_by(policy).is_some_and(|end| end >= told) {
            return false;
        }
        self.timers.set(Timer::ReadLease, told);
        true
    }

    /// Why a leader that is to give out read leases never does; for people.
    pub(crate) fn no_read_leases(&self, record: Option<&SyncRecord>) -> Option<String> {
        let asynchronous = record.is_some_and(|r| r.policy.kind == PolicyKind::Asynchronous);
        let told = self.setup.read_leases && self.leadership.is_some() && asynchronous;
        told.then(|| "linearizable reads need a synchronous mode: the proxies cut every answer".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ha_core::Incarnation;

    use super::*;

    fn id(text: &str) -> MemberId {
        MemberId::new(text.parse().unwrap(), Incarnation(1))
    }

    fn policy(members: &[&str], k: u32) -> Policy {
        Policy::quorum(Epoch(1), members.iter().map(|m| id(m)).collect(), k)
    }

    fn refusals(of: &[(&str, u64)]) -> BTreeMap<MemberId, MonoTime> {
        of.iter().map(|(member, until)| (id(member), MonoTime(*until))).collect()
    }

    #[test]
    fn the_kth_newest_refusal_counts() {
        let all = refusals(&[("pg2", 20), ("pg3", 30), ("pg4", 40), ("pg5", 50)]);
        for (k, until) in [(1, 50), (2, 40), (3, 30), (4, 20)] {
            assert_eq!(end_by_list(&policy(&["pg2", "pg3", "pg4", "pg5"], k), &all), Some(MonoTime(until)));
        }
    }

    #[test]
    fn who_is_not_listed_does_not_count() {
        let two = policy(&["pg2", "pg3"], 2);
        assert_eq!(end_by_list(&two, &refusals(&[("pg2", 20), ("pg4", 90)])), None);
        assert_eq!(
            end_by_list(&two, &refusals(&[("pg2", 20), ("pg3", 30), ("pg4", 90)])),
            Some(MonoTime(20))
        );
        let reborn = MemberId::new("pg2".parse().unwrap(), Incarnation(2));
        assert_eq!(end_by_list(&policy(&["pg2"], 1), &[(reborn, MonoTime(5))].into()), None);
        assert_eq!(end_by_list(&policy(&[], 1), &refusals(&[("pg2", 20)])), None);
    }

    /// For every list, k and set of members that refuse: there is a lease exactly when no set of promises of the others
    /// suffices.
    #[test]
    fn no_set_of_promises_does_without_a_refuser_while_there_is_a_lease() {
        let names = ["pg2", "pg3", "pg4", "pg5"];
        for n in 1..=names.len() {
            for k in 1..=u32::try_from(n).unwrap() {
                let policy = policy(&names[..n], k);
                for refusing in 0..1_u32 << n {
                    let who: Vec<_> =
                        (0..n).filter(|i| refusing >> i & 1 == 1).map(|i| (names[i], 9)).collect();
                    let others = n - who.len();
                    let lease = end_by_list(&policy, &refusals(&who));
                    assert_eq!(lease.is_some(), others < policy.needed_promises(), "{n} {k} {who:?}");
                }
            }
        }
    }

    #[test]
    fn a_malformed_policy_gives_no_lease_by_fewer_than_it_must() {
        let too_many = Policy { k: 5, ..policy(&["pg2", "pg3"], 1) };
        assert_eq!(end_by_list(&too_many, &refusals(&[("pg2", 20)])), None);
        let none = Policy { k: 0, members: BTreeSet::new(), ..policy(&["pg2"], 1) };
        assert_eq!(end_by_list(&none, &refusals(&[("pg2", 20)])), None);
    }

    #[test]
    fn a_twentieth_is_taken_off() {
        let end = refusal_end(MonoTime(1_000_000_000), Duration::from_secs(1));
        assert_eq!(end, MonoTime(1_950_000_000));
    }
}
