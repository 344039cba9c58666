//! What operators ask.

use std::time::Duration;

use ha_core::MemberName;
use ha_daemon::boottime;
use ha_decision::{RequestDone, SwitchoverMethod};
use ha_rpc::proto::agent_server::Agent;
use ha_rpc::proto::{
    FailoverRequest, HistoryReply, HistoryRequest, OperationReply, PauseRequest, ReinitializeRequest,
    ReloadRequest, RestartRequest, ResumeRequest, StatusReply, StatusRequest, SwitchoverRequest,
};
use ha_rpc::status_code::Outcome;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::{OperatorRequest, Snapshots, history_reply, refusal, status_reply};

/// A pause is bounded, because the guard holds its fence no longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The service.
#[derive(Debug)]
pub(super) struct Operations {
    snapshots: Snapshots,
    requests: mpsc::Sender<OperatorRequest>,
}

impl Operations {
    pub(super) fn new(snapshots: Snapshots, requests: mpsc::Sender<OperatorRequest>) -> Self {
        Self { snapshots, requests }
    }

    /// Hands a request to the driver and waits for its answer, until the caller gives up.
    async fn ask(&self, request: ha_decision::Request) -> Result<Response<OperationReply>, Status> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(OperatorRequest { request, reply }).map_err(|error| {
            Outcome::NotNow.status(match error {
                mpsc::error::TrySendError::Full(_) => "busy: other requests are waiting; try again",
                mpsc::error::TrySendError::Closed(_) => "the agent ends; try again when it is back",
            })
        })?;
        match answer.await {
            Ok(Ok(RequestDone::Done)) => Ok(Response::new(OperationReply { leader: None })),
            Ok(Ok(RequestDone::Leads { member })) => {
                Ok(Response::new(OperationReply { leader: Some(member.to_string()) }))
            }
            Ok(Err(refused)) => Err(refusal::status(&refused)),
            // Not a refusal: it may have been begun.
            Err(_) => Err(Status::unknown("the agent ended before the outcome was known")),
        }
    }
}

#[tonic::async_trait]
impl Agent for Operations {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let snapshot = self.snapshots.borrow().clone();
        let Some(snapshot) = snapshot else {
            return Err(Outcome::NotNow.status("the agent has just started and has not looked yet"));
        };
        Ok(Response::new(status_reply::make(&snapshot, boottime())))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Result<Response<OperationReply>, Status> {
        let SwitchoverRequest { candidate, without_stop } = request.into_inner();
        let candidate = candidate.map(|name| name.parse::<MemberName>()).transpose();
        let candidate = candidate.map_err(|error| Outcome::Refused.status(error.to_string()))?;
        let method = if without_stop { SwitchoverMethod::ShutOut } else { SwitchoverMethod::CleanStop };
        self.ask(ha_decision::Request::Switchover { candidate, method }).await
    }

    async fn failover(&self, request: Request<FailoverRequest>) -> Result<Response<OperationReply>, Status> {
        let accept_data_loss = request.into_inner().accept_data_loss;
        self.ask(ha_decision::Request::Failover { accept_data_loss }).await
    }

    async fn restart(&self, _request: Request<RestartRequest>) -> Result<Response<OperationReply>, Status> {
        self.ask(ha_decision::Request::Restart).await
    }

    async fn reload(&self, _request: Request<ReloadRequest>) -> Result<Response<OperationReply>, Status> {
        self.ask(ha_decision::Request::Reload).await
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<OperationReply>, Status> {
        let PauseRequest { duration_ms, reason } = request.into_inner();
        let duration = Duration::from_millis(duration_ms);
        if !(SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&duration) {
            return Err(Outcome::Refused.status("a pause lasts from 1 s to 1 h; pause again to prolong it"));
        }
        self.ask(ha_decision::Request::Pause { duration, reason }).await
    }

    async fn resume(&self, _request: Request<ResumeRequest>) -> Result<Response<OperationReply>, Status> {
        self.ask(ha_decision::Request::Resume).await
    }

    async fn reinitialize(
        &self,
        _request: Request<ReinitializeRequest>,
    ) -> Result<Response<OperationReply>, Status> {
        self.ask(ha_decision::Request::Reinitialize).await
    }

    async fn history(&self, _request: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let snapshot = self.snapshots.borrow().clone();
        let view = snapshot.as_ref().and_then(|snapshot| snapshot.view.as_ref());
        let Some(view) = view else {
            return Err(Outcome::NotNow.status("this agent has not seen etcd yet"));
        };
        Ok(Response::new(history_reply::make(view)))
    }
}
