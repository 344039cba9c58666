//! What the agents say they are: one stream to every agent, made again whenever it ends. Claims come in; what the proxy
//! has put in force goes out on the same stream, so that a planned switchover begins when new work is held everywhere.
//!
//! Nothing here judges a claim; one that cannot be read is dropped with a warning and counts as nothing said.

mod claim;
mod stream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ha_core::MemberName;
use ha_routing::Claim;
use ha_rpc::TlsFiles;
use tokio::sync::{mpsc, watch};

use crate::read_lease::ReadLeases;

pub use claim::ClaimError;

/// Claims of all agents that may wait for the driver, which takes each in microseconds. When it is full the streams are
/// held back, and with them the agents' queues, of which only the newest claim matters.
const CLAIMS_WAITING: usize = 128;

/// Number of a stream to one agent, from 1. Sequences of claims begin anew with each stream, so a confirmation is worth
/// nothing on another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamNumber(u64);

/// What an agent said, or that it says nothing any more.
#[derive(Debug, Clone)]
pub enum Heard {
    /// A claim.
    Claimed {
        /// On which stream.
        stream: StreamNumber,
        /// What it claims.
        claim: Claim,
    },
    /// There is no stream; told once for each reason.
    Lost {
        /// Whose.
        member: MemberName,
        /// Why.
        why: String,
    },
}

/// Whom to follow.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// This proxy host, as in its certificate.
    pub proxy: MemberName,
    /// The agents' gRPC interfaces.
    pub agents: Vec<(MemberName, SocketAddr)>,
    /// This host's certificate.
    pub tls: TlsFiles,
    /// Where leaders are asked for read leases: what they say goes there, in the order of `agents`.
    pub read_leases: Option<Arc<ReadLeases>>,
}

/// The newest claim of a stream that the routing rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct InForce {
    stream: StreamNumber,
    sequence: u64,
    /// A successor takes the new sessions.
    replaced: bool,
}

/// The streams. They end when the receiver of what is heard is dropped.
#[derive(Debug)]
pub struct TopologyWatch {
    in_force: BTreeMap<MemberName, Arc<watch::Sender<InForce>>>,
    /// Counts how often everything was begun anew.
    anew: watch::Sender<u64>,
}

impl TopologyWatch {
    /// Begins to follow every agent. Must be called in a runtime.
    pub fn start(options: &WatchOptions) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, receiver) = mpsc::channel(CLAIMS_WAITING);
        let mut in_force = BTreeMap::new();
        let anew = watch::Sender::new(0);
        for (index, (member, address)) in options.agents.iter().enumerate() {
            let own = Arc::new(watch::Sender::new(InForce::default()));
            in_force.insert(member.clone(), Arc::clone(&own));
            let follow = stream::Follow {
                proxy: options.proxy.clone(),
                member: member.clone(),
                address: *address,
                tls: options.tls.clone(),
                read_leases: options.read_leases.clone().map(|leases| (index, leases)),
                in_force: own,
                anew: anew.subscribe(),
            };
            tokio::spawn(follow.run(heard.clone()));
        }
        (Self { in_force, anew }, receiver)
    }

    /// Ends every stream and makes it anew: what waits in the present ones is too old to be believed. Gives each
    /// member's present stream; claims of it or of an earlier one are to be ignored.
    pub fn begin_anew(&self) -> BTreeMap<MemberName, StreamNumber> {
        self.anew.send_modify(|times| *times += 1);
        self.in_force.iter().map(|(member, in_force)| (member.clone(), in_force.borrow().stream)).collect()
    }

    /// Tells every agent, now and on each later stream, that a successor takes the new sessions of this proxy.
    pub fn replaced(&self) {
        for in_force in self.in_force.values() {
            in_force.send_modify(|current| current.replaced = true);
        }
    }

    /// Tells the agent that the routing rests on its claim `sequence` of that stream; never waits. On a newer stream it
    /// is not sent.
    pub fn confirm(&self, member: &MemberName, stream: StreamNumber, sequence: u64) {
        if let Some(in_force) = self.in_force.get(member) {
            in_force.send_if_modified(|current| {
                let is_news = current.stream == stream && current.sequence < sequence;
                if is_news {
                    current.sequence = sequence;
                }
                is_news
            });
        }
    }
}
