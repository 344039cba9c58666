//! What another host says over the peer channel about the same virtual router. In VRRP only the Active speaks, so that it
//! would know nothing of the others: not even whether there are any.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::State;

/// The same virtual router on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRouter {
    /// Its state.
    pub state: State,
    /// What it would advertise.
    pub priority: u8,
    /// The highest holding that it knows of; see [`crate::Status::epoch`].
    pub epoch: u64,
    /// The newest holding that was its own; 0 = none.
    pub held_epoch: u64,
    /// What is not as it is here and should be, in words; see [`difference`].
    pub differs: Option<Arc<str>>,
}

/// Settings that must be the same on all hosts of a virtual router, by name. Two routers that differ in them discard each
/// other's advertisements, and both become Active.
pub type SharedSettings = BTreeMap<String, String>;

/// What differs between ours and theirs, in words; `None` when nothing does. What only one side names is no difference:
/// the other is of another version.
pub fn difference(ours: &SharedSettings, theirs: &SharedSettings) -> Option<String> {
    let differs = |(name, our): (&String, &String)| {
        let their = theirs.get(name).filter(|their| *their != our)?;
        Some(format!("{name} {their} instead of {our}"))
    };
    let all: Vec<String> = ours.iter().filter_map(differs).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> SharedSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_both_name_can_differ() {
        let ours = settings(&[("interval", "200ms"), ("version", "3"), ("new", "1")]);
        assert_eq!(
            difference(&ours, &settings(&[("interval", "200ms"), ("version", "3"), ("old", "1")])),
            None
        );
        let theirs = settings(&[("interval", "1s"), ("version", "2")]);
        let said = "interval 1s instead of 200ms, version 2 instead of 3";
        assert_eq!(difference(&ours, &theirs).as_deref(), Some(said));
    }
}
