//! What the server itself says: its version, settings that opt out of the guarantee, slots that were cut off, prepared
//! transactions, libraries that sort otherwise.

use crate::postgres::DatabaseFacts;

pub(super) fn judge(facts: &DatabaseFacts) -> Vec<String> {
    let mut found = Vec::new();
    if has_startup_race(facts.version) {
        let (major, minor) = (facts.version / 10_000, facts.version % 10_000);
        found.push(format!(
            "PostgreSQL {major}.{minor} may, just after its start, acknowledge commits without waiting for standbys; fixed in 14.18, 15.13, 16.9 and 17.5"
        ));
    }
    for who in &facts.weak_commits {
        found.push(format!(
            "{who} sets synchronous_commit below on: such commits may be lost by a takeover although they were acknowledged"
        ));
    }
    for slot in &facts.endangered_slots {
        let what = match slot.status.as_str() {
            "lost" => "has lost WAL that it needs: its standby or consumer must begin anew",
            _ => "is about to lose WAL that it needs (max_slot_wal_keep_size)",
        };
        found.push(format!("replication slot {} {what}", slot.name));
    }
    if facts.old_prepared > 0 {
        found.push(format!(
            "{} prepared transactions are older than 5 minutes: they hold locks and old rows, here and after a takeover; see pg_prepared_xacts",
            facts.old_prepared
        ));
    }
    for collation in &facts.changed_collations {
        found.push(format!(
            "{} sorts by version {} here, by {} where the data was created: indexes on text may give wrong answers when this member leads; use hosts of one release, or REINDEX",
            collation.provider, collation.here, collation.recorded
        ));
    }
    found
}

/// Minor versions in which a backend could commit before the checkpointer had published the list of standbys (fixed in
/// the releases of May 2025).
fn has_startup_race(version: u32) -> bool {
    match version / 10_000 {
        14 => version < 140_018,
        15 => version < 150_013,
        16 => version < 160_009,
        17 => version < 170_005,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_startup_race_are_known() {
        assert!([140_017, 150_012, 160_008, 170_004].into_iter().all(has_startup_race));
        assert!(![140_018, 150_013, 160_009, 170_005, 180_000].into_iter().any(has_startup_race));
    }

    #[test]
    fn what_the_database_says_becomes_advice() {
        let quiet = r#"{"version": 150013, "weak_commits": [], "endangered_slots": [], "old_prepared": 0, "changed_collations": []}"#;
        assert!(judge(&serde_json::from_str(quiet).unwrap()).is_empty());
        let loud = r#"{"version": 170004, "weak_commits": ["role app in database shop"],
            "endangered_slots": [{"name": "m_pg3", "status": "unreserved"}, {"name": "cdc", "status": "lost"}],
            "old_prepared": 2, "changed_collations": [{"provider": "libc", "recorded": "2.31", "here": "2.36"}]}"#;
        let said = judge(&serde_json::from_str(loud).unwrap());
        let expected = [
            "PostgreSQL 17.4 may",
            "role app in database shop sets synchronous_commit",
            "replication slot m_pg3 is about to lose",
            "replication slot cdc has lost",
            "2 prepared transactions",
            "libc sorts by version 2.36 here, by 2.31 where",
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
