//! What the outside may see: published by the driver's thread, read by the gRPC service and the metrics.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_core::MonoTime;
use vrrp::{Headline, ProxyHealth, ProxyReport, SharedSettings};

use crate::short_text::InterfaceName;

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
    pub(crate) degraded: Arc<[String]>,
    pub(crate) routers: Vec<RouterView>,
}

/// One virtual router.
#[derive(Debug, Clone)]
pub(crate) struct RouterView {
    pub(crate) address: IpAddr,
    pub(crate) vrid: u8,
    pub(crate) version: u8,
    /// Empty while there is none.
    pub(crate) interface: InterfaceName,
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
            degraded: Arc::default(),
            routers: Vec::new(),
        }
    }
}

impl RouterView {
    /// What others wait for when it changes.
    pub(crate) fn headline(&self) -> (Headline, bool) {
        (self.status.headline(), self.holds)
    }
}

/// Publishes, in the memory of snapshots that nobody reads any more.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Shared,
    /// The longest unused first.
    earlier: VecDeque<Arc<Snapshot>>,
}

impl Publisher {
    /// Snapshots that are there from the beginning beside the one that is read: one to be written, and as many that readers
    /// may still hold. The ordinary thread has few at a time.
    pub(crate) const ROOM: usize = 6;

    /// With room for so many virtual routers.
    pub(crate) fn new(shared: Shared, now: MonoTime, routers: usize) -> Self {
        let empty = || {
            let routers = Vec::with_capacity(routers);
            Arc::new(Snapshot { routers, ..Snapshot::empty(now) })
        };
        Self { shared, earlier: std::iter::repeat_with(empty).take(Self::ROOM).collect() }
    }

    /// What was published last.
    pub(crate) fn last(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.shared.load()
    }

    /// Lets `fill` bring an old snapshot up to date, and publishes it.
    pub(crate) fn publish(&mut self, fill: impl FnOnce(&mut Snapshot)) {
        let free = self.earlier.iter_mut().position(|earlier| Arc::get_mut(earlier).is_some());
        let mut next = free
            .and_then(|index| self.earlier.remove(index))
            .unwrap_or_else(|| Arc::new(Snapshot::empty(MonoTime::default())));
        fill(Arc::make_mut(&mut next));
        let last = self.shared.swap(next);
        if self.earlier.len() < Self::ROOM {
            self.earlier.push_back(last);
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
            address: [10, 0, 1, 10].into(),
            vrid: 10,
            version: 3,
            interface: "eth0".into(),
            interval: Duration::from_millis(200),
            settings: Arc::new([("interval".to_owned(), "200ms".to_owned())].into()),
            holds: true,
            status: machine.status(at(700)),
        };
        let degraded = ["no real-time priority".to_owned()].into();
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

    #[test]
    fn memory_is_used_again_once_nobody_reads_it() {
        let shared: Shared = Arc::new(ArcSwap::from_pointee(Snapshot::empty(MonoTime(0))));
        let mut publisher = Publisher::new(Arc::clone(&shared), MonoTime(0), 1);
        let mut publish = |nanos: u64| {
            publisher.publish(|snapshot| snapshot.taken = MonoTime(nanos));
            (publisher.last().taken.0, Arc::as_ptr(&publisher.last()))
        };
        publish(1);
        let held = shared.load_full();
        let mut places = std::collections::BTreeSet::new();
        for nanos in 2..100 {
            let (taken, place) = publish(nanos);
            assert_eq!(taken, nanos);
            places.insert(place);
        }
        assert!(!places.contains(&Arc::as_ptr(&held)) && held.taken == MonoTime(1), "somebody reads it");
        assert!(places.len() <= Publisher::ROOM, "{}", places.len());
        // Readers that hold everything keep nobody from publishing.
        let all: Vec<Arc<Snapshot>> = (100..120)
            .map(|nanos| {
                publish(nanos);
                shared.load_full()
            })
            .collect();
        let taken: Vec<u64> = all.iter().map(|snapshot| snapshot.taken.0).collect();
        assert_eq!(taken, (100..120).collect::<Vec<_>>());
    }
}
