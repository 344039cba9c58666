//! Heartbeats between agents: datagrams that are lost with the link, by chance, or all of them at a firewall. One tick
//! stands for a round of all members.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::heartbeat::{HeardHeartbeat, Heartbeats};
use ha_decision::Event;

use crate::clock::MS;
use crate::world::{Ev, World};

/// How often every agent sends to every other.
const EVERY: u64 = 100 * MS;
/// Datagrams that vanish on a healthy link, per mille.
const LOST: u64 = 10;

/// What has arrived where.
#[derive(Debug, Default)]
pub(crate) struct HeartbeatLinks {
    heard: BTreeMap<(usize, usize), HeardHeartbeat>,
    /// Hosts whose agent stands still.
    still: BTreeSet<usize>,
    stalled_at: BTreeMap<usize, ha_core::MonoTime>,
}

impl World {
    pub(crate) fn heartbeats_begin(&mut self) {
        self.queue.after(EVERY, Ev::Heartbeats);
    }

    /// One round.
    pub(crate) fn heartbeat_round(&mut self) {
        self.queue.after(EVERY, Ev::Heartbeats);
        let now = self.now();
        for host in 0..self.hosts.len() {
            if self.hosts[host].frozen_until > now {
                self.heartbeats.still.insert(host);
            } else if self.heartbeats.still.remove(&host) {
                // What waited in its socket meanwhile is thrown away.
                self.heartbeats.stalled_at.insert(host, self.hosts[host].time(now));
            }
        }
        if self.plan.heartbeats_blocked {
            return;
        }
        for from in 0..self.hosts.len() {
            let sender = &self.hosts[from];
            let Some(agent) = sender.agent.as_ref().filter(|_| sender.frozen_until <= now) else { continue };
            let (leads, detection) = (agent.decider.beats_for(), agent.decider.detection());
            for to in 0..self.hosts.len() {
                let receiver = &self.hosts[to];
                let awake = receiver.agent.is_some() && receiver.frozen_until <= now;
                if from == to || !awake || !self.net.agents_open(from, to) || self.rng.chance(LOST) {
                    continue;
                }
                let at = receiver.time(now);
                let detection_ms = u64::try_from(detection.as_millis()).unwrap_or(u64::MAX);
                self.heartbeats.heard.insert((from, to), HeardHeartbeat { at, leads, detection_ms });
            }
        }
    }

    /// A new agent has heard nobody yet.
    pub(crate) fn heartbeats_forgotten(&mut self, host: usize) {
        self.heartbeats.heard.retain(|(_, to), _| *to != host);
        self.heartbeats.stalled_at.remove(&host);
    }

    /// What the agent of a host is told before anything else.
    pub(crate) fn heartbeats_at(&self, host: usize) -> Event {
        let heard = self.heartbeats.heard.iter().filter(|((_, to), _)| *to == host);
        Event::Heartbeats(Heartbeats {
            heard: heard.map(|((from, _), heard)| (self.hosts[*from].name.clone(), *heard)).collect(),
            stalled_at: self.heartbeats.stalled_at.get(&host).copied(),
        })
    }
}
