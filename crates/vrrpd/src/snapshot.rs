//! What the outside may see: published by the driver's thread, read by the gRPC service and the metrics.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_core::MonoTime;
use vrrp::{ProxyHealth, ProxyReport, SharedSettings};

/// One look at everything.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// When it was taken.
    pub(crate) taken: MonoTime,
    /// When the driver began.
    pub(crate) began: MonoTime,
    /// The local proxy, as it counts.
    pub(crate) proxy: ProxyHealth,
    /// What other hosts are told of it.
    pub(crate) said: ProxyReport,
    /// An operator keeps floating addresses off this host.
    pub(crate) drained: bool,
    /// Maintenance mode of the cluster.
    pub(crate) maintenance: bool,
    /// What makes this process weaker than it should be, such as no real-time priority.
    pub(crate) degraded: Vec<String>,
    pub(crate) routers: Vec<RouterView>,
}

/// One virtual router.
#[derive(Debug, Clone)]
pub(crate) struct RouterView {
    pub(crate) address: String,
    pub(crate) vrid: u8,
    pub(crate) version: u8,
    /// Empty while there is none.
    pub(crate) interface: String,
    pub(crate) interval: Duration,
    /// What must be the same on all hosts.
    pub(crate) settings: Arc<SharedSettings>,
    /// Whether the address is on this host, as far as the kernel has told.
    pub(crate) holds: bool,
    pub(crate) status: vrrp::Status,
}

/// Where the newest snapshot is. The driver never waits for readers.
pub(crate) type Shared = Arc<ArcSwap<Snapshot>>;

impl Snapshot {
    /// Before the driver has begun.
    pub(crate) fn empty(now: MonoTime) -> Self {
        let proxy = ProxyHealth::Dead;
        let said = ProxyReport::NONE;
        Self {
            taken: now,
            began: now,
            proxy,
            said,
            drained: false,
            maintenance: false,
            degraded: Vec::new(),
            routers: Vec::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use vrrp::{Event, Setup, VirtualRouter};

    use super::*;

    /// 700 ms after the start: an Active with a serving proxy, just become it.
    pub(crate) fn one_active() -> Snapshot {
        let at = |millis: u64| MonoTime(millis * 1_000_000);
        let source = [10, 0, 1, 21].into();
        let setup = Setup::new(10, [10, 0, 1, 10]);
        let mut machine = VirtualRouter::new(setup, at(0)).unwrap();
        for event in [Event::LinkUp { source }, Event::Started, Event::ProxyChanged(ProxyHealth::Serving)] {
            machine.handle_event(at(0), event);
        }
        for millis in (100..=700).step_by(100) {
            machine.handle_timeout(at(millis));
        }
        let router = RouterView {
            address: "10.0.1.10".to_owned(),
            vrid: 10,
            version: 3,
            interface: "eth0".to_owned(),
            interval: Duration::from_millis(200),
            settings: Arc::new([("interval".to_owned(), "200ms".to_owned())].into()),
            holds: true,
            status: machine.status(at(700)),
        };
        let degraded = vec!["no real-time priority".to_owned()];
        Snapshot {
            taken: at(700),
            began: at(0),
            proxy: ProxyHealth::Serving,
            said: ProxyReport { health: ProxyHealth::Serving, primary: true, epoch: 7 },
            drained: false,
            maintenance: false,
            degraded,
            routers: vec![router],
        }
    }
}
