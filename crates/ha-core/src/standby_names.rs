//! `synchronous_standby_names`: how it is written, and why it can never be emptied by accident.
//!
//! Emptying the list wakes every commit that waits for a standby and acknowledges it. So the empty value is a variant
//! that only a sync record in the pinned or asynchronous state can hand out.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::{Epoch, MemberId, MemberName, NameError};
use crate::record::{PolicyKind, SyncRecord};

/// The name that no standby ever carries; in the list it blocks every commit that waits.
const BLOCKED_NAME: &str = "~blocked~";

/// How a standby announces itself to the leader of one epoch: `member.i<incarnation>.e<epoch>`. A standby of another
/// epoch or incarnation carries another name, so its confirmations count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StandbyName {
    /// The standby.
    pub member: MemberId,
    /// Epoch of the leader that it follows.
    pub epoch: Epoch,
}

impl fmt::Display for StandbyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.i{}.e{}", self.member.name, self.member.incarnation, self.epoch)
    }
}

impl FromStr for StandbyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::expected(text, "member.i<incarnation>.e<epoch>");
        let mut parts = text.split('.');
        let (Some(name), Some(incarnation), Some(epoch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        let name: MemberName = name.parse()?;
        let incarnation = incarnation.strip_prefix('i').ok_or_else(refused)?.parse()?;
        let epoch = epoch.strip_prefix('e').and_then(|n| n.parse().ok()).ok_or_else(refused)?;
        Ok(Self { member: MemberId::new(name, incarnation), epoch: Epoch(epoch) })
    }
}

impl TryFrom<String> for StandbyName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<StandbyName> for String {
    fn from(name: StandbyName) -> Self {
        name.to_string()
    }
}

/// A value of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyNames(Value);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Value {
    Blocked,
    Any { k: u32, names: BTreeSet<StandbyName> },
    Unguarded,
}

impl StandbyNames {
    /// Nobody can confirm: every commit at `synchronous_commit = on` waits.
    pub fn blocked() -> Self {
        Self(Value::Blocked)
    }

    /// `k` of these members confirm under `epoch`. Without members, or with k = 0, this is [`Self::blocked`].
    pub fn any(k: u32, members: &BTreeSet<MemberId>, epoch: Epoch) -> Self {
        if members.is_empty() || k == 0 {
            return Self::blocked();
        }
        let names = members.iter().map(|m| StandbyName { member: m.clone(), epoch }).collect();
        Self(Value::Any { k, names })
    }

    /// What the record lets its leader use: the listed members, nothing at all when it is pinned or asynchronous, and
    /// the blocked name while the leader is unestablished. The only way to the empty value.
    pub fn of_record(record: &SyncRecord) -> Self {
        if !record.is_established() {
            return Self::blocked();
        }
        match record.policy.kind {
            PolicyKind::Quorum => Self::any(record.policy.k, &record.policy.members, record.epoch),
            PolicyKind::Pinned | PolicyKind::Asynchronous => Self(Value::Unguarded),
        }
    }

    /// Whether commits wait for nobody.
    pub fn is_unguarded(&self) -> bool {
        matches!(self.0, Value::Unguarded)
    }

    /// Whether nobody can confirm.
    pub fn is_blocked(&self) -> bool {
        matches!(self.0, Value::Blocked)
    }

    /// The members that may confirm.
    pub fn members(&self) -> impl Iterator<Item = &StandbyName> {
        match &self.0 {
            Value::Any { names, .. } => Some(names.iter()),
            Value::Blocked | Value::Unguarded => None,
        }
        .into_iter()
        .flatten()
    }

    /// How many must confirm; 0 when commits wait for nobody.
    pub fn k(&self) -> u32 {
        match &self.0 {
            Value::Any { k, .. } => *k,
            Value::Blocked => 1,
            Value::Unguarded => 0,
        }
    }

    /// The text for PostgreSQL's configuration (without the outer quotes). Only `ANY`, only exact quoted names, never
    /// `*` (<https://www.postgresql.org/docs/current/runtime-config-replication.html>).
    pub fn setting(&self) -> String {
        match &self.0 {
            Value::Blocked => format!("ANY 1 (\"{BLOCKED_NAME}\")"),
            Value::Unguarded => String::new(),
            Value::Any { k, names } => {
                let names: Vec<_> = names.iter().map(|n| format!("\"{n}\"")).collect();
                format!("ANY {k} ({})", names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Incarnation;

    fn id(name: &str) -> MemberId {
        MemberId::new(name.parse().unwrap(), Incarnation(0xab))
    }

    #[test]
    fn names_carry_incarnation_and_epoch_and_fit_postgres() {
        let name = StandbyName {
            member: MemberId::new("x".repeat(30).parse().unwrap(), Incarnation(u32::MAX)),
            epoch: Epoch(u64::MAX),
        };
        assert!(name.to_string().len() < 64, "{name} would be cut");
        assert_eq!(name.to_string().parse::<StandbyName>().unwrap(), name);
    }

    #[test]
    fn no_members_or_no_acks_means_blocked_never_empty() {
        let nobody = BTreeSet::new();
        let two: BTreeSet<_> = [id("pg2"), id("pg3")].into();
        for names in [StandbyNames::any(1, &nobody, Epoch(1)), StandbyNames::any(0, &two, Epoch(1))] {
            assert_eq!(names.setting(), "ANY 1 (\"~blocked~\")");
        }
        assert_eq!(
            StandbyNames::any(1, &two, Epoch(7)).setting(),
            "ANY 1 (\"pg2.i000000ab.e7\",\"pg3.i000000ab.e7\")"
        );
    }
}
