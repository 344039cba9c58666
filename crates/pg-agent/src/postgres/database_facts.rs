//! What is asked of the server once a minute for people's sake, never for a decision.

use std::time::Duration;

use serde::Deserialize;

use super::Postgres;
use super::error::Error;
use super::session::{Commit, Session};

/// Bound of the question, on both sides.
const LIMIT: Duration = Duration::from_secs(5);

/// Everything as one JSON text; works on standbys, and in PostgreSQL 14 to 18. A collation's recorded version came with the data,
/// the actual one is this host's.
const STATEMENT: &str = r"
SELECT json_build_object(
 'version', current_setting('server_version_num')::int,
 'weak_commits', (SELECT coalesce(json_agg(who ORDER BY who), '[]') FROM (
     SELECT concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname) AS who
     FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
          unnest(s.setconfig) AS c(setting)
     WHERE lower(c.setting) ~ '^synchronous_commit=(off|false|no|0|local|remote_write)$') AS weak),
 'endangered_slots', (SELECT coalesce(json_agg(json_build_object('name', slot_name, 'status', wal_status) ORDER BY slot_name), '[]')
     FROM pg_replication_slots WHERE wal_status IN ('unreserved', 'lost')),
 'old_prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE prepared < now() - interval '5 minutes'),
 'changed_collations', (SELECT coalesce(json_agg(changed), '[]') FROM (
     SELECT DISTINCT CASE collprovider WHEN 'i' THEN 'ICU' WHEN 'c' THEN 'libc' ELSE collprovider::text END AS provider,
            collversion AS recorded, pg_collation_actual_version(oid) AS here
     FROM pg_collation WHERE collversion IS NOT NULL AND pg_collation_actual_version(oid) <> collversion) AS changed)
)::text";

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DatabaseFacts {
    /// `server_version_num`.
    pub version: u32,
    /// Roles and databases whose own settings put `synchronous_commit` below `on`, in words.
    pub weak_commits: Vec<String>,
    /// Slots whose `wal_status` is `unreserved` or `lost`.
    pub endangered_slots: Vec<EndangeredSlot>,
    /// Prepared transactions older than five minutes.
    pub old_prepared: u64,
    /// Libraries that sort by another version than the data was made with.
    pub changed_collations: Vec<ChangedCollation>,
}

/// A slot that cannot keep what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EndangeredSlot {
    /// `slot_name`.
    pub name: String,
    /// `wal_status`.
    pub status: String,
}

/// Versions of one library of collations.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChangedCollation {
    /// `libc` or `ICU`.
    pub provider: String,
    /// Version that the catalogue recorded.
    pub recorded: String,
    /// Version on this host.
    pub here: String,
}

impl Postgres {
    /// Asks on a connection of its own, so that the reserved one goes on observing.
    ///
    /// # Errors
    /// When the server gives no answer in time.
    pub async fn database_facts(&self) -> Result<DatabaseFacts, Error> {
        let session =
            Session::connect(&self.place, Commit::Local, Some(LIMIT)).await.map_err(|e| e.into_error())?;
        let answer = session.value("looking at the database", STATEMENT, LIMIT).await?.unwrap_or_default();
        serde_json::from_str(&answer)
            .map_err(|error| Error::State(format!("what the database says is not understood: {error}")))
    }
}
