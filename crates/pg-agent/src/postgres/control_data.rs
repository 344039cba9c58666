//! What `pg_controldata` prints (<https://www.postgresql.org/docs/current/app-pgcontroldata.html>).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Duration;

use ha_core::postgres_view::ControlState;
use ha_core::{Lsn, SystemId, Timeline};

use super::error::Error;
use super::place::Place;
use super::program::Program;

/// Reading one small file; a disk that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// The fields that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlData {
    /// Identifier of the data.
    pub(crate) system_id: SystemId,
    /// State at the last write.
    pub(crate) state: ControlState,
    /// Start of the latest checkpoint record.
    pub(crate) checkpoint: Lsn,
    /// Its timeline.
    pub(crate) timeline: Timeline,
    /// Minimum recovery ending location.
    pub(crate) minimum_recovery: Lsn,
    /// Timeline of that location; 0 when it is not set.
    pub(crate) minimum_recovery_timeline: Timeline,
    /// Bytes of a WAL segment.
    pub(crate) segment_size: u64,
    /// Bytes of a WAL page.
    pub(crate) page_size: u64,
    /// Values that a standby must not fall below.
    pub(crate) floors: Floors,
}

/// Settings of the primary that its standbys must at least have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Floors {
    /// `max_connections`.
    pub(crate) max_connections: u64,
    /// `max_worker_processes`.
    pub(crate) max_worker_processes: u64,
    /// `max_wal_senders`.
    pub(crate) max_wal_senders: u64,
    /// `max_prepared_transactions`.
    pub(crate) max_prepared_transactions: u64,
    /// `max_locks_per_transaction`.
    pub(crate) max_locks_per_transaction: u64,
}

impl Floors {
    /// Name, PostgreSQL's default, smallest value.
    pub(crate) fn list(&self) -> [(&'static str, u64, u64); 5] {
        [
            ("max_connections", 100, self.max_connections),
            ("max_worker_processes", 8, self.max_worker_processes),
            ("max_wal_senders", 10, self.max_wal_senders),
            ("max_prepared_transactions", 0, self.max_prepared_transactions),
            ("max_locks_per_transaction", 64, self.max_locks_per_transaction),
        ]
    }
}

/// Reads control data, running the program only when the control file has changed.
#[derive(Debug, Default)]
pub(crate) struct ControlDataReader {
    last: Mutex<Option<(FileMark, ControlData)>>,
}

/// Tells whether a file was written since.
type FileMark = (u64, u64, i64, i64);

impl ControlDataReader {
    /// The present control data.
    pub(crate) async fn read(&self, place: &Place) -> Result<ControlData, Error> {
        let path = place.data("global/pg_control");
        let meta = std::fs::metadata(&path).map_err(Error::file("read", &path))?;
        let mark = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        if let Some((known, data)) = &*self.last()
            && *known == mark
        {
            return Ok(data.clone());
        }
        let text =
            Program::new(place, "pg_controldata").arg("-D").arg(&place.paths.data_dir).run(LIMIT).await?;
        let data = parse(&text).map_err(Error::State)?;
        *self.last() = Some((mark, data.clone()));
        Ok(data)
    }

    /// The present control data, read again: file times are too coarse for a decision that follows a stop at once.
    pub(crate) async fn read_again(&self, place: &Place) -> Result<ControlData, Error> {
        *self.last() = None;
        self.read(place).await
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(FileMark, ControlData)>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads the program's output.
fn parse(text: &str) -> Result<ControlData, String> {
    let fields: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let field = |name: &str| {
        fields.get(name).copied().ok_or_else(|| format!("pg_controldata printed no line {name:?}"))
    };
    fn value<T: std::str::FromStr>(text: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("pg_controldata printed the value {text:?}"))
    }
    Ok(ControlData {
        system_id: SystemId(value(field("Database system identifier")?)?),
        state: match field("Database cluster state")? {
            "shut down" => ControlState::ShutDown,
            "shut down in recovery" => ControlState::ShutDownInRecovery,
            "in production" => ControlState::InProduction,
            "in archive recovery" => ControlState::InArchiveRecovery,
            _ => ControlState::Unclean,
        },
        checkpoint: value(field("Latest checkpoint location")?)?,
        timeline: Timeline(value(field("Latest checkpoint's TimeLineID")?)?),
        minimum_recovery: value(field("Minimum recovery ending location")?)?,
        minimum_recovery_timeline: Timeline(value(field("Min recovery ending loc's timeline")?)?),
        segment_size: value(field("Bytes per WAL segment")?)?,
        page_size: value(field("WAL block size")?)?,
        floors: Floors {
            max_connections: value(field("max_connections setting")?)?,
            max_worker_processes: value(field("max_worker_processes setting")?)?,
            max_wal_senders: value(field("max_wal_senders setting")?)?,
            max_prepared_transactions: value(field("max_prepared_xacts setting")?)?,
            max_locks_per_transaction: value(field("max_locks_per_xact setting")?)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
pg_control version number:            1300
Database system identifier:           7512345678901234567
Database cluster state:               shut down in recovery
pg_control last modified:             Sun 23 Nov 2025 02:05:00 PM UTC
Latest checkpoint location:           0/3000060
Latest checkpoint's TimeLineID:       4
Minimum recovery ending location:     0/30000D8
Min recovery ending loc's timeline:   5
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              12
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
WAL block size:                       8192
Bytes per WAL segment:                16777216
";

    #[test]
    fn the_printed_fields_are_read() {
        let data = parse(PRINTED).unwrap();
        assert_eq!(data.system_id, SystemId(7_512_345_678_901_234_567));
        assert_eq!(data.state, ControlState::ShutDownInRecovery);
        assert_eq!((data.checkpoint, data.timeline), (Lsn(0x0300_0060), Timeline(4)));
        assert_eq!((data.minimum_recovery, data.minimum_recovery_timeline), (Lsn(0x0300_00D8), Timeline(5)));
        assert_eq!((data.segment_size, data.page_size, data.floors.max_wal_senders), (16 << 20, 8192, 12));
    }

    #[test]
    fn a_missing_line_is_named() {
        let without = PRINTED.replace("WAL block size", "Something");
        assert_eq!(parse(&without).unwrap_err(), "pg_controldata printed no line \"WAL block size\"");
    }
}
