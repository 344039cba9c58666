//! The store: one record, replaced by compare-and-swap on its revision. A transaction is applied and answered at once,
//! or (`slow`) it is on its way: it may be applied later, after its agent has given up or died, or never.

use crate::mutant::Mutant;
use crate::scope::Scope;
use crate::state::{Answer, Broken, Change, For, HandOver, Kind, Member, Record, Request, State};

/// How a transaction ended, for its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Won,
    Lost,
    Unknown,
}

/// Sends a transaction that replaces the record as it is now. An agent with an older view would lose, which only shows it
/// the newer one.
pub(crate) fn submit(
    scope: &Scope,
    state: &mut State,
    from: Member,
    what: For,
    record: Record,
    slow: bool,
) -> bool {
    let request = Request { what, from, awaited: true, revision: state.revision, record };
    if !slow {
        return apply(scope, state, request);
    }
    let Some(place) = state.requests.iter_mut().find(|r| r.what == For::Nothing) else { return false };
    if state.left.slow == 0 {
        return false;
    }
    state.left.slow -= 1;
    *place = request;
    true
}

pub(crate) fn arrive(scope: &Scope, state: &mut State, index: u8) -> bool {
    let request = std::mem::take(&mut state.requests[index as usize]);
    request.what != For::Nothing && apply(scope, state, request)
}

pub(crate) fn give_up(scope: &Scope, state: &mut State, index: u8) -> bool {
    let request = &mut state.requests[index as usize];
    if request.what == For::Nothing || !request.awaited {
        return false;
    }
    request.awaited = false;
    let request = *request;
    answer(scope, state, &request, Outcome::Unknown);
    true
}

fn apply(scope: &Scope, state: &mut State, request: Request) -> bool {
    if request.revision != state.revision && scope.mutant != Mutant::CompareIgnored {
        if request.awaited {
            answer(scope, state, &request, Outcome::Lost);
        }
        return request.awaited;
    }
    if state.revision == scope.last_revision || request.record.epoch > scope.last_epoch {
        return false;
    }
    judge(state, &request.record);
    state.revision += 1;
    state.record = request.record;
    // Promises are scoped to the revision that has just ended.
    state.hand_over = HandOver::default();
    for host in &mut state.hosts {
        host.promised = false;
        host.answer = Answer::default();
    }
    if request.awaited {
        answer(scope, state, &request, Outcome::Won);
    }
    true
}

/// I0, from the outside.
fn judge(state: &mut State, next: &Record) {
    let now = state.record;
    let grows = next.epoch == now.epoch + 1 && next.leader != now.leader;
    let stays = next.epoch == now.epoch && next.leader == now.leader;
    if !(grows || stays) {
        state.mark(Broken::EpochsGrowByOne);
    }
    let leader = &mut state.leaders[next.epoch as usize];
    if *leader != 0 && *leader != next.leader.0 + 1 {
        state.mark(Broken::OneLeaderPerEpoch);
    }
    state.leaders[next.epoch as usize] = next.leader.0 + 1;
    state.was_pinned |= next.policy.kind == Kind::Pinned;
}

/// `txn_done` of the decider.
fn answer(scope: &Scope, state: &mut State, request: &Request, outcome: Outcome) {
    let id = state.id(request.from);
    let host = &mut state.hosts[request.from as usize];
    match outcome {
        Outcome::Unknown if scope.mutant == Mutant::UnknownTakenForLost => {
            if request.what == For::ChangePolicy {
                host.change = Change::default();
            }
        }
        Outcome::Unknown => host.unresolved = true,
        Outcome::Lost => {
            host.unresolved = false;
            if request.what == For::ChangePolicy {
                host.change = Change::default();
            }
        }
        Outcome::Won => {
            host.unresolved = false;
            match request.what {
                For::TakeOver | For::Reacquire if request.record.leader == id => {
                    if host.leads != request.record.epoch {
                        host.change = Change::default();
                    }
                    host.leads = request.record.epoch;
                    host.led = request.record.epoch;
                    host.known = request.record.policy;
                }
                For::ChangePolicy => {
                    host.change = Change::default();
                    host.known = request.record.policy;
                }
                _ => {}
            }
        }
    }
}
