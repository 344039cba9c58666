//! Timeline history files in `pg_wal`, and placeholders for timelines that were reserved but never came to be.
//!
//! PostgreSQL picks the id of a new timeline by looking for history files: the first id without one. An id that another
//! leadership has reserved must not be used again, so before a promotion a placeholder stands in its place. A
//! placeholder branches off at 0/0, which no timeline can do: a running standby ignores it. A *starting* standby would
//! stop at it, so placeholders above the newest real timeline are removed before such a start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ha_core::{Lsn, Timeline};

use super::durable_file;
use super::error::Error;
use super::place::Place;

/// Which timeline ended where, oldest first.
pub(crate) type History = Vec<(Timeline, Lsn)>;

/// The history of a timeline; empty for the first one, and when its file is not here.
pub(crate) fn read(place: &Place, timeline: Timeline) -> History {
    fs::read_to_string(path(place, timeline)).map(|text| parse(&text)).unwrap_or_default()
}

/// The id that a promotion from `present` would get.
pub(crate) fn next_timeline(place: &Place, present: Timeline) -> Timeline {
    let mut next = present.next();
    while path(place, next).exists() {
        next = next.next();
    }
    next
}

/// Places a file for each of these ids that has none.
pub(crate) fn place_placeholders(place: &Place, present: Timeline, taken: &[Timeline]) -> Result<(), Error> {
    for timeline in taken.iter().filter(|timeline| **timeline > present) {
        let path = path(place, *timeline);
        if !path.exists() {
            let line = format!("{present}\t0/0\treserved by another leadership\n");
            durable_file::replace(&path, &line, 0o600)?;
        }
    }
    Ok(())
}

/// Removes the placeholders above the newest real timeline. Those below it stay: standbys that follow fetch every file
/// up to their primary's timeline.
pub(crate) fn remove_unused_placeholders(place: &Place) -> Result<(), Error> {
    let files = list(&place.data("pg_wal"));
    let newest_real = files.iter().rev().find(|(_, real)| **real).map(|(timeline, _)| *timeline);
    for (timeline, real) in files {
        if !real && newest_real.is_none_or(|newest| timeline > newest) {
            durable_file::remove(&path(place, timeline))?;
        }
    }
    Ok(())
}

/// All history files, and whether they are real.
fn list(directory: &Path) -> BTreeMap<Timeline, bool> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let digits = name.to_str()?.strip_suffix(".history").filter(|digits| digits.len() == 8)?;
            let timeline = Timeline(u32::from_str_radix(digits, 16).ok()?);
            let last = parse(&fs::read_to_string(entry.path()).ok()?).pop();
            Some((timeline, last.is_some_and(|(_, switch)| switch != Lsn(0))))
        })
        .collect()
}

fn path(place: &Place, timeline: Timeline) -> PathBuf {
    place.data(&format!("pg_wal/{:08X}.history", timeline.0))
}

fn parse(text: &str) -> History {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = Timeline(fields.next()?.parse().ok()?);
            Some((timeline, fields.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_lines_are_read_and_comments_skipped() {
        let text = "1\t0/3000158\tno recovery target specified\n\n# remark\n2\t0/5000000\tbefore x\n";
        assert_eq!(parse(text), [(Timeline(1), Lsn(0x0300_0158)), (Timeline(2), Lsn(0x0500_0000))]);
    }

    #[test]
    fn a_placeholder_is_told_from_a_real_history() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000002.history"), "1\t0/3000158\twhy\n").unwrap();
        fs::write(dir.path().join("0000000A.history"), "2\t0/0\treserved by another leadership\n").unwrap();
        fs::write(dir.path().join("000000010000000000000001"), "").unwrap();
        assert_eq!(list(dir.path()), BTreeMap::from([(Timeline(2), true), (Timeline(10), false)]));
    }
}
