//! What the outside may see: published by the driver's thread, read by the gRPC service and the metrics.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_core::MonoTime;
use vrrp::ProxyHealth;

/// One look at everything.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// When it was taken.
    pub(crate) taken: MonoTime,
    /// When the driver began.
    pub(crate) began: MonoTime,
    /// The local proxy.
    pub(crate) proxy: ProxyHealth,
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
        Self { taken: now, began: now, proxy, degraded: Vec::new(), routers: Vec::new() }
    }
}
