//! What a watch remembers, without I/O: it turns reads and changes into events and never goes back unnoticed.

use ha_core::Revision;

use crate::store::Snapshot;
use crate::watch::{Change, WatchEvent};

/// The memory of one watch.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    seen: Option<Snapshot>,
}

impl Follower {
    /// The newest revision seen: what a read that is sent *now* must show at least, and after which changes are missing.
    pub(crate) fn revision(&self) -> Revision {
        self.seen.as_ref().map_or(Revision(0), |seen| seen.revision)
    }

    /// Whether changes of this etcd cluster continue what was seen.
    pub(crate) fn follows(&self, cluster_id: u64) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.cluster_id == cluster_id)
    }

    /// A linearizable read came back. `floor` is [`Follower::revision`] at the moment when it was sent: showing less
    /// means that the store went back. `announce` asks for the snapshot even when nothing changed.
    pub(crate) fn on_read(&mut self, fresh: Snapshot, floor: Revision, announce: bool) -> Option<WatchEvent> {
        let Some(seen) = &mut self.seen else {
            self.seen = Some(fresh.clone());
            return Some(WatchEvent::Snapshot(fresh));
        };
        if fresh.cluster_id != seen.cluster_id || fresh.revision < floor {
            let (had_cluster_id, had_revision) = (seen.cluster_id, seen.revision);
            *seen = fresh.clone();
            return Some(WatchEvent::RolledBack { had_cluster_id, had_revision, snapshot: fresh });
        }
        // Changes that came while the read was under way may be newer than it.
        let newer = fresh.revision > seen.revision;
        let changed = newer && fresh.entries != seen.entries;
        if newer {
            *seen = fresh;
        }
        (changed || announce).then(|| WatchEvent::Snapshot(seen.clone()))
    }

    /// Changes arrived, in order. One event for each revision that is new.
    pub(crate) fn on_changes(&mut self, changes: &[Change]) -> Vec<WatchEvent> {
        let Some(seen) = &mut self.seen else { return Vec::new() };
        let fresh = changes.iter().filter(|change| change.revision > seen.revision);
        let fresh: Vec<&Change> = fresh.collect();
        let mut events = Vec::new();
        for together in fresh.chunk_by(|a, b| a.revision == b.revision) {
            for change in together {
                seen.apply(change);
            }
            events.push(WatchEvent::Snapshot(seen.clone()));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, LeaseId};

    fn entry(key: &str, revision: u64) -> Entry {
        let at = Revision(revision);
        Entry { key: key.into(), value: vec![], mod_revision: at, create_revision: at, lease: LeaseId::NONE }
    }

    fn snapshot(cluster_id: u64, revision: u64, keys: &[(&str, u64)]) -> Snapshot {
        let entries = keys.iter().map(|(key, at)| ((*key).to_owned(), entry(key, *at))).collect();
        Snapshot { cluster_id, revision: Revision(revision), entries }
    }

    fn following(start: Snapshot) -> Follower {
        let mut follower = Follower::default();
        assert_eq!(follower.on_read(start.clone(), Revision(0), true), Some(WatchEvent::Snapshot(start)));
        follower
    }

    fn put(key: &str, revision: u64) -> Change {
        Change { revision: Revision(revision), key: key.into(), entry: Some(entry(key, revision)) }
    }

    #[test]
    fn changes_of_one_revision_come_as_one_event_and_known_ones_not_at_all() {
        let mut follower = following(snapshot(1, 5, &[("a", 5)]));
        let events = follower.on_changes(&[put("a", 5), put("a", 6), put("b", 6), put("a", 8)]);
        let expected = [snapshot(1, 6, &[("a", 6), ("b", 6)]), snapshot(1, 8, &[("a", 8), ("b", 6)])];
        assert_eq!(events, expected.map(WatchEvent::Snapshot));
    }

    #[test]
    fn a_read_that_a_change_overtook_is_no_rollback_and_not_told() {
        let mut follower = following(snapshot(1, 5, &[("a", 5)]));
        let floor = follower.revision();
        follower.on_changes(&[put("a", 7)]);
        assert_eq!(follower.on_read(snapshot(1, 6, &[("a", 5)]), floor, false), None);
        assert_eq!(follower.revision(), Revision(7));
    }

    #[test]
    fn a_store_that_went_back_or_was_replaced_is_told_as_such() {
        for replaced in [snapshot(1, 4, &[]), snapshot(2, 9, &[])] {
            let mut follower = following(snapshot(1, 5, &[("a", 5)]));
            let told = follower.on_read(replaced.clone(), Revision(5), false);
            let expected = WatchEvent::RolledBack {
                had_cluster_id: 1,
                had_revision: Revision(5),
                snapshot: replaced.clone(),
            };
            assert_eq!(told, Some(expected));
            assert_eq!(follower.revision(), replaced.revision);
        }
    }

    #[test]
    fn a_periodic_read_speaks_only_of_what_the_watch_missed() {
        let mut follower = following(snapshot(1, 5, &[("a", 5)]));
        assert_eq!(follower.on_read(snapshot(1, 9, &[("a", 5)]), Revision(5), false), None);
        assert_eq!(follower.revision(), Revision(9), "others may write to the store too");
        let missed = snapshot(1, 10, &[]);
        let told = follower.on_read(missed.clone(), Revision(9), false);
        assert_eq!(told, Some(WatchEvent::Snapshot(missed)));
    }
}
