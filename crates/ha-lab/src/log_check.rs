//! An unexpected ERROR in a daemon's log fails the test that caused it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::lab_dir::PROGRAMS;

/// How long each log was at some moment.
#[derive(Debug, Clone, Default)]
pub struct LogMarks(BTreeMap<(String, String), usize>);

impl LogMarks {
    /// The logs as they are now.
    pub fn now(lab: &Lab) -> Self {
        let length = |host: &str, daemon: &str| {
            let log = fs::metadata(lab.dir().log(host, daemon));
            log.map_or(0, |log| usize::try_from(log.len()).unwrap_or(usize::MAX))
        };
        Self(
            ours(lab)
                .map(|(host, daemon)| ((host.to_owned(), daemon.to_owned()), length(host, daemon)))
                .collect(),
        )
    }
}

/// A line that a daemon logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// On which host.
    pub host: String,
    /// Which daemon.
    pub daemon: String,
    /// The line.
    pub text: String,
}

/// What our daemons logged after a moment.
pub fn lines_after(lab: &Lab, marks: &LogMarks) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for (host, daemon) in ours(lab) {
        let text = fs::read_to_string(lab.dir().log(host, daemon)).unwrap_or_default();
        let after = marks.0.get(&(host.to_owned(), daemon.to_owned())).copied().unwrap_or(0);
        lines.extend(text.get(after..).unwrap_or_default().lines().map(|line| LogLine {
            host: host.to_owned(),
            daemon: daemon.to_owned(),
            text: line.to_owned(),
        }));
    }
    lines
}

/// Reads all logs of our daemons.
///
/// # Errors
/// A line of level ERROR (or a panic) contains none of the `expected` texts. The message lists all such lines.
pub fn check_logs(lab: &Lab, expected: &[&str]) -> Result<()> {
    check_logs_after(lab, &LogMarks::default(), expected)
}

/// Reads what was logged after a moment.
///
/// # Errors
/// As [`check_logs`].
pub fn check_logs_after(lab: &Lab, marks: &LogMarks, expected: &[&str]) -> Result<()> {
    let lines = lines_after(lab, marks).into_iter().filter(|line| is_unexpected(&line.text, expected));
    let found: Vec<String> =
        lines.map(|LogLine { host, daemon, text }| format!("{host} {daemon}: {text}")).collect();
    ensure!(found.is_empty(), "unexpected errors in the logs ({}):\n{}", found.len(), found.join("\n"));
    Ok(())
}

/// Every daemon of ours, with its host.
fn ours(lab: &Lab) -> impl Iterator<Item = (&str, &str)> {
    let ours = |unit: &&String| PROGRAMS.contains(&unit.as_str());
    lab.hosts()
        .iter()
        .flat_map(move |host| host.units.iter().filter(ours).map(|unit| (host.name.as_str(), unit.as_str())))
}

fn is_unexpected(line: &str, expected: &[&str]) -> bool {
    let bad = line.contains("panicked at") || line.split_whitespace().take(2).any(|word| word == "ERROR");
    bad && !expected.iter().any(|text| line.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_level_and_not_the_word() {
        let log = "2026-01-01T00:00:00Z  INFO pg_agent: ERROR in a message\n\
                   2026-01-01T00:00:00Z ERROR pg_agent: lost the store\n\
                   thread 'main' panicked at src/main.rs:1\n";
        let unexpected = |expected: &[&str]| log.lines().filter(|line| is_unexpected(line, expected)).count();
        assert_eq!(unexpected(&["lost the store"]), 1);
        assert_eq!(unexpected(&[]), 2);
    }
}
