//! From a seed to a list of faults with times. Pure.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::dice::Dice;
use super::fault::{Fault, Place};

/// A fault and when it hits, from the beginning of its episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimedFault {
    /// When it begins.
    pub after: Duration,
    /// How long it lasts; nothing for one that is over at once.
    pub lasts: Duration,
    /// What happens.
    pub fault: Fault,
}

impl TimedFault {
    /// When it ends, from the beginning of its episode.
    pub fn ends(&self) -> Duration {
        self.after + self.lasts
    }
}

impl fmt::Display for TimedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:5.1} s  {}", self.after.as_secs_f64(), self.fault)?;
        if self.fault.is_instant() { Ok(()) } else { write!(f, ", for {:.1} s", self.lasts.as_secs_f64()) }
    }
}

/// One to three faults that overlap, in the order in which they hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Episode {
    /// Which, from 1.
    pub number: u32,
    /// The faults.
    pub faults: Vec<TimedFault>,
}

impl Episode {
    /// When the last fault has ended, from its beginning.
    pub fn length(&self) -> Duration {
        self.faults.iter().map(TimedFault::ends).max().unwrap_or_default()
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "episode {}", self.number)?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))
    }
}

/// Every episode of a seed, one after the other, without end.
#[derive(Debug, Clone)]
pub struct Schedule {
    dice: Dice,
    number: u32,
}

/// Where faults of a database host hit, and how often.
const DATABASES: [(u64, Place); 3] = [(4, Place::Primary), (1, Place::Standby(0)), (1, Place::Standby(1))];
/// The same for proxy hosts.
const PROXIES: [(u64, Place); 2] = [(2, Place::Active), (1, Place::Backup)];
/// What is killed on a database host. No supervisor is as quick as a lease is long, except the one of a production system.
const DATABASE_UNITS: [&str; 4] = ["pg-agent", "pg-guard", "etcd", "postgres"];
/// What can stay down: PostgreSQL has no supervisor but the agent and the guard.
const DATABASE_DAEMONS: [&str; 3] = ["pg-agent", "pg-guard", "etcd"];
const PROXY_UNITS: [&str; 2] = ["pg-proxy", "vrrpd"];

/// Kinds of faults.
#[derive(Debug, Clone, Copy)]
enum Kind {
    PowerLoss,
    Isolated,
    Partition,
    OneWay,
    NoEtcd,
    Killed,
    Down,
    Frozen,
}

/// How often each kind hits.
const KINDS: [(u64, Kind); 8] = [
    (3, Kind::PowerLoss),
    (2, Kind::Isolated),
    (2, Kind::Partition),
    (2, Kind::OneWay),
    (1, Kind::NoEtcd),
    (4, Kind::Killed),
    (3, Kind::Down),
    (4, Kind::Frozen),
];

impl Schedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), number: 0 }
    }

    /// Its first episodes, as many as begin within `span` if each is followed by `pause`.
    pub fn within(seed: u64, span: Duration, pause: Duration) -> Vec<Episode> {
        let mut begins = Duration::ZERO;
        Self::new(seed)
            .take_while(|episode| {
                let fits = begins < span;
                begins += episode.length() + pause;
                fits
            })
            .collect()
    }

    fn database(&mut self) -> Place {
        self.dice.weighted(&DATABASES)
    }

    /// A database host three times out of four.
    fn host(&mut self) -> Place {
        if self.dice.between(1, 4) == 1 { self.dice.weighted(&PROXIES) } else { self.database() }
    }

    /// Another place than this one.
    fn other_than(&mut self, place: Place) -> Place {
        loop {
            let other = self.host();
            if other != place {
                return other;
            }
        }
    }

    /// A host, and one of these or of the proxy's daemons on it.
    fn unit_on_host(&mut self, of_databases: &[&'static str]) -> (Place, &'static str) {
        let place = self.host();
        let unit = match place {
            Place::Primary | Place::Standby(_) => self.dice.one_of(of_databases),
            Place::Active | Place::Backup => self.dice.one_of(&PROXY_UNITS),
        };
        (place, unit)
    }

    fn fault(&mut self) -> Fault {
        match self.dice.weighted(&KINDS) {
            Kind::PowerLoss => Fault::PowerLoss(self.host()),
            Kind::Isolated => Fault::Isolated(self.host()),
            Kind::Partition => {
                let one = self.database();
                Fault::Partition(one, self.other_than(one))
            }
            Kind::OneWay => {
                let from = self.host();
                Fault::OneWay(from, self.other_than(from))
            }
            Kind::NoEtcd => Fault::NoEtcd(self.database()),
            Kind::Killed => {
                let (place, unit) = self.unit_on_host(&DATABASE_UNITS);
                Fault::Killed(place, unit)
            }
            Kind::Down => {
                let (place, unit) = self.unit_on_host(&DATABASE_DAEMONS);
                Fault::Down(place, unit)
            }
            Kind::Frozen => {
                let (place, unit) = self.unit_on_host(&DATABASE_UNITS);
                Fault::Frozen(place, unit)
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Episode;

    fn next(&mut self) -> Option<Episode> {
        self.number += 1;
        // Many episodes of one fault: what two do together is understood only beside what each does alone.
        let count = self.dice.weighted(&[(4, 1), (4, 2), (2, 3)]);
        let mut faults: Vec<TimedFault> = (0..count)
            .map(|_| {
                let fault = self.fault();
                let after = Duration::from_millis(self.dice.between(0, 60) * 100);
                // From a blink to longer than a lease.
                let lasts = Duration::from_millis(self.dice.between(5, 200) * 100);
                TimedFault { after, lasts: if fault.is_instant() { Duration::ZERO } else { lasts }, fault }
            })
            .collect();
        faults.sort_by_key(|fault| fault.after);
        Some(Episode { number: self.number, faults })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn first(seed: u64, episodes: usize) -> Vec<Episode> {
        Schedule::new(seed).take(episodes).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        assert_eq!(first(42, 200), first(42, 200));
        assert_ne!(first(42, 200), first(43, 200));
    }

    /// A schedule in a report must be the same after an update of the toolchain or of a dependency.
    #[test]
    fn a_seed_means_the_same_for_ever() {
        let text: String = first(1, 3).iter().map(ToString::to_string).collect();
        assert_eq!(text, include_str!("schedule_of_seed_1.txt"));
    }

    #[test]
    fn every_kind_of_fault_and_every_place_comes() {
        let faults: Vec<Fault> =
            first(7, 500).into_iter().flat_map(|episode| episode.faults).map(|timed| timed.fault).collect();
        let kinds: BTreeSet<String> = faults
            .iter()
            .map(|fault| format!("{fault:?}").split('(').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds.len(), KINDS.len(), "{kinds:?}");
        let places: BTreeSet<String> = faults.iter().map(|fault| fault.place().to_string()).collect();
        assert_eq!(places.len(), 5, "{places:?}");
        for unit in DATABASE_UNITS.into_iter().chain(PROXY_UNITS) {
            let frozen = |fault: &Fault| matches!(fault, Fault::Frozen(_, name) if *name == unit);
            assert!(faults.iter().any(frozen), "{unit} is never frozen");
        }
    }

    #[test]
    fn faults_are_bounded_and_two_places_differ() {
        for episode in first(3, 500) {
            assert!((1..=3).contains(&episode.faults.len()));
            assert!(episode.length() <= Duration::from_secs(26), "{episode}");
            for TimedFault { fault, lasts, .. } in episode.faults {
                assert_eq!(fault.is_instant(), lasts.is_zero());
                if let Fault::Partition(one, other) | Fault::OneWay(one, other) = fault {
                    assert_ne!(one, other);
                }
            }
        }
    }

    #[test]
    fn a_span_takes_the_episodes_that_begin_in_it() {
        let pause = Duration::from_secs(10);
        let span = Duration::from_secs(600);
        let episodes = Schedule::within(5, span, pause);
        let begin_of_last: Duration =
            episodes[..episodes.len() - 1].iter().map(|episode| episode.length() + pause).sum();
        assert!(begin_of_last < span);
        assert_eq!(episodes, first(5, episodes.len()));
    }
}
