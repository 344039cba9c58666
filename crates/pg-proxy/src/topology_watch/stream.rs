//! One stream to one agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::MemberName;
use ha_routing::ClaimedRole;
use ha_rpc::proto::ProxyReport;
use ha_rpc::proto::roles_client::RolesClient;
use ha_rpc::{TlsFiles, channel};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::transport::Channel;

use super::{Heard, InForce, StreamNumber, claim};
use crate::read_lease::ReadLeases;

/// Pause before the next attempt: first and longest. Short, because an agent that is back is needed at once.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// A stream that carried claims and carries none for so long is made again: agents speak twice a second, so this one is
/// broken, although its connection answers. The decider has stopped to count on it long before. Before its first claim
/// an agent may be silent for longer: one that has just started speaks when it knows what its member is.
const SILENT: Duration = Duration::from_secs(3);

/// One agent.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) proxy: MemberName,
    pub(super) member: MemberName,
    pub(super) address: SocketAddr,
    pub(super) tls: TlsFiles,
    /// Where its agent is asked for read leases while it leads: index of the member, and all leases.
    pub(super) read_leases: Option<(usize, Arc<ReadLeases>)>,
    pub(super) in_force: Arc<watch::Sender<InForce>>,
    /// Changes when every stream is to be made anew.
    pub(super) anew: watch::Receiver<u64>,
}

/// How a stream ended.
enum End {
    /// Nobody listens to us any more.
    Unheard,
    /// By the agent or the network, after at least one claim or before the first.
    Broken { after_a_claim: bool, why: String },
}

impl Follow {
    /// Runs until the receiver of `heard` is dropped.
    pub(super) async fn run(self, heard: mpsc::Sender<Heard>) {
        let mut pause = PAUSE_FIRST;
        let mut told = String::new();
        for number in 1.. {
            let why = match channel::connect(self.member.as_str(), self.address, &self.tls).await {
                Ok(channel) => match self.follow(StreamNumber(number), channel, &heard).await {
                    End::Unheard => return,
                    End::Broken { after_a_claim, why } => {
                        if after_a_claim {
                            pause = PAUSE_FIRST;
                            told.clear();
                        }
                        why
                    }
                },
                Err(error) => crate::causes::brief(&error),
            };
            // Attempts are repeated for ever; only another reason is news.
            if told != why {
                tracing::info!(member = %self.member, reason = %why, "an agent's role is not known by its stream");
                told.clone_from(&why);
                if heard.send(Heard::Lost { member: self.member.clone(), why }).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = heard.closed() => return,
            }
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn follow(&self, number: StreamNumber, channel: Channel, heard: &mpsc::Sender<Heard>) -> End {
        self.in_force.send_modify(|last| *last = InForce { stream: number, sequence: 0, ..*last });
        let mut anew = self.anew.clone();
        anew.mark_unchanged();
        let proxy = self.proxy.to_string();
        let reports = WatchStream::new(self.in_force.subscribe()).filter_map(move |in_force| {
            let report = ProxyReport {
                proxy: proxy.clone(),
                in_force: in_force.sequence,
                replaced: in_force.replaced,
            };
            (in_force.stream == number).then_some(report)
        });
        let mut after_a_claim = false;
        let broken = |after_a_claim, why: &str| End::Broken { after_a_claim, why: why.to_owned() };
        let silent = |_| Status::deadline_exceeded(format!("no claim within {} ms", SILENT.as_millis()));
        let leads = watch::Sender::new(false);
        let seen = leads.subscribe();
        let asking = self.ask_for_leases(channel.clone(), &seen);
        tokio::pin!(asking);
        let mut client = RolesClient::new(channel);
        let opened = tokio::time::timeout(SILENT, client.follow(reports)).await.map_err(silent);
        let mut claims = match opened.and_then(|opened| opened) {
            Ok(claims) => claims.into_inner(),
            Err(status) => return broken(after_a_claim, &crate::causes::ended(&status)),
        };
        loop {
            let limit = if after_a_claim { SILENT } else { Duration::MAX };
            let next = tokio::select! {
                next = tokio::time::timeout(limit, claims.message()) => next.map_err(silent),
                Ok(()) = anew.changed() => return broken(true, "this proxy stood still: what came meanwhile is old"),
                () = heard.closed() => return End::Unheard,
                () = &mut asking => return End::Unheard,
            };
            let wire = match next.and_then(|next| next) {
                Ok(Some(wire)) => wire,
                Ok(None) => return broken(after_a_claim, "its agent ended the stream"),
                Err(status) => return broken(after_a_claim, &crate::causes::ended(&status)),
            };
            match claim::read(&self.member, wire) {
                Ok(claim) => {
                    if !after_a_claim {
                        tracing::info!(member = %self.member, address = %self.address, "an agent pushes its role");
                    }
                    after_a_claim = true;
                    let leader = claim.role == ClaimedRole::Leader;
                    leads.send_if_modified(|leads| std::mem::replace(leads, leader) != leader);
                    if heard.send(Heard::Claimed { stream: number, claim }).await.is_err() {
                        return End::Unheard;
                    }
                }
                Err(error) => tracing::warn!(member = %self.member, %error, "a claim was not understood"),
            }
        }
    }

    /// Never ends; the select of the stream drives it.
    async fn ask_for_leases(&self, channel: Channel, leads: &watch::Receiver<bool>) {
        match &self.read_leases {
            Some((member, leases)) => leases.ask(*member, channel, leads).await,
            None => std::future::pending().await,
        }
    }
}
