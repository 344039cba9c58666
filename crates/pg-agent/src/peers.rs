//! Streams to the other agents (being written; these are the names that the driver uses).

use ha_config::{Cluster, DatabaseHost};
use ha_core::MemberName;
use ha_core::peer_message::PeerMessage;
use tokio::sync::mpsc;

/// Options.
#[derive(Debug)]
pub struct PeerOptions;
impl PeerOptions {
    /// From the configuration.
    pub fn new(_cluster: &Cluster, _host: &DatabaseHost) -> Self {
        Self
    }
}
/// Streams.
#[derive(Debug)]
pub struct Peers;
impl Peers {
    /// Never waits.
    pub fn send(&self, _to: &MemberName, _message: PeerMessage) {}
}
/// Event.
#[derive(Debug)]
pub enum PeerEvent {
    /// A message.
    Message {
        /// From.
        from: MemberName,
        /// What.
        message: PeerMessage,
    },
    /// Stream ended.
    Lost {
        /// From.
        from: MemberName,
    },
}
/// Starts; the sender is for the server side (rpc_service).
pub fn start(_options: PeerOptions) -> (Peers, mpsc::Receiver<PeerEvent>, mpsc::Sender<PeerEvent>) {
    let (sender, receiver) = mpsc::channel(64);
    (Peers, receiver, sender)
}
