//! Where the time of a failover went, as the cluster itself tells it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::Lab;

/// Milliseconds by the name of the phase, in the order of the names.
pub(super) type Phases = BTreeMap<String, f64>;

/// The phases of the newest leadership: the numbers in `phases` of the last entry of `hactl history --format json`. Empty
/// while the agents do not tell any, and for a stack that cannot.
pub(super) fn of_newest_leadership(lab: &Lab) -> Phases {
    let Ok(output) = lab.hactl(&["history", "--format", "json"]) else { return Phases::new() };
    serde_json::from_str(&output.stdout).map(|history: Value| in_newest(&history)).unwrap_or_default()
}

fn in_newest(history: &Value) -> Phases {
    let newest = history.as_array().and_then(|entries| entries.last());
    let phases = newest.and_then(|entry| entry["phases"].as_object());
    phases.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_newest_leadership_counts_and_may_tell_nothing() {
        let told = json!([{"epoch": 1}, {"epoch": 2, "phases": {"detect": 812.5, "promote": 70}}]);
        assert_eq!(
            in_newest(&told),
            Phases::from([("detect".to_owned(), 812.5), ("promote".to_owned(), 70.0)])
        );
        assert!(in_newest(&json!([{"epoch": 2, "phases": {"detect": 1}}, {"epoch": 3}])).is_empty());
        assert!(in_newest(&json!([])).is_empty());
    }
}
