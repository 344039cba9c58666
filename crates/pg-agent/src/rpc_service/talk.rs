//! The incoming streams of the other agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ha_core::MemberName;
use ha_core::peer_message::PeerMessage;
use ha_rpc::gate::caller;
use ha_rpc::proto::peer_server::Peer;
use ha_rpc::proto::{PeerEnvelope, TalkEnd};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::peers::PeerEvent;

/// The service.
#[derive(Debug)]
pub(super) struct Talk {
    members: BTreeSet<MemberName>,
    events: mpsc::Sender<PeerEvent>,
    streams: Streams,
}

/// Number of the newest stream of each peer. A peer that reconnects may be faster than the end of its old stream is
/// noticed; that end is no loss then.
#[derive(Debug, Clone, Default)]
struct Streams {
    newest: Arc<Mutex<BTreeMap<MemberName, u64>>>,
}

impl Streams {
    fn begin(&self, from: &MemberName) -> u64 {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let number = newest.entry(from.clone()).or_default();
        *number += 1;
        *number
    }

    fn is_newest(&self, from: &MemberName, number: u64) -> bool {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(from) == Some(&number)
    }
}

impl Talk {
    pub(super) fn new(members: BTreeSet<MemberName>, events: mpsc::Sender<PeerEvent>) -> Self {
        Self { members, events, streams: Streams::default() }
    }
}

/// One stream. Its end, for whatever reason (also when the connection dies and the handler is dropped), is reported.
struct Stream {
    from: MemberName,
    number: u64,
    streams: Streams,
    events: mpsc::Sender<PeerEvent>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.streams.is_newest(&self.from, self.number) {
            return;
        }
        tracing::info!(member = %self.from, "the stream of a peer ended");
        let (events, lost) = (self.events.clone(), PeerEvent::Lost { from: self.from.clone() });
        // Dropping cannot wait for a place in the queue.
        if let Err(mpsc::error::TrySendError::Full(lost)) = events.try_send(lost)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { events.send(lost).await });
        }
    }
}

#[tonic::async_trait]
impl Peer for Talk {
    async fn talk(&self, request: Request<Streaming<PeerEnvelope>>) -> Result<Response<TalkEnd>, Status> {
        let identity = caller(&request)?;
        let known = identity.name.parse().ok().filter(|name| self.members.contains(name));
        let Some(from): Option<MemberName> = known else {
            return Err(Status::permission_denied(format!(
                "{} is no member in this host's file",
                identity.name
            )));
        };
        tracing::info!(member = %from, "a peer talks");
        let number = self.streams.begin(&from);
        let stream = Stream { from, number, streams: self.streams.clone(), events: self.events.clone() };
        stream.receive(request.into_inner()).await?;
        Ok(Response::new(TalkEnd {}))
    }
}

impl Stream {
    async fn receive(&self, mut messages: Streaming<PeerEnvelope>) -> Result<(), Status> {
        while let Some(envelope) = messages.message().await? {
            if envelope.from != self.from.as_str() {
                let message =
                    format!("the certificate is of {}, the message of {:?}", self.from, envelope.from);
                return Err(Status::permission_denied(message));
            }
            if !self.streams.is_newest(&self.from, self.number) {
                return Err(Status::aborted("a newer stream of the same member has begun"));
            }
            match PeerMessage::try_from(envelope) {
                Ok(message) => {
                    let event = PeerEvent::Message { from: self.from.clone(), message };
                    if self.events.send(event).await.is_err() {
                        return Err(Status::unavailable("the agent ends"));
                    }
                }
                // Versions can be mixed during an upgrade: the next message may be readable.
                Err(reason) => tracing::debug!(member = %self.from, %reason, "a message was not understood"),
            }
        }
        Ok(())
    }
}
