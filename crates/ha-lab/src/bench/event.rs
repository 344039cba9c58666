//! What happens to the primary.

use serde::Serialize;

use super::stack::Stack;

/// One event of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    PowerLoss,
    PowerLossWithEtcdLeader,
    Partition,
    PostmasterKilled,
    Switchover,
    SwitchoverWithoutStop,
    AgentKilled,
    AgentKilledForGood,
    AgentStopped,
}

/// What ends the waiting for writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Another member leads.
    OtherLeads,
    /// The cluster is whole again, whoever leads.
    Healthy,
}

impl Event {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 9] = [
        Self::PowerLoss,
        Self::PowerLossWithEtcdLeader,
        Self::Partition,
        Self::PostmasterKilled,
        Self::Switchover,
        Self::SwitchoverWithoutStop,
        Self::AgentKilled,
        Self::AgentKilledForGood,
        Self::AgentStopped,
    ];

    /// Its words in the table. The agent of the usual stack is Patroni.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PowerLoss => "power loss of the primary",
            Self::PowerLossWithEtcdLeader => "power loss with etcd's leader on that host",
            Self::Partition => "partition of the primary from all",
            Self::PostmasterKilled => "postmaster killed",
            Self::Switchover => "planned switchover",
            Self::SwitchoverWithoutStop => "planned switchover without a clean stop",
            Self::AgentKilled => "agent killed, restarted by its supervisor",
            Self::AgentKilledForGood => "agent killed for good",
            Self::AgentStopped => "agent stopped for ever",
        }
    }

    /// Whether the primary's PostgreSQL goes on without an agent, until something ends it.
    pub(super) fn leaves_postgres_alone(self) -> bool {
        matches!(self, Self::AgentKilledForGood | Self::AgentStopped)
    }

    /// Whether the usual stack knows it.
    pub(super) fn is_for(self, stack: Stack) -> bool {
        stack == Stack::Ours || self != Self::SwitchoverWithoutStop
    }

    pub(super) fn ends(self) -> Ends {
        match self {
            Self::PostmasterKilled | Self::Switchover | Self::SwitchoverWithoutStop | Self::AgentKilled => {
                Ends::Healthy
            }
            _ => Ends::OtherLeads,
        }
    }
}
