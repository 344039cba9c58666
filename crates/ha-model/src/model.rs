//! The model as `stateright` explores it.

use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Model, Property};

use crate::action::Action;
use crate::canonical::representative;
use crate::properties::{KEPT, REACHED};
use crate::scope::Scope;
use crate::state::{
    Host, IN_FLIGHT, Id, Kind, Left, List, MEMBERS, Member, Members, Policy, Record, Sender, State, tag,
};
use crate::{fault, leader, postgres, standby, store};

/// The failover protocol within one [`Scope`].
#[derive(Debug)]
pub struct Failover {
    pub(crate) scope: Scope,
    /// What was broken or reached already.
    broken: [AtomicBool; KEPT.len()],
    reached: [AtomicBool; REACHED.len()],
}

impl Failover {
    /// The model of this scope.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, broken: Default::default(), reached: Default::default() }
    }

    /// The step, if it is possible.
    fn step(&self, mut next: State, action: Action) -> Option<State> {
        let (scope, state) = (&self.scope, &mut next);
        let done = match action {
            Action::Commit(p) => postgres::commit(state, p),
            Action::Receive { p, x } => postgres::receive(state, p, x),
            Action::Confirm { p, x } => postgres::confirm(state, p, x),
            Action::ReloadSender { p, x } => postgres::reload_sender(state, p, x),
            Action::ReloadGuard(p) => postgres::reload_guard(state, p),
            Action::EndSender { p, x } => postgres::end_sender(scope, state, p, x),
            Action::Follow(x) => standby::follow(scope, state, x),
            Action::Reconnect(x) => standby::reconnect(state, x),
            Action::Promise(x) => standby::promise(scope, state, x),
            Action::TakeOver { x, with, slow } => standby::take_over(scope, state, x, with, slow),
            Action::Promote(l) => leader::promote(state, l),
            Action::Establish { l, slow } => leader::establish(scope, state, l, slow),
            Action::Settle(l) => leader::settle(state, l),
            Action::Add { l, x, slow } => leader::add(scope, state, l, x, slow),
            Action::BeginRemove { l, gone, slow } => leader::begin_remove(scope, state, l, Id(gone), slow),
            Action::Pin { l, slow } => leader::pin(scope, state, l, slow),
            Action::HandOver { l, to } => leader::hand_over(scope, state, l, to),
            Action::BeginGuard(l) => leader::begin_guard(scope, state, l),
            Action::FewerAcks { l, slow } => leader::fewer_acks(scope, state, l, slow),
            Action::BeginRaise(l) => leader::begin_raise(scope, state, l),
            Action::Prove(l) => leader::prove(scope, state, l),
            Action::Bounce(l) => leader::bounce(state, l),
            Action::SeeInForce(l) => leader::see_in_force(scope, state, l),
            Action::Finish { l, slow } => leader::finish(scope, state, l, slow),
            Action::DropChange(l) => leader::drop_change(state, l),
            Action::See(l) => leader::see(state, l),
            Action::Fence(p) => leader::fence(scope, state, p),
            Action::Stand(x) => standby::stand(state, x),
            Action::Copy { x, p } => standby::copy(scope, state, x, p),
            Action::Abort { x, slow } => standby::abort(scope, state, x, slow),
            Action::Reacquire { l, slow } => leader::reacquire(scope, state, l, slow),
            Action::StartPrimary(l) => leader::start_primary(state, l),
            Action::Arrive(i) => store::arrive(scope, state, i),
            Action::GiveUp(i) => store::give_up(scope, state, i),
            Action::Resolve { x, slow } => leader::resolve(scope, state, x, slow),
            Action::CrashHost(m) => fault::crash_host(scope, state, m),
            Action::CrashAgent(m) => fault::crash_agent(scope, state, m),
            Action::CrashPostgres(m) => fault::crash_postgres(scope, state, m),
        };
        done.then(|| representative(next, scope))
    }

    /// Steps of one host as a primary and its leader's agent.
    fn leader_actions(&self, state: &State, l: Member, slow: &[bool], actions: &mut Vec<Action>) {
        let (scope, host) = (&self.scope, state.host(l));
        if host.is_primary() {
            actions.push(Action::Commit(l));
            actions.push(Action::ReloadGuard(l));
            for x in (0..MEMBERS as Member).filter(|x| host.senders[*x as usize].there) {
                actions.push(Action::Receive { p: l, x });
                actions.push(Action::Confirm { p: l, x });
                actions.push(Action::ReloadSender { p: l, x });
                actions.push(Action::EndSender { p: l, x });
            }
            for x in (0..MEMBERS as Member).filter(|x| *x != l) {
                actions.push(Action::Copy { x, p: l });
            }
        }
        actions.push(Action::Fence(l));
        if host.leads != 0 {
            actions.extend([Action::Promote(l), Action::StartPrimary(l), Action::Settle(l), Action::See(l)]);
        }
        if !state.is_leader(l) {
            return;
        }
        for &slow in slow {
            actions.push(Action::Reacquire { l, slow });
        }
        if host.leads != state.record.epoch {
            return;
        }
        for &slow in slow {
            actions.push(Action::Establish { l, slow });
            actions.push(Action::Finish { l, slow });
            if scope.changes {
                for x in 0..MEMBERS as Member {
                    actions.push(Action::Add { l, x, slow });
                }
                for gone in state.record.policy.members.iter() {
                    actions.push(Action::BeginRemove { l, gone: gone.0, slow });
                }
            }
            if scope.pins {
                actions.push(Action::Pin { l, slow });
            }
            if scope.counts {
                actions.push(Action::FewerAcks { l, slow });
            }
        }
        if scope.pins {
            actions.extend([Action::BeginGuard(l), Action::Prove(l)]);
            actions.extend((0..MEMBERS as Member).map(|to| Action::HandOver { l, to }));
        }
        if scope.counts {
            actions.push(Action::BeginRaise(l));
        }
        if scope.pins || scope.counts || scope.changes {
            actions.extend([Action::Bounce(l), Action::SeeInForce(l), Action::DropChange(l)]);
        }
    }
}

impl Model for Failover {
    type State = State;
    type Action = Action;

    /// The cluster as bootstrap leaves it: the first member leads, both others are listed and stream.
    fn init_states(&self) -> Vec<State> {
        let members = Members::of([Id::new(1, 0), Id::new(2, 0)]);
        let policy = Policy { epoch: 1, kind: Kind::Quorum, members, k: self.scope.acks };
        let list = List { k: policy.k, members, epoch: 1 };
        let mut state = State {
            revision: 1,
            record: Record { epoch: 1, leader: Id::new(0, 0), policy },
            left: Left {
                commits: self.scope.commits,
                crashes: self.scope.crashes,
                slow: self.scope.slow,
                losses: self.scope.losses,
                breaks: self.scope.breaks,
            },
            ..State::default()
        };
        state.leaders[1] = Id::new(0, 0).0 + 1;
        state.acked[0] = tag(1, 0);
        for host in &mut state.hosts {
            *host = Host {
                upstream: 1,
                upstream_epoch: 1,
                list: List::BLOCKED,
                guarded: true,
                ..Host::default()
            };
            host.wal.push(tag(1, 0));
        }
        let streaming =
            Sender { there: true, live: true, epoch: 1, flush: 1, wire: 1, listed: true, k: list.k, life: 0 };
        let first = &mut state.hosts[0];
        (first.upstream, first.upstream_epoch) = (0, 0);
        (first.primary_of, first.up, first.leads, first.led) = (1, true, 1, 1);
        (first.known, first.list) = (policy, list);
        first.senders = [Sender::default(), streaming, streaming];
        vec![representative(state, &self.scope)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let slow: &[bool] = if state.left.slow > 0 { &[false, true] } else { &[false] };
        let answered = (0..).zip(&state.hosts).fold(0u8, |mask, (m, h)| mask | u8::from(h.answer.there) << m);
        for m in 0..MEMBERS as Member {
            self.leader_actions(state, m, slow, actions);
            actions.extend([Action::Follow(m), Action::Reconnect(m), Action::Promise(m), Action::Stand(m)]);
            for &slow in slow {
                if state.host(m).answer.there {
                    let masks = (0..1 << MEMBERS).filter(|with| with & !answered == 0 && with >> m & 1 == 0);
                    actions.extend(masks.map(|with| Action::TakeOver { x: m, with, slow }));
                }
                actions.push(Action::Abort { x: m, slow });
                actions.push(Action::Resolve { x: m, slow });
            }
            if state.left.crashes > 0 {
                actions.extend([Action::CrashHost(m), Action::CrashAgent(m), Action::CrashPostgres(m)]);
            }
        }
        for index in 0..IN_FLIGHT as u8 {
            actions.extend([Action::Arrive(index), Action::GiveUp(index)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(*state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let kept =
            KEPT.iter().zip(kept_functions()).take(if self.scope.losses_only { 1 } else { KEPT.len() });
        let always = kept.map(|(rule, f)| Property::always(rule.name, f));
        let sometimes = REACHED.iter().zip(reached_functions());
        let sometimes = sometimes.filter(|(r, _)| (r.applies)(&self.scope));
        always.chain(sometimes.map(|(r, f)| Property::sometimes(r.name, f))).collect()
    }
}

/// The first example of anything is the shortest one, and the only one that is reported: `stateright` would go on and keep
/// the last one.
fn first(seen: &AtomicBool, now: impl FnOnce() -> bool) -> bool {
    !seen.load(Ordering::Relaxed) && now() && !seen.swap(true, Ordering::Relaxed)
}

/// `stateright` takes plain functions, so there is one for each entry of [`KEPT`].
fn kept_functions() -> [fn(&Failover, &State) -> bool; KEPT.len()] {
    fn kept<const N: usize>(model: &Failover, state: &State) -> bool {
        !first(&model.broken[N], || !(KEPT[N].holds)(state))
    }
    [kept::<0>, kept::<1>, kept::<2>, kept::<3>, kept::<4>, kept::<5>, kept::<6>, kept::<7>, kept::<8>]
}

/// The same for [`REACHED`].
fn reached_functions() -> [fn(&Failover, &State) -> bool; REACHED.len()] {
    fn reached<const N: usize>(model: &Failover, state: &State) -> bool {
        first(&model.reached[N], || (REACHED[N].holds)(model, state))
    }
    [
        reached::<0>,
        reached::<1>,
        reached::<2>,
        reached::<3>,
        reached::<4>,
        reached::<5>,
        reached::<6>,
        reached::<7>,
        reached::<8>,
        reached::<9>,
        reached::<10>,
        reached::<11>,
        reached::<12>,
        reached::<13>,
        reached::<14>,
        reached::<15>,
        reached::<16>,
    ]
}
