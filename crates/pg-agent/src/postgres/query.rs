//! The one statement that tells how the server is.

use std::collections::BTreeMap;

use ha_core::postgres_view::{WalReceiver, WalSender};
use ha_core::standby_names::StandbyName;
use ha_core::{Lsn, Timeline};
use serde::Deserialize;

/// Everything at once, as one JSON text. Functions that exist only in one of the two roles stand in `CASE` branches. The
/// WAL directory is listed only while no walreceiver tells the timeline; it is the only place that shows the timeline of
/// received but not yet replayed WAL then.
pub(crate) const STATEMENT: &str = r"
WITH r AS MATERIALIZED (SELECT pg_is_in_recovery() AS rec),
     w AS MATERIALIZED (SELECT * FROM pg_stat_wal_receiver),
     a AS MATERIALIZED (SELECT pid, backend_type, wait_event FROM pg_stat_activity
                        WHERE backend_type IN ('walreceiver', 'startup'))
SELECT json_build_object(
 'in_recovery', r.rec,
 'flush', CASE WHEN r.rec THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_flush_lsn() END,
 'received', CASE WHEN r.rec THEN pg_last_wal_receive_lsn() END,
 'replay', CASE WHEN r.rec THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
 'replay_paused', CASE WHEN r.rec THEN pg_is_wal_replay_paused() ELSE false END,
 'replay_time', CASE WHEN r.rec THEN to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00:00') END,
 'replay_epoch', CASE WHEN r.rec THEN extract(epoch FROM pg_last_xact_replay_timestamp()) END,
 'primary_timeline', CASE WHEN NOT r.rec THEN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
 'wal_timeline', CASE WHEN r.rec AND NOT EXISTS (SELECT FROM w) THEN
    (SELECT ('x' || max(substr(name, 1, 8)))::bit(32)::int FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$') END,
 'checkpoint', c.checkpoint_lsn,
 'checkpoint_timeline', c.timeline_id,
 'minimum_recovery', m.min_recovery_end_lsn,
 'minimum_recovery_timeline', m.min_recovery_end_timeline,
 'system_id', s.system_identifier::text,
 'receiver', (SELECT json_build_object('pid', pid, 'status', status, 'timeline', received_tli, 'written', written_lsn,
     'latest_end', latest_end_lsn, 'conninfo', conninfo,
     'age_ms', (extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint) FROM w),
 'receiver_pid', (SELECT pid FROM a WHERE backend_type = 'walreceiver' LIMIT 1),
 'startup_wait', (SELECT wait_event FROM a WHERE backend_type = 'startup' LIMIT 1),
 'senders', (SELECT coalesce(json_agg(json_build_object('pid', pid, 'user', usename, 'name', application_name,
     'address', host(client_addr), 'state', state, 'flush', flush_lsn, 'sync_state', sync_state,
     'sync_priority', sync_priority,
     'reply_mark', (extract(epoch FROM reply_time) * 1000000)::bigint)), '[]') FROM pg_stat_replication),
 'settings', json_build_object(
     'synchronous_standby_names', current_setting('synchronous_standby_names'),
     'primary_conninfo', current_setting('primary_conninfo'),
     'primary_slot_name', current_setting('primary_slot_name'),
     'restore_command', current_setting('restore_command')),
 'version', current_setting('server_version_num')::int,
 'started', to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00:00'),
 'started_epoch', extract(epoch FROM pg_postmaster_start_time())
)::text
FROM r, pg_control_checkpoint() c, pg_control_recovery() m, pg_control_system() s";

/// Parameters that wait for a restart; reads every setting, so it is asked less often.
pub(crate) const PENDING_RESTART: &str =
    "SELECT coalesce(json_agg(name ORDER BY name), '[]')::text FROM pg_settings WHERE pending_restart";

/// One row of [`STATEMENT`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Row {
    pub(crate) in_recovery: bool,
    pub(crate) flush: Option<Lsn>,
    pub(crate) received: Option<Lsn>,
    pub(crate) replay: Option<Lsn>,
    pub(crate) replay_paused: bool,
    pub(crate) replay_time: Option<String>,
    pub(crate) replay_epoch: Option<f64>,
    primary_timeline: Option<u32>,
    wal_timeline: Option<u32>,
    pub(crate) checkpoint: Lsn,
    pub(crate) checkpoint_timeline: u32,
    pub(crate) minimum_recovery: Lsn,
    minimum_recovery_timeline: u32,
    pub(crate) system_id: String,
    pub(crate) receiver: Option<ReceiverRow>,
    pub(crate) receiver_pid: Option<u32>,
    pub(crate) startup_wait: Option<String>,
    pub(crate) senders: Vec<SenderRow>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) version: u32,
    pub(crate) started: String,
    pub(crate) started_epoch: f64,
}

/// `pg_stat_wal_receiver`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ReceiverRow {
    pid: u32,
    pub(crate) status: Option<String>,
    timeline: Option<u32>,
    pub(crate) written: Option<Lsn>,
    pub(crate) latest_end: Option<Lsn>,
    conninfo: Option<String>,
    age_ms: Option<i64>,
}

/// `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct SenderRow {
    pub(crate) pid: u32,
    pub(crate) user: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) state: Option<String>,
    flush: Option<Lsn>,
    pub(crate) sync_state: Option<String>,
    pub(crate) sync_priority: Option<u32>,
    reply_mark: Option<i64>,
}

impl Row {
    /// Primary: the timeline that it writes. Standby: of the received WAL, or the newest that is on disk.
    pub(crate) fn timeline(&self) -> Timeline {
        let on_disk = self.wal_timeline.unwrap_or(0);
        let received = self.receiver.as_ref().and_then(|receiver| receiver.timeline).unwrap_or(0);
        let known = [self.checkpoint_timeline, self.minimum_recovery_timeline, on_disk, received];
        Timeline(self.primary_timeline.unwrap_or_else(|| known.into_iter().max().unwrap_or(0)))
    }

    /// Whether a standby's position can only grow by new WAL from an upstream: everything received is replayed, or the
    /// startup process waits for more.
    pub(crate) fn is_parked(&self) -> bool {
        let replayed_all = self.received.is_some() && self.replay >= self.received;
        let waits = matches!(
            self.startup_wait.as_deref(),
            Some("RecoveryWalStream" | "RecoveryRetrieveRetryInterval")
        );
        replayed_all || waits
    }

    pub(crate) fn receiver(&self) -> Option<WalReceiver> {
        let row = self.receiver.as_ref();
        Some(WalReceiver {
            pid: row.map(|row| row.pid).or(self.receiver_pid)?,
            streaming: row.is_some_and(|row| row.status.as_deref() == Some("streaming")),
            epoch: row.and_then(|row| announced(row.conninfo.as_deref()?)).map(|name| name.epoch),
            last_message_age_ms: row
                .and_then(|row| row.age_ms)
                .map_or(0, |age| u64::try_from(age).unwrap_or_default()),
        })
    }

    pub(crate) fn wal_senders(&self) -> Vec<WalSender> {
        let sender = |row: &SenderRow| WalSender {
            pid: row.pid,
            name: row.name.as_ref().and_then(|name| name.parse().ok()),
            streaming: row.state.as_deref() == Some("streaming"),
            flush: row.flush.unwrap_or_default(),
            sync_priority: row.sync_priority.unwrap_or(0),
            reply_mark: row.reply_mark.and_then(|mark| u64::try_from(mark).ok()).unwrap_or(0),
        };
        self.senders.iter().map(sender).collect()
    }
}

/// The standby name in a connection string, as libpq shows it.
fn announced(conninfo: &str) -> Option<StandbyName> {
    let (_, rest) = conninfo.split_once("application_name=")?;
    rest.split_whitespace().next()?.trim_matches('\'').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_stands_in_the_connection_string() {
        let shown = "user=replicator passfile=/x/e7.pg1 application_name=pg2.i000000ab.e7 port=5432";
        assert_eq!(announced(shown).unwrap().epoch.0, 7);
        assert!(announced("user=replicator application_name=walreceiver").is_none());
    }
}
