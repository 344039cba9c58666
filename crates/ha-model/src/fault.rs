//! Crashes. What is durable survives; what a request on its way does, it does without its sender.

use crate::mutant::Mutant;
use crate::postgres;
use crate::scope::Scope;
use crate::state::{Change, Host, Member, Policy, State};

fn spend(state: &mut State) -> bool {
    let possible = state.left.crashes > 0;
    state.left.crashes -= u8::from(possible);
    possible
}

fn forget(scope: &Scope, state: &mut State, m: Member) {
    for request in state.requests.iter_mut().filter(|r| r.from == m) {
        request.awaited = false;
    }
    let host = &mut state.hosts[m as usize];
    host.leads = 0;
    host.known = Policy::default();
    host.change = Change::default();
    host.unresolved = false;
    if scope.mutant == Mutant::PromiseForgotten {
        host.promised = false;
    }
}

/// Whether an agent's end changes anything.
fn remembers(scope: &Scope, state: &State, m: Member) -> bool {
    let host: &Host = state.host(m);
    host.leads != 0
        || host.unresolved
        || state.awaits(m)
        || (scope.mutant == Mutant::PromiseForgotten && host.promised)
}

pub(crate) fn crash_agent(scope: &Scope, state: &mut State, m: Member) -> bool {
    if !remembers(scope, state, m) || !spend(state) {
        return false;
    }
    forget(scope, state, m);
    true
}

pub(crate) fn crash_postgres(scope: &Scope, state: &mut State, m: Member) -> bool {
    if !state.host(m).up || !spend(state) {
        return false;
    }
    postgres::stop_primary(scope, state, m);
    true
}

pub(crate) fn crash_host(scope: &Scope, state: &mut State, m: Member) -> bool {
    let streams = state.hosts.iter().any(|h| h.senders[m as usize].live);
    if !(remembers(scope, state, m) || state.host(m).up || streams) || !spend(state) {
        return false;
    }
    forget(scope, state, m);
    state.cut_streams(m);
    if state.host(m).up {
        postgres::stop_primary(scope, state, m);
    }
    true
}
