//! What happens to the host that holds the address.

use serde::Serialize;

use crate::bench::stack::Stack;

/// One event of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    PowerLoss,
    ProxyKilled,
    ProxyKilledForGood,
    DaemonKilled,
    DaemonKilledForGood,
    DaemonStopped,
    DaemonEnded,
    Moved,
    Returned,
}

impl Event {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 9] = [
        Self::PowerLoss,
        Self::ProxyKilled,
        Self::ProxyKilledForGood,
        Self::DaemonKilled,
        Self::DaemonKilledForGood,
        Self::DaemonStopped,
        Self::DaemonEnded,
        Self::Moved,
        Self::Returned,
    ];

    /// Its words in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PowerLoss => "power loss of the proxy host",
            Self::ProxyKilled => "proxy killed, restarted by its supervisor",
            Self::ProxyKilledForGood => "proxy killed for good",
            Self::DaemonKilled => "VRRP daemon killed, restarted by its supervisor",
            Self::DaemonKilledForGood => "VRRP daemon killed for good",
            Self::DaemonStopped => "VRRP daemon stopped (SIGSTOP)",
            Self::DaemonEnded => "VRRP daemon ended (SIGTERM)",
            Self::Moved => "moved by an operator",
            Self::Returned => "return of the preferred host",
        }
    }

    /// How long our writes may stand still, in seconds; nothing where no limit is set.
    pub(super) fn limit(self) -> Option<f64> {
        match self {
            Self::PowerLoss => Some(0.8),
            Self::ProxyKilled | Self::ProxyKilledForGood => Some(0.5),
            Self::DaemonKilled | Self::DaemonKilledForGood => Some(1.0),
            Self::Moved | Self::Returned => Some(0.1),
            Self::DaemonStopped | Self::DaemonEnded => None,
        }
    }

    /// Whether the stack has it. keepalived is not restarted by its service's description, and whoever wants to move its
    /// address ends it.
    pub(super) fn is_for(self, stack: Stack) -> bool {
        stack == Stack::Ours || !matches!(self, Self::DaemonKilled | Self::Moved)
    }

    /// The event of the usual stack that it is compared with.
    pub(super) fn of_classic(self) -> Self {
        match self {
            Self::DaemonKilled => Self::DaemonKilledForGood,
            Self::Moved => Self::DaemonEnded,
            other => other,
        }
    }

    /// Whether another host must hold the address afterwards. What a supervisor mends may be back before anybody notices.
    pub(super) fn moves(self) -> bool {
        !matches!(self, Self::ProxyKilled | Self::DaemonKilled)
    }
}
