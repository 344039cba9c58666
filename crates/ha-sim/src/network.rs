//! Who reaches whom. Links are directed: a one-way fault blocks one of the two. Every link from a host to itself works.

use std::collections::BTreeSet;

use crate::rng::Rng;

/// The network between hosts, and between agents and the store.
#[derive(Debug, Clone, Default)]
pub struct Network {
    blocked: BTreeSet<(usize, usize)>,
    store_blocked: BTreeSet<usize>,
    /// What agents say in one direction does not pass, everything else does.
    agents_blocked: BTreeSet<(usize, usize)>,
    /// Hosts that stand still.
    silent: BTreeSet<usize>,
    /// Extra delay of everything, nanoseconds at most.
    pub extra_delay: u64,
}

impl Network {
    /// Whether packets get from one host to another.
    pub fn open(&self, from: usize, to: usize) -> bool {
        let awake = !self.silent.contains(&from) && !self.silent.contains(&to);
        awake && (from == to || !self.blocked.contains(&(from, to)))
    }

    /// Whether packets get both ways.
    pub fn both(&self, a: usize, b: usize) -> bool {
        self.open(a, b) && self.open(b, a)
    }

    /// Whether the agent of a host is cut off from the store alone.
    pub fn store_blocked(&self, host: usize) -> bool {
        self.store_blocked.contains(&host)
    }

    /// Blocks one direction.
    pub fn block(&mut self, from: usize, to: usize) {
        if from != to {
            self.blocked.insert((from, to));
        }
    }

    /// Unblocks one direction.
    pub fn unblock(&mut self, from: usize, to: usize) {
        self.blocked.remove(&(from, to));
    }

    /// Whether what agents say to each other gets from one host to another.
    pub fn agents_open(&self, from: usize, to: usize) -> bool {
        self.open(from, to) && !self.agents_blocked.contains(&(from, to))
    }

    /// A filter lets nothing that agents say pass in one direction.
    pub fn block_agents(&mut self, from: usize, to: usize) {
        self.agents_blocked.insert((from, to));
    }

    /// Ends [`Self::block_agents`].
    pub fn unblock_agents(&mut self, from: usize, to: usize) {
        self.agents_blocked.remove(&(from, to));
    }

    /// Cuts the agent of a host off from the store.
    pub fn block_store(&mut self, host: usize) {
        self.store_blocked.insert(host);
    }

    /// Ends [`Self::block_store`].
    pub fn unblock_store(&mut self, host: usize) {
        self.store_blocked.remove(&host);
    }

    /// A host neither sends nor receives.
    pub fn silence(&mut self, host: usize) {
        self.silent.insert(host);
    }

    /// Ends [`Self::silence`].
    pub fn unsilence(&mut self, host: usize) {
        self.silent.remove(&host);
    }

    /// All links work again.
    pub fn heal(&mut self) {
        *self = Self { silent: std::mem::take(&mut self.silent), ..Self::default() };
    }

    /// How long a message takes: mostly well below a millisecond, sometimes a retransmission.
    pub fn delay(&self, rng: &mut Rng) -> u64 {
        let base = rng.between(80_000, 900_000);
        let tail = if rng.chance(8) { rng.between(1_000_000, 250_000_000) } else { 0 };
        let extra = if self.extra_delay > 0 { rng.between(0, self.extra_delay) } else { 0 };
        base + tail + extra
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_fault_blocks_one_way() {
        let mut net = Network::default();
        net.block(0, 1);
        net.block(2, 2);
        assert!(!net.open(0, 1) && net.open(1, 0) && !net.both(0, 1) && net.open(2, 2));
        net.unblock(0, 1);
        assert!(net.both(0, 1));
        net.silence(0);
        assert!(!net.open(0, 1) && !net.open(1, 0) && net.open(1, 2));
        net.unsilence(0);
        assert!(net.both(0, 1));
        net.block_agents(0, 1);
        assert!(net.open(0, 1) && !net.agents_open(0, 1) && net.agents_open(1, 0));
        net.unblock_agents(0, 1);
        assert!(net.agents_open(0, 1));
        net.block_store(1);
        assert!(net.store_blocked(1) && !net.store_blocked(0));
        net.heal();
        assert!(!net.store_blocked(1));
    }
}
