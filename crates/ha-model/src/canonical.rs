//! The two standbys of the first leader are interchangeable when both may lead: of a state and its mirror image only
//! one is explored. The protocol never looks at names but to break ties, and then in favour of the member that asks.

use crate::mutant::Mutant;
use crate::scope::Scope;
use crate::state::{Answer, EPOCHS, For, Id, Members, Policy, Record, Request, Sender, State};

/// The one of the two mirror images that is explored.
pub(crate) fn representative(state: State, scope: &Scope) -> State {
    // A store that compares nothing may still apply what is outdated.
    let keep_requests = scope.mutant == Mutant::CompareIgnored;
    let state = tidied(state, keep_requests);
    if scope.is_symmetric() { state.min(tidied(mirrored(state), keep_requests)) } else { state }
}

/// What can have no effect any more is erased, so that states that differ only in that are one.
fn tidied(mut state: State, keep_requests: bool) -> State {
    for request in &mut state.requests {
        if !keep_requests && !request.awaited && request.revision < state.revision {
            *request = Request::default();
        }
    }
    state.requests.sort_unstable();
    for host in &mut state.hosts {
        for sender in &mut host.senders {
            if !sender.there {
                *sender = Sender::default();
            }
        }
        if !host.answer.there {
            host.answer = Answer::default();
        }
        if host.leads == 0 {
            host.known = Policy::default();
        }
    }
    state
}

fn member(of: u8) -> u8 {
    [0, 2, 1][of as usize]
}

fn id(of: Id) -> Id {
    Id::new(member(of.member()), of.life())
}

fn members(of: Members) -> Members {
    Members(of.0 & 0x000f | (of.0 & 0x00f0) << 4 | (of.0 & 0x0f00) >> 4)
}

fn tag(of: u8) -> u8 {
    if of == 0 { 0 } else { of & !3 | member(of & 3) }
}

fn policy(of: Policy) -> Policy {
    Policy { members: members(of.members), ..of }
}

fn record(of: Record) -> Record {
    Record { leader: id(of.leader), policy: policy(of.policy), ..of }
}

fn mirrored(mut state: State) -> State {
    state.record = record(state.record);
    for request in &mut state.requests {
        if request.what != For::Nothing {
            request.from = member(request.from);
            request.record = record(request.record);
        }
    }
    state.hosts.swap(1, 2);
    for host in &mut state.hosts {
        host.wal.tags = host.wal.tags.map(tag);
        if host.upstream > 0 {
            host.upstream = member(host.upstream - 1) + 1;
        }
        host.list.members = members(host.list.members);
        host.senders.swap(1, 2);
        host.known = policy(host.known);
        host.change.to = policy(host.change.to);
    }
    if state.hand_over.there {
        state.hand_over.to = member(state.hand_over.to);
    }
    state.acked = state.acked.map(tag);
    for epoch in 0..EPOCHS {
        if state.leaders[epoch] > 0 {
            state.leaders[epoch] = id(Id(state.leaders[epoch] - 1)).0 + 1;
        }
    }
    state
}
