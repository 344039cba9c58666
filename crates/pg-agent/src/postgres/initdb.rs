//! Makes a new database.

use std::time::Duration;

use ha_core::{Incarnation, Lsn, SystemId};
use ha_decision::ServerSettings;

use super::configure::FILES_LIMIT;
use super::error::Error;
use super::observe::is_empty;
use super::place::{INCARNATION_FILE, Place};
use super::program::Program;
use super::session::{Commit, Session, identifier, literal};
use super::{Postgres, base_backup, durable_file};

/// How long initdb may take; it writes some 40 MB and syncs them.
const INITDB_LIMIT: Duration = Duration::from_secs(300);
/// How long the roles may take.
const ROLES_LIMIT: Duration = Duration::from_secs(30);

impl Postgres {
    /// `initdb`, incarnation file, settings, start as a primary, roles. What an interrupted run left is moved aside.
    ///
    /// # Errors
    /// When a step fails; the job marker then says that the directory is not finished.
    pub async fn initialize(
        &self,
        incarnation: Incarnation,
        settings: &ServerSettings,
    ) -> Result<(SystemId, Lsn), Error> {
        self.blocking("preparing initdb", FILES_LIMIT, |postgres| {
            let place = &postgres.place;
            if !is_empty(&place.paths.data_dir)? {
                base_backup::move_aside(place)?;
            }
            durable_file::replace(&password_file(place), place.secrets.superuser_password.expose(), 0o600)
        })
        .await??;
        let made = self.run_initdb().await;
        self.blocking("removing the password file", FILES_LIMIT, |p| {
            durable_file::remove(&password_file(&p.place))
        })
        .await??;
        made?;
        self.write_incarnation(incarnation).await?;
        self.start(false, settings).await?;
        self.create_roles().await
    }

    async fn run_initdb(&self) -> Result<(), Error> {
        let place = &self.place;
        let mut program = Program::new(place, "initdb")
            .arg("--pgdata")
            .arg(&place.paths.data_dir)
            .arg(format!("--username={}", place.superuser))
            .args(["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8"])
            .arg("--pwfile")
            .arg(password_file(place));
        let chosen = |option: &str| place.initdb.iter().any(|arg| arg.starts_with(option));
        if !["--locale", "--no-locale", "--lc-"].iter().any(|option| chosen(option)) {
            // The environment is empty on purpose; C.UTF-8 sorts alike on every host.
            program = program.arg("--locale=C.UTF-8");
        }
        program.args(&place.initdb).run(INITDB_LIMIT).await.map(drop)
    }

    /// Writes the incarnation file, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write_incarnation(&self, incarnation: Incarnation) -> Result<(), Error> {
        self.blocking("writing the incarnation", FILES_LIMIT, move |postgres| {
            durable_file::replace(&postgres.place.data(INCARNATION_FILE), &format!("{incarnation}\n"), 0o600)
        })
        .await?
    }

    /// Creates the roles of replication and rewind without waiting for standbys, which do not exist yet.
    async fn create_roles(&self) -> Result<(SystemId, Lsn), Error> {
        let session = Session::connect(&self.place, Commit::Local, None).await.map_err(|e| e.into_error())?;
        session.rows("creating the roles", &roles_sql(&self.place), ROLES_LIMIT).await?;
        let row = session
            .rows(
                "reading the new database",
                "SELECT system_identifier, pg_current_wal_flush_lsn() FROM pg_control_system()",
                ROLES_LIMIT,
            )
            .await?;
        let field = |index: usize| row.first()?.get(index)?.clone();
        let system_id = field(0).and_then(|text| text.parse().ok()).map(SystemId);
        let flush = field(1).and_then(|text| text.parse().ok());
        system_id
            .zip(flush)
            .ok_or_else(|| Error::State("the new database did not tell its identifier".to_owned()))
    }
}

/// The roles with what pg_rewind needs (<https://www.postgresql.org/docs/current/app-pgrewind.html>). Passwords go as
/// SCRAM verifiers, so that no log and no statistics view ever holds them.
fn roles_sql(place: &Place) -> String {
    let verifier = |password: &str| literal(&postgres_protocol::password::scram_sha_256(password.as_bytes()));
    let replication = identifier(&place.replication_user);
    let rewind = identifier(&place.rewind_user);
    let mut sql = format!(
        "CREATE ROLE {replication} LOGIN REPLICATION PASSWORD {};",
        verifier(place.secrets.replication_password.expose())
    );
    if place.rewind_user != place.replication_user {
        sql += &format!(
            "CREATE ROLE {rewind} LOGIN PASSWORD {};",
            verifier(place.secrets.rewind_password.expose())
        );
    }
    for function in [
        "pg_ls_dir(text, boolean, boolean)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    ] {
        sql += &format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {rewind};");
    }
    sql
}

fn password_file(place: &Place) -> std::path::PathBuf {
    place.state_dir.join("initdb-password")
}
