//! One observation of the directory, the processes and the server.

use std::time::{Duration, Instant};

use ha_core::postgres_view::{
    ControlState, DataDirectory, DataFacts, Instance, PostgresProcess, PostgresView,
};
use ha_core::{Incarnation, SystemId, Timeline};
use tokio_postgres::Statement;

use super::error::Error;
use super::place::{INCARNATION_FILE, INCLUDE_FILE, Place};
use super::process::{self, Postmaster, SaidState};
use super::query::{PENDING_RESTART, Row, STATEMENT};
use super::session::{Commit, NoSession, Session};
use super::{Postgres, config_file, timeline_history};

/// How long one observation of a running server may take; then it is silent.
const LIMIT: Duration = Duration::from_millis(1500);
/// Bound on the server's side, a little longer, so that the answer of a slow server is not lost for nothing.
const STATEMENT_LIMIT: Duration = Duration::from_secs(2);
/// How often files and all settings are compared with what was written.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// After so many unanswered statements the reserved connection is given up: it may be the only thing that hangs.
const UNANSWERED_MAX: u32 = 3;

/// The reserved connection, and what is remembered between observations.
#[derive(Debug)]
pub(crate) struct Reserved {
    session: Session,
    statement: Statement,
    unanswered: u32,
    compared: Option<Compared>,
}

/// Result of the slower comparison.
#[derive(Debug, Clone)]
struct Compared {
    at: Instant,
    /// Which write of the files it was compared with.
    writes: Option<u64>,
    pending_restart: Vec<String>,
    drifted_files: Vec<String>,
}

/// What REST and metrics show beyond the decider's view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerDetails {
    /// Start of the postmaster: text and seconds since 1970.
    pub started: Option<(String, f64)>,
    /// Standby: position written by the walreceiver, received or replayed, whichever is known.
    pub received: Option<ha_core::Lsn>,
    /// Standby: newest position that its upstream told.
    pub upstream_end: Option<ha_core::Lsn>,
    /// Standby: time of the last replayed commit: text and seconds since 1970.
    pub replay_time: Option<(String, f64)>,
    /// Standby: replay was paused by hand.
    pub replay_paused: bool,
    /// Standby: `streaming` or `in archive recovery`.
    pub replication_state: Option<&'static str>,
    /// Connected walsenders.
    pub senders: Vec<SenderDetails>,
}

/// One walsender as status pages show it.
#[derive(Debug, Clone, PartialEq)]
pub struct SenderDetails {
    /// Role.
    pub user: Option<String>,
    /// `application_name`.
    pub name: Option<String>,
    /// Client address.
    pub address: Option<String>,
    /// `state`.
    pub state: Option<String>,
    /// `sync_state`.
    pub sync_state: Option<String>,
    /// `sync_priority`.
    pub sync_priority: Option<u32>,
}

impl Postgres {
    /// Looks at everything once. Never fails and never takes longer than a few seconds: what cannot be seen is
    /// reported as such.
    pub async fn observe(&self) -> PostgresView {
        let at = ha_daemon::boottime();
        let files = self.blocking("looking at the data directory", LIMIT, |postgres| {
            let data_dir = &postgres.place.paths.data_dir;
            let postmaster = Postmaster::find(data_dir);
            let alive = postmaster.is_some() || process::any_alive(data_dir);
            (postmaster, process::said_state(data_dir), alive)
        });
        let (postmaster, said, alive) = match files.await {
            Ok(files) => files,
            Err(error) => {
                let data = DataDirectory::Unusable { found: error.to_string() };
                return view(at, data, PostgresProcess::Silent);
            }
        };
        let Some(postmaster) = postmaster else {
            *self.reserved.lock().await = None;
            let alive = alive || self.starter.is_populated().await.unwrap_or(false);
            let process = if alive { PostgresProcess::Starting } else { PostgresProcess::Stopped };
            let storage_failed = self.log_speaks_of_storage(*super::locked(&self.log_seen));
            return PostgresView { storage_failed, ..view(at, self.data_directory().await, process) };
        };
        self.end_watch.follow(&postmaster);
        match tokio::time::timeout(LIMIT, self.look()).await {
            Ok(Ok(row)) => self.running(at, &postmaster, row).await,
            Ok(Err(NoSession::Full)) => {
                let silent = view(at, self.data_directory().await, PostgresProcess::Silent);
                PostgresView { full: true, ..silent }
            }
            Ok(Err(reason)) => {
                let process = match reason {
                    NoSession::NotReady => PostgresProcess::Starting,
                    NoSession::Nobody if said == SaidState::Starting => PostgresProcess::Starting,
                    other => {
                        tracing::debug!(reason = ?other, "PostgreSQL gives no answer");
                        PostgresProcess::Silent
                    }
                };
                view(at, self.data_directory().await, process)
            }
            Err(_) => view(at, self.data_directory().await, PostgresProcess::Silent),
        }
    }

    /// Ends when the postmaster that was observed last has ended; never while none runs.
    pub async fn postmaster_ended(&self) {
        self.end_watch.ended().await;
    }

    /// What the last successful observation showed beyond the view.
    pub fn details(&self) -> ServerDetails {
        super::locked(&self.details).clone()
    }

    /// Asks the server through the reserved connection.
    pub(crate) async fn look(&self) -> Result<Row, NoSession> {
        let mut guard = self.reserved.lock().await;
        let reserved = match guard.take().filter(|reserved| !reserved.session.is_closed()) {
            Some(reserved) if reserved.unanswered < UNANSWERED_MAX => guard.insert(reserved),
            _ => guard.insert(Reserved::connect(&self.place).await?),
        };
        reserved.unanswered += 1;
        let mut answered = reserved.session.client().query_one(&reserved.statement, &[]).await;
        if answered.as_ref().is_err_and(|error| error.code().is_some()) && !reserved.session.is_closed() {
            // Some functions exist only on one side of a promotion; the second try is wholly behind it.
            answered = reserved.session.client().query_one(&reserved.statement, &[]).await;
        }
        let row = match answered.and_then(|row| row.try_get::<_, String>(0)) {
            Ok(row) => row,
            Err(error) => return Err(NoSession::Other(Error::sql("observing PostgreSQL")(error))),
        };
        reserved.unanswered = 0;
        serde_json::from_str(&row)
            .map_err(|error| NoSession::Other(Error::State(format!("observation not understood: {error}"))))
    }

    async fn running(&self, at: ha_core::MonoTime, postmaster: &Postmaster, row: Row) -> PostgresView {
        let compared = self.compare().await;
        let mut drifted = compared.drifted_files;
        drifted.extend(self.drifted_settings(&row));
        *super::locked(&self.details) = details(&row);
        let timeline = row.timeline();
        let files = self.blocking("reading the incarnation", LIMIT, move |postgres| {
            let place = &postgres.place;
            (timeline_history::read(place, timeline), read_incarnation(place), has_signal_file(place))
        });
        let Ok((history, incarnation, standby_signal)) = files.await else {
            let data = DataDirectory::Unusable { found: "the data directory does not answer".to_owned() };
            return view(at, data, PostgresProcess::Silent);
        };
        // What it logs from now on is about its end.
        *super::locked(&self.log_seen) = self.log_position();
        let process = PostgresProcess::Running(Box::new(Instance {
            life: postmaster.life,
            in_recovery: row.in_recovery,
            timeline,
            flush: row.flush.unwrap_or_default(),
            replay: row.replay.unwrap_or_default(),
            receiver: row.receiver(),
            senders: row.wal_senders(),
            standby_names: row.settings.get("synchronous_standby_names").cloned().unwrap_or_default(),
            drifted,
            pending_restart: compared.pending_restart,
            checkpoint_timeline: Timeline(row.checkpoint_timeline),
            history,
            version: row.version,
        }));
        let data = DataDirectory::Present(DataFacts {
            system_id: SystemId(row.system_id.parse().unwrap_or_default()),
            incarnation,
            state: if row.in_recovery { ControlState::InArchiveRecovery } else { ControlState::InProduction },
            timeline: Timeline(row.checkpoint_timeline),
            checkpoint: row.checkpoint,
            minimum_recovery: row.minimum_recovery,
            standby_signal,
        });
        view(at, data, process)
    }

    /// Names of settings whose value in the server is not what was last written. Empty while nothing was written yet.
    fn drifted_settings(&self, row: &Row) -> Vec<String> {
        let applied = super::locked(&self.applied);
        let Some(applied) = &*applied else { return Vec::new() };
        let owned = config_file::owned_values(&self.place, &applied.settings);
        config_file::WATCHED
            .iter()
            .filter(|name| row.settings.get(**name) != owned.get(**name))
            .map(|name| (*name).to_owned())
            .collect()
    }

    /// Compares files and asks for all settings, once a second.
    async fn compare(&self) -> Compared {
        let mut guard = self.reserved.lock().await;
        let Some(reserved) = guard.as_mut() else { return Compared::nothing() };
        let writes = self.writes.settled();
        if let Some(compared) = &reserved.compared
            && compared.at.elapsed() < COMPARE_EVERY
            && compared.writes == writes
        {
            return compared.clone();
        }
        let asked = reserved.session.value("reading settings", PENDING_RESTART, LIMIT).await;
        let pending_restart =
            asked.ok().flatten().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let drifted = self.blocking("comparing files", LIMIT, Self::drifted_files).await;
        let mut drifted_files = drifted.unwrap_or_default();
        if writes.is_none() || self.writes.settled() != writes {
            // The agent wrote meanwhile: half of what was compared is older than the other half.
            drifted_files.clear();
        }
        let compared = Compared { at: Instant::now(), writes, pending_restart, drifted_files };
        reserved.compared = Some(compared.clone());
        compared
    }

    fn drifted_files(&self) -> Vec<String> {
        let applied = super::locked(&self.applied);
        let Some(applied) = &*applied else { return Vec::new() };
        let user = super::locked(&self.user);
        let wanted = config_file::text(&config_file::values(&self.place, &user, &applied.settings));
        let mut drifted = config_file::overridden_in_auto_conf(&self.place);
        if std::fs::read_to_string(self.place.data(INCLUDE_FILE)).is_ok_and(|text| text != wanted) {
            drifted.push(INCLUDE_FILE.to_owned());
        }
        if super::access_file::differs(&self.place, &user, applied.settings.access) {
            drifted.push("pg_hba.conf".to_owned());
        }
        drifted
    }

    /// The directory as its files show it.
    pub(crate) async fn data_directory(&self) -> DataDirectory {
        let files = self.blocking("looking at the data directory", LIMIT, |postgres| {
            let place = &postgres.place;
            is_empty(&place.paths.data_dir)
                .map(|empty| (empty, read_incarnation(place), has_signal_file(place)))
        });
        let (incarnation, standby_signal) = match files.await.and_then(|files| files) {
            Ok((true, ..)) => return DataDirectory::Empty,
            Ok((false, incarnation, signal)) => (incarnation, signal),
            Err(error) => return DataDirectory::Unusable { found: error.to_string() },
        };
        match self.control.read(&self.place).await {
            Ok(control) => DataDirectory::Present(DataFacts {
                system_id: control.system_id,
                incarnation,
                state: control.state,
                timeline: control.timeline.max(control.minimum_recovery_timeline),
                checkpoint: control.checkpoint,
                minimum_recovery: control.minimum_recovery,
                standby_signal,
            }),
            Err(error) => DataDirectory::Unusable { found: error.to_string() },
        }
    }
}

fn view(at: ha_core::MonoTime, data: DataDirectory, process: PostgresProcess) -> PostgresView {
    PostgresView { at, data, process, full: false, storage_failed: false }
}

impl Compared {
    fn nothing() -> Self {
        Self { at: Instant::now(), writes: None, pending_restart: Vec::new(), drifted_files: Vec::new() }
    }
}

impl Reserved {
    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// The connection.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Connects and prepares the statement.
    pub(crate) async fn connect(place: &Place) -> Result<Self, NoSession> {
        let session = Session::connect(place, Commit::Local, Some(STATEMENT_LIMIT)).await?;
        let statement = session
            .client()
            .prepare(STATEMENT)
            .await
            .map_err(|error| NoSession::Other(Error::sql("preparing the observation")(error)))?;
        Ok(Self { session, statement, unanswered: 0, compared: None })
    }
}

fn details(row: &Row) -> ServerDetails {
    let receiver = row.receiver.as_ref();
    let streaming = receiver.is_some_and(|receiver| receiver.status.as_deref() == Some("streaming"));
    ServerDetails {
        started: Some((row.started.clone(), row.started_epoch)),
        received: receiver.and_then(|receiver| receiver.written).or(row.received).or(row.replay),
        upstream_end: receiver.and_then(|receiver| receiver.latest_end),
        replay_time: row.replay_time.clone().zip(row.replay_epoch),
        replay_paused: row.replay_paused,
        replication_state: row.in_recovery.then_some(if streaming {
            "streaming"
        } else {
            "in archive recovery"
        }),
        senders: row
            .senders
            .iter()
            .map(|sender| SenderDetails {
                user: sender.user.clone(),
                name: sender.name.clone(),
                address: sender.address.clone(),
                state: sender.state.clone(),
                sync_state: sender.sync_state.clone(),
                sync_priority: sender.sync_priority,
            })
            .collect(),
    }
}

/// The incarnation file of the directory.
pub(crate) fn read_incarnation(place: &Place) -> Option<Incarnation> {
    std::fs::read_to_string(place.data(INCARNATION_FILE)).ok()?.trim().parse().ok()
}

fn has_signal_file(place: &Place) -> bool {
    ["standby.signal", "recovery.signal"].iter().any(|name| place.data(name).exists())
}

/// Whether a directory is missing or empty.
pub(crate) fn is_empty(directory: &std::path::Path) -> Result<bool, Error> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::file("list", directory)(error)),
    }
}
