//! Refusals as gRPC statuses.

use ha_decision::Refusal;
use ha_rpc::status_code::Outcome;
use tonic::Status;

/// The status of a refusal; its message is the refusal's sentence.
pub(super) fn status(refusal: &Refusal) -> Status {
    outcome(refusal).status(refusal.to_string())
}

fn outcome(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::NotLeader { .. }
        | Refusal::UnknownMember { .. }
        | Refusal::LeadsAlready { .. }
        | Refusal::NotListed { .. }
        | Refusal::NoFailover { .. }
        | Refusal::NotStreaming { .. }
        | Refusal::TooFarBehind { .. }
        | Refusal::AgentSilent { .. }
        | Refusal::NoCandidate { .. }
        | Refusal::NeedsCleanStop
        | Refusal::LeaderAlive { .. }
        | Refusal::Pinned { .. }
        | Refusal::PromisesMissing { .. }
        | Refusal::Protected { .. }
        | Refusal::PeerRefused { .. } => Outcome::Refused,
        Refusal::LeaseNotOver { .. } | Refusal::StoreUnreachable | Refusal::Busy { .. } => Outcome::NotNow,
        Refusal::CalledOff { .. } => Outcome::CalledOff,
        Refusal::Failed { .. } => Outcome::Failed,
    }
}
