//! `hactl history`: the changes of leadership, oldest first, and how each of them went.

use std::collections::BTreeMap;

use ha_core::Lsn;
use ha_core::phases::trigger_in_short;
use ha_rpc::proto::{HistoryEntry, LeadershipPhases};
use serde::Serialize;

use super::{json, right, shown, tsv_line, yaml};
use crate::args::Format;

/// What people look at; the rest is in the other formats.
const COLUMNS: [&str; 12] = [
    "TL", "Epoch", "Leader", "When", "Stop", "Detect", "Decide", "Promote", "Reattach", "Reroute", "Total",
    "Why",
];
/// New columns come last, so that scripts that count columns go on working.
const TSV_COLUMNS: [&str; 16] = [
    "Epoch",
    "TL",
    "From LSN",
    "Leader",
    "When",
    "Reason",
    "Trigger",
    "Checkpoint ms",
    "Hold ms",
    "Stop ms",
    "Detect ms",
    "Decide ms",
    "Promote ms",
    "Reattach ms",
    "Reroute ms",
    "Total ms",
];

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
    phases: Option<Phases<'a>>,
}

/// Lengths in ms; absent: did not happen, or was not over when the record was completed.
#[derive(Debug, Serialize)]
struct Phases<'a> {
    trigger: &'a str,
    checkpoint_ms: Option<u64>,
    hold_ms: Option<u64>,
    stop_ms: Option<u64>,
    detect_ms: Option<u64>,
    decide_ms: Option<u64>,
    promote_ms: Option<u64>,
    reattach_ms: Option<u64>,
    reroute_ms: Option<u64>,
    total_ms: Option<u64>,
    agent_silent_ms: Option<u64>,
    wal_silent_ms: Option<u64>,
    promises_ms: BTreeMap<&'a str, u64>,
    refusals: BTreeMap<&'a str, &'a str>,
    proxies: Option<u32>,
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
            right(&mut table, [0, 1].into_iter().chain(4..=10));
            Ok(format!("{table}\n"))
        }
        Format::Json => json(&rows),
        Format::Yaml => yaml(&rows),
        Format::Tsv => {
            let lines = rows.iter().map(|row| tsv_line(tsv_cells(row).iter().map(String::as_str)));
            Ok(tsv_line(TSV_COLUMNS) + &lines.collect::<String>())
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
        phases: entry.phases.as_ref().map(phases),
    }
}

fn phases(told: &LeadershipPhases) -> Phases<'_> {
    Phases {
        trigger: &told.trigger,
        checkpoint_ms: told.checkpoint_ms,
        hold_ms: told.hold_ms,
        stop_ms: told.stop_ms,
        detect_ms: told.detect_ms,
        decide_ms: told.decide_ms,
        promote_ms: told.promote_ms,
        reattach_ms: told.reattach_ms,
        reroute_ms: told.reroute_ms,
        total_ms: told.total_ms,
        agent_silent_ms: told.agent_silent_ms,
        wal_silent_ms: told.wal_silent_ms,
        promises_ms: told.promises.iter().map(|(who, ms)| (who.as_str(), *ms)).collect(),
        refusals: told.refusals.iter().map(|(who, why)| (who.as_str(), why.as_str())).collect(),
        proxies: told.proxies,
    }
}

fn cells(row: &Row<'_>) -> [String; 12] {
    let of = |phase: fn(&Phases<'_>) -> Option<u64>| row.phases.as_ref().and_then(phase).map(seconds);
    [
        row.timeline.to_string(),
        row.epoch.to_string(),
        row.leader.to_owned(),
        row.at.map(to_the_second).unwrap_or_default(),
        shown(of(|p| p.stop_ms)),
        shown(of(|p| p.detect_ms)),
        shown(of(|p| p.decide_ms)),
        shown(of(|p| p.promote_ms)),
        shown(of(|p| p.reattach_ms)),
        shown(of(|p| p.reroute_ms)),
        shown(of(|p| p.total_ms)),
        why(row),
    ]
}

/// In few words where it is known what began it; otherwise what the record says.
fn why(row: &Row<'_>) -> String {
    match &row.phases {
        Some(phases) if phases.stop_ms.is_some() => "switchover".to_owned(),
        Some(phases) if !phases.trigger.is_empty() => trigger_in_short(phases.trigger).to_owned(),
        _ => row.reason.to_owned(),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
}

/// RFC 3339 without the fraction.
fn to_the_second(at: &str) -> String {
    match at.split_once('.') {
        Some((second, fraction)) => {
            second.to_owned() + fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        None => at.to_owned(),
    }
}

fn tsv_cells(row: &Row<'_>) -> [String; 16] {
    let phases = row.phases.as_ref();
    let of = |phase: fn(&Phases<'_>) -> Option<u64>| shown(phases.and_then(phase));
    [
        row.epoch.to_string(),
        row.timeline.to_string(),
        row.from_lsn.clone().unwrap_or_default(),
        row.leader.to_owned(),
        shown(row.at),
        row.reason.to_owned(),
        shown(phases.map(|p| p.trigger)),
        of(|p| p.checkpoint_ms),
        of(|p| p.hold_ms),
        of(|p| p.stop_ms),
        of(|p| p.detect_ms),
        of(|p| p.decide_ms),
        of(|p| p.promote_ms),
        of(|p| p.reattach_ms),
        of(|p| p.reroute_ms),
        of(|p| p.total_ms),
    ]
}
