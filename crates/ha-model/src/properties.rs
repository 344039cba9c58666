//! What must hold in every state, judged by the ground truth and with arithmetic of its own; and what must be reached at
//! all, so that a model in which nothing happens fails.

use crate::model::Failover;
use crate::scope::Scope;
use crate::state::{Broken, For, Id, Kind, MEMBERS, Member, Members, State};
use crate::{leader, standby};

fn members() -> impl Iterator<Item = Member> {
    0..MEMBERS as Member
}

fn unbroken(state: &State, rule: Broken) -> bool {
    state.broken & rule as u8 == 0
}

/// S1 and S2: every record that any server ever acknowledged is in the log of the one that the store names. When its disk
/// was lost after it had asked to lead, the next one is looked at.
fn acknowledged_survives(state: &State) -> bool {
    let leader = state.record.leader;
    unbroken(state, Broken::TwoHistoriesAcknowledged)
        && (state.id(leader.member()) != leader || state.holds_all_acked(&state.host(leader.member()).wal))
}

/// I0, and one (leader, epoch) for each epoch.
fn one_decision(state: &State) -> bool {
    let twice = members().any(|a| {
        members().any(|b| {
            let (one, other) = (state.host(a), state.host(b));
            a < b && one.is_primary() && other.is_primary() && one.primary_of == other.primary_of
        })
    });
    unbroken(state, Broken::OneLeaderPerEpoch) && unbroken(state, Broken::EpochsGrowByOne) && !twice
}

/// I1: whatever list any walsender uses, each set that can release a commit holds k of the listed members.
fn forward_cover(state: &State) -> bool {
    let leader = state.record.leader.member();
    let (host, policy) = (state.host(leader), state.record.policy);
    if !unbroken(state, Broken::UnestablishedAcknowledges) {
        return false;
    }
    if !host.is_primary() || host.primary_of != state.record.epoch || policy.kind == Kind::Pinned {
        return true;
    }
    let epoch = state.record.epoch;
    let mut outside = Members(if host.list.epoch == epoch { host.list.members.0 } else { 0 });
    let mut strangers = 0;
    let mut fewest = (!host.list.members.is_empty()).then_some(host.list.k);
    for (m, sender) in (0..).zip(&host.senders).filter(|(_, s)| s.there && s.listed) {
        if sender.epoch == epoch {
            outside.0 |= 1 << Id::new(m, sender.life).0;
        } else {
            strangers += 1;
        }
        fewest = Some(fewest.map_or(sender.k, |k| k.min(sender.k)));
    }
    outside.0 &= !policy.members.0;
    match fewest {
        None => true,
        Some(_) if !state.record.is_established() => false,
        Some(k) => k >= outside.len() + strangers + policy.k,
    }
}

/// I2: every acknowledged record is held by at least one member of each set that could depose the leader.
fn backward_cover(state: &State) -> bool {
    let policy = state.record.policy;
    if policy.kind == Kind::Pinned {
        return true;
    }
    let lacking = policy
        .members
        .iter()
        .filter(|id| state.id(id.member()) == *id)
        .filter(|id| !state.holds_all_acked(&state.host(id.member()).wal))
        .count();
    lacking + policy.k as usize <= policy.members.len() as usize
}

/// I3: who has promised confirms nothing more to that epoch or an older one.
fn promises_hold(state: &State) -> bool {
    members().filter(|x| state.host(*x).answer.there).all(|x| {
        let life = state.host(x).answer.life;
        let streams = |p: Member| {
            let sender = state.host(p).senders[x as usize];
            sender.live && sender.life == life && sender.epoch <= state.record.epoch
        };
        !members().any(streams)
    })
}

/// I4: what was answered at the present revision is still promised.
fn promises_last(state: &State) -> bool {
    members().all(|x| {
        let host = state.host(x);
        !host.answer.there || host.promised || host.answer.life != host.life
    })
}

/// I5: nobody runs as a primary of an epoch that was not decided for it, and what it uses was decided (see I1).
fn decided_before_done(state: &State) -> bool {
    members().filter(|p| state.host(*p).is_primary()).all(|p| {
        let host = state.host(p);
        state.leaders[host.primary_of as usize] == state.id(p).0 + 1
    })
}

/// I6: a directory that lost WAL has another name.
fn lost_wal_changes_name(state: &State) -> bool {
    unbroken(state, Broken::LostWalKeepsName)
}

/// I7: commits wait, except for a leader whose record is pinned.
fn never_empty(state: &State) -> bool {
    members().filter(|p| state.host(*p).is_primary()).all(|p| {
        let host = state.host(p);
        let guarded = host.guarded && !host.list.is_unguarded();
        guarded || (state.record.policy.kind == Kind::Pinned && state.is_leader(p))
    })
}

/// What must hold in every state.
pub(crate) struct Kept {
    pub(crate) name: &'static str,
    pub(crate) holds: fn(&State) -> bool,
}

pub(crate) const KEPT: &[Kept] = &[
    Kept { name: "S1, S2: what was acknowledged survives", holds: acknowledged_survives },
    Kept { name: "I0: one leader of each epoch", holds: one_decision },
    Kept { name: "I1: every confirmation counts for the record", holds: forward_cover },
    Kept { name: "I2: whoever can depose holds everything", holds: backward_cover },
    Kept { name: "I3: a promise holds", holds: promises_hold },
    Kept { name: "I4: a promise lasts as long as its revision", holds: promises_last },
    Kept { name: "I5: decided before it is done", holds: decided_before_done },
    Kept { name: "I6: lost WAL, another name", holds: lost_wal_changes_name },
    Kept { name: "I7: the list is never empty", holds: never_empty },
];

/// What must be reached; each with the scopes in which it can be.
pub(crate) struct Reached {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&Scope) -> bool,
    pub(crate) holds: fn(&Failover, &State) -> bool,
}

fn request(state: &State, what: For) -> impl Iterator<Item = &crate::state::Request> {
    state.requests.iter().filter(move |r| r.what == what)
}

fn first_epochs_acked(state: &State, epoch: u8) -> bool {
    state.acked.iter().any(|t| t >> 2 == epoch)
}

pub(crate) const REACHED: &[Reached] = &[
    Reached {
        name: "two candidates could win the same revision",
        applies: |s| s.candidates == 2,
        holds: |m, s| {
            if s.hosts.iter().filter(|h| h.answer.there).count() < 2 {
                return false;
            }
            let wins = |x| (0..8).any(|with| standby::take_over(&m.scope, &mut { *s }, x, with, false));
            members().filter(|x| wins(*x)).count() >= 2
        },
    },
    Reached {
        name: "an abort beats a takeover on its way",
        applies: |s| s.aborts && s.slow > 0,
        holds: |_, s| {
            request(s, For::TakeOver)
                .any(|r| r.revision < s.revision && s.record.epoch < r.record.epoch && r.awaited)
        },
    },
    Reached {
        name: "a takeover is applied though its agent has given up",
        applies: |s| s.slow > 0,
        holds: |_, s| {
            let winner = s.record.leader.member();
            s.is_leader(winner) && s.host(winner).unresolved && s.host(winner).leads < s.record.epoch
        },
    },
    Reached {
        name: "a change of the list is applied though its agent has given up",
        applies: |s| s.slow > 0 && s.changes,
        holds: |_, s| {
            let leader = s.record.leader.member();
            let host = s.host(leader);
            host.unresolved && host.leads == s.record.epoch && host.known != s.record.policy
        },
    },
    Reached {
        name: "an unestablished leader is replaced",
        applies: |s| s.last_epoch > 2,
        holds: |_, s| s.record.epoch >= s.record.policy.epoch + 2,
    },
    Reached {
        name: "the old leader returns because its successor acknowledged nothing",
        applies: |s| s.last_epoch > 2 && s.crashes > 0,
        holds: |_, s| {
            s.record.epoch > 2
                && !s.record.is_established()
                && s.leaders[s.record.policy.epoch as usize] == s.record.leader.0 + 1
        },
    },
    Reached {
        name: "an unestablished leader is established",
        applies: |_| true,
        // One step before it happens.
        holds: |m, s| {
            let l = s.record.leader.member();
            s.record.epoch > 1 && leader::establish(&m.scope, &mut { *s }, l, false)
        },
    },
    Reached { name: "pinned", applies: |s| s.pins, holds: |_, s| s.record.policy.kind == Kind::Pinned },
    Reached {
        name: "a pinned leader hands over",
        applies: |s| s.pins,
        holds: |_, s| s.record.policy.kind == Kind::Pinned && s.record.epoch > 1,
    },
    Reached {
        name: "returned from pinned",
        applies: |s| s.pins,
        holds: |_, s| s.was_pinned && s.record.policy.kind == Kind::Quorum,
    },
    Reached {
        name: "a deposed server still gets a confirmation",
        applies: |_| true,
        holds: |_, s| {
            members().any(|p| {
                let host = s.host(p);
                host.is_primary()
                    && host.primary_of < s.record.epoch
                    && host.senders.iter().any(|x| x.listed && x.wire > x.flush && !x.live)
            })
        },
    },
    Reached {
        name: "a commit is acknowledged in the second epoch",
        applies: |s| s.commits > 0,
        holds: |_, s| first_epochs_acked(s, 2),
    },
    Reached {
        name: "a commit is acknowledged in the first epoch and another leads",
        applies: |s| s.commits > 0,
        holds: |_, s| s.acked[1] >> 2 == 1 && s.record.epoch > 1,
    },
    Reached {
        name: "walsenders of one server use different lists",
        applies: |s| s.changes,
        holds: |_, s| {
            s.hosts.iter().any(|h| {
                h.is_primary() && h.senders.iter().filter(|x| x.there).any(|x| x.listed && x.k != h.list.k)
                    || h.senders.iter().filter(|x| x.there && x.listed).count()
                        > h.list.members.len() as usize
            })
        },
    },
    Reached {
        name: "a member has left the list",
        applies: |s| s.changes,
        holds: |_, s| s.record.policy.epoch == 1 && s.record.policy.members.len() == 1,
    },
    Reached {
        name: "a new life of a member is listed",
        applies: |s| s.losses > 0 && s.changes,
        holds: |_, s| s.record.policy.members.iter().any(|id| id.life() > 0),
    },
    Reached {
        name: "the count is two after it was one",
        applies: |s| s.counts && s.acks == 2,
        holds: |_, s| s.record.policy.k == 2 && s.revision >= 3 && s.record.epoch == 1,
    },
];
