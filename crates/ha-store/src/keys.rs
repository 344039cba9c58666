//! Where a cluster keeps its records: everything below one prefix, `/matriarch/<cluster>/`.

use ha_core::{ClusterName, MemberName, Timeline};

/// The key layout of one cluster. All methods return whole keys, as they appear in [`Snapshot`](crate::Snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The layout of `cluster`.
    pub fn new(cluster: &ClusterName) -> Self {
        Self { prefix: format!("/matriarch/{cluster}/") }
    }

    /// The prefix of every key of this cluster, ending in `/` so that no cluster sees another whose name begins alike.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The authority: epoch, leader and policy. Without lease.
    pub fn sync(&self) -> String {
        self.below("sync")
    }

    /// The leased sign of life of the leader.
    pub fn leader(&self) -> String {
        self.below("leader")
    }

    /// What one member says of itself, under its own lease.
    pub fn member(&self, member: &MemberName) -> String {
        format!("{}{member}", self.members_prefix())
    }

    /// The prefix of all [`Keys::member`].
    pub fn members_prefix(&self) -> String {
        self.below("members/")
    }

    /// The name in a [`Keys::member`] key; `None` for any other key.
    pub fn member_of(&self, key: &str) -> Option<MemberName> {
        key.strip_prefix(&self.members_prefix())?.parse().ok()
    }

    /// Who owns a timeline, reserved in the transaction that decides a leader.
    pub fn history(&self, timeline: Timeline) -> String {
        format!("{}{}", self.history_prefix(), timeline.0)
    }

    /// The prefix of all [`Keys::history`].
    pub fn history_prefix(&self) -> String {
        self.below("history/")
    }

    /// The timeline in a [`Keys::history`] key; `None` for any other key.
    pub fn timeline_of(&self, key: &str) -> Option<Timeline> {
        key.strip_prefix(&self.history_prefix())?.parse().ok().map(Timeline)
    }

    /// Settings that can change while the cluster runs.
    pub fn config(&self) -> String {
        self.below("config")
    }

    /// Who creates, or created, the database.
    pub fn initialize(&self) -> String {
        self.below("initialize")
    }

    /// Position of the leader, written on events only.
    pub fn status(&self) -> String {
        self.below("status")
    }

    /// A requested switchover.
    pub fn switchover(&self) -> String {
        self.below("switchover")
    }

    fn below(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(cluster: &str) -> Keys {
        Keys::new(&cluster.parse().unwrap())
    }

    #[test]
    fn keys_lie_below_the_prefix_and_read_back() {
        let keys = keys("main");
        let pg1: MemberName = "pg1".parse().unwrap();
        assert_eq!(keys.sync(), "/matriarch/main/sync");
        assert_eq!(keys.member(&pg1), "/matriarch/main/members/pg1");
        assert_eq!(keys.history(Timeline(3)), "/matriarch/main/history/3");
        assert_eq!(keys.member_of(&keys.member(&pg1)), Some(pg1));
        assert_eq!(keys.timeline_of(&keys.history(Timeline(7))), Some(Timeline(7)));
        assert_eq!(keys.member_of(&keys.sync()), None);
        assert_eq!(keys.timeline_of("/matriarch/main/history/x"), None);
    }

    #[test]
    fn a_cluster_does_not_see_another_whose_name_begins_alike() {
        assert!(!keys("main2").sync().starts_with(keys("main").prefix()));
    }
}
