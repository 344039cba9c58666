//! The leader's agent: its list, and the changes of it. Mirrors `primary.rs`, `synchronous.rs` and `list_change.rs` of the
//! decider and asks the same rules.

use ha_decision::rules::{self, Removal};

use crate::mutant::Mutant;
use crate::postgres;
use crate::scope::Scope;
use crate::state::{
    Change, For, Goal, HandOver, Host, Id, Kind, List, Member, Policy, Record, Sender, Stage, State,
};
use crate::store::submit;
use crate::words;

/// What the server ought to use: `wanted_names` of the decider.
fn wanted(state: &State, l: Member) -> List {
    let host = state.host(l);
    match (host.change.goal, host.change.stage) {
        (Goal::None, _) => {
            words::list_of_record(&Record { epoch: host.leads, leader: Id(0), policy: host.known })
        }
        (_, Stage::Blocked) => List::BLOCKED,
        _ => words::list_of_policy(&host.change.to, host.leads),
    }
}

/// A running primary of the epoch that its agent leads.
fn operates(host: &Host) -> bool {
    host.leads != 0 && host.is_primary() && host.primary_of == host.leads
}

/// Whether this leader may plan a change: it operates, knows the record, has settled, and nothing is under way.
fn may_plan(state: &State, l: Member) -> bool {
    let host = state.host(l);
    operates(host)
        && state.leads_knowingly(l)
        && state.may_submit(l)
        && host.change.goal == Goal::None
        && host.list == wanted(state, l)
}

/// The walsender that speaks for this member under this epoch.
fn sender_of(host: &Host, id: Id) -> Option<&Sender> {
    let sender = &host.senders[id.member() as usize];
    (sender.there && sender.life == id.life() && sender.epoch == host.leads).then_some(sender)
}

/// How many of the policy's members have confirmed `upto`.
fn confirmed(host: &Host, policy: &Policy, upto: u8) -> usize {
    policy.members.iter().filter(|id| sender_of(host, *id).is_some_and(|s| s.flush >= upto)).count()
}

fn eligible(host: &Host) -> impl Iterator<Item = Id> {
    (0..).zip(&host.senders).filter(|(_, s)| s.live && s.epoch == host.leads).map(|(m, s)| Id::new(m, s.life))
}

fn change_policy(scope: &Scope, state: &mut State, l: Member, policy: Policy, slow: bool) -> bool {
    let record = Record { policy, ..state.record };
    submit(scope, state, l, For::ChangePolicy, record, slow)
}

pub(crate) fn settle(state: &mut State, l: Member) -> bool {
    if !operates(state.host(l)) {
        return false;
    }
    let list = wanted(state, l);
    let host = &mut state.hosts[l as usize];
    let changed = host.list != list;
    host.list = list;
    changed
}

/// The agent sees in the store what it was not told: its own change was applied after all.
pub(crate) fn see(state: &mut State, l: Member) -> bool {
    let record = state.record;
    let stale =
        state.is_leader(l) && state.host(l).leads == record.epoch && state.host(l).known != record.policy;
    if stale {
        let host = &mut state.hosts[l as usize];
        host.known = record.policy;
        host.change = Change::default();
    }
    stale
}

pub(crate) fn promote(state: &mut State, l: Member) -> bool {
    let host = state.host(l);
    if host.leads == 0 || host.primary_of != 0 || host.wal.is_full() {
        return false;
    }
    let list = words::list_of_record(&Record { epoch: host.leads, leader: Id(0), policy: host.known });
    state.cut_streams(l);
    let host = &mut state.hosts[l as usize];
    host.upstream = 0;
    host.upstream_epoch = 0;
    host.list = list;
    host.guarded = !list.is_unguarded();
    host.up = true;
    host.primary_of = host.leads;
    let name = crate::state::tag(host.leads, l);
    host.wal.push(name);
    true
}

pub(crate) fn start_primary(state: &mut State, l: Member) -> bool {
    let host = &mut state.hosts[l as usize];
    if host.leads == 0 || host.up || host.primary_of != host.leads {
        return false;
    }
    host.up = true;
    host.list = List::BLOCKED;
    host.guarded = true;
    true
}

pub(crate) fn establish(scope: &Scope, state: &mut State, l: Member, slow: bool) -> bool {
    if !may_plan(state, l) || state.record.is_established() {
        return false;
    }
    let host = state.host(l);
    let epoch = host.leads;
    // The first record that it wrote as the leader: whoever has that has all before it.
    let end = host.wal.tags.iter().position(|t| t >> 2 == epoch).unwrap_or(0) as u8 + 1;
    let end = if scope.mutant == Mutant::EstablishedTooEarly { 1 } else { end };
    let members = crate::state::Members::of(
        eligible(host).filter(|id| sender_of(host, *id).is_some_and(|s| s.flush >= end)),
    );
    if members.is_empty() || (scope.strict_k && members.len() < scope.acks) {
        return false;
    }
    let policy = ha_core::record::Policy::quorum(
        words::epoch(epoch),
        words::member_ids(members),
        u32::from(scope.acks),
    );
    change_policy(scope, state, l, words::compact_policy(&policy), slow)
}

pub(crate) fn add(scope: &Scope, state: &mut State, l: Member, x: Member, slow: bool) -> bool {
    let policy = state.record.policy;
    if !may_plan(state, l) || !state.record.is_established() || policy.kind != Kind::Quorum {
        return false;
    }
    let host = state.host(l);
    let Some(new) = eligible(host).find(|id| id.member() == x && !policy.members.has(*id)) else {
        return false;
    };
    // Each name in the list costs a promise: a new life waits until the old one has left, unless nobody could leave.
    let short = confirmed(host, &policy, 0) < policy.k as usize;
    if !short && policy.members.has_member(x) {
        return false;
    }
    let joined = words::compact_policy(&rules::joined(&words::policy(&policy), words::member_id(new)));
    if scope.mutant == Mutant::AddedServerFirst {
        state.hosts[l as usize].list = words::list_of_policy(&joined, host.leads);
    }
    change_policy(scope, state, l, joined, slow)
}

pub(crate) fn begin_remove(scope: &Scope, state: &mut State, l: Member, gone: Id, slow: bool) -> bool {
    let policy = state.record.policy;
    if !may_plan(state, l) || !state.record.is_established() || !policy.members.has(gone) {
        return false;
    }
    match rules::removal(&words::policy(&policy), &words::member_id(gone)) {
        Removal::Last => false,
        Removal::FewerAcks(fewer) => {
            !scope.strict_k && change_policy(scope, state, l, words::compact_policy(&fewer), slow)
        }
        Removal::Shrink(to) => {
            let to = words::compact_policy(&to);
            if scope.mutant == Mutant::RemovedStoreFirst {
                return change_policy(scope, state, l, to, slow);
            }
            confirmed(state.host(l), &to, 0) >= to.k as usize && begin(state, l, Goal::Remove, to)
        }
    }
}

fn begin(state: &mut State, l: Member, goal: Goal, to: Policy) -> bool {
    let stage = if goal == Goal::Guard { Stage::Blocked } else { Stage::Tighten };
    state.hosts[l as usize].change = Change { goal, stage, to, bounced: false, barrier: 0 };
    true
}

pub(crate) fn pin(scope: &Scope, state: &mut State, l: Member, slow: bool) -> bool {
    if !may_plan(state, l) || state.record.policy.kind == Kind::Pinned {
        return false;
    }
    let policy = ha_core::record::Policy::pinned(words::epoch(state.record.epoch));
    let policy = words::compact_policy(&policy);
    if scope.mutant == Mutant::PinnedServerFirst {
        state.hosts[l as usize].list = words::list_of_policy(&policy, state.record.epoch);
    }
    change_policy(scope, state, l, policy, slow)
}

/// A planned switchover while pinned: nobody else has to hold anything, so the end of the clean stop has to be reached. It
/// leads no more; to lead again it needs a transaction, which outdates what it asked for.
pub(crate) fn hand_over(scope: &Scope, state: &mut State, l: Member, to: Member) -> bool {
    if !may_plan(state, l) || state.record.policy.kind != Kind::Pinned {
        return false;
    }
    if !eligible(state.host(l)).any(|id| id.member() == to) {
        return false;
    }
    state.hand_over = HandOver { there: true, to, end: state.host(l).wal.len };
    state.hosts[l as usize].leads = 0;
    postgres::stop_primary(scope, state, l);
    true
}

pub(crate) fn begin_guard(scope: &Scope, state: &mut State, l: Member) -> bool {
    if !may_plan(state, l) || state.record.policy.kind != Kind::Pinned {
        return false;
    }
    let members = crate::state::Members::of(eligible(state.host(l)));
    if members.is_empty() || (scope.strict_k && members.len() < scope.acks) {
        return false;
    }
    let policy = ha_core::record::Policy::quorum(
        words::epoch(state.record.epoch),
        words::member_ids(members),
        u32::from(scope.acks),
    );
    begin(state, l, Goal::Guard, words::compact_policy(&policy))
}

pub(crate) fn fewer_acks(scope: &Scope, state: &mut State, l: Member, slow: bool) -> bool {
    let policy = state.record.policy;
    if !may_plan(state, l) || !state.record.is_established() || policy.k < 2 {
        return false;
    }
    change_policy(scope, state, l, Policy { k: policy.k - 1, ..policy }, slow)
}

pub(crate) fn begin_raise(scope: &Scope, state: &mut State, l: Member) -> bool {
    let policy = state.record.policy;
    let possible = policy.kind == Kind::Quorum
        && policy.k < scope.acks.min(policy.members.len())
        && state.record.is_established();
    if !possible || !may_plan(state, l) {
        return false;
    }
    let to = Policy { k: policy.k + 1, ..policy };
    if scope.mutant == Mutant::RaisedStoreFirst {
        return change_policy(scope, state, l, to, false);
    }
    confirmed(state.host(l), &policy, 0) >= to.k as usize && begin(state, l, Goal::RaiseAcks, to)
}

/// A change at this stage, its list loaded by the postmaster, and nothing that freezes it.
fn stands_at(state: &State, l: Member, stage: Stage) -> bool {
    let host = state.host(l);
    host.change.goal != Goal::None
        && host.change.stage == stage
        && operates(host)
        && state.may_submit(l)
        && host.list == wanted(state, l)
}

pub(crate) fn prove(scope: &Scope, state: &mut State, l: Member) -> bool {
    if !stands_at(state, l, Stage::Blocked)
        || !(state.host(l).guarded || scope.mutant == Mutant::GuardUnproved)
    {
        return false;
    }
    state.hosts[l as usize].change.stage = Stage::Tighten;
    true
}

fn must_bounce(change: &Change) -> bool {
    let may_be_lower = match change.goal {
        Goal::Guard => change.to.k > 1,
        Goal::RaiseAcks => true,
        Goal::Remove | Goal::None => false,
    };
    may_be_lower && !change.bounced
}

pub(crate) fn bounce(state: &mut State, l: Member) -> bool {
    if !stands_at(state, l, Stage::Tighten) || !must_bounce(&state.host(l).change) {
        return false;
    }
    let host = &mut state.hosts[l as usize];
    host.change.bounced = true;
    for m in 0..host.senders.len() {
        if host.change.to.members.has_member(m as Member) {
            host.senders[m] = Sender::default();
        }
    }
    true
}

pub(crate) fn see_in_force(scope: &Scope, state: &mut State, l: Member) -> bool {
    if !stands_at(state, l, Stage::Tighten) || must_bounce(&state.host(l).change) {
        return false;
    }
    let host = state.host(l);
    let names: Vec<_> = (0..)
        .zip(&host.senders)
        .filter(|(_, s)| s.there)
        .map(|(m, s)| (u32::from(s.listed), words::standby_name(Id::new(m, s.life), s.epoch)))
        .collect();
    let to = words::policy(&host.change.to);
    let senders = names.iter().map(|(priority, name)| (*priority, Some(name)));
    if scope.mutant != Mutant::InForceUnchecked && !rules::in_force(senders, &to, words::epoch(host.leads)) {
        return false;
    }
    let end = if scope.mutant == Mutant::BarrierSkipped { 0 } else { host.wal.len };
    let change = &mut state.hosts[l as usize].change;
    change.stage = Stage::Barrier;
    change.barrier = end;
    true
}

pub(crate) fn finish(scope: &Scope, state: &mut State, l: Member, slow: bool) -> bool {
    if !stands_at(state, l, Stage::Barrier) || !state.leads_knowingly(l) {
        return false;
    }
    let host = state.host(l);
    let to = host.change.to;
    rules::barrier_passed(&words::policy(&to), confirmed(host, &to, host.change.barrier))
        && change_policy(scope, state, l, to, slow)
}

/// The decider gives a change up after a while, but never while a transaction of it may still be applied.
pub(crate) fn drop_change(state: &mut State, l: Member) -> bool {
    let host = state.host(l);
    if host.change.goal == Goal::None || !state.may_submit(l) {
        return false;
    }
    state.hosts[l as usize].change = Change::default();
    true
}

/// Re-acquisition: never by a read.
pub(crate) fn reacquire(scope: &Scope, state: &mut State, l: Member, slow: bool) -> bool {
    let record = state.record;
    if !state.is_leader(l) || state.host(l).leads == record.epoch || !state.may_submit(l) {
        return false;
    }
    if scope.mutant == Mutant::ResumedByRead {
        let host = &mut state.hosts[l as usize];
        (host.leads, host.led, host.known) = (record.epoch, record.epoch, record.policy);
        return true;
    }
    submit(scope, state, l, For::Reacquire, record, slow)
}

/// After no answer nothing is decided until the revision was moved on.
pub(crate) fn resolve(scope: &Scope, state: &mut State, x: Member, slow: bool) -> bool {
    if !state.host(x).unresolved || state.awaits(x) {
        return false;
    }
    let what = if state.is_leader(x) { For::Reacquire } else { For::Bump };
    submit(scope, state, x, what, state.record, slow)
}

/// A deposed member learns it: nothing is said to anybody, PostgreSQL ends at once.
pub(crate) fn fence(scope: &Scope, state: &mut State, p: Member) -> bool {
    let host = state.host(p);
    if state.is_leader(p) || !(host.leads != 0 || host.is_primary()) {
        return false;
    }
    let host = &mut state.hosts[p as usize];
    host.leads = 0;
    host.change = Change::default();
    if host.up {
        postgres::stop_primary(scope, state, p);
    }
    true
}
