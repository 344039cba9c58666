//! The other agents: one outgoing stream to each, on which everything is said. What they say to us comes in through
//! [`crate::rpc_service`]; the two directions share nothing, so that a one-way loss is seen as one.
//!
//! Nothing here waits for a peer. Messages may be lost, and that is expected: who needs an answer asks again.

mod link;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ha_config::{Cluster, DatabaseHost, GRPC_PORT};
use ha_core::MemberName;
use ha_core::peer_message::PeerMessage;
use ha_rpc::TlsFiles;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Messages that may wait for one peer: several seconds' worth. Only a peer that takes nothing lets it fill; the newest
/// message is dropped then, as everything is repeated and what is old is not sent at all.
const WAITING_PER_PEER: usize = 64;

/// Messages of all peers that may wait for the driver. It takes each in microseconds; when it is full, the streams are
/// held back.
const EVENTS_WAITING: usize = 128;

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// It said something.
    Message {
        /// Who, by its certificate.
        from: MemberName,
        /// What.
        message: PeerMessage,
    },
    /// Its stream ended and no newer one has begun.
    Lost {
        /// Who.
        from: MemberName,
    },
}

/// Whom to talk to.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// This member.
    pub me: MemberName,
    /// The others and where their agents listen.
    pub others: Vec<(MemberName, SocketAddr)>,
    /// This host's certificate.
    pub tls: TlsFiles,
}

impl PeerOptions {
    /// All other members of the file.
    pub fn new(cluster: &Cluster, host: &DatabaseHost) -> Self {
        let others = cluster.databases.iter().filter(|other| other.name != host.name);
        Self {
            me: host.name.clone(),
            others: others
                .map(|other| (other.name.clone(), SocketAddr::new(other.address, GRPC_PORT)))
                .collect(),
            tls: tls_files(cluster),
        }
    }
}

/// This host's certificate as the file names it.
pub(crate) fn tls_files(cluster: &Cluster) -> TlsFiles {
    let tls = &cluster.tls;
    TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() }
}

/// A message and when it was said.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    message: PeerMessage,
}

/// The outgoing streams. They end when this is dropped.
#[derive(Debug)]
pub struct Peers {
    queues: BTreeMap<MemberName, mpsc::Sender<Waiting>>,
}

impl Peers {
    /// Says something to a peer, as far as it can be reached; never waits. Without a stream, and when the peer takes
    /// nothing, the message is lost.
    pub fn send(&self, to: &MemberName, message: PeerMessage) {
        let Some(queue) = self.queues.get(to) else {
            tracing::warn!(member = %to, "a message for a member that is not in the file");
            return;
        };
        if queue.try_send(Waiting { since: Instant::now(), message }).is_err() {
            tracing::debug!(member = %to, "a message was dropped: the peer takes nothing");
        }
    }
}

/// Begins to talk to all other members: the outgoing side, and both ends of the queue of what they say. Must be called
/// in a runtime.
pub fn start(options: PeerOptions) -> (Peers, mpsc::Receiver<PeerEvent>, mpsc::Sender<PeerEvent>) {
    let (events, events_in) = mpsc::channel(EVENTS_WAITING);
    let mut queues = BTreeMap::new();
    for (to, address) in options.others {
        let (queue, waiting) = mpsc::channel(WAITING_PER_PEER);
        queues.insert(to.clone(), queue);
        let link = link::Link { me: options.me.clone(), to, address, tls: options.tls.clone() };
        tokio::spawn(link.run(waiting));
    }
    (Peers { queues }, events_in, events)
}
