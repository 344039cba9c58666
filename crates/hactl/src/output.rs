//! How results are written: for people, and for programs.

pub(crate) mod document;
pub(crate) mod list;
pub(crate) mod status;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

/// Whether red may be red: only on a terminal, and not against the user's wish (<https://no-color.org>).
pub(crate) fn colored() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a human must not overlook.
fn red(text: &str, colored: bool) -> String {
    if colored { format!("\u{1b}[1;31m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Writes text that ends with a line break to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_yaml_ng::to_string(value)?)
}

/// One line; what would break it is a blank.
fn tsv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect();
    cells.join("\t") + "\n"
}
