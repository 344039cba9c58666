//! Where the records of one cluster stand in the store.

use ha_core::ClusterName;
use ha_core::cluster_view::StoreKey;

/// The key layout: everything of one cluster is below `/matriarch/<cluster>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The layout for a cluster of this name.
    pub fn new(cluster: &ClusterName) -> Self {
        Self { prefix: format!("/matriarch/{cluster}/") }
    }

    /// What all keys of the cluster begin with, including the final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The whole key of a record.
    pub fn key(&self, key: &StoreKey) -> String {
        format!("{}{}", self.prefix, key.relative())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ha_core::Timeline;

    #[test]
    fn keys_stand_below_the_prefix_and_timelines_sort() {
        let keys = Keys::new(&"main".parse().expect("a good name"));
        assert_eq!(keys.key(&StoreKey::Sync), "/matriarch/main/sync");
        assert_eq!(keys.key(&StoreKey::History(Timeline(0x1f))), "/matriarch/main/history/0000001F");
        assert!(keys.key(&StoreKey::History(Timeline(9))) < keys.key(&StoreKey::History(Timeline(16))));
    }
}
