//! One outgoing stream, made again whenever it ends.

use std::net::SocketAddr;
use std::time::Duration;

use ha_core::MemberName;
use ha_rpc::proto::peer_client::PeerClient;
use ha_rpc::{TlsFiles, channel, peer_envelope};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::Waiting;

/// Pause before the next attempt: first and longest. Short, because a peer that is back is needed at once.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// A message that has waited longer is not sent: it was repeated since, or does not hold any more.
const TOO_OLD: Duration = Duration::from_secs(1);
/// A stream that lived so long was a working one; the pauses begin anew after it.
const WORKED: Duration = Duration::from_secs(2);

/// One peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) me: MemberName,
    pub(super) to: MemberName,
    pub(super) address: SocketAddr,
    pub(super) tls: TlsFiles,
}

/// How a stream ended.
enum End {
    /// Nobody has anything to say any more.
    Silence,
    /// The peer or the network ended it.
    Broken(Result<(), Status>),
}

impl Link {
    /// Runs until the sending side of `waiting` is dropped.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut pause = PAUSE_FIRST;
        // Attempts are repeated for ever; only a change is worth a line.
        let mut told = false;
        while !waiting.is_closed() {
            match channel::connect(self.to.as_str(), self.address, &self.tls).await {
                Ok(channel) => {
                    tracing::info!(member = %self.to, address = %self.address, "connected to a peer");
                    told = false;
                    let began = Instant::now();
                    match self.talk(channel, &mut waiting).await {
                        End::Silence => return,
                        End::Broken(ended) => {
                            let reason = ended.err().map_or("ended by the peer".to_owned(), |s| full(&s));
                            tracing::info!(member = %self.to, reason, "the stream to a peer ended");
                        }
                    }
                    if began.elapsed() > WORKED {
                        pause = PAUSE_FIRST;
                    }
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(member = %self.to, reason = full(&error), "a peer cannot be reached");
                }
                Err(error) => tracing::debug!(member = %self.to, reason = full(&error), "still not reached"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn talk(&self, channel: Channel, waiting: &mut mpsc::Receiver<Waiting>) -> End {
        // One place: what waits longer than that waits in the queue, where it can grow old.
        let (stream, messages) = mpsc::channel(1);
        let mut client = PeerClient::new(channel);
        let call = client.talk(ReceiverStream::new(messages));
        tokio::pin!(call);
        loop {
            let next = tokio::select! {
                ended = &mut call => return End::Broken(ended.map(|_| ())),
                next = waiting.recv() => next,
            };
            let Some(next) = next else { return End::Silence };
            if next.since.elapsed() > TOO_OLD {
                continue;
            }
            let envelope = peer_envelope::write(&self.me, &next.message);
            tokio::select! {
                ended = &mut call => return End::Broken(ended.map(|_| ())),
                // Fails only when the stream is gone, which the call says as well.
                sent = stream.send(envelope) => if sent.is_err() {
                    return End::Broken(call.await.map(|_| ()));
                },
            }
        }
    }
}

/// An error with its causes on one line.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
