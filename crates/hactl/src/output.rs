//! How results are written: for people, and for programs.

pub(crate) mod document;
pub(crate) mod guard;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod proxy;
pub(crate) mod routes;
pub(crate) mod status;
pub(crate) mod topology;
pub(crate) mod vip;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, Table, presets};
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

/// A table as all commands draw it.
fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_FULL_CONDENSED).set_header(columns);
    table
}

/// Numbers stand at the right of these columns.
fn right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A length of time as people say it: two digits are enough.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{:.1} s", std::time::Duration::from_millis(ms).as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `yes` or `no`.
fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// A value, or nothing.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
