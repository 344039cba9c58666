//! What a commit must wait for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::NameError;

/// The wanted durability of acknowledged commits (`[replication] mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicationMode {
    /// k standbys confirm each commit. Without any standby the leader pins itself and goes on alone.
    Synchronous,
    /// k standbys confirm each commit. Without them writes wait.
    Strict,
    /// Nobody confirms; a failover may lose the last commits.
    Asynchronous,
}

impl ReplicationMode {
    /// Whether commits wait for standbys.
    pub fn waits_for_standbys(self) -> bool {
        !matches!(self, Self::Asynchronous)
    }
}

impl fmt::Display for ReplicationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synchronous => "synchronous",
            Self::Strict => "strict",
            Self::Asynchronous => "asynchronous",
        })
    }
}

impl FromStr for ReplicationMode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "synchronous" => Ok(Self::Synchronous),
            "strict" => Ok(Self::Strict),
            "asynchronous" => Ok(Self::Asynchronous),
            _ => Err(NameError::expected(text, "\"synchronous\", \"strict\" or \"asynchronous\"")),
        }
    }
}
