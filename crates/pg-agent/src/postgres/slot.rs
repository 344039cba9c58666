//! Physical slots for the other members, on every member: whoever leads next has them already.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::slot_name::slot_name;
use ha_core::{Lsn, MemberName};

use super::Postgres;
use super::error::Error;
use super::session::{Commit, Session, literal};

/// Creating a slot reserves WAL and syncs a directory.
const LIMIT: Duration = Duration::from_secs(10);
const LIST: &str = "SELECT pg_is_in_recovery(), slot_name, active, restart_lsn, coalesce(wal_status = 'lost', false), \
    xmin IS NOT NULL FROM (SELECT 1) one LEFT JOIN pg_replication_slots ON slot_type = 'physical' AND slot_name LIKE 'm\\_%'";

/// A slot of a member.
#[derive(Debug)]
struct Slot {
    active: bool,
    restart: Option<Lsn>,
    lost: bool,
    holds_rows: bool,
}

impl Postgres {
    /// Creates missing slots, advances inactive ones on a standby to what the member has confirmed, drops those of
    /// unknown members and unusable ones. Slots whose name does not begin with `m_` are nobody's business here.
    ///
    /// # Errors
    /// The first failure; the other slots are still kept.
    pub async fn keep_slots(&self, members: &[(MemberName, Option<Lsn>)]) -> Result<(), Error> {
        if !self.place.slots {
            return Ok(());
        }
        let session =
            Session::connect(&self.place, Commit::Local, Some(LIMIT)).await.map_err(|e| e.into_error())?;
        let (in_recovery, present) = list(&session).await?;
        let wanted: BTreeMap<String, Option<Lsn>> =
            members.iter().map(|(member, flush)| (slot_name(member), *flush)).collect();
        let mut statements = Vec::new();
        for (name, slot) in &present {
            // On a standby an inactive slot that holds rows back would do so for ever after a promotion.
            let useless = slot.lost || (in_recovery && slot.holds_rows) || !wanted.contains_key(name);
            if useless && !slot.active {
                statements.push(format!("SELECT pg_drop_replication_slot({})", literal(name)));
            }
        }
        for (name, confirmed) in &wanted {
            match present.get(name) {
                None => statements.push(create(name)),
                Some(slot) if slot.lost && !slot.active => statements.push(create(name)),
                Some(slot) if in_recovery && !slot.active && *confirmed > slot.restart => {
                    let to = confirmed.unwrap_or_default();
                    statements.push(format!(
                        "SELECT pg_replication_slot_advance({}, least('{to}'::pg_lsn, pg_last_wal_replay_lsn()))",
                        literal(name)
                    ));
                }
                Some(_) => {}
            }
        }
        let mut first_error = None;
        for statement in statements {
            if let Err(error) = session.rows("keeping slots", &statement, LIMIT).await {
                tracing::debug!(%error, statement, "slot not kept");
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

fn create(name: &str) -> String {
    format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name))
}

async fn list(session: &Session) -> Result<(bool, BTreeMap<String, Slot>), Error> {
    let rows = session.rows("listing slots", LIST, LIMIT).await?;
    let is_true = |value: Option<&Option<String>>| value.is_some_and(|v| v.as_deref() == Some("t"));
    let in_recovery = rows.first().is_some_and(|row| is_true(row.first()));
    let slots = rows.into_iter().filter_map(|row| {
        let slot = Slot {
            active: is_true(row.get(2)),
            restart: row.get(3)?.as_ref().and_then(|lsn| lsn.parse().ok()),
            lost: is_true(row.get(4)),
            holds_rows: is_true(row.get(5)),
        };
        Some((row.get(1)?.clone()?, slot))
    });
    Ok((in_recovery, slots.collect()))
}
