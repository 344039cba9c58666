//! Who is who: cluster and member names, incarnations of a data directory, epochs and revisions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name {found:?} is not usable: expected {expected}")]
pub struct NameError {
    found: String,
    expected: &'static str,
}

impl NameError {
    pub(crate) fn expected(found: &str, expected: &'static str) -> Self {
        Self { found: found.to_owned(), expected }
    }
}

/// The longest member name. A synchronous standby announces itself as `member.i<8 hex>.e<epoch>` and PostgreSQL cuts
/// `application_name` at 63 bytes (NAMEDATALEN - 1); 30 leaves room for any 64-bit epoch.
const MEMBER_NAME_MAX: usize = 30;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $expected:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
                let all_good = text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
                if starts_well && all_good && text.len() <= $max {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError { found: text.to_owned(), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// Name of one cluster: part of the key prefix in etcd, of directories and of certificates.
    ClusterName,
    48,
    "1 to 48 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
);
name_type!(
    /// Name of one member (a database host), the same in the file, in etcd and in `synchronous_standby_names`.
    MemberName,
    MEMBER_NAME_MAX,
    "1 to 30 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
);

/// Identifies one life of a data directory. A clone, a rewind or a restore makes a new one, because the directory may
/// have lost write-ahead log that its predecessor had confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused =
            || NameError { found: text.to_owned(), expected: "an incarnation: 8 hexadecimal digits" };
        if text.len() != 8 {
            return Err(refused());
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| refused())
    }
}

impl TryFrom<String> for Incarnation {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

/// A member together with the incarnation of its data directory, written `pg1@7f3a1b2c`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberId {
    /// The member.
    pub name: MemberName,
    /// Which life of its data directory.
    pub incarnation: Incarnation,
}

impl MemberId {
    /// Pairs a name with an incarnation.
    pub fn new(name: MemberName, incarnation: Incarnation) -> Self {
        Self { name, incarnation }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.incarnation)
    }
}

impl FromStr for MemberId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, incarnation) = text
            .split_once('@')
            .ok_or_else(|| NameError { found: text.to_owned(), expected: "member@incarnation" })?;
        Ok(Self { name: name.parse()?, incarnation: incarnation.parse()? })
    }
}

impl TryFrom<String> for MemberId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<MemberId> for String {
    fn from(id: MemberId) -> Self {
        id.to_string()
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl $name {
            /// The following value.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number_type!(
    /// Number of a leadership; grows by one at each change of leader, decided in the sync record.
    Epoch,
    u64
);
number_type!(
    /// Counts the rewrites of the sync record, so that no two versions of it are equal.
    Generation,
    u64
);
number_type!(
    /// An etcd revision: `mod_revision` of a key, or the revision of the whole store. 0 means "key absent" in compares.
    Revision,
    u64
);

/// PostgreSQL's own identifier of the data of a cluster (`Database system identifier` of `pg_controldata`).
/// Written as decimal text in JSON, because many readers lose precision beyond 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TryFrom<String> for SystemId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse().map(Self).map_err(|_| NameError { found: text, expected: "a decimal system identifier" })
    }
}

impl From<SystemId> for String {
    fn from(id: SystemId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_break_paths_quoting_or_length() {
        for bad in ["", "PG1", "pg 1", "-pg", "pg.1", "pg/1", "pg\"1", &"x".repeat(31)] {
            assert!(bad.parse::<MemberName>().is_err(), "{bad:?} was accepted");
        }
        for good in ["pg1", "db-eu_1", "1", &"x".repeat(30)] {
            assert_eq!(good.parse::<MemberName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_member_id_reads_back_what_it_writes() {
        let id = MemberId::new("pg1".parse().unwrap(), Incarnation(0x00f3_a1b2));
        assert_eq!(id.to_string(), "pg1@00f3a1b2");
        assert_eq!(id.to_string().parse::<MemberId>().unwrap(), id);
        assert!("pg1".parse::<MemberId>().is_err());
        assert!("pg1@12".parse::<MemberId>().is_err());
    }
}
