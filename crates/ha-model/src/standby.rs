//! The other members: follow, promise, take over, and replace a directory whose history is another. Mirrors `standby.rs`,
//! `promise.rs` and `election.rs` of the decider and asks the same rules.

use ha_core::{Lsn, MemberId, ReplicationMode};
use ha_decision::rules::{self, Choice, Claim, Holding, Wanted};

use crate::mutant::Mutant;
use crate::postgres;
use crate::scope::Scope;
use crate::state::{Answer, Broken, For, Host, Kind, LIVES, MEMBERS, Member, State};
use crate::store::submit;
use crate::words;

fn is_standby(host: &Host) -> bool {
    host.primary_of == 0 && host.leads == 0
}

/// A promise that is void binds nobody, and every step of the store's revision voids it.
pub(crate) fn follow(scope: &Scope, state: &mut State, x: Member) -> bool {
    let p = state.record.leader.member();
    let (host, leader) = (state.host(x), state.host(p));
    let bound = host.promised && scope.mutant != Mutant::ResumedBeforeRevisionMoved;
    if x == p || !is_standby(host) || bound {
        return false;
    }
    let epoch = state.record.epoch;
    let sender = leader.senders[x as usize];
    let streams = sender.live && sender.epoch == epoch && sender.life == host.life;
    let ready = leader.is_primary() && leader.primary_of == epoch && state.is_leader(p);
    if streams || !ready || !host.wal.is_prefix_of(&leader.wal) {
        return false;
    }
    postgres::connect(state, p, x, epoch);
    true
}

/// PostgreSQL goes on trying what its configuration says, whatever the agent knows.
pub(crate) fn reconnect(state: &mut State, x: Member) -> bool {
    let host = state.host(x);
    let Some(p) = host.upstream.checked_sub(1) else { return false };
    let epoch = host.upstream_epoch;
    let leader = state.host(p);
    let current = state.record.leader.member() == p && state.record.epoch == epoch;
    if current || leader.senders[x as usize].live || !leader.is_primary() || p == x {
        return false;
    }
    if host.primary_of != 0 || !host.wal.is_prefix_of(&leader.wal) {
        return false;
    }
    postgres::connect(state, p, x, epoch);
    true
}

fn led(host: &Host) -> Option<ha_core::Epoch> {
    (host.led > 0).then(|| words::epoch(host.led))
}

/// Durable first, then the walreceiver ends, then the exact position is read and said. The steps between cannot be told
/// from not having promised yet, or from an answer that is never read.
pub(crate) fn promise(scope: &Scope, state: &mut State, x: Member) -> bool {
    let host = state.host(x);
    // Nobody else may follow a pinned leader but whom it asks.
    let wanted = state.record.policy.kind == Kind::Quorum || state.hand_over.there;
    if host.answer.there || !is_standby(host) || !wanted {
        return false;
    }
    let sync = words::versioned(state);
    let me = words::member_id(state.id(x));
    let covers = rules::covers_policy(&sync.record, led(host));
    if rules::promise_scope(&sync, sync.record.epoch, sync.revision).is_err()
        || !rules::promise_counts(&sync.record, &me, covers)
    {
        return false;
    }
    let answer = Answer { there: true, life: host.life, epoch: host.wal.epoch(), flush: host.wal.len };
    if scope.mutant != Mutant::PromiseWithoutStop {
        state.cut_streams(x);
        state.hosts[x as usize].upstream = 0;
        state.hosts[x as usize].upstream_epoch = 0;
    }
    state.hosts[x as usize].promised = true;
    state.hosts[x as usize].answer = answer;
    true
}

fn may_lead(scope: &Scope, x: Member) -> bool {
    x <= scope.candidates
}

pub(crate) fn take_over(scope: &Scope, state: &mut State, x: Member, with: u8, slow: bool) -> bool {
    let host = state.host(x);
    let own = host.answer.there && host.answer.life == host.life;
    if !own || with >> x & 1 == 1 || !may_lead(scope, x) || !is_standby(host) || !state.may_submit(x) {
        return false;
    }
    let pinned = state.record.policy.kind == Kind::Pinned;
    let asked = state.hand_over.there && state.hand_over.to == x;
    let leads_now = state.record.leader.member() == x;
    if leads_now || (pinned && !asked) || state.record.epoch == scope.last_epoch {
        return false;
    }
    let sync = words::versioned(state);
    let record = &sync.record;
    let me = words::member_id(state.id(x));
    let covers = rules::covers_policy(record, led(host));
    let mut given: Vec<(MemberId, Answer, Member)> = Vec::with_capacity(MEMBERS);
    for m in 0..MEMBERS as Member {
        let answer = state.host(m).answer;
        if m != x && with >> m & 1 == 0 {
            continue;
        }
        if !answer.there {
            return false;
        }
        let id = words::member_id(crate::state::Id::new(m, answer.life));
        if m != x && !pinned && !record.policy.lists(&id) {
            // It would not count; without it the same is tried.
            return false;
        }
        given.push((id, answer, m));
    }
    let end = asked.then(|| Lsn(u64::from(state.hand_over.end)));
    if pinned
        && !rules::reaches_the_end(record.policy.kind, end, Lsn(u64::from(host.answer.flush)))
        && scope.mutant != Mutant::HandedOverUnproved
    {
        return false;
    }
    let have = given.iter().filter(|(id, ..)| pinned || record.policy.lists(id)).count();
    let needed = rules::promises_needed(record, covers);
    let needed = if scope.mutant == Mutant::TooFewPromises { needed.min(1) } else { needed };
    if have < needed {
        return false;
    }
    let holdings: Vec<_> = given
        .iter()
        .map(|(id, answer, m)| Holding {
            member: id,
            position: words::position(answer.epoch, answer.flush),
            candidate: may_lead(scope, *m),
            priority: 0,
        })
        .collect();
    let claim = Claim { covers, preferred: asked, forced: false };
    let others = || given.iter().map(|(id, ..)| id.clone()).filter(|id| *id != me).collect();
    let equals = match rules::choose(record.policy.kind, &me, &holdings, claim) {
        Some(Choice::Lead(_)) if scope.mutant == Mutant::UnequalMembersListed => others(),
        Some(Choice::Lead(equals)) => equals,
        Some(Choice::Better(_)) if scope.mutant == Mutant::BestNotChosen => Default::default(),
        _ => return false,
    };
    let wanted =
        Wanted { mode: ReplicationMode::Synchronous, acks: u32::from(scope.acks), strict_k: scope.strict_k };
    let policy = rules::policy_after(record, record.epoch.next(), equals, wanted, false);
    let next = words::compact_record(&rules::taken_over(record, me, policy));
    submit(scope, state, x, For::TakeOver, next, slow)
}

pub(crate) fn abort(scope: &Scope, state: &mut State, x: Member, slow: bool) -> bool {
    let host = state.host(x);
    if !scope.aborts || !host.promised || !is_standby(host) || !state.may_submit(x) {
        return false;
    }
    submit(scope, state, x, For::Bump, state.record, slow)
}

/// The directory of a former primary starts as a standby: its history is part of the leader's, or it is the old leader
/// that returns because its successor acknowledged nothing.
pub(crate) fn stand(state: &mut State, x: Member) -> bool {
    let host = state.host(x);
    let p = state.record.leader.member();
    if host.primary_of == 0 || host.up || host.leads != 0 || state.is_leader(x) {
        return false;
    }
    let covers = rules::covers_policy(&words::versioned(state).record, led(host));
    let part = p != x && host.wal.is_prefix_of(&state.host(p).wal) && state.host(p).is_primary();
    if !covers && !part {
        return false;
    }
    state.hosts[x as usize].primary_of = 0;
    true
}

/// Rewind or clone: afterwards the directory is a copy of the source's, and another life of the member.
pub(crate) fn copy(scope: &Scope, state: &mut State, x: Member, p: Member) -> bool {
    let (host, source) = (state.host(x), state.host(p));
    if x == p || !source.is_primary() || host.up || host.leads != 0 || state.is_leader(x) {
        return false;
    }
    if state.left.losses == 0 || host.life + 1 >= LIVES || state.awaits(x) {
        return false;
    }
    let extended = host.wal.is_prefix_of(&source.wal);
    let wal = source.wal;
    state.left.losses -= 1;
    state.cut_streams(x);
    let host = &mut state.hosts[x as usize];
    if scope.mutant == Mutant::IncarnationKept {
        if !extended {
            state.mark(Broken::LostWalKeepsName);
        }
    } else {
        host.life += 1;
    }
    let host = &mut state.hosts[x as usize];
    host.wal = wal;
    host.primary_of = 0;
    host.led = 0;
    host.promised = false;
    host.upstream = 0;
    host.upstream_epoch = 0;
    true
}
