//! Effective priority: a tier for the health of the proxy, and within it the preference from the configuration.
//!
//! Tiers lie so far apart that no preference bridges them: there are no weights to be added up wrongly.

use crate::tracking::ProxyHealth;

/// Highest preference; 0 is the lowest.
pub(crate) const HIGHEST_PREFERENCE: u8 = 39;

/// What a priority is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PriorityModel {
    /// The tier of the proxy's health, and within it the preference.
    #[default]
    Tiers,
    /// A base, 1 to 254, and the weights of what is tracked: for hosts beside keepalived. The proxy counts only where it is
    /// tracked, and no priority is worse than another but by its number.
    Weights {
        /// With nothing tracked. [`OWNER`] is followed by no weight.
        base: u8,
    },
}

/// Priority of the router that owns the address (RFC 9568 section 5.2.4): it holds it whenever it can, from the first moment
/// on, whatever the preemption mode.
pub const OWNER: u8 = 255;

/// What a router of [`PriorityModel::Weights`] advertises while its host is to be left.
pub(crate) const LEAVING_BY_WEIGHTS: u8 = 1;

/// How well the host can serve behind the address. Ordered: the better one wins at once, whatever the preemption mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The proxy is gone.
    Dead,
    /// The proxy is alive and wants to get rid of its clients.
    Draining,
    /// The proxy takes clients and has no primary for them, while another host's proxy has one.
    Alive,
    /// The proxy takes clients, and no other host would serve them better.
    Serving,
}

impl Tier {
    /// Priority of the host with preference 0.
    pub fn base(self) -> u8 {
        match self {
            Self::Dead => 10,
            Self::Draining => 60,
            Self::Alive => 110,
            Self::Serving => 150,
        }
    }

    /// The tier that a priority heard on the wire belongs to. Other implementations know no tiers; keepalived's usual
    /// 100 to 103 count as draining, so that one of ours that serves takes over from it, and gives way to it when
    /// its own proxy is dead.
    pub fn of_priority(priority: u8) -> Self {
        [Self::Serving, Self::Alive, Self::Draining]
            .into_iter()
            .find(|tier| priority >= tier.base())
            .unwrap_or(Self::Dead)
    }
}

impl From<ProxyHealth> for Tier {
    fn from(health: ProxyHealth) -> Self {
        match health {
            ProxyHealth::Dead => Self::Dead,
            ProxyHealth::Draining => Self::Draining,
            ProxyHealth::Alive => Self::Alive,
            ProxyHealth::Serving => Self::Serving,
        }
    }
}

/// Effective priority, 10 to 189: never 0 (leaving) and never 255 (address owner).
pub(crate) fn effective(health: ProxyHealth, preference: u8) -> u8 {
    Tier::from(health).base() + preference.min(HIGHEST_PREFERENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_better_tier_beats_every_preference() {
        let worst = |health| effective(health, 0);
        let best = |health| effective(health, u8::MAX);
        assert!(best(ProxyHealth::Dead) < worst(ProxyHealth::Draining));
        assert!(best(ProxyHealth::Draining) < worst(ProxyHealth::Alive));
        assert!(best(ProxyHealth::Alive) < worst(ProxyHealth::Serving));
        assert_eq!((worst(ProxyHealth::Dead), best(ProxyHealth::Serving)), (10, 189));
    }

    #[test]
    fn a_priority_is_recognised_as_its_tier() {
        for health in [ProxyHealth::Dead, ProxyHealth::Draining, ProxyHealth::Alive, ProxyHealth::Serving] {
            for preference in 0..=HIGHEST_PREFERENCE {
                assert_eq!(Tier::of_priority(effective(health, preference)), Tier::from(health));
            }
        }
        assert_eq!(Tier::of_priority(103), Tier::Draining);
        assert_eq!(Tier::of_priority(255), Tier::Serving);
    }
}
