//! PostgreSQL: local commit before acknowledgement, streaming, confirmations on the wire, and a reload that every process
//! does for itself.

use crate::mutant::Mutant;
use crate::scope::Scope;
use crate::state::{Broken, Id, Member, Sender, State, tag};

/// A client commits: the record is durable here, and acknowledged at once only if commits wait for nobody.
pub(crate) fn commit(state: &mut State, p: Member) -> bool {
    let host = &mut state.hosts[p as usize];
    if !host.is_primary() || state.left.commits == 0 || host.wal.is_full() {
        return false;
    }
    state.left.commits -= 1;
    let name = tag(host.primary_of, p);
    host.wal.push(name);
    if !host.guarded {
        acknowledge(state, p, state.host(p).wal.len);
    }
    true
}

pub(crate) fn receive(state: &mut State, p: Member, x: Member) -> bool {
    let (primary, sender) = (state.host(p), state.host(p).senders[x as usize]);
    let at = state.host(x).wal.len;
    if !sender.live || at >= primary.wal.len {
        return false;
    }
    let next = primary.wal.tags[at as usize];
    state.hosts[x as usize].wal.push(next);
    state.hosts[p as usize].senders[x as usize].wire = at + 1;
    true
}

pub(crate) fn confirm(state: &mut State, p: Member, x: Member) -> bool {
    let sender = &mut state.hosts[p as usize].senders[x as usize];
    if !sender.there || sender.flush == sender.wire {
        return false;
    }
    sender.flush = sender.wire;
    release(state, p, x);
    true
}

/// What a walsender does with a confirmation: it counts by the list that it has read, over the walsenders that take
/// themselves for listed by theirs.
fn release(state: &mut State, p: Member, x: Member) {
    let senders = &state.host(p).senders;
    let own = senders[x as usize];
    if !own.listed || own.k == 0 {
        return;
    }
    let mut flushed: Vec<u8> = senders.iter().filter(|s| s.there && s.listed).map(|s| s.flush).collect();
    flushed.sort_unstable_by(|a, b| b.cmp(a));
    if let Some(upto) = flushed.get(own.k as usize - 1) {
        acknowledge(state, p, *upto);
    }
}

pub(crate) fn reload_sender(state: &mut State, p: Member, x: Member) -> bool {
    let list = state.host(p).list;
    let sender = &mut state.hosts[p as usize].senders[x as usize];
    let listed = list.lists(Id::new(x, sender.life), sender.epoch);
    if !sender.there || (sender.listed, sender.k) == (listed, list.k) {
        return false;
    }
    (sender.listed, sender.k) = (listed, list.k);
    // Some versions look for waiters at once, others with the next confirmation.
    release(state, p, x);
    true
}

/// The checkpointer reads the list. When it is empty, everybody who waits is told that all is well.
pub(crate) fn reload_guard(state: &mut State, p: Member) -> bool {
    let host = &mut state.hosts[p as usize];
    let guarded = !host.list.is_unguarded();
    if !host.is_primary() || host.guarded == guarded {
        return false;
    }
    host.guarded = guarded;
    if !guarded {
        acknowledge(state, p, state.host(p).wal.len);
    }
    true
}

pub(crate) fn end_sender(scope: &Scope, state: &mut State, p: Member, x: Member) -> bool {
    let sender = &mut state.hosts[p as usize].senders[x as usize];
    if !sender.there {
        return false;
    }
    if sender.live {
        if state.left.breaks == 0 || scope.breaks == 0 {
            return false;
        }
        state.left.breaks -= 1;
    }
    *sender = Sender::default();
    true
}

/// The standby `x` announces itself to `p` as a follower of `epoch`; a walsender begins with the postmaster's list.
pub(crate) fn connect(state: &mut State, p: Member, x: Member, epoch: u8) {
    state.cut_streams(x);
    let (life, wire) = (state.host(x).life, state.host(x).wal.len);
    state.hosts[x as usize].upstream = p + 1;
    state.hosts[x as usize].upstream_epoch = epoch;
    let host = &mut state.hosts[p as usize];
    host.senders[x as usize] = Sender {
        there: true,
        live: true,
        life,
        epoch,
        flush: 0,
        wire,
        listed: host.list.lists(Id::new(x, life), epoch),
        k: host.list.k,
    };
}

pub(crate) fn stop_primary(scope: &Scope, state: &mut State, p: Member) {
    let host = &mut state.hosts[p as usize];
    host.up = false;
    host.senders = Default::default();
    host.list = crate::state::List::BLOCKED;
    host.guarded = true;
    if scope.mutant == Mutant::ListEmptiedOnDemotion {
        acknowledge(state, p, state.host(p).wal.len);
    }
}

/// Clients are told that everything up to here is safe.
fn acknowledge(state: &mut State, p: Member, upto: u8) {
    let (wal, epoch) = (state.host(p).wal, state.host(p).primary_of);
    let unestablished = state.is_leader(p) && state.record.epoch == epoch && !state.record.is_established();
    for at in 0..upto.min(wal.len) as usize {
        let name = wal.tags[at];
        if state.acked[at] == name {
            continue;
        }
        if state.acked[at] != 0 {
            state.mark(Broken::TwoHistoriesAcknowledged);
        }
        if unestablished {
            state.mark(Broken::UnestablishedAcknowledges);
        }
        state.acked[at] = name;
    }
}
