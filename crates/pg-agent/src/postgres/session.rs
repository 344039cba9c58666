//! Connections to the own server: over the unix socket, as superuser, never waiting for standbys unless asked to.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::error::Error;
use super::place::Place;

/// `application_name` of the agent's connections.
pub(crate) const APPLICATION_NAME: &str = "matriarch-agent";

/// How long the handshake may take: it needs a fork, no disk.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Whether commits of a session wait for standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// `synchronous_commit = local`: flushed here is enough. What the agent writes must not hang on the standbys.
    Local,
    /// `synchronous_commit = on`.
    Waits,
}

/// One connection; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// It is up and says that it does not accept connections yet or any more (SQLSTATE 57P03).
    NotReady,
    /// It is up and all connections are taken (53300). Never a reason to think it dead.
    Full,
    /// Nobody listens on the socket.
    Nobody,
    /// No answer, or another one.
    Other(Error),
}

impl NoSession {
    /// As an error of `operation`.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NotReady => Error::State("PostgreSQL does not accept connections yet".to_owned()),
            Self::Full => Error::State("PostgreSQL has no connection left".to_owned()),
            Self::Nobody => Error::State("nobody listens on PostgreSQL's socket".to_owned()),
            Self::Other(error) => error,
        }
    }
}

impl Session {
    /// Connects. `statement_limit` is enforced by the server; none = no limit.
    pub(crate) async fn connect(
        place: &Place,
        commit: Commit,
        statement_limit: Option<Duration>,
    ) -> Result<Self, NoSession> {
        let level = match commit {
            Commit::Local => "local",
            Commit::Waits => "on",
        };
        let limit_ms = statement_limit.map_or(0, |limit| limit.as_millis());
        let options = format!(
            "-c synchronous_commit={level} -c statement_timeout={limit_ms} -c lock_timeout=0 \
             -c default_transaction_read_only=off -c log_statement=none -c log_min_duration_statement=-1 \
             -c search_path=pg_catalog -c timezone=UTC -c datestyle=ISO"
        );
        let mut config = Config::new();
        config
            .host_path(&place.socket_dir)
            .port(place.port)
            .user(&place.superuser)
            .password(place.secrets.superuser_password.expose())
            .dbname("postgres")
            .application_name(APPLICATION_NAME)
            .options(options);
        let Ok(connected) = tokio::time::timeout(CONNECT_LIMIT, Box::pin(config.connect(NoTls))).await else {
            let error = Error::Timeout { operation: "connecting to PostgreSQL", limit: CONNECT_LIMIT };
            return Err(NoSession::Other(error));
        };
        let (client, connection) = connected.map_err(classify)?;
        let task = tokio::spawn(async move {
            // The end shows in the client; its reason is logged by whoever used it.
            drop(connection.await);
        });
        Ok(Self { client, task })
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The client, for prepared statements.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements; returns the first column of the first row.
    pub(crate) async fn value(
        &self,
        operation: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<Option<String>, Error> {
        let rows = self.rows(operation, sql, limit).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs statements; returns all rows as text.
    pub(crate) async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, Error> {
        let messages = tokio::time::timeout(limit, self.client.simple_query(sql))
            .await
            .map_err(|_| Error::Timeout { operation, limit })?
            .map_err(Error::sql(operation))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

fn classify(error: tokio_postgres::Error) -> NoSession {
    let state = error.code().map(|state| state.code().to_owned());
    match state.as_deref() {
        Some(state) => {
            says(state).unwrap_or_else(|| NoSession::Other(Error::sql("connecting to PostgreSQL")(error)))
        }
        None => {
            let io = std::error::Error::source(&error).and_then(|s| s.downcast_ref::<std::io::Error>());
            match io.map(std::io::Error::kind) {
                Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
                    NoSession::Nobody
                }
                _ => NoSession::Other(Error::sql("connecting to PostgreSQL")(error)),
            }
        }
    }
}

/// What a server that refuses a login says of itself by this SQLSTATE; none when it is about the login.
fn says(state: &str) -> Option<NoSession> {
    match state {
        "57P03" => Some(NoSession::NotReady),
        "53300" => Some(NoSession::Full),
        _ => None,
    }
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// A text as an SQL identifier.
pub(crate) fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_full_or_starting_is_not_dead() {
        assert!(matches!(says("53300"), Some(NoSession::Full)));
        assert!(matches!(says("57P03"), Some(NoSession::NotReady)));
        // A wrong password says nothing about the server's health either.
        assert!(says("28P01").is_none());
    }

    #[test]
    fn literals_and_identifiers_cannot_be_left() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
