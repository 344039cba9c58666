//! Names of the physical replication slots that members stream through.

use crate::identity::MemberName;

/// The slot of a member: its name behind a prefix, with `-` and `_` escaped, because slot names allow only lower-case
/// letters, digits and the underscore
/// (<https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS-MANIPULATION>). `-` becomes
/// `__` and `_` becomes `_u`, so two members never share a slot. At most 62 bytes: PostgreSQL's limit is 63.
pub fn slot_name(member: &MemberName) -> String {
    let mut slot = String::from("m_");
    for c in member.as_str().chars() {
        match c {
            '-' => slot.push_str("__"),
            '_' => slot.push_str("_u"),
            other => slot.push(other),
        }
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_legal_and_distinct() {
        let names =
            ["pg1", "pg-1", "pg_1", "pg--1", "pg__1", &"-".repeat(0), &format!("a{}", "-".repeat(31))];
        let slots: Vec<_> =
            names.iter().filter_map(|n| n.parse().ok()).map(|n: MemberName| slot_name(&n)).collect();
        let distinct: std::collections::BTreeSet<_> = slots.iter().collect();
        assert_eq!(distinct.len(), slots.len());
        for slot in &slots {
            assert!(
                slot.len() <= 63
                    && slot.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
        }
    }
}
