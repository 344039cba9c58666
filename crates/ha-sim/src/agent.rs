//! The driver of one agent: wakes the decider, hands it news, carries out its actions in order. It decides nothing.

use ha_core::BootId;
use ha_core::postgres_view::{PostgresProcess, PostgresView};
use ha_decision::{
    Action, Decider, Event, GuardCommand, MemberSetup, OpId, Refusal, Request, RequestId, Setup, TxnOutcome,
};

use crate::clock::{MS, SECOND};
use crate::host::{Agent, StoreFace};
use crate::mutant::Mutant;
use crate::plan::Tag;
use crate::postgres_model::server::lists;
use crate::store_link::StoreCall;
use crate::world::{Ev, Forced, World};

/// How often an agent looks at its PostgreSQL at most at rest.
const OBSERVE_EVERY: u64 = 500 * MS;
/// A decider that wants to be woken in the past is woken this much later.
const SPIN_PAUSE: u64 = MS;
/// So many wake-ups without a pause are a spin.
const SPIN_LIMIT: u32 = 2000;

impl World {
    pub(crate) fn agent_starts(&mut self, host: usize, boot: u64) {
        let now = self.now();
        if !self.hosts[host].powered || self.hosts[host].boot != boot || self.hosts[host].agent.is_some() {
            return;
        }
        let mut decider = Decider::new(self.setup_of(host));
        decider.break_rule(self.mutant.of_decider());
        let h = &mut self.hosts[host];
        h.agents += 1;
        let number = h.agents;
        h.agent = Some(Agent {
            number,
            decider,
            wake_at: None,
            jobs: Default::default(),
            store: StoreFace { stale: true, ..StoreFace::default() },
            observing: false,
            spins: 0,
        });
        self.heartbeats_forgotten(host);
        self.tally.agent_starts += 1;
        let name = self.host_name(host).to_owned();
        self.say(|| format!("{name}: agent {number} starts"));
        self.observe_after(host, 5 * MS);
        if !self.guard_begins(host) {
            self.guard_meets_agent(host);
        }
        let at = now + MS;
        self.queue.at(at, Ev::Wake { host, agent: number, at });
        if let Some(agent) = self.hosts[host].agent(number) {
            agent.wake_at = Some(at);
        }
    }

    fn setup_of(&mut self, host: usize) -> Setup {
        let entropy = self.rng.bits();
        let mut node_state = self.hosts[host].disk.node_state.clone();
        if self.mutant == Mutant::PromiseForgottenOnRestart {
            node_state.promise = None;
        }
        let members = self
            .hosts
            .iter()
            .map(|h| MemberSetup {
                name: h.name.clone(),
                address: h.name.to_string(),
                port: 5432,
                nofailover: self.plan.tagged == Some((h.name.clone(), Tag::NoFailover)),
                nosync: self.plan.tagged == Some((h.name.clone(), Tag::NoSync)),
                priority: 1,
            })
            .collect();
        Setup {
            me: self.hosts[host].name.clone(),
            members,
            timings: self.plan.timings.clone(),
            initial_settings: self.plan.settings(),
            guard: self.plan.guard,
            node_state,
            entropy,
            boot: BootId(format!("{}-{}", self.hosts[host].name, self.hosts[host].boot)),
            version: "sim".to_owned(),
            file_digest: "same".to_owned(),
            read_leases: self.readers.is_some(),
            rewind: true,
        }
    }

    /// The agent dies; its supervisor starts it again after `pause`, or never when there is none.
    pub(crate) fn agent_dies(&mut self, host: usize, restart: Option<u64>, kernel_lives: bool) {
        let Some(agent) = self.hosts[host].agent.take() else { return };
        let name = self.host_name(host).to_owned();
        self.say(|| format!("{name}: agent {} dies", agent.number));
        self.hosts[host].frozen_until = 0;
        self.peer_gone(host, kernel_lives);
        if let Some(pause) = restart {
            let boot = self.hosts[host].boot;
            self.queue.after(pause, Ev::AgentStarts { host, boot });
        }
    }

    /// This agent dies, and comes back soon.
    pub(crate) fn agent_dies_soon(&mut self, host: usize, agent: u64) {
        if self.healed_at.is_none() && self.hosts[host].agent(agent).is_some() {
            let pause = self.rng.between(100 * MS, 1500 * MS);
            self.agent_dies(host, Some(pause), true);
        }
    }

    /// Schedules news for the agent that runs now.
    pub(crate) fn news(&mut self, host: usize, delay: u64, news: Event) {
        if let Some(agent) = &self.hosts[host].agent {
            let agent = agent.number;
            self.queue.after(delay, Ev::ToAgent { host, agent, news: Box::new(news) });
        }
    }

    pub(crate) fn tell(&mut self, host: usize, agent: u64, news: Box<Event>) {
        let now = self.now();
        let h = &mut self.hosts[host];
        if h.agent(agent).is_none() {
            return;
        }
        if h.frozen_until > now {
            let until = h.frozen_until;
            self.queue.at(until, Ev::ToAgent { host, agent, news });
            return;
        }
        let time = h.time(now);
        let Some(a) = h.agent.as_mut() else { return };
        match &*news {
            Event::Store(view) => {
                if view.cluster_id == a.store.cluster_id && view.revision < a.store.delivered {
                    return;
                }
                (a.store.cluster_id, a.store.delivered) = (view.cluster_id, view.revision);
            }
            Event::Peer { .. } | Event::Postgres(_) => {}
            other => {
                if matches!(other, Event::StoreRolledBack) {
                    a.store.delivered = ha_core::Revision(0);
                }
                let words = format!("{}: <- {other:?}", h.name);
                self.trace.say(now, || words);
            }
        }
        if let Event::Peer { from, message } = &*news {
            use ha_core::peer_message::PeerMessage as M;
            if !matches!(message, M::State(_) | M::Beat(_) | M::Echo(_)) {
                let words = || format!("{}: <- {from}: {message:?}", self.hosts[host].name);
                self.trace.say(now, words);
            }
        }
        let heartbeats = self.heartbeats_at(host);
        if let Some(a) = self.hosts[host].agent.as_mut() {
            a.decider.handle_event(time, heartbeats);
            a.decider.handle_event(time, *news);
        }
        self.drain(host, agent);
    }

    pub(crate) fn wake(&mut self, host: usize, agent: u64, at: u64) {
        let now = self.now();
        let h = &mut self.hosts[host];
        let (frozen, time) = (h.frozen_until, h.time(now));
        let Some(a) = h.agent(agent).filter(|a| a.wake_at == Some(at)) else { return };
        if frozen > now {
            a.wake_at = Some(frozen);
            self.queue.at(frozen, Ev::Wake { host, agent, at: frozen });
            return;
        }
        a.wake_at = None;
        let heartbeats = self.heartbeats_at(host);
        let Some(a) = self.hosts[host].agent(agent) else { return };
        a.decider.handle_event(time, heartbeats);
        a.decider.handle_timeout(time);
        self.drain(host, agent);
    }

    /// Carries out the actions in order. The agent may die before any of them.
    fn drain(&mut self, host: usize, agent: u64) {
        while let Some(action) = self.hosts[host].agent(agent).and_then(|a| a.decider.poll_action()) {
            if self.healed_at.is_none() && self.rng.between(0, 99_999) < self.plan.dying_actions {
                self.say(|| format!("the agent dies before {action:?}"));
                self.tally.deaths_between_actions += 1;
                let pause = self.rng.between(200 * MS, 2 * SECOND);
                self.agent_dies(host, Some(pause), true);
                return;
            }
            self.act(host, agent, action);
        }
        self.schedule_wake(host, agent);
    }

    fn schedule_wake(&mut self, host: usize, number: u64) {
        let now = self.now();
        let h = &mut self.hosts[host];
        let clock = h.clock;
        let Some(agent) = h.agent(number) else { return };
        let Some(wanted) = agent.decider.poll_timeout() else {
            agent.wake_at = None;
            return;
        };
        let mut at = clock.global(wanted);
        if at <= now {
            at = now + SPIN_PAUSE;
            agent.spins += 1;
            if agent.spins == SPIN_LIMIT {
                let doing = agent.decider.status().doing;
                self.fail("spin", format!("{} asks to be woken in the past for ever; {doing}", member(host)));
                return;
            }
        } else if at > now + 2 * SPIN_PAUSE {
            agent.spins = 0;
        }
        let Some(agent) = self.hosts[host].agent(number) else { return };
        if agent.wake_at != Some(at) {
            agent.wake_at = Some(at);
            self.queue.at(at, Ev::Wake { host, agent: number, at });
        }
    }

    fn act(&mut self, host: usize, agent: u64, action: Action) {
        self.trace_action(host, &action);
        match action {
            Action::Persist(state) => {
                if self.hosts[host].state_broken_until > self.now() {
                    // What must not be forgotten cannot be written: the agent ends before it says or does any more.
                    let pause = self.rng.between(500 * MS, 2 * SECOND);
                    self.agent_dies(host, Some(pause), true);
                    return;
                }
                self.checker.persisted(
                    host,
                    &self.hosts[host].disk.node_state,
                    &state,
                    &self.store.authority,
                );
                let disk = &mut self.hosts[host].disk;
                let promises = state.promise.is_some() && state.promise != disk.node_state.promise;
                disk.before_promise =
                    (promises && self.mutant == Mutant::PromiseNotDurable).then(|| disk.node_state.clone());
                disk.node_state = state;
            }
            Action::Txn { id, txn } => self.txn(host, id, txn),
            Action::Job { id, job } => self.job_begins(host, agent, id, job),
            Action::Send { to, message } => {
                if let Some(to) = self.index_of(&to) {
                    self.checker.said(host, to, &message);
                    self.peer_send(host, to, message);
                }
            }
            Action::Guard(command) => self.guard_command(host, &command),
            Action::ReadStore { .. } => self.call(host, agent, StoreCall::Resync),
            Action::Publish(record) => {
                if let Some(a) = self.hosts[host].agent(agent) {
                    a.store.wanted = Some(record);
                    self.publish(host);
                }
            }
            Action::Reply { id, answer } => {
                // Whoever accepted a loss has accepted what an unknown transaction may still do.
                let unknown = matches!(&answer, Err(Refusal::Failed { message }) if message.starts_with("etcd did not say"));
                self.forced.retain(|forced| forced.request != id || unknown);
                if answer.is_ok() {
                    self.tally.requests_done += 1;
                } else {
                    self.tally.requests_refused += 1;
                }
            }
            Action::HoldSessions { id } => {
                // Proxies answer within a round trip, or one of them does not and the decider goes on without.
                if self.rng.chance(500) {
                    let delay = self.rng.between(0, 5 * MS);
                    let proxies = self.connected_proxies();
                    self.news(host, delay, Event::SessionsHeld { id, proxies });
                }
            }
            Action::Observe => {
                let delay = self.rng.between(MS, 5 * MS);
                self.queue.after(delay, Ev::Observe { host, agent, again: false });
            }
            Action::AwaitRouting { id } => {
                // A proxy that is away for long is never heard of.
                if self.rng.chance(800) {
                    let delay = self.rng.between(0, 50 * MS);
                    let proxies = self.connected_proxies();
                    self.news(host, delay, Event::Rerouted { id, proxies });
                }
            }
            Action::CompleteHistory(completion) => {
                self.tally.transactions += 1;
                self.call(host, agent, StoreCall::CompleteHistory(completion));
            }
            Action::Note(reason) => {
                self.tally.blocked_states += u64::from(reason.to_string().starts_with("BLOCKED"));
            }
            Action::KeepSlots { .. } => {}
        }
    }

    fn connected_proxies(&mut self) -> u32 {
        u32::try_from(self.rng.between(0, 2)).unwrap_or(0)
    }

    fn trace_action(&mut self, host: usize, action: &Action) {
        use ha_core::peer_message::PeerMessage as M;
        match action {
            Action::Send { message: M::State(_) | M::Beat(_) | M::Echo(_), .. }
            | Action::KeepSlots { .. }
            | Action::Guard(GuardCommand::Renew { .. }) => {}
            Action::Note(reason) => {
                let words = || format!("{}: \"{reason}\"", member(host));
                self.trace.say(self.queue.now(), words);
            }
            Action::Txn { id, txn } => {
                let words = || {
                    let puts: Vec<_> = txn
                        .puts
                        .iter()
                        .map(|(key, value, _)| {
                            format!("{} = {}", key.relative(), String::from_utf8_lossy(value))
                        })
                        .collect();
                    format!(
                        "{}: -> txn {} \"{}\" when {:?} put {puts:?} delete {:?}",
                        member(host),
                        id.0,
                        txn.purpose,
                        txn.compares,
                        txn.deletes
                    )
                };
                self.trace.say(self.queue.now(), words);
            }
            other => {
                let words = || format!("{}: -> {other:?}", member(host));
                self.trace.say(self.queue.now(), words);
            }
        }
    }

    /// Looks at PostgreSQL soon, beside the regular round.
    pub(crate) fn observe_after(&mut self, host: usize, delay: u64) {
        let Some(agent) = self.hosts[host].agent.as_ref() else { return };
        let (number, again) = (agent.number, !agent.observing);
        if let Some(agent) = self.hosts[host].agent(number) {
            agent.observing = true;
        }
        self.queue.after(delay, Ev::Observe { host, agent: number, again });
    }

    pub(crate) fn observe(&mut self, host: usize, agent: u64, again: bool) {
        let now = self.now();
        let h = &mut self.hosts[host];
        if h.agent(agent).is_none() {
            return;
        }
        if h.frozen_until > now {
            let until = h.frozen_until;
            self.queue.at(until, Ev::Observe { host, agent, again });
            return;
        }
        let at = h.time(now);
        let data = h.disk.data.facts();
        let mut process = match (&h.server, h.disk.data.present()) {
            (Some(server), Some(directory)) => server.view(directory, now),
            _ => PostgresProcess::Stopped,
        };
        if self.mutant == Mutant::InForceUnchecked
            && let (PostgresProcess::Running(instance), Some(server)) = (&mut process, &h.server)
        {
            for sender in &mut instance.senders {
                let listed = sender.name.as_ref().is_some_and(|n| lists(&server.postmaster.standby_names, n));
                sender.sync_priority = u32::from(listed);
            }
        }
        // The look itself takes a moment, so its result is a little old when it arrives.
        let took = self.rng.between(MS, 20 * MS);
        self.news(
            host,
            took,
            Event::Postgres(PostgresView { at, data, process, full: false, storage_failed: false }),
        );
        if again {
            let wanted = self.hosts[host].agent(agent).map(|a| a.decider.observe_every().as_nanos());
            let every = wanted.and_then(|w| u64::try_from(w).ok()).unwrap_or(OBSERVE_EVERY);
            let pause = self.rng.between(every / 2, every);
            self.queue.after(pause, Ev::Observe { host, agent, again });
        }
    }

    /// An operator's request to the agent of a host.
    pub(crate) fn request(&mut self, host: usize, request: Request) {
        let id = RequestId(self.number());
        if let (Request::Failover { accept_data_loss: true }, Some(agent)) =
            (&request, &self.hosts[host].agent)
        {
            self.forced.push(Forced { request: id, host, agent: agent.number });
        }
        self.news(host, MS, Event::Request { id, request });
    }

    pub(crate) fn txn_ends(&mut self, host: usize, op: OpId, outcome: TxnOutcome) {
        let outcome = match outcome {
            TxnOutcome::Unknown => {
                self.tally.unknown_outcomes += 1;
                if self.mutant == Mutant::UnknownTreatedAsFailed {
                    TxnOutcome::Lost
                } else {
                    TxnOutcome::Unknown
                }
            }
            known => known,
        };
        self.news(host, 0, Event::TxnDone { id: op, outcome });
    }
}

fn member(host: usize) -> String {
    format!("pg{}", host + 1)
}
