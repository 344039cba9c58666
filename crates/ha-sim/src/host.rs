//! One host: what survives a power loss, what survives a crash of the agent, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::node_state::NodeState;
use ha_core::record::MemberRecord;
use ha_core::{Epoch, MemberId, MemberName, MonoTime, Revision};
use ha_decision::{Decider, Job, OpId};
use ha_store::LeaseId;

use crate::clock::HostClock;
use crate::guard::Guard;
use crate::postgres_model::{Data, Directory, Server};

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: MemberName,
    pub(crate) clock: HostClock,
    /// Number of this boot.
    pub(crate) boot: u64,
    pub(crate) powered: bool,
    pub(crate) disk: Disk,
    pub(crate) server: Option<Server>,
    pub(crate) guard: Guard,
    pub(crate) agent: Option<Agent>,
    /// Number of the last agent that ran here.
    pub(crate) agents: u64,
    /// The agent does nothing before this global time.
    pub(crate) frozen_until: u64,
    /// Nothing on the host does anything before this global time; its clock goes on.
    pub(crate) paused_until: u64,
    /// Storage refuses writes of WAL before this global time.
    pub(crate) storage_broken_until: u64,
    /// The agent cannot write what it must not forget before this global time.
    pub(crate) state_broken_until: u64,
    /// Flushes and jobs are slow before this global time.
    pub(crate) slow_until: u64,
}

/// What survives everything.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) node_state: NodeState,
    pub(crate) data: Data,
    /// Only a broken agent: what is found after a power loss instead, because the latest promise was not fsynced.
    pub(crate) before_promise: Option<NodeState>,
    /// Epochs whose password file exists.
    pub(crate) passfiles: BTreeSet<Epoch>,
}

/// A running agent: its decider and what its driver holds.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Which agent of this host.
    pub(crate) number: u64,
    pub(crate) decider: Decider,
    /// Global time of the wake-up that counts.
    pub(crate) wake_at: Option<u64>,
    pub(crate) jobs: BTreeMap<OpId, Running>,
    pub(crate) store: StoreFace,
    /// An observation is scheduled.
    pub(crate) observing: bool,
    /// Wake-ups that came due at once, in a row: a decider that asks for them for ever spins.
    pub(crate) spins: u32,
}

/// A job under way.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) job: Job,
    pub(crate) step: u32,
    pub(crate) begun: u64,
    /// Something that a step leaves for the next.
    pub(crate) kept: u64,
    /// The directory that a rewind is making.
    pub(crate) result: Option<Box<Directory>>,
}

/// What a driver holds of the store.
#[derive(Debug, Default)]
pub(crate) struct StoreFace {
    pub(crate) connected: bool,
    /// Which etcd cluster the decider was told of last.
    pub(crate) cluster_id: u64,
    /// Newest revision of it that the decider was told.
    pub(crate) delivered: Revision,
    /// Watch events come in order.
    pub(crate) next_delivery: u64,
    /// A change was missed.
    pub(crate) stale: bool,
    pub(crate) unreachable_since: Option<u64>,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) lease_busy: bool,
    /// Epoch that the leader key showed last under a lease of this agent; only a broken driver believes it.
    pub(crate) led: Option<Epoch>,
    pub(crate) lease_due: u64,
    pub(crate) member_lease: Option<LeaseId>,
    pub(crate) member_busy: bool,
    pub(crate) member_due: u64,
    pub(crate) wanted: Option<MemberRecord>,
    pub(crate) published: Option<MemberRecord>,
}

impl Host {
    /// Reads the host's own clock.
    pub(crate) fn time(&self, global: u64) -> MonoTime {
        self.clock.read(global)
    }

    /// The directory together with the server that runs on it.
    pub(crate) fn running(&mut self) -> Option<(&mut Server, &mut Directory)> {
        match (&mut self.server, &mut self.disk.data) {
            (Some(server), Data::Present(directory)) => Some((server, directory)),
            _ => None,
        }
    }

    /// The server if it is of this life, with its directory.
    pub(crate) fn life(&mut self, life: u64) -> Option<(&mut Server, &mut Directory)> {
        self.running().filter(|(server, _)| server.life == life)
    }

    /// Who this host's data is.
    pub(crate) fn id(&self) -> Option<MemberId> {
        let incarnation = self.disk.data.present()?.incarnation?;
        Some(MemberId::new(self.name.clone(), incarnation))
    }

    /// Whether a server runs here that writes.
    pub(crate) fn is_primary(&self) -> bool {
        self.server.as_ref().is_some_and(|s| !s.in_recovery)
    }

    /// The agent, if it is this one.
    pub(crate) fn agent(&mut self, number: u64) -> Option<&mut Agent> {
        self.agent.as_mut().filter(|a| a.number == number)
    }
}
