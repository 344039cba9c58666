//! What brings read leases into danger, in runs with readers: leaders that are cut off while another is wanted in their place,
//! by faults that come at random or by somebody who sees everything and waits for the worst moment.

use ha_decision::{Request, SwitchoverMethod};

use crate::clock::{MS, SECOND};
use crate::fault::Healing;
use crate::world::{Ev, World};

/// How often an operator who wants another leader asks for one.
const OPERATOR_ASKS_EVERY: u64 = 400 * MS;
/// How often somebody looks who waits for the worst moment.
const LOOKS_EVERY: u64 = 2 * MS;
/// And for how long.
const WATCHED_FOR: u64 = 4 * SECOND;
/// From the end of an agent to its next life.
const RESTARTS_AFTER: u64 = 100 * MS;

/// Which kinds a run plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sieges {
    /// They begin at random moments.
    Blind,
    /// Somebody waits for the worst one.
    Watched,
}

impl Sieges {
    /// Every fifth run is watched.
    pub(crate) fn of(seed: u64) -> Self {
        if seed % 5 == 1 { Self::Watched } else { Self::Blind }
    }
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing: it strikes when its time has come, while this host's agent starts again.
    Due { restarts: Option<usize> },
    /// So many are listed.
    ListOf(usize),
    /// Somebody has promised to replace this leader.
    Promise,
}

impl World {
    /// What brings read leases into danger.
    pub(crate) fn lease_siege(&mut self) {
        if self.healed_at.is_some() || self.now() >= self.plan.faults_end {
            return;
        }
        let leader = (0..self.hosts.len()).find(|host| self.leads(*host));
        let (ttl, size) = (self.plan.ttl(), self.hosts.len());
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let pause = rng.between(6 * SECOND, 20 * SECOND);
        self.queue.after(pause, Ev::LeaseSiege);
        let Some(leader) = leader else { return };
        let others: Vec<_> = (0..size).filter(|host| *host != leader).collect();
        match (readers.sieges, rng.between(0, 2)) {
            (Sieges::Watched, _) if !self.is_whole_for_a_siege(leader) => {}
            (Sieges::Watched, 0) => self.who_heard_it_last_is_asked(leader, &others),
            (Sieges::Watched, 1) if size > 3 => self.list_changes(leader, &others),
            (Sieges::Watched, _) => self.clients_are_shut_out(leader, &others),
            (Sieges::Blind, 0) => self.links_end_one_by_one(leader, &others, ttl),
            (Sieges::Blind, 1) => self.answers_come_late(leader, &others),
            (Sieges::Blind, _) => self.witness_starts_again(leader, &others),
        }
    }

    /// A leader that loses the store and, in some order, those who hear it.
    fn links_end_one_by_one(&mut self, leader: usize, others: &[usize], ttl: u64) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let lasts = rng.between(2 * SECOND, ttl + 4 * SECOND);
        for other in others {
            if rng.chance(700) {
                let start = rng.between(0, lasts);
                self.queue.after(start, Ev::Cut { a: leader, b: *other, duration: lasts - start });
            }
        }
        let (candidate, asks_from) = (rng.pick(others), rng.between(0, lasts));
        let (lost, revoked) = (rng.chance(700), rng.chance(500));
        self.operator_wants(candidate, asks_from, lasts);
        self.leader_loses_store(leader, if lost { lasts } else { 0 }, revoked);
    }

    /// What the others answered is on its way until another leads.
    fn answers_come_late(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let lasts = readers.detection + rng.between(800 * MS, 1900 * MS);
        let whole = rng.between(100 * MS, 500 * MS);
        for other in others {
            self.net.block(*other, leader);
            self.queue.after(lasts, Ev::Heals(Healing::Links(vec![(*other, leader)])));
            self.queue.after(whole, Ev::Cut { a: leader, b: *other, duration: lasts - whole });
        }
        self.leader_loses_store(leader, lasts + SECOND, false);
        self.topology_changed();
    }

    /// Who heard the leader last does not hear it any more, and has forgotten that it did; others have been waiting.
    fn witness_starts_again(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let witness = rng.pick(others);
        let at = readers.detection + rng.between(500 * MS, 2 * SECOND);
        let lasts = at + rng.between(3 * SECOND, 5 * SECOND);
        for other in others.iter().filter(|other| **other != witness) {
            self.queue.after(0, Ev::Cut { a: leader, b: *other, duration: lasts });
        }
        self.queue.after(at, Ev::Cut { a: leader, b: witness, duration: lasts - at });
        if let Some(agent) = &self.hosts[witness].agent {
            let agent = agent.number;
            self.queue.after(at, Ev::AgentDies { host: witness, agent });
        }
        let candidate = others.iter().copied().find(|other| *other != witness).unwrap_or(witness);
        self.operator_wants(candidate, at, lasts);
        self.leader_loses_store(leader, lasts, true);
    }

    /// An operator without patience, who accepts no loss.
    fn operator_wants(&mut self, candidate: usize, from: u64, until: u64) {
        for at in (from..until).step_by(usize::try_from(OPERATOR_ASKS_EVERY).unwrap_or(1)) {
            self.queue.after(at, Ev::OperatorAsks { host: candidate });
        }
    }

    fn leader_loses_store(&mut self, leader: usize, lasts: u64, revoked: bool) {
        if lasts > 0 {
            self.net.block_store(leader);
            self.queue.after(lasts, Ev::Heals(Healing::Store(leader)));
        }
        if revoked {
            self.revoke_lease();
        }
    }

    /// An operator has a member cloned anew.
    pub(crate) fn operator_clones(&mut self, host: usize) {
        if self.healed_at.is_none() {
            self.request(host, Request::Reinitialize);
        }
    }

    /// A failover, without accepting loss.
    pub(crate) fn operator_asks(&mut self, host: usize) {
        if self.healed_at.is_none() && self.hosts[host].agent.is_some() {
            self.request(host, Request::Failover { accept_data_loss: false });
        }
    }

    /// All but one have not heard the leader for long when it loses that one too, and are asked to take over; now and then
    /// the agent of who heard it last starts again in that moment.
    fn who_heard_it_last_is_asked(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let witness = readers.rng.pick(others);
        let begins = readers.deaf_after();
        let restarts = readers.rng.chance(500).then_some(witness);
        for &other in others.iter().filter(|other| **other != witness) {
            self.cut(leader, other, begins + WATCHED_FOR);
        }
        let until = self.now() + begins + WATCHED_FOR;
        self.queue.after(begins, Ev::LeaseWatched { leader, sign: Sign::Due { restarts }, until });
    }

    /// Whoever answers the leader's beats leaves the list: of those who stay, one is cut off and the others stream, and hear
    /// nothing of its agent.
    fn list_changes(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let leaves = readers.rng.pick(others);
        let stay: Vec<_> = others.iter().copied().filter(|other| *other != leaves).collect();
        let away = readers.rng.pick(&stay);
        let begins = readers.deaf_after();
        let until = self.now() + begins + WATCHED_FOR;
        self.cut(leader, away, begins + WATCHED_FOR);
        for &deaf in stay.iter().filter(|other| **other != away) {
            self.net.block_agents(leader, deaf);
            self.queue.after(begins + WATCHED_FOR, Ev::Heals(Healing::Agents(leader, deaf)));
        }
        let sign = Sign::ListOf(others.len() - 1);
        self.queue.after(begins, Ev::LeaseWatched { leader, sign, until });
        self.queue.after(begins, Ev::OperatorClones { host: leaves });
    }

    /// It hands over without a stop, and is cut off as soon as somebody has promised to replace it.
    fn clients_are_shut_out(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let candidate = Some(self.hosts[readers.rng.pick(others)].name.clone());
        let until = self.now() + WATCHED_FOR;
        self.request(leader, Request::Switchover { candidate, method: SwitchoverMethod::ShutOut });
        self.queue.after(LOOKS_EVERY, Ev::LeaseWatched { leader, sign: Sign::Promise, until });
    }

    /// Everybody follows this leader, and etcd will stay as it is when the leader is cut off.
    fn is_whole_for_a_siege(&mut self, leader: usize) -> bool {
        if self.store.leader == Some(leader) {
            self.store_loses_leader();
        }
        let whole = self.store.sync.as_ref().is_some_and(|sync| {
            sync.record.is_established() && sync.record.policy.members.len() + 1 == self.hosts.len()
        });
        whole && self.store.leader.is_some()
    }

    /// Looks at what only somebody who sees everything can see, and strikes in that moment.
    pub(crate) fn lease_watched(&mut self, leader: usize, sign: Sign, until: u64) {
        let now = self.now();
        if self.healed_at.is_some() || now >= until || !self.leads(leader) {
            return;
        }
        let Some(record) = self.store.sync.as_ref().map(|sync| &sync.record) else { return };
        let seen = match sign {
            Sign::Due { restarts } => {
                if let Some(host) = restarts {
                    self.agent_dies(host, Some(RESTARTS_AFTER), true);
                }
                true
            }
            Sign::ListOf(size) => record.policy.members.len() == size,
            Sign::Promise => self.hosts.iter().any(|host| {
                host.disk.node_state.promise.as_ref().is_some_and(|promise| promise.epoch == record.epoch)
            }),
        };
        if seen {
            let others: Vec<_> = (0..self.hosts.len()).filter(|host| *host != leader).collect();
            self.leader_is_replaced(leader, &others);
        } else {
            self.queue.after(LOOKS_EVERY, Ev::LeaseWatched { leader, sign, until });
        }
    }

    /// Nobody but its clients reaches it, and an operator wants any other.
    fn leader_is_replaced(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let lasts = readers.detection + readers.rng.between(SECOND, 2 * SECOND);
        let name = self.host_name(leader).to_owned();
        self.say(|| format!("--- nobody but its clients reaches {name} ({} ms)", lasts / MS));
        for &other in others {
            self.cut(leader, other, lasts);
            self.operator_wants(other, 0, lasts);
        }
        self.leader_loses_store(leader, lasts, true);
    }
}
