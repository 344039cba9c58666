//! What the shell sees. The numbers are promised to scripts (`hactl --help`).

use std::io::Write as _;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done.
    Done = 0,
    /// Failed while running.
    Failed = 1,
    /// Wrong configuration or usage (clap's own code as well).
    Configuration = 2,
    /// An agent refused; nothing was changed.
    Refused = 3,
    /// Asked, and not answered with yes.
    NotConfirmed = 4,
    /// No agent could be reached.
    Unreachable = 5,
    /// The request was sent and its outcome is not known.
    Unknown = 6,
}

/// An error that knows its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    code: Code,
    message: String,
}

impl Stop {
    /// Ends the command with this code and message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Prints the error and its causes, if there is one, and gives the process's exit code.
pub(crate) fn report(outcome: anyhow::Result<Code>) -> ExitCode {
    let code = outcome.unwrap_or_else(|error| {
        // Standard error may be closed; there is no other place to say so.
        drop(writeln!(std::io::stderr(), "hactl: {error:#}"));
        code_of(&error)
    });
    ExitCode::from(code as u8)
}

/// The exit code of an error.
pub(crate) fn code_of(error: &anyhow::Error) -> Code {
    error
        .chain()
        .find_map(|cause| {
            let configuration = cause.is::<ha_config::Problems>().then_some(Code::Configuration);
            cause.downcast_ref::<Stop>().map(|stop| stop.code).or(configuration)
        })
        .unwrap_or(Code::Failed)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_code_survives_added_context() {
        let refused: anyhow::Result<Code> = Err(Stop::new(Code::Refused, "pg2 lags")).context("switchover");
        assert_eq!(code_of(&refused.unwrap_err()), Code::Refused);
        let problems = ha_config::parse("", std::path::Path::new("x")).unwrap_err();
        assert_eq!(code_of(&anyhow::Error::from(problems)), Code::Configuration);
        assert_eq!(code_of(&anyhow::anyhow!("other")), Code::Failed);
    }
}
