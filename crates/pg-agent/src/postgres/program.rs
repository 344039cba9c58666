//! Runs a program of PostgreSQL: bounded, with a minimal environment and no secret among its arguments.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::Error;
use super::place::Place;

/// How much of a failed program's output is kept.
const KEPT_OUTPUT: usize = 4096;

/// One run.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    command: Command,
}

impl Program {
    /// `name` from the directory of PostgreSQL's programs.
    pub(crate) fn new(place: &Place, name: &'static str) -> Self {
        let mut command = Command::new(place.program(name));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .env("PGCONNECT_TIMEOUT", "5")
            .env("PGAPPNAME", "matriarch-agent")
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Self { name, command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Where it finds its password.
    pub(crate) fn passfile(mut self, path: &Path) -> Self {
        self.command.env("PGPASSFILE", path);
        self
    }

    /// Runs it to its end and returns what it printed. It is killed when `limit` passes, or when the future is dropped.
    pub(crate) async fn run(mut self, limit: Duration) -> Result<String, Error> {
        let name = self.name;
        let output = tokio::time::timeout(limit, self.command.output())
            .await
            .map_err(|_| Error::Timeout { operation: name, limit })?
            .map_err(|source| Error::File { operation: "run", path: name.into(), source })?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            tracing::debug!(program = name, output = %tail(&errors), "program ended");
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Program { program: name, detail: format!("{}: {}", output.status, tail(&errors)) })
    }
}

/// The end of a text, in one line.
pub(crate) fn tail(text: &str) -> String {
    let text = text.trim();
    let mut start = text.len().saturating_sub(KEPT_OUTPUT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].replace('\n', " | ")
}
