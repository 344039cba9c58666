//! Waits, feeds the virtual routers, and lets them act: one thread that never waits for anything but `poll`.
//!
//! ```text
//!   raw sockets, one per router ──┐                        ┌─> raw sockets: advertisements
//!   timerfd (BOOTTIME, absolute) ─┤                        ├─> netlink: leased addresses, held or dropped
//!   netlink: links, addresses ────┼──> handle_event ───────┼─> packet sockets: gratuitous ARP, neighbour adv.
//!   stream of the local proxy ────┤    handle_timeout      ├─> snapshot (gRPC and metrics read it elsewhere)
//!   wishes of operators and hosts ┤    poll_action         ├─> peer channel: changes, requests to take over
//!   signalfd: TERM, INT, HUP ─────┘                        └─> log (another thread writes it)
//! ```
//!
//! gRPC, metrics and the log live on another thread of normal priority. Nothing there can hold an advertisement back. In
//! particular no lock is shared with it, the allocator's included: whatever this thread does again and again, and a takeover
//! itself, takes no memory and gives none back. Only the start, other files, other links and what is seen for the first
//! time do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ha_core::MonoTime;
use ha_daemon::boottime;
use ha_daemon::scheduling::{Locked, RealTime, become_real_time, lock_memory};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use smallvec::SmallVec;
use vrrp::track::Tracking;
use vrrp::{Event, PrimaryWatch, ProxyHealth, ProxyReport};

use crate::configuration::RouterPlan;
use crate::log_queue::{LogQueue, Text};
use crate::member::Identity;
use crate::netlink::{Heard, Monitor, Picture, Requests};
use crate::peer_channel::{Outgoing, PeerQueue};
use crate::proxy_link::ProxyLink;
use crate::raw_socket;
use crate::resumption::Earlier;
use crate::router::{Router, Tools};
use crate::snapshot::{Publisher, RouterView, Shared};
use crate::virtual_device::Parents;
use crate::wishes::{Wish, WishesIn};

/// Real-time priority: above all ordinary work, below the guard and the kernel's own urgent threads.
const PRIORITY: i32 = 20;

/// How often links and addresses are looked at although nothing was heard, while a router stands nowhere.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same while all stand: only so that nothing missed stays unnoticed for ever.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// In a storm of changes links and addresses are looked at no more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// More packets than this at one go are a flood: then the thread sleeps for a moment at each turn, so that whoever sends
/// them gets neither a whole CPU nor, by the limit on real-time computing, the end of this process.
const FLOOD: usize = 64;
/// That moment. A socket's queue holds what arrives meanwhile.
const FLOOD_PAUSE: Duration = Duration::from_micros(500);
/// How long the thread may go on without a moment of sleep in any case, well below that limit.
const AWAKE_LIMIT: Duration = Duration::from_millis(250);
/// Descriptors that are waited for without memory of the heap; one for each address, and some more.
const DESCRIPTORS: usize = 64;
/// How old what gRPC and metrics show may become.
const SNAPSHOT_AGE: Duration = Duration::from_millis(100);
/// Saying good-bye takes 60 ms, or 160 when another host was asked first; after this the addresses are dropped anyhow.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Keeps the signals that the driver reads from interrupting any thread. To be called before there are threads.
pub(crate) fn block_signals() -> anyhow::Result<()> {
    caught_signals().thread_block().context("block signals")
}

fn caught_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Where the driver's thread leaves what others read.
pub(crate) struct Outlets {
    pub(crate) log: LogQueue,
    pub(crate) peers: PeerQueue,
    pub(crate) shared: Shared,
}

/// The loop and all that it holds.
pub(crate) struct Driver {
    routers: Vec<Router>,
    /// Those of them that the file no longer has, by address: since when they say good-bye.
    leaving: BTreeMap<IpAddr, MonoTime>,
    /// Those that it has now. They begin when the others have gone: both may have the same identifier.
    coming: Vec<Coming>,
    /// The floating addresses of the file.
    floating: Vec<IpAddr>,
    tools: Tools,
    monitor: Monitor,
    /// All links and addresses, as last seen.
    picture: Picture,
    /// By which packets find their routers, as of this turn.
    identities: Vec<Identity>,
    proxy: ProxyLink,
    wishes: WishesIn,
    /// Whether the proxy is worse off than others'.
    watch: PrimaryWatch,
    /// What the watch has been told of it.
    reported: ProxyReport,
    /// What the routers have been told about the proxy, and about its primary.
    proxy_told: ProxyHealth,
    primary_told: bool,
    /// Maintenance mode of the cluster, as they and the watch have been told.
    maintenance: bool,
    /// An operator keeps floating addresses off this host.
    drained: bool,
    timer: TimerFd,
    signals: SignalFd,
    /// When links and addresses are looked at next.
    look_at: MonoTime,
    looked: MonoTime,
    /// When the thread slept for a moment, for certain.
    rested: MonoTime,
    stopping: Option<MonoTime>,
    began: MonoTime,
    degraded: Arc<[String]>,
    publisher: Publisher,
}

impl Driver {
    /// Opens everything, removes what an earlier process may have left, and starts the routers.
    ///
    /// # Errors
    /// When the kernel refuses what nothing can work without.
    pub(crate) fn begin(
        plans: &[Vec<RouterPlan>],
        times: &ha_config::Vrrp,
        proxy_socket: &Path,
        drained: bool,
        earlier: Earlier,
        wishes: WishesIn,
        outlets: Outlets,
    ) -> anyhow::Result<Self> {
        let Outlets { mut log, peers, shared } = outlets;
        raw_socket::permitted().context("open a raw socket (this needs CAP_NET_RAW)")?;
        let degraded: Arc<[String]> = [lock_memory(Locked::All), become_real_time(RealTime::Fifo, PRIORITY)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        for text in &*degraded {
            log.warn(None, text.clone());
        }
        let now = boottime();
        let members = plans.iter().flatten().count();
        let routers: Result<Vec<Router>, _> =
            plans.iter().map(|plans| Router::new(plans.clone(), now)).collect();
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK);
        let signals = SignalFd::with_flags(&caught_signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let mut driver = Self {
            routers: routers.context("set up the virtual routers")?,
            leaving: BTreeMap::new(),
            coming: Vec::new(),
            floating: plans
                .iter()
                .flatten()
                .next()
                .map(|plan| plan.wanted.floating.clone())
                .unwrap_or_default(),
            // The monitor before the first look: no change may fall between them.
            monitor: Monitor::open().context("listen to links and addresses")?,
            picture: Picture::with_room(),
            identities: Vec::with_capacity(members),
            tools: Tools {
                requests: Requests::open().context("open a netlink socket")?,
                parents: Parents::default(),
                log,
                peers,
            },
            proxy: ProxyLink::new(proxy_socket, now),
            wishes,
            watch: PrimaryWatch::new(times.no_primary_hold, times.primary_hysteresis),
            reported: ProxyReport::NONE,
            proxy_told: ProxyHealth::Dead,
            primary_told: true,
            maintenance: false,
            drained: false,
            timer: timer.context("open a timerfd")?,
            signals: signals.context("open a signalfd")?,
            look_at: now,
            looked: now,
            rested: now,
            stopping: None,
            began: now,
            degraded,
            publisher: Publisher::new(shared, now, members),
        };
        driver.drain(drained);
        let resumed = driver.recognise(earlier);
        driver.look();
        if !resumed.is_empty() {
            driver.proxy.presume_serving(boottime());
            driver.work_proxy();
        }
        for router in &mut driver.routers {
            let epoch = router.address().and_then(|address| resumed.get(&address).copied());
            router.start(boottime(), epoch, &mut driver.tools);
        }
        driver.work_proxy();
        // Each snapshot gets its memory now.
        (0..=Publisher::ROOM).for_each(|_| driver.publish());
        Ok(driver)
    }

    /// Of what an earlier process held when it ended, that which it held until just now.
    fn recognise(&mut self, earlier: Earlier) -> BTreeMap<IpAddr, u64> {
        let Self { routers, tools, picture, .. } = self;
        if tools.requests.look(picture).is_err() {
            return BTreeMap::new();
        }
        let mut holdings = if earlier.served { earlier.holdings } else { BTreeMap::new() };
        holdings.retain(|address, _| {
            routers.iter_mut().any(|router| router.address() == Some(*address) && router.recognise(picture))
        });
        holdings
    }

    /// Runs until a signal asks for the end, and leaves properly.
    ///
    /// # Errors
    /// When waiting itself fails; the addresses are dropped before.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while result.is_ok() && !self.is_done() {
            result = self.turn();
        }
        for router in &mut self.routers {
            router.drop_address(&mut self.tools);
            router.leave(&mut self.tools);
        }
        if let Err(error) = self.tools.parents.restore(&mut self.tools.requests) {
            self.tools.log.warn(None, format!("set ARP of an interface as it was: {error}"));
        }
        self.publish();
        result
    }

    fn is_done(&self) -> bool {
        let too_late = self.stopping.is_some_and(|since| boottime().since(since) >= STOP_LIMIT);
        too_late || (self.stopping.is_some() && self.routers.iter().all(Router::is_stopped))
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> anyhow::Result<()> {
        self.set_timer()?;
        let signalled = self.wait()?;
        if signalled {
            self.take_signals();
        }
        // Packets before timers: after a pause of this process they may show that the Active is alive.
        self.receive();
        self.hear_changes()?;
        if self.look_at <= boottime() {
            self.look();
        }
        self.work_proxy();
        self.fulfil_wishes();
        for router in &mut self.routers {
            router.timeout(boottime(), &mut self.tools);
        }
        self.replace();
        let (has_news, age) = self.published();
        if has_news || age >= SNAPSHOT_AGE {
            self.publish();
        }
        if has_news {
            self.tools.peers.put(Outgoing::Changed);
        }
        Ok(())
    }

    fn set_timer(&self) -> anyhow::Result<()> {
        let times = self.routers.iter().filter_map(Router::poll_timeout);
        let stop = self.stopping.iter().chain(self.leaving.values()).map(|since| *since + STOP_LIMIT);
        let fixed = [self.proxy.poll_timeout(), self.look_at];
        let watch = self.watch.poll_timeout();
        let at = times.chain(fixed).chain(watch).chain(stop).min().unwrap_or(self.look_at);
        let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        // Zero would disarm it; a time that is past fires at once.
        let time = TimeSpec::new(seconds.try_into().unwrap_or(i64::MAX), i64::try_from(nanos.max(1))?);
        self.timer
            .set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .context("set the timer")
    }

    /// Waits; says whether a signal came. What else is there is found by looking.
    fn wait(&self) -> anyhow::Result<bool> {
        let fixed = [self.signals.as_fd(), self.timer.as_fd(), self.monitor.as_fd(), self.wishes.as_fd()];
        let routers = self.routers.iter().flat_map(Router::descriptors);
        let mut waits: SmallVec<[PollFd<'_>; DESCRIPTORS]> = fixed
            .into_iter()
            .chain(self.proxy.descriptor())
            .chain(routers)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        match poll(&mut waits, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait"),
        }
        Ok(waits.first().and_then(PollFd::any).unwrap_or(false))
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if u32::try_from(Signal::SIGHUP as i32) == Ok(signal.ssi_signo) {
                self.tools.peers.put(Outgoing::Reload);
                continue;
            }
            let now = boottime();
            if self.stopping.is_none() {
                self.stopping = Some(now);
                self.tools.log.info(None, "asked to end: giving the addresses up");
                for router in &mut self.routers {
                    router.event(now, Event::Stop, &mut self.tools);
                }
            }
        }
    }

    fn receive(&mut self) {
        self.identities.clear();
        self.identities.extend(self.routers.iter().flat_map(Router::identities));
        let mut packets = 0;
        for router in &mut self.routers {
            packets += router.receive(boottime(), &self.identities, &mut self.tools);
        }
        if packets > FLOOD || boottime().since(self.rested) >= AWAKE_LIMIT {
            std::thread::sleep(FLOOD_PAUSE);
            self.rested = boottime();
        }
    }

    /// Links and addresses: most changes are our own refreshes and concern nobody.
    fn hear_changes(&mut self) -> anyhow::Result<()> {
        let mut concerned = false;
        loop {
            let heard = self.monitor.hear(|change| {
                concerned |= self.routers.iter().any(|router| router.is_concerned(change));
            });
            match heard.context("listen to links and addresses")? {
                Heard::Nothing => break,
                Heard::Overrun => concerned = true,
                Heard::Changes => {}
            }
        }
        if concerned {
            self.look_at = self.look_at.min(self.looked + LOOK_PAUSE);
        }
        Ok(())
    }

    fn look(&mut self) {
        let Self { routers, tools, picture, .. } = self;
        match tools.requests.look(picture) {
            Ok(()) => {
                for (name, set) in tools.parents.keep(&picture.links, &mut tools.requests) {
                    let result = set.map_or_else(|error| error.to_string(), |()| "set again".to_owned());
                    tools.log.warn(None, format!("somebody has changed how {name} answers ARP: {result}"));
                }
                for router in routers {
                    router.look(picture, tools);
                }
            }
            Err(error) => tools.log.warn(None, format!("read links and addresses: {error}")),
        }
        self.looked = boottime();
        let all_stand = self.routers.iter().all(Router::is_standing);
        self.look_at = self.looked + if all_stand { LOOK_ANYWAY } else { LOOK_AGAIN };
    }

    fn work_proxy(&mut self) {
        self.proxy.work(boottime());
        let report = self.proxy.report();
        let maintenance = self.proxy.maintenance();
        if maintenance != std::mem::replace(&mut self.maintenance, maintenance) {
            self.watch.set_maintenance(boottime(), maintenance);
            self.tell_routers(&Event::MaintenanceChanged(maintenance));
        }
        if report != self.reported {
            self.reported = report;
            self.watch.own_reported(boottime(), report);
        }
        self.watch.handle_timeout(boottime());
        let (health, primary) = (self.watch.health(), self.watch.has_primary());
        if health != self.proxy_told {
            self.proxy_told = health;
            match health {
                ProxyHealth::Dead => {
                    self.tools.log.warn(None, Text::ProxyIsDead(self.proxy.why().clone()));
                }
                ProxyHealth::Alive => self.tools.log.warn(None, Text::ProxyIs(health)),
                _ => self.tools.log.info(None, Text::ProxyIs(health)),
            }
            self.tell_routers(&Event::ProxyChanged(health));
        }
        if primary != self.primary_told {
            self.primary_told = primary;
            self.tell_routers(&Event::PrimaryChanged(primary));
        }
    }

    fn tell_routers(&mut self, event: &Event<'_>) {
        for router in &mut self.routers {
            router.event(boottime(), event.clone(), &mut self.tools);
        }
    }

    fn fulfil_wishes(&mut self) {
        while let Some(wish) = self.wishes.take() {
            match wish {
                Wish::Drain(drained) => {
                    self.drain(drained);
                    self.work_proxy();
                }
                Wish::Tracking { address, tracking } => {
                    if let Some(coming) =
                        self.coming.iter_mut().find(|coming| coming.address() == Some(address))
                    {
                        coming.tracking = tracking.clone();
                    }
                    self.tell_leader(address, Event::TrackingChanged(tracking));
                }
                Wish::Tuned { tunings, times } => {
                    self.watch.set_times(boottime(), times.no_primary_hold, times.primary_hysteresis);
                    for (address, tuning) in tunings {
                        self.tell_leader(address, Event::Tuned(tuning));
                    }
                }
                Wish::Changed { added, removed, floating } => self.change(added, &removed, floating),
                Wish::StepAside(address) => self.tell_router(address, Event::StepAside),
                Wish::TakeOver { peer, address, priority, epoch } => {
                    self.tell_router(address, Event::AskedToTakeOver { peer, priority, epoch });
                }
                Wish::ProxyReported { peer, proxy } => self.watch.peer_reported(boottime(), peer, proxy),
                Wish::RouterReported { peer, address, router } => {
                    self.tell_router(address, Event::PeerReported { peer, router });
                }
                Wish::PeerLost(peer) => {
                    self.watch.peer_lost(boottime(), &peer);
                    self.tell_routers(&Event::PeerLost { peer });
                }
            }
        }
    }

    /// The file has other floating addresses now.
    fn change(&mut self, added: Vec<Vec<RouterPlan>>, removed: &[IpAddr], floating: Vec<IpAddr>) {
        if self.stopping.is_some() {
            return;
        }
        let now = boottime();
        for router in &mut self.routers {
            if let Some(address) = router.address().filter(|address| removed.contains(address)) {
                router.event(now, Event::Stop, &mut self.tools);
                self.leaving.entry(address).or_insert(now);
            }
        }
        self.coming.retain(|coming| !coming.address().is_some_and(|address| removed.contains(&address)));
        let coming = |plans| Coming { plans, tracking: Tracking::default() };
        self.coming.extend(added.into_iter().map(coming));
        // Those that leave are not yet sources.
        let before = std::mem::replace(&mut self.floating, floating);
        let all = [before, self.floating.clone()].concat();
        self.routers.iter_mut().for_each(|router| router.set_floating(&all));
    }

    /// Lets those go that have said good-bye, and when all have, begins what is new.
    fn replace(&mut self) {
        if self.leaving.is_empty() && self.coming.is_empty() {
            return;
        }
        let now = boottime();
        self.routers.retain_mut(|router| {
            let leaves = router.address().and_then(|address| self.leaving.get_key_value(&address));
            let Some((&address, since)) = leaves else { return true };
            if !router.is_stopped() && now.since(*since) < STOP_LIMIT {
                return true;
            }
            router.drop_address(&mut self.tools);
            router.leave(&mut self.tools);
            self.leaving.remove(&address);
            self.tools.log.info(None, format!("{address} is not in the file any more, and has left"));
            false
        });
        if !self.leaving.is_empty() || self.stopping.is_some() {
            return;
        }
        let old = self.routers.len();
        for coming in std::mem::take(&mut self.coming) {
            let Some(address) = coming.address() else { continue };
            match Router::new(coming.plans, now) {
                Ok(mut router) => {
                    self.tools.log.info(None, format!("{address} is new in the file"));
                    // What the others have been told.
                    router.event(now, Event::ProxyChanged(self.proxy_told), &mut self.tools);
                    router.event(now, Event::PrimaryChanged(self.primary_told), &mut self.tools);
                    router.event(now, Event::MaintenanceChanged(self.maintenance), &mut self.tools);
                    router.event(now, Event::Drained(self.drained), &mut self.tools);
                    router.event(now, Event::TrackingChanged(coming.tracking), &mut self.tools);
                    self.routers.push(router);
                }
                Err(error) => self.tools.log.warn(None, format!("{address} is new in the file: {error}")),
            }
        }
        self.routers.iter_mut().for_each(|router| router.set_floating(&self.floating));
        self.look();
        for router in &mut self.routers[old..] {
            router.start(boottime(), None, &mut self.tools);
        }
    }

    fn drain(&mut self, drained: bool) {
        self.watch.set_drained(drained);
        self.tell_routers(&Event::Drained(drained));
        if drained != std::mem::replace(&mut self.drained, drained) {
            let text = if drained {
                "an operator keeps floating addresses off this host (hactl vip undrain ends it)"
            } else {
                "floating addresses may come to this host again"
            };
            self.tools.log.warn(None, text);
        }
    }

    /// Tells a router by the address that decides in its group: what other members of it follow counts nothing.
    fn tell_leader(&mut self, address: IpAddr, event: Event<'_>) {
        if let Some(router) = self.routers.iter_mut().find(|router| router.address() == Some(address)) {
            router.event(boottime(), event, &mut self.tools);
        }
    }

    fn tell_router(&mut self, address: IpAddr, event: Event<'_>) {
        if let Some(router) = self.routers.iter_mut().find(|router| router.is_of(address)) {
            router.event(boottime(), event, &mut self.tools);
        }
    }

    /// Whether something has changed, since what was published last, that others are told at once; and how old that is.
    fn published(&self) -> (bool, Duration) {
        let last = self.publisher.last();
        let now = self.routers.iter().flat_map(Router::headlines);
        let same = last.said == self.watch.own() && now.eq(last.routers.iter().map(RouterView::headline));
        (!same, boottime().since(last.taken))
    }

    fn publish(&mut self) {
        let now = boottime();
        self.publisher.publish(|snapshot| {
            snapshot.taken = now;
            snapshot.began = self.began;
            snapshot.proxy = self.proxy_told;
            snapshot.said = self.watch.own();
            snapshot.drained = self.drained;
            snapshot.maintenance = self.maintenance;
            snapshot.degraded.clone_from(&self.degraded);
            let views = &mut snapshot.routers;
            let end = self.routers.iter().fold(0, |place, router| router.show(now, views, place));
            views.truncate(end);
        });
    }
}

/// A virtual router or group that is about to begin.
struct Coming {
    plans: Vec<RouterPlan>,
    tracking: Tracking,
}

impl Coming {
    /// As of [`Router::address`].
    fn address(&self) -> Option<IpAddr> {
        self.plans.first().map(|plan| plan.setup.address)
    }
}
