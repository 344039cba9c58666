//! The store's own side: one etcd member on each host, its leader, and the watches of the agents, which may lag.

use ha_core::{MonoTime, Revision};
use ha_decision::Event;

use crate::clock::MS;
use crate::store_link::{StoreCall, view};
use crate::world::{Ev, World};

/// A watch that hears nothing for so long is broken.
const WATCH_TIMEOUT: u64 = 1500 * MS;

impl World {
    pub(crate) fn store_time(&self) -> MonoTime {
        MonoTime(self.now())
    }

    /// Whether a majority of the etcd members reaches this one.
    fn etcd_majority(&self, host: usize) -> bool {
        let size = self.hosts.len();
        let reached = (0..size).filter(|&o| self.hosts[o].powered && self.net.both(host, o)).count();
        self.hosts[host].powered && reached * 2 > size
    }

    /// Whether the agent of a host gets through to the store's leader, over any member.
    pub(crate) fn store_reachable(&self, host: usize) -> bool {
        let Some(leader) = self.store.leader else { return false };
        !self.net.store_blocked(host)
            && (0..self.hosts.len()).any(|member| {
                self.hosts[member].powered && self.net.both(host, member) && self.net.both(member, leader)
            })
    }

    /// Power or links changed: the leader may have lost its majority.
    pub(crate) fn topology_changed(&mut self) {
        let down = self.store.down_until > self.now();
        if self.store.leader.is_some_and(|leader| down || !self.etcd_majority(leader)) {
            self.store_loses_leader();
        }
        self.plan_election();
    }

    pub(crate) fn store_loses_leader(&mut self) {
        let now = self.store_time();
        self.store.model.lose_leader(now);
        self.store.leader = None;
        self.say(|| "etcd has no leader".to_owned());
        self.plan_election();
    }

    fn plan_election(&mut self) {
        if self.store.leader.is_none() && !self.store.electing {
            self.store.electing = true;
            let pause = self.rng.between(600 * MS, 2200 * MS);
            self.queue.after(pause, Ev::StoreElects);
        }
    }

    pub(crate) fn store_elects(&mut self) {
        self.store.electing = false;
        if self.store.leader.is_some() {
            return;
        }
        let down = self.store.down_until > self.now();
        let able: Vec<usize> = (0..self.hosts.len()).filter(|&h| !down && self.etcd_majority(h)).collect();
        if able.is_empty() {
            self.plan_election();
            return;
        }
        let leader = self.rng.pick(&able);
        self.store.leader = Some(leader);
        let now = self.store_time();
        self.store.model.elect_leader(now);
        self.tally.store_elections += 1;
        self.say(|| format!("etcd leader is on pg{}", leader + 1));
    }

    pub(crate) fn store_tick(&mut self) {
        let now = self.store_time();
        self.store.model.advance(now);
        self.store_changed();
        self.back_up_store();
        for host in 0..self.hosts.len() {
            if self.hosts[host].paused_until > self.now() {
                continue;
            }
            self.watch_tick(host);
            self.lease_rounds(host);
        }
    }

    /// Repairs or gives up an agent's watch.
    fn watch_tick(&mut self, host: usize) {
        let reachable = self.store_reachable(host);
        let now = self.now();
        let Some(agent) = self.hosts[host].agent.as_mut() else { return };
        let (number, face) = (agent.number, &mut agent.store);
        if reachable {
            face.unreachable_since = None;
            if !face.connected || face.stale {
                self.call(host, number, StoreCall::Resync);
            }
            return;
        }
        face.stale = true;
        let since = *face.unreachable_since.get_or_insert(now);
        if face.connected && now - since >= WATCH_TIMEOUT {
            face.connected = false;
            self.news(host, 0, Event::StoreLost);
        }
    }

    /// After anything that may have written: the ground truth and the watches follow.
    pub(crate) fn store_changed(&mut self) {
        if self.store.model.revision() == self.store.known {
            return;
        }
        self.store.known = self.store.model.revision();
        let now = self.now();
        if self.store.known.0.is_multiple_of(64) {
            let keep = Revision(self.store.known.0 - 32);
            self.store.model.compact(keep);
        }
        let view = view(&self.store.model.peek());
        if view.sync != self.store.sync {
            let before = std::mem::replace(&mut self.store.sync, view.sync.clone());
            self.sync_changed(before, &view);
        }
        for host in 0..self.hosts.len() {
            let reachable = self.store_reachable(host);
            let delay = self.rng.between(MS, 30 * MS)
                + if self.rng.chance(30) { self.rng.between(0, 1500 * MS) } else { 0 };
            let Some(agent) = self.hosts[host].agent.as_mut() else { continue };
            if !agent.store.connected || !reachable {
                agent.store.stale = true;
                continue;
            }
            let at = (now + delay).max(agent.store.next_delivery);
            agent.store.next_delivery = at;
            let agent = agent.number;
            self.queue
                .at(at, Ev::ToAgent { host, agent, news: Box::new(Event::Store(Box::new(view.clone()))) });
        }
    }
}
