//! Streams between agents: one per direction, in order, cut when the network or an agent is gone for long.

use std::collections::VecDeque;

use ha_core::peer_message::PeerMessage;
use ha_decision::Event;

use crate::clock::{MS, SECOND};
use crate::world::{Ev, World};

/// Silence after which a stream is taken for dead.
const STREAM_TIMEOUT: u64 = 3 * SECOND;

/// One direction between two agents.
#[derive(Debug, Default)]
pub(crate) struct PeerLink {
    queue: VecDeque<PeerMessage>,
    pumping: bool,
    silent_since: Option<u64>,
    lost: bool,
}

impl World {
    pub(crate) fn peer_send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let target_lives = self.hosts[to].agent.is_some();
        let delay = self.net.delay(&mut self.rng);
        let link = self.peers.entry((from, to)).or_default();
        if link.lost || !target_lives {
            return;
        }
        link.queue.push_back(message);
        if !link.pumping {
            link.pumping = true;
            self.queue.after(delay, Ev::PeerPump { from, to });
        }
    }

    pub(crate) fn peer_pump(&mut self, from: usize, to: usize) {
        let open = self.net.agents_open(from, to) && self.hosts[to].powered;
        let delay = self.net.delay(&mut self.rng);
        let Some(link) = self.peers.get_mut(&(from, to)) else { return };
        link.pumping = false;
        if !open {
            if !link.queue.is_empty() {
                link.pumping = true;
                self.queue.after(100 * MS, Ev::PeerPump { from, to });
            }
            return;
        }
        let Some(message) = link.queue.pop_front() else { return };
        if !link.queue.is_empty() {
            link.pumping = true;
            self.queue.after(delay / 4, Ev::PeerPump { from, to });
        }
        let sender = self.hosts[from].name.clone();
        self.news(to, 0, Event::Peer { from: sender, message });
    }

    /// The agent of a host is gone: its streams break, at once where the network still carries the news.
    pub(crate) fn peer_gone(&mut self, host: usize, kernel_lives: bool) {
        for other in 0..self.hosts.len() {
            if other == host {
                continue;
            }
            for key in [(host, other), (other, host)] {
                let link = self.peers.entry(key).or_default();
                link.queue.clear();
            }
            if kernel_lives && self.net.open(host, other) {
                let from = self.hosts[host].name.clone();
                self.news(other, 3 * MS, Event::PeerLost { from });
                if let Some(link) = self.peers.get_mut(&(host, other)) {
                    link.lost = true;
                }
            }
        }
    }

    /// Notices streams that are silent for long, and those that work again.
    pub(crate) fn peer_tick(&mut self) {
        let now = self.now();
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                if from == to {
                    continue;
                }
                let works = self.net.both(from, to)
                    && self.hosts[from].agent.is_some()
                    && self.hosts[from].frozen_until <= now
                    && self.hosts[to].agent.is_some();
                let one_way_works = self.net.open(from, to) && self.hosts[from].agent.is_some();
                let link = self.peers.entry((from, to)).or_default();
                if works {
                    link.silent_since = None;
                    link.lost = false;
                } else if !one_way_works && !link.lost {
                    let since = *link.silent_since.get_or_insert(now);
                    if now - since >= STREAM_TIMEOUT {
                        link.lost = true;
                        link.queue.clear();
                        let from = self.hosts[from].name.clone();
                        self.news(to, 0, Event::PeerLost { from });
                    }
                }
            }
        }
    }
}
