//! `hactl history`: the changes of leadership, oldest first.

use ha_core::Lsn;
use ha_rpc::proto::HistoryEntry;
use serde::Serialize;

use super::{json, right, shown, tsv_line, yaml};
use crate::args::Format;

const COLUMNS: [&str; 6] = ["Epoch", "TL", "From LSN", "Leader", "When", "Reason"];

#[derive(Debug, Serialize)]
struct Row<'a> {
    epoch: u64,
    timeline: u32,
    /// End of the timeline before.
    from_lsn: Option<String>,
    leader: &'a str,
    /// When it was decided, RFC 3339.
    at: Option<&'a str>,
    reason: &'a str,
}

/// The entries in the wanted format.
pub(crate) fn render(entries: &[HistoryEntry], format: Format) -> anyhow::Result<String> {
    let rows: Vec<Row<'_>> = entries.iter().map(row).collect();
    match format {
        Format::Table if rows.is_empty() => Ok("No leadership yet\n".to_owned()),
        Format::Table => {
            let mut table = super::table(&COLUMNS);
            for row in &rows {
                table.add_row(cells(row));
            }
            right(&mut table, 0..=2);
            Ok(format!("{table}\n"))
        }
        Format::Json => json(&rows),
        Format::Yaml => yaml(&rows),
        Format::Tsv => {
            let lines = rows.iter().map(|row| tsv_line(cells(row).iter().map(String::as_str)));
            Ok(tsv_line(COLUMNS) + &lines.collect::<String>())
        }
    }
}

fn row(entry: &HistoryEntry) -> Row<'_> {
    Row {
        epoch: entry.epoch,
        timeline: entry.timeline,
        from_lsn: entry.from_lsn.map(|lsn| Lsn(lsn).to_string()),
        leader: &entry.leader,
        at: (!entry.at.is_empty()).then_some(entry.at.as_str()),
        reason: &entry.reason,
    }
}

fn cells(row: &Row<'_>) -> [String; 6] {
    [
        row.epoch.to_string(),
        row.timeline.to_string(),
        row.from_lsn.clone().unwrap_or_default(),
        row.leader.to_owned(),
        shown(row.at),
        row.reason.to_owned(),
    ]
}
