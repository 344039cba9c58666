//! Whether this host's proxy is worse off than the others' for want of a primary.
//!
//! During a failover of the database all proxies lose the primary, at slightly different moments: an address that moved
//! for that would move twice and help nobody. So it counts only when another host positively says that it has one, only
//! after a hold that is longer than those moments lie apart, and the way back takes longer still. A host that is not
//! heard says nothing: it makes nobody worse, and what was decided before stays.

use std::time::Duration;

use ha_core::{MemberName, MonoTime};

use crate::tracking::ProxyHealth;

/// What is known of one host's proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyReport {
    /// How the proxy is.
    pub health: ProxyHealth,
    /// Whether its writes have somewhere to go.
    pub primary: bool,
    /// The leadership that this rests on; without a primary the newest it has heard of. 0 where nobody counts them.
    pub epoch: u64,
}

impl ProxyReport {
    /// Nothing is known: as dead.
    pub const NONE: Self = Self { health: ProxyHealth::Dead, primary: false, epoch: 0 };
}

/// Other hosts that are told of before more memory is asked for.
const PEERS: usize = 16;

#[derive(Debug)]
struct Peer {
    report: ProxyReport,
    /// It is heard now; otherwise this is the last that it said.
    heard: bool,
}

/// Watches the own proxy beside the others'.
#[derive(Debug)]
pub struct PrimaryWatch {
    hold: Duration,
    hysteresis: Duration,
    own: ProxyReport,
    /// As many as there ever were; room for a dozen from the beginning.
    peers: Vec<(MemberName, Peer)>,
    /// Since when another has what we lack.
    lacks_since: Option<MonoTime>,
    /// Since when we have it again, after the lack was counted.
    has_since: Option<MonoTime>,
    /// The lack counts.
    worse: bool,
    /// An operator keeps floating addresses off this host.
    drained: bool,
    /// Maintenance mode of the cluster.
    maintenance: bool,
}

impl PrimaryWatch {
    /// Nothing is known yet. `hold`: how long another must have had what we lack before it counts; `hysteresis`: how long
    /// we must have had it again before it no longer does.
    pub fn new(hold: Duration, hysteresis: Duration) -> Self {
        Self {
            hold,
            hysteresis,
            own: ProxyReport::NONE,
            peers: Vec::with_capacity(PEERS),
            lacks_since: None,
            has_since: None,
            worse: false,
            drained: false,
            maintenance: false,
        }
    }

    /// Both times anew; what has begun goes by them.
    pub fn set_times(&mut self, now: MonoTime, hold: Duration, hysteresis: Duration) {
        (self.hold, self.hysteresis) = (hold, hysteresis);
        self.weigh(now);
    }

    /// An operator keeps floating addresses off this host, or lets them come again: as if the proxy drained.
    pub fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// Maintenance mode begins or ends. While it lasts no lack begins to count: a primary is stopped by hand then, and what
    /// counted before goes on.
    pub fn set_maintenance(&mut self, now: MonoTime, on: bool) {
        self.maintenance = on;
        self.weigh(now);
    }

    /// The local proxy said something.
    pub fn own_reported(&mut self, now: MonoTime, report: ProxyReport) {
        self.own = report;
        self.weigh(now);
    }

    /// Another host said something.
    pub fn peer_reported(&mut self, now: MonoTime, peer: MemberName, report: ProxyReport) {
        let said = Peer { report, heard: true };
        match self.peers.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, known)) => *known = said,
            None => self.peers.push((peer, said)),
        }
        self.weigh(now);
    }

    /// Another host is not heard any more.
    pub fn peer_lost(&mut self, now: MonoTime, peer: &MemberName) {
        if let Some((_, known)) = self.peers.iter_mut().find(|(other, _)| other == peer) {
            known.heard = false;
        }
        self.weigh(now);
    }

    /// The time asked for has come; harmless if it has not.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.weigh(now);
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        if self.worse {
            self.has_since.map(|since| since + self.hysteresis)
        } else {
            self.lacks_since.map(|since| since + self.hold)
        }
    }

    /// The local proxy's health as it counts.
    pub fn health(&self) -> ProxyHealth {
        let limit = match (self.drained, self.worse) {
            (true, _) => ProxyHealth::Draining,
            (false, true) => ProxyHealth::Alive,
            (false, false) => ProxyHealth::Serving,
        };
        self.own.health.min(limit)
    }

    /// Whether the local proxy has a primary, as far as is known the newest.
    pub fn has_primary(&self) -> bool {
        let newest = self.reports().filter(|peer| peer.report.primary).map(|peer| peer.report.epoch).max();
        self.own.primary && newest.is_none_or(|newest| self.own.epoch >= newest)
    }

    /// What to tell the others.
    pub fn own(&self) -> ProxyReport {
        ProxyReport { primary: self.own.primary, epoch: self.own.epoch, health: self.health() }
    }

    /// A host that is heard serves with a primary that is not older than what we know of.
    fn another_has_one(&self) -> bool {
        let has = |peer: &Peer| {
            let ProxyReport { health, primary, epoch } = peer.report;
            peer.heard && primary && health == ProxyHealth::Serving && epoch >= self.own.epoch
        };
        self.reports().any(has)
    }

    fn reports(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|(_, peer)| peer)
    }

    fn weigh(&mut self, now: MonoTime) {
        let has = self.has_primary();
        if self.worse {
            self.has_since = has.then_some(self.has_since.unwrap_or(now));
            if self.has_since.is_some_and(|since| now.since(since) >= self.hysteresis) {
                (self.worse, self.lacks_since) = (false, None);
            }
        } else {
            let lacks = !has && self.another_has_one() && !self.maintenance;
            self.lacks_since = lacks.then_some(self.lacks_since.unwrap_or(now));
            if self.lacks_since.is_some_and(|since| now.since(since) >= self.hold) {
                (self.worse, self.has_since) = (true, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProxyHealth::{Alive, Dead, Draining, Serving};

    const fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn report(health: ProxyHealth, primary: bool, epoch: u64) -> ProxyReport {
        ProxyReport { health, primary, epoch }
    }

    fn ha2() -> MemberName {
        "ha2".parse().unwrap()
    }

    /// Both serve with the primary of leadership 7.
    fn both() -> PrimaryWatch {
        let mut watch = PrimaryWatch::new(Duration::from_secs(5), Duration::from_secs(10));
        watch.own_reported(at(0), report(Serving, true, 7));
        watch.peer_reported(at(0), ha2(), report(Serving, true, 7));
        assert_eq!((watch.health(), watch.poll_timeout()), (Serving, None));
        watch
    }

    #[test]
    fn a_lack_counts_after_the_hold_and_no_more_after_the_hysteresis() {
        let mut watch = both();
        watch.own_reported(at(1000), report(Serving, false, 7));
        assert_eq!(watch.poll_timeout(), Some(at(6000)));
        watch.handle_timeout(at(5999));
        assert_eq!(watch.health(), Serving);
        watch.handle_timeout(at(6000));
        assert_eq!(watch.health(), Alive);
        watch.own_reported(at(7000), report(Serving, true, 7));
        assert_eq!((watch.health(), watch.poll_timeout()), (Alive, Some(at(17_000))));
        watch.own_reported(at(16_000), report(Serving, false, 7));
        watch.own_reported(at(16_100), report(Serving, true, 7));
        watch.handle_timeout(at(26_099));
        assert_eq!(watch.health(), Alive, "the wait begins anew");
        watch.handle_timeout(at(26_100));
        assert_eq!((watch.health(), watch.poll_timeout()), (Serving, None));
    }

    #[test]
    fn when_the_other_lacks_it_too_or_is_not_heard_nothing_counts() {
        let mut watch = both();
        watch.own_reported(at(1000), report(Serving, false, 7));
        watch.peer_reported(at(4000), ha2(), report(Serving, false, 7));
        assert_eq!((watch.health(), watch.poll_timeout()), (Serving, None));
        watch.peer_reported(at(5000), ha2(), report(Serving, true, 7));
        watch.peer_lost(at(9999), &ha2());
        watch.handle_timeout(at(60_000));
        assert_eq!((watch.health(), watch.poll_timeout()), (Serving, None));
    }

    #[test]
    fn what_counts_goes_on_when_the_other_is_not_heard_any_more() {
        let mut watch = both();
        watch.own_reported(at(0), report(Serving, false, 7));
        watch.handle_timeout(at(5000));
        watch.peer_lost(at(6000), &ha2());
        watch.handle_timeout(at(600_000));
        assert_eq!(watch.health(), Alive);
        watch.own_reported(at(600_000), report(Serving, true, 7));
        watch.handle_timeout(at(610_000));
        assert_eq!(watch.health(), Serving, "that it has one itself it knows without the other");
    }

    #[test]
    fn a_proxy_that_does_not_serve_is_no_example() {
        for health in [Dead, Draining, Alive] {
            let mut watch = both();
            watch.peer_reported(at(0), ha2(), report(health, true, 7));
            watch.own_reported(at(0), report(Serving, false, 7));
            assert_eq!(watch.poll_timeout(), None, "{health}");
        }
    }

    #[test]
    fn the_primary_of_an_earlier_leadership_is_none() {
        let mut watch = both();
        watch.peer_reported(at(0), ha2(), report(Serving, true, 8));
        assert!(!watch.has_primary());
        watch.handle_timeout(at(5000));
        assert_eq!(watch.health(), Alive);
        watch.peer_lost(at(5000), &ha2());
        watch.handle_timeout(at(100_000));
        assert_eq!(watch.health(), Alive, "silence makes an old leadership no younger");
        // The other way round: we know that it is over, the other does not.
        let mut watch = both();
        watch.own_reported(at(0), report(Serving, false, 8));
        assert_eq!(watch.poll_timeout(), None);
    }

    #[test]
    fn a_drained_host_counts_as_draining_until_it_is_not() {
        let mut watch = both();
        watch.set_drained(true);
        assert_eq!((watch.health(), watch.own().health), (Draining, Draining));
        watch.own_reported(at(1), report(Dead, false, 7));
        assert_eq!(watch.health(), Dead);
        watch.own_reported(at(2), report(Serving, true, 7));
        watch.set_drained(false);
        assert_eq!(watch.health(), Serving);
    }

    #[test]
    fn in_maintenance_no_lack_begins_to_count() {
        let mut watch = both();
        watch.own_reported(at(0), report(Serving, false, 7));
        watch.set_maintenance(at(4000), true);
        watch.handle_timeout(at(60_000));
        assert_eq!((watch.health(), watch.poll_timeout()), (Serving, None));
        watch.set_maintenance(at(60_000), false);
        assert_eq!(watch.poll_timeout(), Some(at(65_000)), "the hold begins anew");
        watch.handle_timeout(at(65_000));
        watch.set_maintenance(at(65_000), true);
        assert_eq!(watch.health(), Alive, "what counted goes on");
        watch.own_reported(at(66_000), report(Serving, true, 7));
        watch.handle_timeout(at(76_000));
        assert_eq!(watch.health(), Serving, "and ends as ever");
    }

    #[test]
    fn what_is_worse_than_alive_stays_so() {
        let mut watch = both();
        watch.own_reported(at(0), report(Draining, false, 7));
        watch.handle_timeout(at(5000));
        assert_eq!(watch.health(), Draining);
        watch.own_reported(at(5000), report(Dead, false, 7));
        assert_eq!((watch.health(), watch.own().health), (Dead, Dead));
    }
}
