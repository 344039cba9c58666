//! Connections to the daemons of the cluster: to every agent, proxy and vrrpd at once, or to one agent for a request.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use ha_config::{Cluster, DatabaseHost, GRPC_PORT, VRRPD_GRPC_PORT};
use ha_core::MemberName;
use ha_rpc::proto::agent_client::AgentClient;
use ha_rpc::proto::proxy_client::ProxyClient;
use ha_rpc::proto::vrrp_client::VrrpClient;
use ha_rpc::proto::{
    AdministerReply, AdministerRequest, DrainReply, DrainRequest, HistoryReply, HistoryRequest, MoveReply,
    MoveRequest, OperationReply, ProxyStatusReply, ProxyStatusRequest, StatusReply, StatusRequest,
    VrrpStatusReply, VrrpStatusRequest,
};
use ha_rpc::status_code::Outcome;
use ha_rpc::{TlsFiles, channel};
use tonic::transport::Channel;
use tonic::{Code as GrpcCode, Request, Response, Status};

use crate::args::Args;
use crate::ask::{self, Asked};
use crate::certificates;
use crate::exit_code::{Code, Stop};
use crate::overview::Overview;

/// What came of asking one agent how it is.
pub(crate) type Answers = BTreeMap<MemberName, Result<StatusReply, String>>;

/// The cluster and how to reach it.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) cluster: Cluster,
    tls: TlsFiles,
}

/// An operation of the agent's client.
pub(crate) type Client = AgentClient<Channel>;

impl Agents {
    /// Reads the file and finds the certificate.
    pub(crate) fn load(args: &Args) -> anyhow::Result<Self> {
        let cluster = ha_config::load(args.config())?;
        let files = certificates::find(args.cert_dir.as_deref())?;
        Ok(Self { cluster, tls: TlsFiles { ca: files.ca, cert: files.cert, key: files.key } })
    }

    /// Runs a command's conversation with the agents.
    pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("start the runtime")?.block_on(work)
    }

    /// Asks every agent, all at once; those that do not answer are part of the result.
    pub(crate) async fn ask_all(&self) -> Answers {
        let hosts = self.cluster.databases.iter().map(|host| (host.name.clone(), address_of(host)));
        let asked =
            ask::each("pg-agent", hosts, &self.tls, StatusRequest {}, |channel, request| async move {
                AgentClient::new(channel).status(request).await
            });
        asked.await.into_iter().map(|asked| (asked.name, asked.answer)).collect()
    }

    /// Asks every agent for the changes of leadership.
    pub(crate) async fn ask_histories(&self) -> Vec<Asked<HistoryReply>> {
        let hosts = self.cluster.databases.iter().map(|host| (host.name.clone(), address_of(host)));
        ask::each("pg-agent", hosts, &self.tls, HistoryRequest {}, |channel, request| async move {
            AgentClient::new(channel).history(request).await
        })
        .await
    }

    /// Asks every proxy where its sessions go.
    pub(crate) async fn ask_proxies(&self) -> Vec<Asked<ProxyStatusReply>> {
        let hosts = self.proxy_hosts(self.cluster.routing.grpc_port);
        ask::each("pg-proxy", hosts, &self.tls, ProxyStatusRequest {}, |channel, request| async move {
            ProxyClient::new(channel).status(request).await
        })
        .await
    }

    /// Wants a member in this state of every proxy, or of one.
    pub(crate) async fn administer(
        &self,
        one: Option<&str>,
        request: AdministerRequest,
    ) -> Vec<Asked<AdministerReply>> {
        let hosts = self.proxy_hosts(self.cluster.routing.grpc_port);
        let hosts = hosts.filter(|(name, _)| one.is_none_or(|one| name.as_str() == one));
        ask::each("pg-proxy", hosts, &self.tls, request, |channel, request| async move {
            ProxyClient::new(channel).administer(request).await
        })
        .await
    }

    /// Asks vrrpd on every proxy host who holds the floating addresses.
    pub(crate) async fn ask_vrrps(&self) -> Vec<Asked<VrrpStatusReply>> {
        let hosts = self.proxy_hosts(VRRPD_GRPC_PORT);
        ask::each("vrrpd", hosts, &self.tls, VrrpStatusRequest {}, |channel, request| async move {
            VrrpClient::new(channel).status(request).await
        })
        .await
    }

    /// Has the vrrpd of one host give an address away.
    pub(crate) async fn move_vip(&self, host: &str, address: IpAddr) -> Option<Asked<MoveReply>> {
        let hosts = self.proxy_hosts(VRRPD_GRPC_PORT).filter(|(name, _)| name.as_str() == host);
        let request = MoveRequest { address: address.to_string() };
        let asked = ask::each("vrrpd", hosts, &self.tls, request, |channel, request| async move {
            VrrpClient::new(channel).r#move(request).await
        });
        asked.await.pop()
    }

    /// Has the vrrpd of one host keep floating addresses away, or let them come again.
    pub(crate) async fn drain_vips(&self, host: &str, drain: bool) -> Option<Asked<DrainReply>> {
        let hosts = self.proxy_hosts(VRRPD_GRPC_PORT).filter(|(name, _)| name.as_str() == host);
        let asked =
            ask::each("vrrpd", hosts, &self.tls, DrainRequest { drain }, |channel, request| async move {
                VrrpClient::new(channel).drain(request).await
            });
        asked.await.pop()
    }

    fn proxy_hosts(&self, port: u16) -> impl Iterator<Item = (MemberName, SocketAddr)> {
        let hosts = self.cluster.proxies.iter();
        hosts.map(move |host| (host.name.clone(), SocketAddr::new(host.address, port)))
    }

    /// Asks every agent and merges what they say.
    pub(crate) async fn overview(&self) -> Overview {
        Overview::new(&self.cluster, self.ask_all().await)
    }

    /// As [`Self::overview`].
    ///
    /// # Errors
    /// With [`Code::Unreachable`] when no agent answers.
    pub(crate) async fn reached_overview(&self) -> anyhow::Result<Overview> {
        let overview = self.overview().await;
        overview.require_an_answer()?;
        Ok(overview)
    }

    /// The member of this name.
    ///
    /// # Errors
    /// With [`Code::Refused`] when the file has no such member.
    pub(crate) fn host(&self, name: &str) -> anyhow::Result<&DatabaseHost> {
        self.cluster.database(name).ok_or_else(|| {
            let names: Vec<&str> = self.cluster.databases.iter().map(|host| host.name.as_str()).collect();
            let message = format!(
                "{name:?} is no member of cluster {}: it has {}",
                self.cluster.name,
                names.join(", ")
            );
            Stop::new(Code::Refused, message).into()
        })
    }

    /// Has one agent do something, with a deadline.
    ///
    /// # Errors
    /// With [`Code::Unreachable`] when there is no connection, and by the agent's answer otherwise.
    pub(crate) async fn request<T, F>(
        &self,
        host: &DatabaseHost,
        limit: Duration,
        message: T,
        call: impl FnOnce(Client, Request<T>) -> F,
    ) -> anyhow::Result<OperationReply>
    where
        F: Future<Output = Result<Response<OperationReply>, Status>>,
    {
        let connected = channel::connect(host.name.as_str(), address_of(host), &self.tls).await;
        let channel = connected.map_err(|error| {
            let reason = format!("{:#}", anyhow::Error::from(error));
            let message = format!("{reason}; nothing was asked. See hactl list for who can be reached");
            anyhow::Error::from(Stop::new(Code::Unreachable, message))
        })?;
        let call = call(AgentClient::new(channel), channel::with_deadline(message, limit));
        // A connection that dies is noticed by its pings; the deadline is for an agent that hangs.
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(|status| explain(host, &status)),
            Err(_) => Err(unknown(host, &format!("no answer within {} s", limit.as_secs()))),
        }
    }
}

fn address_of(host: &DatabaseHost) -> SocketAddr {
    SocketAddr::new(host.address, GRPC_PORT)
}

/// What an agent's refusal means for the shell.
fn explain(host: &DatabaseHost, status: &Status) -> anyhow::Error {
    let (name, said) = (&host.name, status.message());
    let (code, message) = match Outcome::of(status) {
        Some(Outcome::Refused) => (Code::Refused, format!("refused by {name}: {said}")),
        Some(Outcome::NotNow) => (Code::Refused, format!("not now, says {name}: {said}")),
        Some(Outcome::CalledOff) => (Code::Failed, format!("{name}: {said}")),
        Some(Outcome::Failed) => (Code::Failed, format!("{name}: failed: {said}")),
        None => match status.code() {
            GrpcCode::PermissionDenied | GrpcCode::Unauthenticated => {
                let advice = "use the certificate that hactl init wrote to the directory `admin`";
                (Code::Refused, format!("{name} does not accept this certificate: {said}; {advice}"))
            }
            GrpcCode::Unimplemented => {
                (Code::Refused, format!("the agent of {name} does not know this request; is it older?"))
            }
            _ => return unknown(host, said),
        },
    };
    Stop::new(code, message).into()
}

fn unknown(host: &DatabaseHost, why: &str) -> anyhow::Error {
    let message = format!(
        "asked {}, and the outcome is not known ({why}): it may still be carried out; hactl list shows how things are",
        host.name
    );
    Stop::new(Code::Unknown, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::code_of;

    #[test]
    fn each_way_of_not_succeeding_has_its_own_exit_code() {
        let reference =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml");
        let cluster = ha_config::load(&reference).unwrap();
        let host = &cluster.databases[0];
        for (status, code) in [
            (Outcome::Refused.status("pg2 lags"), Code::Refused),
            (Outcome::NotNow.status("busy"), Code::Refused),
            (Outcome::CalledOff.status("called off"), Code::Failed),
            (Outcome::Failed.status("initdb"), Code::Failed),
            (Status::permission_denied("proxy"), Code::Refused),
            (Status::unavailable("connection reset"), Code::Unknown),
            (Status::deadline_exceeded(""), Code::Unknown),
        ] {
            let error = explain(host, &status);
            assert_eq!(code_of(&error), code, "{error}");
            assert!(error.to_string().contains(host.name.as_str()), "{error}");
        }
    }
}
