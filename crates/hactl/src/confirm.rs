//! The question before anything destructive.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::exit_code::{Code, Stop};

/// Asks on the terminal unless `yes` was given.
///
/// # Errors
/// With [`Code::NotConfirmed`] when the answer is not yes, or when there is no terminal to ask on.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let message = format!("{question}: there is no terminal to ask on; give --yes if this is meant");
        return Err(Stop::new(Code::NotConfirmed, message).into());
    }
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Stop::new(Code::NotConfirmed, "not confirmed, nothing was changed").into())
}
