//! The synchronous list of a running leader: who may join, who must leave, when the leader pins itself. How a change is
//! carried out safely stands in `list_change.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use ha_core::cluster_view::StoreKey;
use ha_core::postgres_view::{PostgresView, WalSender};
use ha_core::record::{Policy, PolicyKind, SyncRecord};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Lsn, MemberId, ReplicationMode};

use crate::action::Txn;
use crate::decider::Decider;
use crate::event::TxnOutcome;
use crate::job::{Access, ServerSettings};
use crate::list_change::{Goal, ListChange};
use crate::primary::Leadership;
use crate::reason::Reason;
use crate::rules::{self, Removal};
use crate::store::TxnFor;
use crate::switchover::Switchover;
use crate::timers::Timer;

/// How often a standby says something when there is nothing to confirm: `wal_receiver_status_interval` as the agent sets
/// it.
const REPLIES_EVERY: Duration = Duration::from_secs(1);

/// A standby further behind than this is let in later: while it catches up a failover would need its promise.
const CAUGHT_UP_BYTES: u64 = 16 << 20;

impl Decider {
    /// The stream of a member that works: a walsender goes on showing one for seconds after its standby's host was lost.
    fn sender(&self, record: &SyncRecord, member: &MemberId) -> Option<&WalSender> {
        let name = StandbyName { member: member.clone(), epoch: record.epoch };
        self.instance()?.sender_of(&name).filter(|s| s.streaming && self.replies(s))
    }

    fn replies(&self, sender: &WalSender) -> bool {
        let said = self.server.replies.get(&sender.pid);
        said.is_none_or(|(_, at)| self.now.since(*at) < REPLIES_EVERY + self.detection())
    }

    /// Keeps note of when each standby said something new.
    pub(crate) fn note_replies(&mut self, view: &PostgresView) {
        let senders = view.instance().map(|instance| instance.senders.as_slice()).unwrap_or_default();
        let replies = &mut self.server.replies;
        replies.retain(|pid, _| senders.iter().any(|s| s.pid == *pid));
        for sender in senders {
            let said = replies.entry(sender.pid).or_insert((sender.reply_mark, view.at));
            if said.0 != sender.reply_mark {
                *said = (sender.reply_mark, view.at);
            }
        }
    }

    /// How many of the members stream and have flushed up to `lsn`.
    pub(crate) fn confirmed<'a>(
        &self,
        record: &SyncRecord,
        members: impl Iterator<Item = &'a MemberId>,
        lsn: Lsn,
    ) -> usize {
        members.filter(|m| self.sender(record, m).is_some_and(|s| s.flush >= lsn)).count()
    }

    /// Standbys that stream under this epoch, are nearly caught up and may be listed.
    fn eligible(&self, record: &SyncRecord) -> BTreeSet<MemberId> {
        let Some(instance) = self.instance() else { return BTreeSet::new() };
        instance
            .senders
            .iter()
            .filter(|s| s.streaming && instance.flush.bytes_since(s.flush) <= CAUGHT_UP_BYTES)
            .filter_map(|s| s.name.as_ref())
            .filter(|n| n.epoch == record.epoch)
            .map(|n| n.member.clone())
            .filter(|m| self.member(&m.name).is_some_and(|setup| !setup.nosync) && m.name != self.setup.me)
            .filter(|m| !self.is_leaving(m))
            .collect()
    }

    fn is_leaving(&self, member: &MemberId) -> bool {
        self.peers
            .get(&member.name)
            .is_some_and(|p| p.state.leaving || p.state.incarnation.is_some_and(|i| i != member.incarnation))
    }

    /// The names that the server must use now: those of a change under way, else the record's.
    pub(crate) fn wanted_names(&self, record: &SyncRecord) -> StandbyNames {
        match &self.list_change {
            Some(change) if change.applies_to(record) => change.names(),
            _ if broken!(self, WidenServerFirst) => self.hasty_names(record),
            _ if broken!(self, LowerAcksServerFirst) => self.hasty_names(record),
            _ => StandbyNames::of_record(record),
        }
    }

    /// What a broken decider wants that does not wait for the store.
    fn hasty_names(&self, record: &SyncRecord) -> StandbyNames {
        let mut next = record.clone();
        if record.policy.kind == PolicyKind::Quorum && broken!(self, WidenServerFirst) {
            next.policy.members.extend(self.eligible(record));
        }
        if broken!(self, LowerAcksServerFirst) {
            let healthy = self.confirmed(record, record.policy.members.iter(), Lsn(0)).max(1);
            let healthy = u32::try_from(healthy).unwrap_or(1);
            next.policy.k = next.policy.k.min(self.settings().acks).min(healthy);
        }
        StandbyNames::of_record(&next)
    }

    /// Looks whether the list must change, and drives a change that is under way.
    pub(crate) fn keep_list(&mut self, record: &SyncRecord) {
        if self.store.unresolved || self.store.pending.is_some() || !self.store.connected {
            // The list is frozen while nothing can be decided or an outcome is not known. A change is not given up
            // either: its transaction may still be applied, and the server must not be back at the wider list then.
            return;
        }
        if let Some(change) = &self.list_change
            && (!change.applies_to(record) || change.is_stuck(self.now))
        {
            self.list_change = None;
        }
        if self.list_change.is_none() {
            self.plan(record);
        }
        if self.list_change.is_some() {
            self.drive_change(record);
        }
    }

    fn plan(&mut self, record: &SyncRecord) {
        let mode = self.settings().mode;
        let eligible = self.eligible(record);
        match (record.policy.kind, mode) {
            (PolicyKind::Asynchronous, ReplicationMode::Asynchronous) => {}
            (_, ReplicationMode::Asynchronous) => {
                let policy = Policy::asynchronous(record.epoch);
                self.change_policy(record, policy, "asynchronous mode: commits wait for nobody");
            }
            (PolicyKind::Pinned | PolicyKind::Asynchronous, _) if !eligible.is_empty() => {
                let acks = self.settings().acks;
                let enough = !self.settings().strict_k || eligible.len() >= acks as usize;
                let policy = Policy::quorum(record.epoch, eligible, acks);
                if broken!(self, ReturnStoreFirst) {
                    self.change_policy(record, policy, "a list at once");
                } else if enough {
                    self.begin_change(record, Goal::Guard, policy);
                }
            }
            (PolicyKind::Pinned | PolicyKind::Asynchronous, _) => {}
            (PolicyKind::Quorum, _) => self.plan_quorum(record, &eligible),
        }
    }

    fn plan_quorum(&mut self, record: &SyncRecord, eligible: &BTreeSet<MemberId>) {
        let settings = self.settings();
        let (acks, strict_k) = (settings.acks, settings.strict_k);
        let listed = record.policy.members.clone();
        self.watch_loneliness(record, &listed);
        // A new life of a listed member waits until the old one has left, because each name in the list costs a promise.
        // Except where too few confirm already: then nobody can leave before somebody has joined.
        let short = self.confirmed(record, listed.iter(), Lsn(0)) < record.policy.k as usize;
        let joins =
            |m: &&MemberId| !listed.contains(*m) && (short || !listed.iter().any(|l| l.name == m.name));
        if let Some(new) = eligible.iter().find(joins) {
            // Key first: it must be consulted from now on, before it can confirm anything.
            let words = format!("{} joins", new.name);
            self.change_policy(record, rules::joined(&record.policy, new.clone()), &words);
            return;
        }
        if let Some(gone) = self.member_to_remove(record) {
            self.plan_removal(record, &gone, strict_k);
            return;
        }
        let most = u32::try_from(listed.len()).unwrap_or(u32::MAX);
        let wanted = acks.min(most).max(1);
        if wanted < record.policy.k {
            self.change_policy(record, Policy { k: wanted, ..record.policy.clone() }, "fewer confirmations");
        } else if wanted > record.policy.k && self.confirmed(record, listed.iter(), Lsn(0)) >= wanted as usize
        {
            let policy = Policy { k: record.policy.k + 1, ..record.policy.clone() };
            if broken!(self, RaiseAcksStoreFirst) {
                self.change_policy(record, policy, "more confirmations at once");
                return;
            }
            self.begin_change(record, Goal::RaiseAcks, policy);
        }
    }

    /// A listed member whose stream has been away for the detection time, or that asks to leave.
    fn member_to_remove(&mut self, record: &SyncRecord) -> Option<MemberId> {
        let mut found = None;
        for member in &record.policy.members {
            if self.is_leaving(member) {
                found.get_or_insert(member.clone());
                continue;
            }
            if self.sender(record, member).is_some() {
                self.absent_since.remove(member);
                continue;
            }
            let since = *self.absent_since.entry(member.clone()).or_insert(self.now);
            let due = since + self.detection();
            if self.now >= due {
                found.get_or_insert(member.clone());
            } else {
                self.timers.set(Timer::Shrink, due);
            }
        }
        found
    }

    fn plan_removal(&mut self, record: &SyncRecord, gone: &MemberId, strict_k: bool) {
        match rules::removal(&record.policy, gone) {
            Removal::Last => {
                if self.is_leaving(gone) && self.settings().mode == ReplicationMode::Synchronous {
                    self.pin(record, "the last standby leaves");
                }
            }
            Removal::FewerAcks(policy) => {
                if !strict_k {
                    self.change_policy(record, policy, "fewer confirmations, a standby is away");
                }
            }
            Removal::Shrink(policy) => {
                if rules::barrier_passed(&policy, self.confirmed(record, policy.members.iter(), Lsn(0))) {
                    if broken!(self, RemoveStoreFirst) {
                        self.change_policy(record, policy, "one member fewer at once");
                        return;
                    }
                    self.begin_change(record, Goal::Remove { gone: gone.clone() }, policy);
                }
            }
        }
    }

    /// No listed member is healthy: wait, then pin (synchronous), keep waiting (strict), or give up the key when nobody
    /// hears this leader at all.
    fn watch_loneliness(&mut self, record: &SyncRecord, listed: &BTreeSet<MemberId>) {
        let healthy = self.confirmed(record, listed.iter(), Lsn(0)) > 0;
        let (now, after) = (self.now, self.settings().degrade_after());
        let Some(leadership) = self.leadership.as_mut() else { return };
        if healthy {
            leadership.alone_since = None;
            return;
        }
        let since = *leadership.alone_since.get_or_insert(now);
        if now < since + after {
            self.timers.set(Timer::Degrade, since + after);
            self.trouble = Some(Reason::NoStandbyConfirms);
            return;
        }
        let heard = self.others().iter().any(|m| self.lives(m));
        if !heard {
            self.resign_in_isolation();
        } else if self.settings().mode == ReplicationMode::Synchronous {
            self.pin(record, "no standby has confirmed for too long");
        } else {
            self.trouble = Some(Reason::StrictWaits);
        }
    }

    fn pin(&mut self, record: &SyncRecord, why: &str) {
        if broken!(self, PinServerFirst) && self.job_free() {
            let pinned = SyncRecord { policy: Policy::pinned(record.epoch), ..record.clone() };
            let standby_names = StandbyNames::of_record(&pinned);
            self.settle(&ServerSettings { standby_names, upstream: None, access: Access::Open });
        }
        let words = format!("PINNED: {why}; commits wait for nobody");
        self.change_policy(record, Policy::pinned(record.epoch), &words);
    }

    /// A change for which the store comes first: the server follows once it is known to have succeeded.
    pub(crate) fn change_policy(&mut self, record: &SyncRecord, policy: Policy, words: &str) {
        if !self.can_txn() || self.read_lease_forbids(record, &policy) {
            return;
        }
        self.note(Reason::ListChanges { what: words.to_owned() });
        self.read_leases.policy_submitted(&policy);
        let next = SyncRecord { policy, ..record.bumped() };
        let txn = self.replace_sync("change the synchronous list", &next);
        self.submit(TxnFor::ChangePolicy, txn);
    }

    pub(crate) fn policy_changed(&mut self) {
        self.list_change = None;
        if let Some(leadership) = &mut self.leadership {
            leadership.alone_since = None;
        }
    }

    pub(crate) fn policy_not_changed(&mut self, outcome: &TxnOutcome) {
        if !matches!(outcome, TxnOutcome::Unknown) {
            self.list_change = None;
        }
    }

    /// An unestablished leader: blocked until a standby has attached that holds everything.
    pub(crate) fn establish(&mut self, record: &SyncRecord, life: u64) {
        let mut wanted =
            ServerSettings { standby_names: StandbyNames::blocked(), upstream: None, access: Access::Closed };
        if broken!(self, EstablishServerFirst) {
            wanted.standby_names = StandbyNames::any(1, &self.eligible(record), record.epoch);
        }
        if !self.settle(&wanted) {
            return;
        }
        let Some(lsn) = self.end_of_recovery(life) else { return };
        self.because(Reason::WaitingForFollower);
        // Those who are to follow may have to be rewound first, and wait for the checkpoint.
        self.first_checkpoint(record);
        let settings = self.settings();
        let (mode, acks, strict_k, after) =
            (settings.mode, settings.acks, settings.strict_k, settings.degrade_after());
        if mode == ReplicationMode::Asynchronous {
            self.change_policy(record, Policy::asynchronous(record.epoch), "asynchronous mode");
            return;
        }
        let members: BTreeSet<_> = self
            .eligible(record)
            .into_iter()
            .filter(|m| {
                self.sender(record, m)
                    .is_some_and(|s| s.flush >= lsn || broken!(self, EstablishWithoutPosition))
            })
            .collect();
        if !members.is_empty() && (!strict_k || members.len() >= acks as usize) {
            let words = format!("established with {}", names_of(&members));
            self.change_policy(record, Policy::quorum(record.epoch, members, acks), &words);
            return;
        }
        let now = self.now;
        let since =
            self.leadership.as_mut().map_or(now, |l: &mut Leadership| *l.alone_since.get_or_insert(now));
        if mode == ReplicationMode::Synchronous && members.is_empty() {
            if now >= since + after {
                self.pin(record, "no standby attached to the new leader");
            } else {
                self.timers.set(Timer::Degrade, since + after);
            }
        }
    }

    /// Nobody hears this leader and nobody confirms: give up the key, so that those who hear each other may go on. The
    /// sync record still names it; whoever wants to lead needs promises as always.
    fn resign_in_isolation(&mut self) {
        let revision = match self.store.view.as_ref().and_then(|v| v.leader.as_ref()) {
            Some(leader) if leader.record.member == self.setup.me => leader.revision,
            _ => return,
        };
        if !self.can_txn() {
            return;
        }
        self.because(Reason::IsolatedResigns);
        self.submit(
            TxnFor::ReleaseKey,
            Txn {
                purpose: "give up the leader key in isolation",
                compares: vec![(StoreKey::Leader, revision)],
                puts: Vec::new(),
                deletes: vec![StoreKey::Leader],
            },
        );
    }

    pub(crate) fn key_released(&mut self) {
        self.isolated = true;
    }

    /// Whether the key was given up and still nobody is heard.
    pub(crate) fn resigned_in_isolation(&mut self) -> bool {
        if self.isolated && self.others().iter().any(|m| self.lives(m)) {
            self.isolated = false;
        }
        self.isolated
    }

    /// Gives up for a reason of its own: the listed members are asked to take over.
    pub(crate) fn resign(&mut self, record: &SyncRecord, why: &str) {
        self.because(Reason::AsksToBeReplaced { why: why.to_owned() });
        self.leadership = None;
        self.list_change = None;
        // Where PostgreSQL still runs, what proxies were told about reads must run out before anybody else leads.
        let readers_until = self.read_leases.told_until();
        self.switchover = Some(Switchover::resignation(self.now, readers_until, why));
        self.switch_over(record);
    }

    pub(crate) fn begin_change(&mut self, record: &SyncRecord, goal: Goal, policy: Policy) {
        let what = match &goal {
            Goal::Guard => format!("guarded again by {}", names_of(&policy.members)),
            Goal::Remove { gone } => format!("{} leaves", gone.name),
            Goal::RaiseAcks => format!("{} confirmations", policy.k),
        };
        self.note(Reason::ListChanges { what });
        self.list_change = Some(ListChange::new(self.now, record, goal, policy));
    }
}

/// Member names for humans.
fn names_of(members: &BTreeSet<MemberId>) -> String {
    members.iter().map(|m| m.name.to_string()).collect::<Vec<_>>().join(", ")
}
