//! `hactl guard`: what ends PostgreSQL on each member when its lease runs out, and what stands behind that.

use std::fmt::Write as _;

use ha_rpc::proto::GuardState;
use serde::Serialize;

use super::{json, red, right, shown, tsv_line, yaml, yes};
use crate::args::Format;
use crate::overview::{Member, Overview};

const COLUMNS: [&str; 6] = ["Member", "Role", "Armed", "Deadline in", "Layers", "Watchdog"];

/// One member's guard, as programs read it.
#[derive(Debug, Serialize)]
struct Document<'a> {
    member: &'a str,
    role: &'static str,
    /// Why its agent did not answer.
    unreachable: Option<&'a str>,
    guard_answers: bool,
    armed: bool,
    deadline_ms_left: Option<i64>,
    layers: &'a [String],
    degraded: &'a [String],
    watchdog: &'a str,
    /// While the device runs.
    watchdog_timeout_ms: Option<u64>,
}

/// The guards in the wanted format.
pub(crate) fn render(overview: &Overview, format: Format, colored: bool) -> anyhow::Result<String> {
    let nothing = GuardState::default();
    let documents: Vec<Document<'_>> =
        overview.members.iter().map(|member| document(member, &nothing)).collect();
    match format {
        Format::Table => Ok(text(&documents, colored)),
        Format::Json => json(&documents),
        Format::Yaml => yaml(&documents),
        Format::Tsv => Ok(tsv(&documents)),
    }
}

fn document<'a>(member: &'a Member, nothing: &'a GuardState) -> Document<'a> {
    let guard = member.answer.as_ref().ok().and_then(|reply| reply.guard.as_ref()).unwrap_or(nothing);
    Document {
        member: &member.name,
        role: member.role.title(),
        unreachable: member.answer.as_ref().err().map(String::as_str),
        guard_answers: guard.answers,
        armed: guard.armed,
        deadline_ms_left: guard.deadline_ms_left,
        layers: &guard.layers,
        degraded: &guard.degraded,
        watchdog: &guard.watchdog,
        watchdog_timeout_ms: guard.watchdog_timeout_ms,
    }
}

fn cells(one: &Document<'_>) -> [String; 6] {
    [
        one.member.to_owned(),
        one.role.to_owned(),
        yes(one.armed).to_owned(),
        shown(one.deadline_ms_left.map(|ms| format!("{ms} ms"))),
        one.layers.join(", "),
        match one.watchdog_timeout_ms {
            Some(ms) => format!("{}, resets {} s after the last ping", one.watchdog, ms / 1000),
            None => one.watchdog.to_owned(),
        },
    ]
}

fn text(documents: &[Document<'_>], colored: bool) -> String {
    let mut table = super::table(&COLUMNS);
    for one in documents {
        table.add_row(cells(one));
    }
    right(&mut table, [3]);
    let mut text = format!("{table}\n");
    for one in documents {
        for words in one.degraded {
            let note = red(&format!("! {}: {words}", one.member), colored);
            writeln!(text, " {note}").unwrap_or_default();
        }
        let silent = match one.unreachable {
            Some(why) => Some(why.to_owned()),
            None => (!one.guard_answers).then(|| "its guard does not answer".to_owned()),
        };
        if let Some(why) = silent {
            writeln!(text, " ? {}: {why}", one.member).unwrap_or_default();
        }
    }
    text
}

fn tsv(documents: &[Document<'_>]) -> String {
    let mut text = tsv_line(COLUMNS);
    for one in documents {
        text += &tsv_line(cells(one).iter().map(String::as_str));
    }
    text
}
