//! Faults: what breaks, for how long, and the healing of everything at the end.

use std::time::Duration;

use ha_decision::{Event, Request, StorageNews, SwitchoverMethod};

use crate::clock::{HostClock, MS, SECOND};
use crate::host::Host;
use crate::world::{Ev, World};

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// An agent dies; its supervisor starts it again.
    AgentCrash,
    /// An agent stands still and does not know it.
    AgentFreeze,
    /// The leader's agent stands still or is gone for longer than its lease, while links to its host come and go.
    LeaderStranded,
    /// The leader's PostgreSQL is killed.
    LeaderPostgresCrash,
    /// The leader's host is cut off for longer than its lease.
    LeaderIsolation,
    /// The postmaster and all its children are killed.
    PostgresCrash,
    /// A host loses power and comes back.
    PowerLoss,
    /// The leader's host loses power and comes back.
    LeaderPowerLoss,
    /// All hosts lose power and come back in some order.
    TotalPowerLoss,
    /// A host is cut off from all others.
    Isolation,
    /// The cluster falls into two halves.
    Split,
    /// Two hosts do not reach each other.
    PairCut,
    /// One direction between two hosts is dead.
    OneWay,
    /// An agent does not reach the store, but everything else.
    StoreCut,
    /// etcd is stopped altogether.
    StoreDown,
    /// etcd elects another leader.
    StoreElection,
    /// A host's storage is slow.
    SlowDisk,
    /// Everything in the network is slow.
    SlowNetwork,
    /// A guard does not run for a while.
    GuardDown,
    /// An operator asks for a switchover.
    Switchover,
    /// An operator asks for a failover, without accepting loss.
    Failover,
    /// An operator restarts a PostgreSQL.
    Restart,
    /// An operator has a member cloned again.
    Reinitialize,
    /// An operator switches maintenance mode on and off.
    Maintenance,
    /// A host stands still as a whole and goes on later; its clock has jumped then.
    HostPause,
    /// The leader's host stands still as a whole.
    LeaderHostPause,
    /// The processes of a PostgreSQL are stopped: it is there and says nothing.
    PostgresFreeze,
    /// The same with the leader's.
    LeaderPostgresFreeze,
    /// A host's storage takes no writes; sometimes the agent's own state cannot be written either.
    StorageFull,
    /// A write of WAL fails once: PANIC.
    StorageError,
    /// An old backup of the store is put back while the cluster runs.
    StoreRestored,
    /// All data of the store are gone.
    StoreEmptied,
    /// etcd ends the leader's lease though it lives.
    LeaseRevoked,
    /// etcd has no space: reads and renewals work, nothing is written.
    StoreNoSpace,
    /// An operator changes mode, k, strict_k or the time until a leader pins itself.
    SettingsChanged,
    /// An operator asks for a failover and accepts loss.
    ForcedFailover,
    /// The leader's storage does not answer for a while, and its server goes on.
    LeaderStorageHang,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::AgentCrash,
        Self::AgentFreeze,
        Self::LeaderStranded,
        Self::LeaderPostgresCrash,
        Self::LeaderIsolation,
        Self::PostgresCrash,
        Self::PowerLoss,
        Self::LeaderPowerLoss,
        Self::TotalPowerLoss,
        Self::Isolation,
        Self::Split,
        Self::PairCut,
        Self::OneWay,
        Self::StoreCut,
        Self::StoreDown,
        Self::StoreElection,
        Self::SlowDisk,
        Self::SlowNetwork,
        Self::GuardDown,
        Self::Switchover,
        Self::Failover,
        Self::Restart,
        Self::Reinitialize,
        Self::Maintenance,
        Self::HostPause,
        Self::LeaderHostPause,
        Self::PostgresFreeze,
        Self::LeaderPostgresFreeze,
        Self::StorageFull,
        Self::StorageError,
        Self::StoreRestored,
        Self::StoreEmptied,
        Self::LeaseRevoked,
        Self::StoreNoSpace,
        Self::SettingsChanged,
        Self::ForcedFailover,
        Self::LeaderStorageHang,
    ];
}

/// The end of one fault.
#[derive(Debug, Clone)]
pub(crate) enum Healing {
    Links(Vec<(usize, usize)>),
    Store(usize),
    Agents(usize, usize),
    StoreUp,
    Network,
    Power(usize),
    Resume(usize),
    Space,
}

impl World {
    pub(crate) fn next_fault(&mut self) {
        if self.now() >= self.plan.faults_end {
            let pause = self.rng.between(MS, 3 * SECOND);
            self.queue.after(pause, Ev::HealAll);
            return;
        }
        if self.plan.faults.is_empty() {
            return;
        }
        let kind = self.rng.pick(&self.plan.faults);
        *self.tally.faults.entry(kind).or_insert(0) += 1;
        self.play(kind);
        let (low, high) = self.plan.fault_pause;
        let pause = self.rng.between(low, high);
        self.queue.after(pause, Ev::Fault);
    }

    pub(crate) fn play(&mut self, kind: FaultKind) {
        let host = self.rng.index(self.hosts.len());
        let other = (host + 1 + self.rng.index(self.hosts.len() - 1)) % self.hosts.len();
        let duration = self.duration();
        let leader = (0..self.hosts.len()).find(|&h| self.leads(h)).unwrap_or(host);
        let (name, other_name) = (self.host_name(host).to_owned(), self.host_name(other).to_owned());
        self.say(|| format!("--- {kind:?} ({name}, {other_name}, {} ms)", duration / MS));
        match kind {
            FaultKind::AgentCrash => {
                let pause = self.rng.between(200 * MS, 3 * SECOND);
                self.agent_dies(host, Some(pause), true);
            }
            FaultKind::AgentFreeze => {
                // Never shorter than an earlier one: what waits for the thaw must come in order.
                let until = self.now() + duration;
                self.hosts[host].frozen_until = self.hosts[host].frozen_until.max(until);
            }
            FaultKind::PostgresCrash => self.server_dies(host),
            FaultKind::LeaderPostgresCrash => self.server_dies(leader),
            FaultKind::LeaderStranded => self.strand(leader),
            FaultKind::LeaderIsolation => {
                let ttl = self.plan.ttl();
                let duration = self.rng.between(ttl, 2 * ttl + 5 * SECOND);
                self.cut_links(FaultKind::Isolation, leader, other, duration);
            }
            FaultKind::PowerLoss => self.power_off(host, duration),
            FaultKind::LeaderPowerLoss => self.power_off(leader, duration),
            FaultKind::TotalPowerLoss => {
                for host in 0..self.hosts.len() {
                    let away = self.rng.between(SECOND, 10 * SECOND);
                    self.power_off(host, away);
                }
            }
            FaultKind::Isolation | FaultKind::Split | FaultKind::PairCut | FaultKind::OneWay => {
                self.cut_links(kind, host, other, duration);
            }
            FaultKind::StoreCut => {
                self.net.block_store(host);
                self.queue.after(duration, Ev::Heals(Healing::Store(host)));
            }
            FaultKind::StoreDown => {
                self.store.down_until = self.now() + duration;
                self.topology_changed();
                self.queue.after(duration, Ev::Heals(Healing::StoreUp));
            }
            FaultKind::StoreElection => self.store_loses_leader(),
            FaultKind::SlowDisk => self.hosts[host].slow_until = self.now() + duration,
            FaultKind::SlowNetwork => {
                self.net.extra_delay = self.rng.between(5 * MS, 400 * MS);
                self.queue.after(duration, Ev::Heals(Healing::Network));
            }
            FaultKind::GuardDown => self.guard_dies(host, duration),
            FaultKind::Switchover => {
                let candidate =
                    (other != leader && self.rng.chance(500)).then(|| self.hosts[other].name.clone());
                let method = if self.rng.chance(500) {
                    SwitchoverMethod::CleanStop
                } else {
                    SwitchoverMethod::ShutOut
                };
                self.request(leader, Request::Switchover { candidate, method });
            }
            FaultKind::Failover => self.request(host, Request::Failover { accept_data_loss: false }),
            FaultKind::Restart => self.request(host, Request::Restart),
            FaultKind::Reinitialize => self.request(host, Request::Reinitialize),
            FaultKind::HostPause => self.pause_host(host, duration),
            FaultKind::LeaderHostPause => self.pause_host(leader, duration),
            FaultKind::PostgresFreeze => self.freeze_server(host, duration),
            FaultKind::LeaderPostgresFreeze => self.freeze_server(leader, duration),
            FaultKind::StorageFull => {
                let until = self.now() + duration;
                self.hosts[host].storage_broken_until = until;
                if self.rng.chance(300) {
                    self.hosts[host].state_broken_until = until;
                }
            }
            FaultKind::StorageError => self.hosts[host].storage_broken_until = self.now() + SECOND,
            FaultKind::StoreRestored => self.restore_store(false),
            FaultKind::StoreEmptied => self.restore_store(true),
            FaultKind::LeaseRevoked => self.revoke_lease(),
            FaultKind::StoreNoSpace => {
                self.store.model.set_no_space(true);
                self.queue.after(duration, Ev::Heals(Healing::Space));
            }
            FaultKind::SettingsChanged => {
                // One change alone seldom meets the state in which it matters.
                for _ in 0..3 {
                    let pause = self.rng.between(MS, 9 * SECOND);
                    self.queue.after(pause, Ev::SettingsChange);
                }
            }
            FaultKind::ForcedFailover => self.despair(leader, other),
            FaultKind::LeaderStorageHang => {
                let what = "a write has not ended in time".to_owned();
                self.news(leader, 0, Event::Storage(StorageNews::Hangs { what }));
                self.news(leader, duration, Event::Storage(StorageNews::Answers));
            }
            FaultKind::Maintenance => {
                let request = Request::Pause {
                    duration: Duration::from_secs(self.rng.between(2, 12)),
                    reason: "the simulator works here".to_owned(),
                };
                self.request(host, request);
                self.queue.after(duration, Ev::Heals(Healing::Resume(host)));
            }
        }
    }

    fn duration(&mut self) -> u64 {
        match self.rng.between(0, 9) {
            0..=2 => self.rng.between(100 * MS, 1500 * MS),
            3..=5 => self.rng.between(SECOND, 6 * SECOND),
            _ => self.rng.between(self.plan.ttl(), 2 * self.plan.ttl() + 5 * SECOND),
        }
    }

    /// The leader is gone for long, and an operator does not wait for it: any other member is to lead with what it has.
    fn despair(&mut self, leader: usize, other: usize) {
        let ttl = self.plan.ttl();
        let away = self.rng.between(2 * ttl, 3 * ttl + 10 * SECOND);
        if self.rng.chance(500) {
            self.power_off(leader, away);
        } else {
            self.cut_links(FaultKind::Isolation, leader, other, away);
        }
        for _ in 0..3 {
            let host = self.rng.index(self.hosts.len());
            let pause = self.rng.between(ttl, away);
            self.queue.after(pause, Ev::LossAccepted { host });
        }
    }

    /// The request, unless everything works again by now.
    pub(crate) fn accept_loss(&mut self, host: usize) {
        if self.healed_at.is_none() {
            self.request(host, Request::Failover { accept_data_loss: true });
        }
    }

    /// Nobody steers the leader's PostgreSQL for longer than the lease, and the others hear it now and then.
    fn strand(&mut self, leader: usize) {
        let ttl = self.plan.ttl();
        let away = self.rng.between(ttl + 2 * SECOND, 2 * ttl + 8 * SECOND);
        if self.rng.chance(500) {
            self.agent_dies(leader, Some(away), true);
        } else {
            let until = self.now() + away;
            self.hosts[leader].frozen_until = self.hosts[leader].frozen_until.max(until);
        }
        let mut at = self.rng.between(0, ttl);
        while at < away {
            let gap = self.rng.between(200 * MS, 5 * SECOND);
            for other in 0..self.hosts.len() {
                if other != leader && self.rng.chance(700) {
                    self.queue.after(at, Ev::Cut { a: leader, b: other, duration: gap });
                }
            }
            at += gap + self.rng.between(50 * MS, 2 * SECOND);
        }
    }

    /// Cuts a pair of hosts for a while.
    pub(crate) fn cut(&mut self, a: usize, b: usize, duration: u64) {
        if self.healed_at.is_some() {
            return;
        }
        let links = vec![(a, b), (b, a)];
        for (from, to) in &links {
            self.net.block(*from, *to);
        }
        self.topology_changed();
        self.queue.after(duration, Ev::Heals(Healing::Links(links)));
    }

    fn cut_links(&mut self, kind: FaultKind, host: usize, other: usize, duration: u64) {
        let size = self.hosts.len();
        let mut links = Vec::new();
        match kind {
            FaultKind::Isolation => {
                for o in 0..size {
                    links.extend([(host, o), (o, host)]);
                }
            }
            FaultKind::Split => {
                let side: Vec<bool> = (0..size).map(|_| self.rng.chance(500)).collect();
                for a in 0..size {
                    links.extend((0..size).filter(|&b| side[a] != side[b]).map(|b| (a, b)));
                }
            }
            FaultKind::PairCut => links.extend([(host, other), (other, host)]),
            _ => links.push((host, other)),
        }
        for (from, to) in &links {
            self.net.block(*from, *to);
        }
        self.topology_changed();
        self.queue.after(duration, Ev::Heals(Healing::Links(links)));
    }

    /// Everything on the host ends at once; what was not flushed is gone.
    pub(crate) fn power_off(&mut self, host: usize, away: u64) {
        if !self.hosts[host].powered {
            return;
        }
        self.hosts[host].powered = false;
        self.hosts[host].paused_until = 0;
        self.net.unsilence(host);
        self.agent_dies(host, None, false);
        self.server_dies(host);
        let h = &mut self.hosts[host];
        h.disk.data.lose_power();
        if let Some(older) = h.disk.before_promise.take() {
            h.disk.node_state = older;
        }
        h.guard.loses_power();
        h.boot += 1;
        self.topology_changed();
        self.queue.after(away, Ev::Heals(Healing::Power(host)));
    }

    fn power_on(&mut self, host: usize) {
        if self.hosts[host].powered {
            return;
        }
        let drift = i64::try_from(self.rng.between(0, 2000)).unwrap_or(0) - 1000;
        let now = self.now();
        let h = &mut self.hosts[host];
        h.powered = true;
        h.clock = HostClock::booted(now, drift);
        let (boot, name) = (h.boot, h.name.clone());
        self.say(|| format!("{name}: power is back"));
        self.topology_changed();
        let pause = self.rng.between(100 * MS, 3 * SECOND);
        self.queue.after(pause, Ev::AgentStarts { host, boot });
    }

    pub(crate) fn heals(&mut self, healing: &Healing) {
        let words = || format!("--- healed: {healing:?}");
        self.trace.say(self.queue.now(), words);
        match healing {
            Healing::Links(links) => {
                for (from, to) in links {
                    self.net.unblock(*from, *to);
                }
                self.topology_changed();
            }
            Healing::Store(host) => self.net.unblock_store(*host),
            Healing::Agents(from, to) => self.net.unblock_agents(*from, *to),
            Healing::StoreUp => self.topology_changed(),
            Healing::Network => self.net.extra_delay = 0,
            Healing::Power(host) => self.power_on(*host),
            Healing::Space => self.store.model.set_no_space(false),
            Healing::Resume(host) => self.request(*host, Request::Resume),
        }
    }

    /// The last fault is over and everything works from now on.
    pub(crate) fn heal_all(&mut self) {
        let server_thaws = |h: &Host| h.server.as_ref().map_or(0, |s| s.frozen_until);
        let thaws = |h: &Host| h.frozen_until.max(h.paused_until).max(server_thaws(h));
        let thawed = self.hosts.iter().map(thaws).max().unwrap_or(0);
        if thawed > self.now() {
            self.queue.at(thawed, Ev::HealAll);
            return;
        }
        self.say(|| "=== everything works again".to_owned());
        self.healed_at = Some(self.now());
        self.net.heal();
        self.store.down_until = 0;
        self.store.model.set_no_space(false);
        self.mend_store();
        for host in 0..self.hosts.len() {
            self.power_on(host);
            let h = &mut self.hosts[host];
            h.slow_until = 0;
            (h.storage_broken_until, h.state_broken_until) = (0, 0);
            h.guard.down_until = 0;
            self.guard_begins(host);
        }
        self.topology_changed();
    }
}
