//! What can happen, and where.

use std::fmt;

use serde::Serialize;

/// Where a fault hits. Roles are resolved when it does: a schedule that always spares the primary tests little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The host whose agent says that it leads.
    Primary,
    /// The first or second of the other database hosts, in the order of the file.
    Standby(u8),
    /// The proxy host that holds the floating address.
    Active,
    /// The other one.
    Backup,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Standby(index) => write!(f, "standby {}", index + 1),
            Self::Active => f.write_str("active proxy host"),
            Self::Backup => f.write_str("backup proxy host"),
        }
    }
}

/// One fault. It lasts as long as the schedule says; a killed daemon is back when its supervisor has restarted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Link first, then every process; power comes back at the end.
    PowerLoss(Place),
    /// Cut off from every other host, clients included.
    Isolated(Place),
    /// Nothing passes between two hosts.
    Partition(Place, Place),
    /// What the first sends to the second is lost.
    OneWay(Place, Place),
    /// A host and etcd on the other hosts do not reach each other.
    NoEtcd(Place),
    /// A daemon, or the postmaster, is killed; its supervisor starts it again.
    Killed(Place, &'static str),
    /// A daemon is killed and stays down.
    Down(Place, &'static str),
    /// A daemon, or the postmaster, is frozen (SIGSTOP) and later goes on.
    Frozen(Place, &'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerLoss(place) => write!(f, "power loss of the {place}"),
            Self::Isolated(place) => write!(f, "{place} cut off from all"),
            Self::Partition(one, other) => write!(f, "nothing passes between {one} and {other}"),
            Self::OneWay(from, to) => write!(f, "lost: what {from} sends to {to}"),
            Self::NoEtcd(place) => write!(f, "{place} and the others' etcd cut off from each other"),
            Self::Killed(place, unit) => write!(f, "{unit} killed on the {place}"),
            Self::Down(place, unit) => write!(f, "{unit} down on the {place}"),
            Self::Frozen(place, unit) => write!(f, "{unit} frozen on the {place}"),
        }
    }
}

impl Fault {
    /// The first place that it names.
    pub fn place(&self) -> Place {
        match *self {
            Self::PowerLoss(place)
            | Self::Isolated(place)
            | Self::Partition(place, _)
            | Self::OneWay(place, _)
            | Self::NoEtcd(place)
            | Self::Killed(place, _)
            | Self::Down(place, _)
            | Self::Frozen(place, _) => place,
        }
    }

    /// Whether it is over at once, as far as the nemesis is concerned.
    pub fn is_instant(&self) -> bool {
        matches!(self, Self::Killed(..))
    }
}
